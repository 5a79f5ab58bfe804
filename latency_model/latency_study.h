/* latency_study.h - how long each of many candidates takes, measured in one go and before anything
 * has been compressed: their weights are stand-ins (stand_in.h).
 *
 * All candidates are there at the same time.  Round by round, in shuffled order, each of them takes
 * its turn, pinned and alone on the node: the prompt once, then decoding behind it for about as
 * long. What slows the machine for a while slows all of them: the pace of the machine is told from
 * their own times (pace.h), so that none of them has to be a reference.  Samples that were
 * disturbed (sample.h), by the best that the node has shown so far, do not count, but where too few
 * others are left. */
#ifndef KERF_LATENCY_STUDY_H
#define KERF_LATENCY_STUDY_H

#include "latency_model/pace.h"
#include "latency_model/stand.h"
#include "space/genome.h"

#define LATENCY_STUDY_MIN_ROUNDS 6
#define LATENCY_STUDY_WORKLOADS  2

struct latency_study {
    const struct geometry *geometry; /* of the parent */
    const struct genome *genome;     /* [n], canonical */
    size_t n;
    struct workload workload[LATENCY_STUDY_WORKLOADS]; /* decode, prefill */
    uint32_t rounds_max; /* at least LATENCY_STUDY_MIN_ROUNDS */
    double max_seconds;  /* no round begins later, but for the least number of them; 0: no limit */
    /* After each round, may be NULL: rounds done. */
    void (*progress)(void *arg, uint32_t n_rounds);
    void *arg;
};

struct latency_times {
    struct pace_time workload[LATENCY_STUDY_WORKLOADS];
};

/* What was done. */
struct latency_effort {
    uint32_t n_rounds;
    uint64_t n_samples, n_disturbed;
    double seconds;
    size_t weight_bytes; /* of all stand-ins together */
};

/* Fills times[n].  ERR_CONFIG for a workload beyond the context of `geometry`; errors of
 * forward_create and forward_tokens. */
int latency_study_run(struct stand *stand, const struct latency_study *study, uint64_t seed,
                      struct latency_times *times, struct latency_effort *effort, struct err *err);

#endif
