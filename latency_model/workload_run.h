/* workload_run.h - a workload on a forward pass, as a probe item: context filled untimed, then the
 * prompts at once (prefill, logits of the last positions) or token by token (decode, logits of
 * each, the next token being the best one as a user's program would do). */
#ifndef KERF_WORKLOAD_RUN_H
#define KERF_WORKLOAD_RUN_H

#include "evaluator/forward.h"
#include "latency_model/probe.h"
#include "space/workload.h"

struct workload_run {
    struct forward *forward; /* borrowed; made with room for it */
    const int32_t *tokens;   /* borrowed; [workload_positions][batch] */
    struct workload workload;
    uint32_t n_vocab; /* length of the logits, for the choice of the next token */
};

/* Widen `options` so that the workload finds room. */
void workload_run_room(const struct workload *workload, struct forward_options *options);

/* The item that times `run` (borrowed while the item lives). */
struct probe_item workload_run_item(struct workload_run *run);

#endif
