/* dominance.h - who beats whom.  All objectives are minimised; points are rows of a flat array
 * `points[n_points][n_obj]`.  A NaN counts as +INFINITY: what was not measured beats nobody. */
#ifndef KERF_DOMINANCE_H
#define KERF_DOMINANCE_H

#include <stdbool.h>
#include <stddef.h>

/* No worse in every objective and better in at least one. */
bool dominance_beats(const double *a, const double *b, size_t n_obj);

/* The same with noise: better by more than z * sqrt(se_a^2 + se_b^2) in at least one objective and
 * worse by more than that in none.  se arrays may be NULL (exact); a NaN se decides nothing in its
 * objective. */
bool dominance_beats_noisy(const double *a, const double *se_a, const double *b,
                           const double *se_b, size_t n_obj, double z);

/* rank[i] = number of the front that point i is on, 0 for the non-dominated ones (Deb et al. 2002).
 * 0, or -1 without memory. */
int dominance_ranks(const double *points, size_t n_points, size_t n_obj, size_t *rank);

/* Crowding distance of the `n` points chosen by `index` (all on one front); INFINITY at the ends of
 * every objective that varies, and for n <= 2.  0, or -1 without memory. */
int dominance_crowding(const double *points, const size_t *index, size_t n, size_t n_obj,
                       double *distance);

#endif
