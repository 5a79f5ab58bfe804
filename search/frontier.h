/* frontier.h - points that do not dominate each other.  Owns copies; all objectives minimised. */
#ifndef KERF_FRONTIER_H
#define KERF_FRONTIER_H

#include <stddef.h>

struct frontier {
    size_t n, capacity, n_obj;
    double *points; /* [n][n_obj] */
};

void frontier_init(struct frontier *frontier, size_t n_obj);
void frontier_fini(struct frontier *frontier); /* a zeroed struct is fine */
/* 1 if the point entered, 0 if it is dominated or there already, -1 without memory (unchanged). */
int frontier_add(struct frontier *frontier, const double *point);
/* Replace the content by that of `other`; -1 without memory. */
int frontier_assign(struct frontier *frontier, const struct frontier *other);

#endif
