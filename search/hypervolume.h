/* hypervolume.h - volume dominated by a set of points and bounded by a reference point; all
 * objectives are minimised, 2 to 4 of them; points outside the reference count for nothing.
 * 2-D sweep O(n log n); 3-D sweep over a staircase O(n^2) worst, 4-D by slicing into 3-D. */
#ifndef KERF_HYPERVOLUME_H
#define KERF_HYPERVOLUME_H

#include <stddef.h>

/* points[n][n_obj]; NAN without memory. */
double hypervolume(const double *points, size_t n, size_t n_obj, const double *reference);
/* What point `index` adds to the others. */
double hypervolume_contribution(const double *points, size_t n, size_t n_obj,
                                const double *reference, size_t index);

#endif
