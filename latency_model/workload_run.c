#include "latency_model/workload_run.h"
#include <stddef.h>

/* Fill the context, untimed. */
static int prepare(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    forward_reset(run->forward);
    uint32_t left = run->workload.context;
    const int32_t *tokens = run->tokens;
    const uint32_t batch = 64;
    while (left > 0) {
        uint32_t n = left < batch ? left : batch;
        if (forward_tokens(run->forward, tokens, n, LOGITS_NONE, err) != 0)
            return -1;
        tokens += n;
        left -= n;
    }
    return 0;
}

static int run_prefill(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    return forward_tokens(run->forward, run->tokens + run->workload.context, run->workload.n_tokens,
                          LOGITS_LAST, err);
}

static int32_t best_token(const float *logits, uint32_t n_vocab)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < n_vocab; v++)
        if (logits[v] > logits[best])
            best = v;
    return (int32_t)best;
}

static int run_decode(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    int32_t token = run->tokens[run->workload.context];
    for (uint32_t i = 0; i < run->workload.n_tokens; i++) {
        if (forward_tokens(run->forward, &token, 1, LOGITS_LAST, err) != 0)
            return -1;
        token = best_token(forward_logits(run->forward), run->n_vocab);
    }
    return 0;
}

struct probe_item workload_run_item(struct workload_run *run)
{
    bool decode = run->workload.kind == WORKLOAD_DECODE;
    return (struct probe_item){
        .prepare = prepare,
        .run = decode ? run_decode : run_prefill,
        .arg = run,
        .n_units = decode ? run->workload.n_tokens : 1,
    };
}
