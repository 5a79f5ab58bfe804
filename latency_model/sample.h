/* sample.h - one timed run and what disturbed it. */
#ifndef KERF_SAMPLE_H
#define KERF_SAMPLE_H

#include "latency_model/footing.h"

#include <stdbool.h>
#include <stddef.h>

struct err;

/* What is timed.  `prepare` (may be NULL) runs untimed before each `run`. */
struct probe_item {
    int (*prepare)(void *arg, struct err *err);
    int (*run)(void *arg, struct err *err);
    void *arg;
    double n_units;        /* tokens of a decode run, 1 for a prefill */
    const double *unit_ns; /* where `run` leaves the time of each of its units; NULL: nowhere */
};

/* Where samples are taken. */
struct sample_place {
    int cpu;           /* where the calling thread is bound */
    struct team *team; /* that the items run on; NULL: the calling thread alone */
    struct footing_best best;
    /* What a probe's reference may be held against: the name of its calm time at rest, in units of
     * footing.clock_ns, as this node has shown it.  Empty where weights come from memory, of which
     * neighbours always take a share. */
    char reference[224];
    /* That time, where the caller knows better: all probes of a study should hold theirs against
     * one.  0: as the node has shown. */
    double rest_steps;
    /* Where there is such a name: ratios are multiplied by this power of how much longer than at
     * rest the reference took; 1 where pressed caches slow the items beside it not at all. */
    double spared;
};

/* Why a sample does not count: the thread was on another core, the hypervisor took time, others ran
 * on the core (more often than a timer's tick explains), the clock was not what it is otherwise
 * (known only beside other samples; sample_take never says it), the team's cores were not what they
 * can be (footing.h), before or after, or the reference of the round took much longer than at rest,
 * by pressure on a cache that is shared with other tenants (a probe alone says it). */
enum rejection {
    ACCEPTED,
    MIGRATED,
    STOLEN,
    SWITCHED,
    CLOCK,
    SHARED,
    APART,
    PRESSED,
    N_REJECTIONS
};
const char *rejection_name(enum rejection rejection); /* "migrated" */

struct sample {
    double ns;                 /* per unit: their median, or the whole time over n_units */
    double calm_ns;            /* the lower tenth of the units, which a passing disturbance leaves
                                * alone; ns where their times are not known */
    struct footing footing[2]; /* before and after */
    enum rejection rejection;
};

/* Prepare, run, and time the run.  Errors are the item's. */
int sample_take(const struct probe_item *item, const struct sample_place *place,
                struct sample *sample, struct err *err);

/* SHARED or APART by a footing; ACCEPTED else. */
enum rejection sample_judge(const struct footing *footing, const struct footing_best *best);

#endif
