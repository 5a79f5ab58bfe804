#include "latency_model/workload_run.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SETTLED_PASSES 3
#define FILL_COLUMNS   64 /* contexts are filled so many tokens at a time */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void workload_run_room(const struct workload *workload, struct forward_options *options)
{
    options->n_ctx = larger(options->n_ctx, workload_positions(workload));
    options->n_batch = larger(options->n_batch, larger(workload_columns(workload), FILL_COLUMNS));
    options->n_batch = larger(options->n_batch, workload->batch);
    options->n_sequences = larger(options->n_sequences, workload->batch);
}

/* Fill caches and contexts, untimed. */
static int prepare(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    uint32_t left = run->workload.context, batch = run->workload.batch;
    const uint32_t most = larger(FILL_COLUMNS / batch, 1);
    const int32_t *tokens = run->tokens;
    if (run->moves && forward_move(run->forward, err) != 0)
        return -1;
    forward_begin(run->forward, batch);
    if (forward_tokens(run->forward, tokens, 1, LOGITS_LAST, err) != 0)
        return -1;
    forward_begin(run->forward, batch);
    while (left > 0) {
        uint32_t n = left < most ? left : most;
        if (forward_tokens(run->forward, tokens, n, LOGITS_NONE, err) != 0)
            return -1;
        tokens += (size_t)n * batch;
        left -= n;
    }
    return 0;
}

/* The first token that is timed, of every sequence. */
static const int32_t *first_tokens(const struct workload_run *run)
{
    return run->tokens + (size_t)run->workload.context * run->workload.batch;
}

static int run_prefill(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    int status = 0;
    for (uint32_t i = 0; i < run->n_passes && status == 0; i++) {
        forward_rewind(run->forward, run->workload.context);
        int64_t start = clock_now_ns();
        status = forward_tokens(run->forward, first_tokens(run), run->workload.n_tokens,
                                LOGITS_LAST, err);
        run->unit_ns[i] = (double)(clock_now_ns() - start);
    }
    return status;
}

static int32_t best_token(const float *logits, uint32_t n_vocab)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < n_vocab; v++)
        if (logits[v] > logits[best])
            best = v;
    return (int32_t)best;
}

/* A step: one token of every sequence, and the choice of the next ones. */
static int step(struct workload_run *run, int32_t *tokens, struct err *err)
{
    if (forward_tokens(run->forward, tokens, 1, LOGITS_LAST, err) != 0)
        return -1;
    for (uint32_t s = 0; s < run->workload.batch; s++)
        tokens[s] =
            best_token(forward_logits(run->forward) + (size_t)s * run->n_vocab, run->n_vocab);
    return 0;
}

static int run_decode(void *arg, struct err *err)
{
    struct workload_run *run = arg;
    int32_t *tokens = malloc(run->workload.batch * sizeof *tokens);
    int status = 0;
    if (tokens == NULL) {
        err_set(err, ERR_MEMORY, "workload: out of memory");
        return -1;
    }
    memcpy(tokens, first_tokens(run), run->workload.batch * sizeof *tokens);
    int64_t start = clock_now_ns();
    for (uint32_t i = 0; i < run->workload.n_tokens && status == 0; i++) {
        status = step(run, tokens, err);
        int64_t end = clock_now_ns();
        run->unit_ns[i % WORKLOAD_RUN_TOKENS] = (double)(end - start);
        start = end;
    }
    free(tokens);
    return status;
}

struct workload_run workload_run_make(struct forward *forward, const int32_t *tokens,
                                      const struct workload *workload, uint32_t n_vocab)
{
    return (struct workload_run){.forward = forward,
                                 .tokens = tokens,
                                 .workload = *workload,
                                 .n_vocab = n_vocab,
                                 .n_passes = 1};
}

void workload_run_settle(struct workload_run *run)
{
    run->moves = true;
    run->n_passes = SETTLED_PASSES;
}

struct probe_item workload_run_item(struct workload_run *run)
{
    bool decode = run->workload.kind == WORKLOAD_DECODE;
    return (struct probe_item){
        .prepare = prepare,
        .run = decode ? run_decode : run_prefill,
        .arg = run,
        .n_units = decode ? run->workload.n_tokens : run->n_passes,
        .unit_ns = !decode || run->workload.n_tokens <= WORKLOAD_RUN_TOKENS ? run->unit_ns : NULL,
    };
}
