/* probe.h - measuring how long something takes, so that the answer can be believed (methods.md C3).
 *
 * One probe times several items against the first one, the reference: rounds in which every item
 * runs once in shuffled order, after a warm-up until times are stationary.  The value of an item in
 * a round is the ratio of its calm time (sample.h) to the reference's of that round, so that slow
 * drift of the machine cancels.  A sample is rejected, and counted by cause, when the thread
 * migrated, was switched out involuntarily more than allowed, the hypervisor stole time, fixed work
 * beside it was off (clock), or the team's cores were not what they can be (shared, apart:
 * footing.h).  Between rounds the probe waits for such times to pass, as long as its patience
 * lasts.  A round counts only where reference and item are both accepted.  Where the place tells
 * how the reference feels pressed caches (sample.h), ratios are put right for that: they are those
 * to the reference at rest.  What that is the place says, or the first probe on a node finds it out
 * in some seconds.
 *
 * Stops when every item's interval is narrower than wanted, or at the cap.  Where too few samples
 * survive even there, the machine was not quiet: all samples that stayed on their core then count.
 * Such a result, and one whose interval is still 5 times as wide as wanted, is measured once more
 * and the better one kept; if that one is no better, it says that it is noisy.
 */
#ifndef KERF_PROBE_H
#define KERF_PROBE_H

#include "latency_model/sample.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct rng;

#define PROBE_MAX_ROUNDS 1000
#define PROBE_MAX_ITEMS  16

struct probe_plan {
    uint32_t warmup_max;             /* rounds; stops earlier when stationary */
    uint32_t rounds_min, rounds_max; /* <= PROBE_MAX_ROUNDS; 6 are made at least: fewer ratios have
                                      * no interval.  Those that neighbours spoil are made again, as
                                      * many once more at most. */
    double ci;      /* wanted half-width of the ratio's 95 % interval, 0.01 = 1 % */
    double between; /* standard deviation of log ratios between probes of one pair, beyond what the
                     * rounds of a probe show; the interval has it in quadrature, 0 = none */
    double max_seconds; /* of the whole probe, 0 = no limit */
    double patience; /* waits at most so many times as long as it measures, and 10 s; 0 = never */
};

/* The plan of a study that says nothing else, and of `kerf probe`. */
#define PROBE_PLAN_DEFAULT                                                                         \
    ((struct probe_plan){                                                                          \
        .warmup_max = 10, .rounds_min = 30, .rounds_max = 120, .ci = 0.01, .patience = 4})

struct probe_result {
    uint32_t n_accepted, n_warmup;
    uint32_t rejected[N_REJECTIONS]; /* by cause; [ACCEPTED] is not used */
    bool noisy; /* disturbed samples had to be counted in, or the interval stayed wide */
    double sample_ns[PROBE_MAX_ROUNDS]; /* accepted samples in the order measured */
    double ratio[PROBE_MAX_ROUNDS];     /* to the reference of the same round; n_accepted of them */
    double min_ns, p10_ns, median_ns, p90_ns, mean_ns;
    double median_lo_ns, median_hi_ns; /* 95 % interval of the median (order statistics) */
    double rest_steps; /* of the reference: its calm time at rest, as sample_place has it; 0 where
                        * that is not known, and of the others */
    double rest_ns; /* of the reference: its median at rest, which ratios are to (its plain median
                     * where that is not known); 0 of the others */
    double ratio_mid, ratio_lo, ratio_hi; /* Hodges-Lehmann of log ratios, 95 % interval */
};

/* Items[0] is the reference.  place->best gets better where the samples show better.  0, or -1 when
 * an item fails or almost no sample stayed on its core (ERR_RESOURCE, with the counts by cause). */
int probe_run(const struct probe_item *items, size_t n_items, const struct probe_plan *plan,
              struct sample_place *place, struct rng *rng, struct probe_result *results,
              struct err *err);

#endif
