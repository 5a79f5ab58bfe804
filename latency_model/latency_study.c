#include "latency_model/latency_study.h"

#include "latency_model/stand_in.h"
#include "latency_model/workload_run.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"

#include <stdlib.h>
#include <string.h>

#define RNG_STREAM 0x73747564 /* "stud" */

/* The least share of an item's samples that must be undisturbed for the others to be left out. */
#define MIN_ACCEPTED_SHARE 0.5

/* Decode samples of one turn. */
#define MAX_REPEATS 4

enum { DECODE, PREFILL };

struct taken {
    struct pace_sample sample;
    uint32_t workload;
    enum rejection rejection;
};

/* What one candidate does when its turn comes. */
struct turn {
    const struct model *model;
    struct workload_run run[LATENCY_STUDY_WORKLOADS];
    struct probe_item item[LATENCY_STUDY_WORKLOADS]; /* of `run` */
};

struct running {
    struct stand *stand;
    const struct latency_study *study;
    struct stand_in *weights;
    struct model **model; /* [n] */
    struct forward *forward;
    int32_t *tokens;
    struct turn *turn;         /* [n] */
    size_t *order;             /* [n] */
    struct taken *taken;       /* [room] */
    struct pace_sample *kept;  /* as taken */
    struct pace_time *settled; /* [n] */
    size_t n_taken, room;
    struct footing *footing; /* [2 n (1 + MAX_REPEATS)] of this round */
    size_t n_footings;
};

/* --- opening --- */

static int check(const struct latency_study *study, struct err *err)
{
    for (size_t w = 0; w < LATENCY_STUDY_WORKLOADS; w++) {
        char name[32];
        if (workload_positions(&study->workload[w]) <= study->geometry->n_ctx)
            continue;
        err_set(err, ERR_CONFIG, "%s: %u positions, the model's context has %u",
                workload_format(&study->workload[w], name), workload_positions(&study->workload[w]),
                study->geometry->n_ctx);
        return -1;
    }
    return 0;
}

/* The most that a workload takes. */
static size_t tokens_needed(const struct latency_study *study)
{
    size_t most = 1;
    for (size_t w = 0; w < LATENCY_STUDY_WORKLOADS; w++) {
        size_t n = (size_t)workload_positions(&study->workload[w]) * study->workload[w].batch;
        most = n > most ? n : most;
    }
    return most;
}

static int take_memory(struct running *r, struct err *err)
{
    size_t n = r->study->n;
    r->room = n * r->study->rounds_max * (1 + MAX_REPEATS);

    r->model = calloc(n + 1, sizeof(struct model *));
    r->turn = calloc(n + 1, sizeof *r->turn);
    r->order = calloc(n + 1, sizeof *r->order);
    r->taken = calloc(r->room + 1, sizeof *r->taken);
    r->kept = calloc(r->room + 1, sizeof *r->kept);
    r->settled = calloc(n + 1, sizeof *r->settled);
    r->footing = calloc(2 * n * (1 + MAX_REPEATS) + 1, sizeof *r->footing);
    r->tokens = calloc(tokens_needed(r->study), sizeof *r->tokens);
    if (r->model != NULL && r->turn != NULL && r->order != NULL && r->taken != NULL &&
        r->kept != NULL && r->settled != NULL && r->footing != NULL && r->tokens != NULL)
        return 0;
    err_set(err, ERR_MEMORY, "latency study: out of memory");
    return -1;
}

static int make_models(struct running *r, struct err *err)
{
    const struct latency_study *study = r->study;

    r->weights = stand_in_create(study->geometry, study->genome, study->n, err);
    for (size_t i = 0; i < study->n && r->weights != NULL; i++) {
        r->model[i] = stand_in_model(r->weights, &study->genome[i], err);
        if (r->model[i] == NULL)
            return -1;
    }
    return r->weights != NULL ? 0 : -1;
}

/* One pass for all: they are of one parent. */
static int make_forward(struct running *r, struct err *err)
{
    const struct latency_study *study = r->study;
    struct forward_options options = {.d_model = study->geometry->d_model};

    for (size_t w = 0; w < LATENCY_STUDY_WORKLOADS; w++)
        workload_run_room(&study->workload[w], &options);
    r->forward = forward_create(r->model[0], r->stand->kernels, r->stand->team, &options, err);
    return r->forward != NULL ? 0 : -1;
}

/* Decoding begins behind the prompt that was run before it, cut to its context. */
static int rewind_or_fill(void *arg, struct err *err)
{
    struct workload_run *run = arg;

    if (forward_position(run->forward) < run->workload.context ||
        forward_n_sequences(run->forward) != run->workload.batch)
        return workload_run_item(run).prepare(run, err);
    forward_rewind(run->forward, run->workload.context);
    return 0;
}

static void make_turns(struct running *r, struct rng *rng)
{
    const struct latency_study *study = r->study;

    for (size_t t = 0; t < tokens_needed(study); t++)
        r->tokens[t] = (int32_t)rng_below(rng, study->geometry->n_vocab);
    for (size_t i = 0; i < study->n; i++) {
        struct turn *turn = &r->turn[i];
        turn->model = r->model[i];
        for (int w = 0; w < LATENCY_STUDY_WORKLOADS; w++) {
            turn->run[w] = workload_run_make(r->forward, r->tokens, &study->workload[w],
                                             study->geometry->n_vocab);
            turn->item[w] = workload_run_item(&turn->run[w]);
        }
        turn->item[DECODE].prepare = rewind_or_fill;
    }
}

static void running_close(struct running *r)
{
    forward_destroy(r->forward);
    for (size_t i = 0; r->model != NULL && i < r->study->n; i++)
        model_destroy(r->model[i]);
    stand_in_destroy(r->weights);
    free(r->tokens);
    free(r->footing);
    free(r->settled);
    free(r->kept);
    free(r->taken);
    free(r->order);
    free(r->turn);
    free((void *)r->model);
}

/* --- rounds --- */

static int take(struct running *r, size_t candidate, uint32_t w, double *seconds, struct err *err)
{
    const struct probe_item *item = &r->turn[candidate].item[w];
    struct sample sample;

    if (sample_take(item, &r->stand->place, &sample, err) != 0)
        return -1;
    *seconds += sample.ns * item->n_units * 1e-9;
    r->taken[r->n_taken++] = (struct taken){
        .sample = {(uint32_t)candidate, sample.ns}, .workload = w, .rejection = sample.rejection};
    memcpy(r->footing + r->n_footings, sample.footing, sizeof sample.footing);
    r->n_footings += 2;
    return 0;
}

/* One token walks through all weights, so that a run finds in the caches what its own model left
 * and not the others'; then the prompt, then decoding for about as long. */
static int take_turn(struct running *r, size_t candidate, struct err *err)
{
    double prefill = 0, decode = 0;

    forward_set_model(r->forward, r->turn[candidate].model);
    if (forward_tokens(r->forward, r->tokens, 1, LOGITS_LAST, err) != 0 ||
        take(r, candidate, PREFILL, &prefill, err) != 0)
        return -1;
    /* As long as one more fits the time of the prompt. */
    for (int i = 0; i < MAX_REPEATS && decode <= prefill * i / (i + 1); i++)
        if (take(r, candidate, DECODE, &decode, err) != 0)
            return -1;
    return 0;
}

static int run_round(struct running *r, struct rng *rng, struct err *err)
{
    size_t n = r->study->n;
    int status = quiet_probe_begin(r->stand->quiet, err);

    if (status != 0)
        return -1;
    if (r->n_taken == 0)
        stand_recall(r->stand);
    r->n_footings = 0;
    for (size_t i = 0; i < n; i++)
        r->order[i] = i;
    rng_shuffle(rng, r->order, n, sizeof r->order[0]);
    for (size_t i = 0; i < n && status == 0; i++)
        status = take_turn(r, r->order[i], err);
    footing_learn(&r->stand->place.best, r->footing, r->n_footings);
    stand_keep(r->stand);
    quiet_probe_end(r->stand->quiet);
    return status;
}

static int run_rounds(struct running *r, struct rng *rng, struct latency_effort *effort,
                      struct err *err)
{
    const struct latency_study *study = r->study;
    int64_t start = clock_now_ns();

    for (uint32_t done = 0; done < study->rounds_max;) {
        double seconds = (double)(clock_now_ns() - start) * 1e-9;
        if (done >= LATENCY_STUDY_MIN_ROUNDS && study->max_seconds > 0 &&
            seconds + seconds / done > study->max_seconds)
            break;
        if (run_round(r, rng, err) != 0)
            return -1;
        effort->n_rounds = ++done;
        if (study->progress != NULL)
            study->progress(study->arg, done);
    }
    effort->seconds = (double)(clock_now_ns() - start) * 1e-9;
    effort->n_samples = r->n_taken;
    for (size_t k = 0; k < r->n_taken; k++)
        effort->n_disturbed += r->taken[k].rejection != ACCEPTED;
    return 0;
}

/* --- times --- */

/* Whether enough samples of an item were left alone. */
static bool is_quiet(const struct running *r, uint32_t item, uint32_t workload)
{
    size_t n = 0, n_accepted = 0;

    for (size_t k = 0; k < r->n_taken; k++) {
        if (r->taken[k].sample.item != item || r->taken[k].workload != workload)
            continue;
        n++;
        n_accepted += r->taken[k].rejection == ACCEPTED;
    }
    return (double)n_accepted >= MIN_ACCEPTED_SHARE * (double)n;
}

static int settle(struct running *r, uint32_t workload, struct latency_times *times,
                  struct err *err)
{
    bool *quiet = calloc(r->study->n, sizeof *quiet);
    size_t n = 0;

    if (quiet == NULL) {
        err_set(err, ERR_MEMORY, "latency study: out of memory");
        return -1;
    }
    for (size_t i = 0; i < r->study->n; i++)
        quiet[i] = is_quiet(r, (uint32_t)i, workload);
    for (size_t k = 0; k < r->n_taken; k++) {
        const struct taken *taken = &r->taken[k];
        if (taken->workload == workload && taken->rejection != MIGRATED &&
            (taken->rejection == ACCEPTED || !quiet[taken->sample.item]))
            r->kept[n++] = taken->sample;
    }
    int status = pace_settle(r->kept, n, r->study->n, r->settled, err);
    for (size_t i = 0; i < r->study->n && status == 0; i++) {
        times[i].workload[workload] = r->settled[i];
        if (r->settled[i].n > 0)
            continue;
        err_set(err, ERR_RESOURCE, "latency study: no sample of candidate %zu stayed on its core",
                i);
        status = -1;
    }
    free(quiet);
    return status;
}

int latency_study_run(struct stand *stand, const struct latency_study *study, uint64_t seed,
                      struct latency_times *times, struct latency_effort *effort, struct err *err)
{
    struct running r = {.stand = stand, .study = study};
    struct rng rng = rng_make(seed, RNG_STREAM);
    int status = check(study, err);

    *effort = (struct latency_effort){0};
    if (status == 0)
        status = take_memory(&r, err);
    if (status == 0)
        status = make_models(&r, err);
    if (status == 0)
        status = make_forward(&r, err);
    if (status == 0) {
        effort->weight_bytes = stand_in_bytes(r.weights);
        make_turns(&r, &rng);
        status = run_rounds(&r, &rng, effort, err);
    }
    for (uint32_t w = 0; w < LATENCY_STUDY_WORKLOADS && status == 0; w++)
        status = settle(&r, w, times, err);
    running_close(&r);
    return status;
}
