/* sample.h - one timed run and what disturbed it. */
#ifndef KERF_SAMPLE_H
#define KERF_SAMPLE_H

#include <stdint.h>

struct err;

/* What is timed.  `prepare` (may be NULL) runs untimed before each `run`. */
struct probe_item {
    int (*prepare)(void *arg, struct err *err);
    int (*run)(void *arg, struct err *err);
    void *arg;
    double n_units; /* the sample is time / n_units: tokens of a decode run, 1 for a prefill */
};

/* Why a sample does not count: the thread was on another core, the hypervisor took time, others ran
 * on the core (more often than a timer's tick explains), or the clock was not what it is otherwise
 * (known only beside other samples; sample_take never says it). */
enum rejection { ACCEPTED, MIGRATED, STOLEN, SWITCHED, CLOCK, N_REJECTIONS };

struct sample {
    double ns;      /* per unit */
    double spin_ns; /* of a fixed spin loop beside it: the core's clock */
    enum rejection rejection;
};

/* Prepare, run, and time the run.  `cpu` is where the calling thread is bound.  Errors are the
 * item's. */
int sample_take(const struct probe_item *item, int cpu, struct sample *sample, struct err *err);

#endif
