/* query.h - "which model do I run in 30 ms?"
 * The answer is the measured candidate with the lowest KLD whose upper 95 % bound of the median
 * meets the budget; predicted numbers never answer, and neither does the parent, which is shown
 * beside every answer.  Where the lowest KLD rests on the search rung alone and a candidate of the
 * final rung is no worse by more than one standard error of the difference, the latter comes first:
 * the least of many noisy numbers flatters.  "No" is an answer: the nearest points. */
#ifndef KERF_QUERY_H
#define KERF_QUERY_H

#include "results/front.h"

enum query_metric { METRIC_DECODE, METRIC_PREFILL }; /* tpot_ms.p50, ttft_ms.p50 */

struct query {
    double budget_ns; /* <= 0: no latency limit */
    enum query_metric metric;
    double max_loss;    /* largest ppl_ratio - 1; < 0: no limit */
    uint64_t max_bytes; /* 0: no limit */
    uint32_t n;         /* answers wanted */
    bool allow_flagged; /* latencies of a machine that was not quiet count too */
};

#define QUERY_MAX     16
#define QUERY_NEAREST 3

struct query_answer {
    const struct front_member *hit[QUERY_MAX]; /* best quality first */
    uint32_t n_hits;
    /* When there is no hit: those that miss the conditions by the smallest share; the faster first
     * where it is the same. */
    const struct front_member *nearest[QUERY_NEAREST];
    uint32_t n_nearest;
    uint32_t n_measured, n_over_budget; /* over: by latency alone */
    uint32_t n_flagged; /* barred from answering because the machine was not quiet */
    bool parent_meets;  /* the parent itself meets every condition */
};

/* Members are borrowed from `front`. */
void query_run(const struct front *front, const struct query *query, struct query_answer *answer);

/* The measured latency that a query asks about. */
const struct measured *query_measured(const struct front_member *member, enum query_metric metric);

#endif
