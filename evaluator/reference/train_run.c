/* train_run.c - the training loop. */
#include "evaluator/reference/train_run.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/formats/gguf.h"
#include "evaluator/reference/train_backend.h"
#include "evaluator/reference/train_checkpoint.h"
#include "evaluator/reference/train_export.h"
#include "evaluator/reference/train_memory.h"
#include "evaluator/reference/train_model.h"
#include "evaluator/reference/train_optimizer.h"
#include "evaluator/reference/train_options.h"
#include "evaluator/reference/train_pool.h"
#include "evaluator/reference/train_tokens.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "space/base/rng.h"

struct run {
    const struct train_options *o;
    struct train_geometry g;
    const struct train_backend *backend;
    struct gguf *vocab; /* NULL without --vocab */
    struct train_tokens *tokens, *held_out;
    struct train_pool *pool;
    struct train_model *model;
    struct train_workspace **workspaces; /* [threads] */
    float **gradients;                   /* [threads][n_params] */
    struct train_optimizer opt;
    struct train_progress at;
    uint16_t *windows; /* [batch or held_out_count][context + 1] */

    /* The round in progress. */
    atomic_size_t next;
    size_t n_windows;
    bool with_gradient;
    const float *packing;
    double *losses; /* [threads] */
};

/* ---- setting up ---- */

static int backend_choose(struct run *run, struct err *err)
{
    const struct train_geometry *g = &run->g;
    struct train_heads heads = {g->context, g->n_heads, g->n_kv_heads, g->head_size};
    const char *why = NULL, *name = run->o->backend;
    bool any = strcmp(name, "auto") == 0;
    run->backend = any ? train_backend_best(&heads, &why) : train_backend_find(name, &why);
    if (run->backend == NULL || !run->backend->attention_fits(&heads)) {
        err_set(err, ERR_RESOURCE, "--backend %s: %s", name,
                why != NULL ? why : "context and head size must be multiples of 32");
        return -1;
    }
    if (why != NULL)
        log_warn("train", "slow: %s", why);
    return 0;
}

/* The vocabulary decides the size of the embedding and which token begins a document. */
static int vocab_open(struct run *run, uint16_t *bos, struct err *err)
{
    uint64_t id = 1;
    if (run->o->vocab == NULL) {
        *bos = (uint16_t)id;
        return 0;
    }
    run->vocab = gguf_open(run->o->vocab, err);
    if (run->vocab == NULL)
        return -1;
    int64_t n = gguf_array_length(run->vocab, "tokenizer.ggml.tokens");
    if (n < 1 || n > 65536) {
        err_set(err, ERR_DATA, "%s: no tokenizer of 1 to 65536 pieces", run->o->vocab);
        return -1;
    }
    if (gguf_get_uint(run->vocab, "tokenizer.ggml.bos_token_id", &id, err) < 0)
        return -1;
    if (id >= (uint64_t)n) {
        err_set(err, ERR_DATA, "%s: the beginning token %llu is no piece", run->o->vocab,
                (unsigned long long)id);
        return -1;
    }
    run->g.vocab = (size_t)n;
    *bos = (uint16_t)id;
    return 0;
}

static int tokens_open(struct run *run, uint16_t bos, struct err *err)
{
    const struct train_options *o = run->o;
    size_t window = run->g.context + 1;
    run->tokens = train_tokens_open(o->tokens, o->n_tokens, window, run->g.vocab, bos, err);
    if (run->tokens == NULL)
        return -1;
    if (o->held_out == NULL)
        return 0;
    run->held_out = train_tokens_open(&o->held_out, 1, window, run->g.vocab, bos, err);
    return run->held_out == NULL ? -1 : 0;
}

static int memory_create(struct run *run, struct err *err)
{
    const struct train_options *o = run->o;
    size_t n_params = train_geometry_n_params(&run->g);
    size_t n_windows = o->batch > o->held_out_count ? o->batch : o->held_out_count;
    run->model = train_model_create(&run->g, run->backend, err);
    if (run->model == NULL || train_optimizer_init(&run->opt, n_params, err) != 0)
        return -1;
    run->workspaces = calloc(o->threads, sizeof *run->workspaces);
    run->gradients = calloc(o->threads, sizeof *run->gradients);
    run->losses = calloc(o->threads, sizeof *run->losses);
    run->windows = calloc(n_windows, (run->g.context + 1) * sizeof *run->windows);
    if (run->workspaces == NULL || run->gradients == NULL || run->losses == NULL ||
        run->windows == NULL)
        goto no_memory;
    for (size_t i = 0; i < o->threads; i++) {
        run->workspaces[i] = train_workspace_create(run->model, 1, err);
        if (run->workspaces[i] == NULL)
            return -1;
        run->gradients[i] = train_memory_create(n_params * sizeof(float));
        if (run->gradients[i] == NULL)
            goto no_memory;
    }
    return 0;

no_memory:
    err_set(err, ERR_MEMORY, "out of memory for %zu threads", o->threads);
    return -1;
}

static int state_begin(struct run *run, struct err *err)
{
    const struct train_options *o = run->o;
    run->at = (struct train_progress){.seed = o->seed};
    if (o->resume && file_exists(o->checkpoint)) {
        if (train_checkpoint_load(o->checkpoint, &run->g, &run->opt, &run->at, err) != 0)
            return -1;
        log_info("train", "resumed %s step=%llu minutes=%.1f", o->checkpoint,
                 (unsigned long long)run->opt.n_steps, run->at.seconds / 60);
        return 0;
    }
    struct rng rng = rng_make(o->seed, UINT64_MAX);
    train_model_init_params(&run->g, &rng, run->opt.weights);
    memcpy(run->opt.average, run->opt.weights, run->opt.n_params * sizeof(float));
    return 0;
}

static int run_init(struct run *run, const struct train_options *o, struct err *err)
{
    uint16_t bos;
    *run = (struct run){.o = o, .g = o->g};
    if (vocab_open(run, &bos, err) != 0 || train_geometry_check(&run->g, err) != 0 ||
        backend_choose(run, err) != 0 || tokens_open(run, bos, err) != 0)
        return -1;
    run->pool = train_pool_create(o->threads, err);
    if (run->pool == NULL || memory_create(run, err) != 0 || state_begin(run, err) != 0)
        return -1;
    log_info("train", "parameters=%zu tokens=%llu backend=%s threads=%zu batch=%zu",
             run->opt.n_params, (unsigned long long)train_tokens_count(run->tokens),
             run->backend->name, o->threads, o->batch);
    return 0;
}

static void run_fini(struct run *run)
{
    train_pool_destroy(run->pool);
    for (size_t i = 0; i < run->o->threads; i++) {
        if (run->workspaces != NULL)
            train_workspace_destroy(run->workspaces[i]);
        if (run->gradients != NULL)
            free(run->gradients[i]);
    }
    free(run->workspaces);
    free(run->gradients);
    free(run->losses);
    free(run->windows);
    train_optimizer_fini(&run->opt);
    train_model_destroy(run->model);
    train_tokens_close(run->tokens);
    train_tokens_close(run->held_out);
    gguf_close(run->vocab);
}

/* ---- rounds of the pool ---- */

static void pack_share(void *arg, size_t thread, size_t n_threads)
{
    struct run *run = arg;
    train_model_pack(run->model, run->packing, thread, n_threads);
}

static void pack(struct run *run, const float *weights)
{
    run->packing = weights;
    train_pool_run(run->pool, pack_share, run);
}

static void pass_share(void *arg, size_t thread, size_t n_threads)
{
    (void)n_threads;
    struct run *run = arg;
    float *gradient = run->with_gradient ? run->gradients[thread] : NULL;
    double loss = 0;
    for (;;) {
        size_t i = atomic_fetch_add(&run->next, 1);
        if (i >= run->n_windows)
            break;
        loss += train_model_pass(run->model, run->workspaces[thread],
                                 run->windows + i * (run->g.context + 1), 1, gradient);
    }
    run->losses[thread] = loss;
}

/* Mean loss in nats a token over the first n windows. */
static double pass(struct run *run, size_t n, bool with_gradient)
{
    run->n_windows = n;
    run->with_gradient = with_gradient;
    atomic_store(&run->next, 0);
    train_pool_run(run->pool, pass_share, run);
    double loss = 0;
    for (size_t i = 0; i < run->o->threads; i++)
        loss += run->losses[i];
    return loss / (double)(n * run->g.context);
}

/* ---- the loop ---- */

/* 0 at the start of the schedule, 1 at its end. */
static double progress(const struct run *run)
{
    const struct train_options *o = run->o;
    return o->minutes > 0 ? run->at.seconds / (60 * o->minutes)
                          : (double)run->opt.n_steps / (double)o->steps;
}

static double learning_rate(const struct run *run)
{
    const struct train_options *o = run->o;
    double done = progress(run), step = (double)run->opt.n_steps + 1;
    double cosine = 0.5 + 0.5 * cos(acos(-1.0) * (done < 1 ? done : 1));
    double warm = o->warmup > 0 && step < o->warmup ? step / o->warmup : 1.0;
    return o->lr * warm * (o->final_lr + (1 - o->final_lr) * cosine);
}

/* One step; the loss before it and the norm of its gradient. */
static int step(struct run *run, double lr, double *loss, double *norm, struct err *err)
{
    const struct train_options *o = run->o;
    size_t window = run->g.context + 1;
    for (size_t i = 0; i < o->batch; i++)
        train_tokens_draw(run->tokens, run->at.seed, run->at.n_windows++,
                          run->windows + i * window);
    *loss = pass(run, o->batch, true);
    const struct train_rates rates = {
        .lr = lr,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .decay = o->decay,
        .clip = o->clip,
        .average = o->average,
    };
    *norm = train_optimizer_step(&run->opt, &run->g, run->pool, run->gradients, o->threads,
                                 1.0 / (double)(o->batch * run->g.context), &rates);
    if (!isfinite(*loss) || !isfinite(*norm)) {
        err_set(err, ERR_DATA,
                "step %llu: the loss is not finite; resume from the last "
                "checkpoint with a lower --lr",
                (unsigned long long)run->opt.n_steps);
        return -1;
    }
    pack(run, run->opt.weights);
    return 0;
}

/* Loss of the moving average, which is what will be kept, on the held-out windows. */
static void judge(struct run *run)
{
    size_t n = run->o->held_out_count;
    if (run->held_out == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        train_tokens_spread(run->held_out, i, n, run->windows + i * (run->g.context + 1));
    double raw = pass(run, n, false);
    pack(run, run->opt.average);
    double kept = pass(run, n, false);
    pack(run, run->opt.weights);
    log_info("train", "step=%llu held_out=%.4f perplexity=%.3f last_weights=%.4f",
             (unsigned long long)run->opt.n_steps, kept, exp(kept), raw);
}

static int save(struct run *run, struct err *err)
{
    const struct train_options *o = run->o;
    if (o->checkpoint != NULL &&
        train_checkpoint_save(o->checkpoint, &run->g, &run->opt, &run->at, err) != 0)
        return -1;
    if (o->out != NULL && train_export(o->out, &run->g, run->opt.average, run->vocab, err) != 0)
        return -1;
    if (o->checkpoint != NULL || o->out != NULL)
        log_info("train", "saved step=%llu minutes=%.1f", (unsigned long long)run->opt.n_steps,
                 run->at.seconds / 60);
    return 0;
}

/* What the report lines say: means since the last line. */
struct tally {
    int64_t since_ns;
    size_t n_steps;
    double loss, norm;
};

static void report(struct run *run, struct tally *tally, double lr)
{
    int64_t now = clock_now_ns();
    double seconds = 1e-9 * (double)(now - tally->since_ns), n = (double)tally->n_steps;
    if (tally->n_steps == 0 || seconds < (double)run->o->report_every)
        return;
    log_info("train", "step=%llu done=%.1f%% loss=%.4f lr=%.2e norm=%.2f tokens_per_s=%.0f",
             (unsigned long long)run->opt.n_steps, 100 * progress(run), tally->loss / n, lr,
             tally->norm / n, n * (double)(run->o->batch * run->g.context) / seconds);
    *tally = (struct tally){.since_ns = now};
}

static int loop(struct run *run, const volatile sig_atomic_t *stop, struct err *err)
{
    int64_t last_ns = clock_now_ns(), saved_ns = last_ns;
    struct tally tally = {.since_ns = last_ns};
    pack(run, run->opt.weights);
    while (progress(run) < 1 && !*stop) {
        double loss, norm, lr = learning_rate(run);
        if (step(run, lr, &loss, &norm, err) != 0)
            return -1;
        int64_t now = clock_now_ns();
        run->at.seconds += 1e-9 * (double)(now - last_ns);
        last_ns = now;
        tally.n_steps++;
        tally.loss += loss;
        tally.norm += norm;
        report(run, &tally, lr);
        if (run->opt.n_steps % run->o->held_out_every == 0)
            judge(run);
        if (now - saved_ns >= (int64_t)run->o->save_every * 1000000000) {
            if (save(run, err) != 0)
                return -1;
            saved_ns = clock_now_ns();
        }
    }
    return 0;
}

int train_run(const struct train_options *o, const volatile sig_atomic_t *stop, struct err *err)
{
    struct run run;
    int result = run_init(&run, o, err);
    if (result == 0)
        result = loop(&run, stop, err);
    if (result == 0) {
        if (run.opt.n_steps % o->held_out_every != 0)
            judge(&run);
        result = save(&run, err);
    }
    if (result == 0 && progress(&run) < 1) {
        err_set(err, ERR_STOPPED, "stopped at step %llu, saved; --resume goes on",
                (unsigned long long)run.opt.n_steps);
        result = -1;
    }
    run_fini(&run);
    return result;
}
