/* polish_parts.h - the inside of polish: polish.c walks and listens, polish_matrix.c makes a matrix
 * anew. */
#ifndef KERF_POLISH_PARTS_H
#define KERF_POLISH_PARTS_H

#include "evaluator/compression/feedback.h"
#include "evaluator/compression/match.h"
#include "evaluator/compression/polish.h"

/* The matrix of `cut` for the moments of a closed `match`, packed with the feedback that was made
 * of them. `w` points at the new rows, which `polished` then owns, if they are nearer to the target
 * than its own; both are counted. */
int polish_matrix(const struct polish_plan *plan, const struct match *match,
                  const struct feedback *feedback, const struct cut *cut, struct team *team,
                  struct polished *polished, struct weights *w, struct err *err);

#endif
