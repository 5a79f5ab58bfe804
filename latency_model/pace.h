/* pace.h - times of many things that were measured in turn while the machine changed its pace.
 *
 *   log t_s = log t(item of s) + pace(s) + noise
 *
 * where the pace is what samples near s in time have in common: the median of what they miss.  The
 * two are settled in turn, by medians, until they stand: every item is the others' reference, and a
 * slow minute counts as one, whichever items it met.  Times are those of the median pace. */
#ifndef KERF_PACE_H
#define KERF_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

struct pace_sample {
    uint32_t item;
    double ns; /* > 0 */
};

struct pace_time {
    uint32_t n;   /* samples; 0: ns and error are NAN */
    double ns;    /* at the median pace */
    double error; /* standard error, as a share of ns; 0 for n < 2 */
};

/* samples[n] in the order in which they were taken, of items 0 .. n_items - 1.  Fills
 * time[n_items].  ERR_MEMORY. */
int pace_settle(const struct pace_sample *samples, size_t n, size_t n_items, struct pace_time *time,
                struct err *err);

#endif
