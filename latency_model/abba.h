/* abba.h - two builds of kerf in turn on the same cores: baseline, current, current, baseline, so
 * that drift that is linear in time cancels within a round (methods.md E). */
#ifndef KERF_ABBA_H
#define KERF_ABBA_H

#include "latency_model/quiet.h"
#include "latency_model/stopwatch.h"

struct abba {
    struct stopwatch *baseline, *current; /* borrowed; the same workloads */
    struct quiet *quiet;                  /* borrowed; held for each round */
    uint32_t n_rejected;                  /* rounds that did not count, out */
};

/* One round that counts: *log_ratio = log of the current build's time over the baseline's (means of
 * the two logs), ns[2] their times per unit.  A round with a disturbed sample is made again, at
 * most 10 times; then it counts as it is.  Errors are the stopwatches'. */
int abba_round(struct abba *abba, size_t workload, double *log_ratio, double ns[2],
               struct err *err);

#endif
