/* peer_rounds.h - several files timed in another engine by turns, so that slow drift of the machine
 * hits all of them alike: in every round each file once, in shuffled order, decode and prefill.  A
 * round is alone on the node (quiet.h); between rounds others may work.
 * A file that the program refuses has no figure and is not asked about again; the others go on. */
#ifndef KERF_PEER_ROUNDS_H
#define KERF_PEER_ROUNDS_H

#include "latency_model/peer_bench.h"
#include "space/base/err.h"

struct quiet;
struct rng;

#define PEER_ROUNDS_MAX 100

/* The median over rounds of a run's median sample, per token or per prompt, with its 95 % interval
 * (order statistics; below 6 rounds the extremes). */
struct peer_time {
    double median_ns, lo_ns, hi_ns;
};

struct peer_file {
    const char *path;  /* borrowed */
    enum format kv;    /* KV cache that it is timed with */
    double expected_s; /* about what a run may take: it is given 50 times that and 5 minutes */
    /* ERR_NONE: timed.  Set on entry: this file is left out; ERR_DATA: the program refused it. */
    struct err fault;
    struct peer_time decode, prefill;
    double run_ns[2][PEER_ROUNDS_MAX]; /* medians of the runs: decode, prefill */
};

struct peer_plan {
    struct workload decode, prefill;
    uint32_t n_rounds; /* 1..PEER_ROUNDS_MAX */
};

/* Fills the results of `files`; `*origin` (may be NULL) has the build and the processor of the last
 * answer, no samples.  bench->limit_s and kv are set here.  -1 when the program itself is at fault
 * (ERR_RESOURCE: gone, hanging, using a GPU), when it refused every file (ERR_RESOURCE with what it
 * said of the first), or ERR_STOPPED. */
int peer_rounds_run(struct peer_bench *bench, const struct peer_plan *plan, struct peer_file *files,
                    size_t n_files, struct rng *rng, struct quiet *quiet,
                    struct peer_sample *origin, struct err *err);

#endif
