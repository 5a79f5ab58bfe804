/* workload_run.h - a workload on a forward pass, as a probe item: context filled untimed, then the
 * prompts at once (prefill, logits of the last positions) or token by token (decode, logits of
 * each, the next token being the best one as a user's program would do).  Before it is timed, one
 * token goes through the model: what ran before has left its own weights in the caches, and who
 * comes after whom is chance. */
#ifndef KERF_WORKLOAD_RUN_H
#define KERF_WORKLOAD_RUN_H

#include "evaluator/forward.h"
#include "latency_model/probe.h"
#include "space/workload.h"

/* Each token of a decode run no longer than this is timed, else the run as a whole. */
#define WORKLOAD_RUN_TOKENS 512

struct workload_run {
    struct forward *forward; /* borrowed; made with room for it */
    const int32_t *tokens;   /* borrowed; [workload_positions][batch] */
    struct workload workload;
    uint32_t n_vocab; /* length of the logits, for the choice of the next token */
    bool moves; /* the forward's buffers go to other pages before each run; false unless set */
    uint32_t n_passes;                   /* of a prefill, in one run; 1 unless set */
    double unit_ns[WORKLOAD_RUN_TOKENS]; /* of the last run: its tokens, or its prefills */
};

/* Widen `options` so that the workload finds room. */
void workload_run_room(const struct workload *workload, struct forward_options *options);

struct workload_run workload_run_make(struct forward *forward, const int32_t *tokens,
                                      const struct workload *workload, uint32_t n_vocab);
/* For models so small that pages and what ran before matter: buffers move before each run, and a
 * prefill is made three times in a row. */
void workload_run_settle(struct workload_run *run);
/* The item that times `run` (borrowed while the item lives). */
struct probe_item workload_run_item(struct workload_run *run);

#endif
