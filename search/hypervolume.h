/* hypervolume.h - volume dominated by a set of points and bounded by a reference point; all
 * objectives are minimised, 2 to 4 of them; points outside the reference count for nothing.
 * 2-D: sweep, O(n log n).  3-D: sweep along z over a staircase in (x, y), O(n log n) plus the moves
 * inside a flat array.  4-D: sweep along w, each step adds what one point brings to the 3-D volume
 * of those before it, O(n^2) such moves (Beume et al., IEEE Trans. Evol. Comput. 13(5), 2009, give
 * the sweep; While et al., IEEE Trans. Evol. Comput. 16(1), 2012, the limit set). */
#ifndef KERF_HYPERVOLUME_H
#define KERF_HYPERVOLUME_H

#include <stddef.h>

/* points[n][n_obj]; NAN without memory. */
double hypervolume(const double *points, size_t n, size_t n_obj, const double *reference);
/* What `candidate` would add to the volume of `points`; 0 when one of them dominates or equals it.
 * NAN without memory. */
double hypervolume_gain(const double *points, size_t n, size_t n_obj, const double *reference,
                        const double *candidate);
/* What point `index` adds to the others. */
double hypervolume_contribution(const double *points, size_t n, size_t n_obj,
                                const double *reference, size_t index);

#endif
