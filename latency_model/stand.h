/* stand.h - where something is timed outside a search: this machine, a team bound to its cores, the
 * kernels, and the lock that keeps the node quiet.  Bind first, then touch memory: open the stand
 * before the models. */
#ifndef KERF_STAND_H
#define KERF_STAND_H

#include "evaluator/forward.h"
#include "latency_model/energy.h"
#include "latency_model/machine.h"
#include "latency_model/probe.h"
#include "latency_model/quiet.h"
#include "space/workload.h"

struct rng;

struct stand {
    struct machine *machine;
    int *cpu; /* [n_threads] */
    uint32_t n_threads;
    const struct kernels *kernels;
    struct team *team;
    struct quiet *quiet;
    struct device_class device;
    struct sample_place place; /* of cpu[0] and the team */
};

/* n_threads 0: all cores.  ERR_RESOURCE when there are not so many. */
int stand_open(struct stand *stand, uint32_t n_threads, struct err *err);
void stand_close(struct stand *stand); /* a zeroed struct is fine */

/* What is timed: two models of one vocabulary on the same tokens (workload_run.h). */
struct stand_pair {
    const struct model *reference, *candidate;
    const int32_t *tokens;
};
/* Names the reference of the pair in `place`, if both models fit the last cache of the machine
 * together (sample.h). */
void stand_name_reference(const struct machine *machine, const struct device_class *device,
                          const struct model *reference, const struct model *candidate,
                          const struct workload *workload, struct sample_place *place);
/* Time both, alone on the node: results[0] is the reference, results[1] the candidate, whose ratios
 * are to it.  Errors of forward_create and probe_run, and ERR_MEMORY for more than the machine
 * has. */
int stand_probe(struct stand *stand, const struct stand_pair *pair, const struct workload *workload,
                const struct probe_plan *plan, struct rng *rng, struct probe_result results[2],
                struct err *err);

/* Joules of the candidate's workload, per token (decode) or per prompt of one sequence, over at
 * least a second of runs, alone on the node; *joules is NAN where the system does not tell. */
int stand_energy(struct stand *stand, const struct stand_pair *pair,
                 const struct workload *workload, double *joules, struct err *err);

#endif
