/* show.h - results for people and programs, one format a file: show_table.c, show_json.c,
 * show_tsv.c.  stdout only; numbers with their intervals; JSON is versioned and stable, the table
 * is not.  The workload, metric and device class are repeated in every answer.
 *
 * JSON of a front (of `archive ls` too, where each candidate also has "front": bool):
 *   {"schema": 1, "study", "profile", "device", "kernels", "threads",
 *    "workloads": {"tpot_ms": "tg128@b1", "ttft_ms": "pp512@b1"}, "geometry": {"text", "n_layers",
 *    ...}, "private_cache_bytes", "calibration" (only as "diagonal"), "n_measured",
 *    "parent": CANDIDATE or null, "candidates": [CANDIDATE, ...]}
 * of an answer: "query", "feasible", "n_over_budget", "parent_meets", "hits", "nearest" and "next"
 * in place of "candidates"; of one candidate: "candidate" and "details".  A CANDIDATE is
 *   {"id", "rung": "final" or "search", "verified": bool,
 *    "tpot_ms", "ttft_ms": {"p50", "lo", "hi", "p10", "p90", "min", "n", "rejected", "ratio",
 *    "ratio_lo", "ratio_hi", "predicted"}, "kld": {"mean", "se", "p99"}, "n_tokens", "ppl",
 *    "parent_ppl", "ppl_ratio": {"mean", "se"}, "top1": {"mean", "se"}, "accuracy": {"mean", "se",
 *    "n_tasks"}, "weight_bytes", "kv_cache", "kv_bytes_per_token", "peak_rss_bytes",
 *    "joules_per_token", "joules_per_prompt", "exceeds_private_cache", "bits", "layers", "ffn_min",
 * "ffn_max", "hidden", "rotation", "thinner", "coarser", "joint", "kernel_bound": [format, ...],
 * "origin", "sequence", "attempt", "wall_s", "device_id", "genome"} Times are milliseconds, lo and
 * hi the 95 % interval of the median; peak_rss_bytes are those of a process that runs both
 * workloads with this model alone, itself included; what was not measured is absent. */
#ifndef KERF_SHOW_H
#define KERF_SHOW_H

#include "results/query.h"
#include "space/study.h"
#include <stdio.h>

enum show_format { SHOW_TABLE, SHOW_JSON, SHOW_TSV, N_SHOW_FORMATS };
enum show_format show_format_parse(const char *name); /* N_SHOW_FORMATS when unknown */

void show_front(FILE *out, enum show_format format, const struct study *study,
                const struct front *front);
/* `question` is the budget as typed ("" when none was). */
void show_answer(FILE *out, enum show_format format, const struct study *study,
                 const struct front *front, const struct query *query, const char *question,
                 const struct query_answer *answer);
/* One candidate: genome layer by layer, metrics with intervals, details (JSON text or NULL). */
void show_candidate(FILE *out, enum show_format format, const struct study *study,
                    const struct front_member *member, const char *details);
/* `kerf archive ls`: every evaluated candidate. */
void show_all(FILE *out, enum show_format format, const struct study *study,
              const struct front *front);

/* A scatter of the front in the terminal: decode against KLD, both logarithmic. */
void show_plot(FILE *out, const struct front *front, int width, int height);
/* The same as SVG, light and dark, with intervals and the parent; the README's figure. */
void show_svg(FILE *out, const struct study *study, const struct front *front);

#endif
