/* stand.h - where something is timed: this machine, a team bound to its cores, the kernels, and the
 * lock that keeps the node quiet.  Bind first, then touch memory: open the stand
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

#define STAND_WORKLOADS 2 /* decode, prefill */

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
/* The same on cores that somebody has planned: cpu[n_threads], copied. */
int stand_open_on(struct stand *stand, const int *cpu, uint32_t n_threads, struct err *err);
/* The calling thread is as free again as before.  A zeroed struct is fine. */
void stand_close(struct stand *stand);

/* What the node has shown of these cores when they were left alone, into `place`, and back where
 * the samples have shown better (footing.h).  To be called by who holds the node alone. */
void stand_recall(struct stand *stand);
void stand_keep(const struct stand *stand);

/* Time two passes that stand ready, by who holds the node alone: results[0] is the reference,
 * results[1] the candidate, whose ratios are to it.  `tokens` as in workload_run.h.  Errors of
 * probe_run. */
int stand_time(struct stand *stand, struct forward *reference, struct forward *candidate,
               const int32_t *tokens, const struct workload *workload,
               const struct probe_plan *plan, struct rng *rng, struct probe_result results[2],
               struct err *err);

/* What is timed: two models of one vocabulary on the same tokens (workload_run.h). */
struct stand_pair {
    const struct model *reference, *candidate;
    const int32_t *tokens;
};
/* Make passes for both and time them, alone on the node.  Errors of forward_create and stand_time,
 * and ERR_MEMORY for more than the machine has. */
int stand_probe(struct stand *stand, const struct stand_pair *pair, const struct workload *workload,
                const struct probe_plan *plan, struct rng *rng, struct probe_result results[2],
                struct err *err);

/* Joules of the candidate's workload, per token (decode) or per prompt of one sequence, over at
 * least a second of runs, alone on the node; *joules is NAN where the system does not tell. */
int stand_energy(struct stand *stand, const struct stand_pair *pair,
                 const struct workload *workload, double *joules, struct err *err);

/* What a pass that stands ready takes beside time, by who holds the node alone: the most memory
 * that the process has resident during one run of each of the workloads (resident.h), and joules as
 * above over at least `seconds` of runs of each.  NAN where the system does not tell. */
struct stand_needs {
    double peak_bytes;
    double joules[STAND_WORKLOADS];
};
int stand_weigh(struct forward *forward, const int32_t *tokens,
                const struct workload workloads[STAND_WORKLOADS], double seconds,
                struct stand_needs *needs, struct err *err);

#endif
