/* stopwatch.h - another build of kerf that times a model on demand, one sample at a time, so that
 * two builds can be compared in turn on the same cores (methods.md E).
 *
 * The other process, `PROGRAM stopwatch PID THREADS MODEL WORKLOAD...`, answers lines on stdout:
 *
 *   "kerf-stopwatch 1 DEVICE KERNELS"   once, when the model is loaded
 *   "NS REJECTION"                      for each line "INDEX" on stdin; rejection as in sample.h
 *   "error TEXT"                        instead of either; then it leaves
 *
 * It ends with its stdin, or with the process PID.  Between samples it sleeps.  What it says is
 * untrusted.  Neither side keeps the node quiet: that is for who compares. */
#ifndef KERF_STOPWATCH_H
#define KERF_STOPWATCH_H

#include "latency_model/sample.h"
#include "space/workload.h"
#include <stddef.h>

struct err;
struct stopwatch;

#define STOPWATCH_MAX_WORKLOADS 16

/* What it times. */
struct stopwatch_job {
    const char *program; /* path of a kerf */
    const char *model;   /* path of a GGUF */
    uint32_t n_threads;
    const int *cpu; /* [n_threads] that it may run on; NULL: wherever the caller may */
    const struct workload *workload;
    size_t n_workloads;
};

/* Start and wait for its greeting.  ERR_RESOURCE when it cannot be started or is too old to know
 * how, else what it says. */
struct stopwatch *stopwatch_start(const struct stopwatch_job *job, struct err *err);
void stopwatch_stop(struct stopwatch *watch); /* NULL is fine; nothing of it is left */
const char *stopwatch_device(const struct stopwatch *watch);
const char *stopwatch_kernels(const struct stopwatch *watch);

/* One sample of workload[index].  ERR_RESOURCE when it died or is silent for ten minutes. */
int stopwatch_take(struct stopwatch *watch, size_t index, struct sample *sample, struct err *err);

/* The other side: serves stdin until it ends.  Returns an exit status.  KERF_TEST_SLOWDOWN in the
 * environment (a share, 0.05) makes each run take that much longer, for tests of those who
 * compare. */
int stopwatch_serve(const struct stopwatch_job *job);

#endif
