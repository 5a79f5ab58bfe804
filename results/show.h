/* show.h - results for people and programs, one format a file: show_table.c, show_json.c,
 * show_tsv.c.  stdout only; numbers with their intervals; JSON is versioned and stable, the table
 * is not.  The workload, metric and device class are repeated in every answer. */
#ifndef KERF_SHOW_H
#define KERF_SHOW_H

#include "results/query.h"
#include "space/study.h"
#include <stdio.h>

enum show_format { SHOW_TABLE, SHOW_JSON, SHOW_TSV, N_SHOW_FORMATS };
enum show_format show_format_parse(const char *name); /* N_SHOW_FORMATS when unknown */

void show_front(FILE *out, enum show_format format, const struct study *study,
                const struct front *front);
/* `question` is the budget as typed, `dir` the study for the printed next command. */
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
