/* stopwatch_serve.c - the side that times. */
#include "evaluator/parent.h"
#include "latency_model/stand.h"
#include "latency_model/stopwatch.h"
#include "latency_model/workload_run.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"

#include <stdio.h>
#include <stdlib.h>

#define RNG_STREAM 0x77617463 /* "watc": the same tokens in every build */

struct service {
    struct stand stand;
    struct parent *parent;
    struct model *model;
    struct forward *forward;
    int32_t *tokens;
    struct workload_run run[STOPWATCH_MAX_WORKLOADS];
    struct probe_item item[STOPWATCH_MAX_WORKLOADS]; /* of the runs themselves */
    double slowdown;
};

/* A run that takes longer by a share of its time. */
struct slowed {
    const struct probe_item *item;
    double share;
};

static int prepare_slowed(void *arg, struct err *err)
{
    struct slowed *slowed = arg;
    return slowed->item->prepare != NULL ? slowed->item->prepare(slowed->item->arg, err) : 0;
}

static int run_slowed(void *arg, struct err *err)
{
    struct slowed *slowed = arg;
    int64_t start = clock_now_ns();
    int status = slowed->item->run(slowed->item->arg, err);
    int64_t end = clock_now_ns();

    end += (int64_t)((double)(end - start) * slowed->share);
    while (slowed->share > 0 && clock_now_ns() < end)
        ;
    return status;
}

static int make_tokens(struct service *s, size_t n, struct err *err)
{
    struct rng rng = rng_make(1, RNG_STREAM);

    s->tokens = calloc(n, sizeof *s->tokens);
    if (s->tokens == NULL) {
        err_set(err, ERR_MEMORY, "out of memory");
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        s->tokens[i] = (int32_t)rng_below(&rng, s->model->geometry.n_vocab);
    return 0;
}

static int open_service(struct service *s, const struct stopwatch_job *job, struct err *err)
{
    struct forward_options options = {0};
    size_t n_tokens = 1;

    for (size_t w = 0; w < job->n_workloads; w++) {
        const struct workload *workload = &job->workload[w];
        size_t n = (size_t)workload_positions(workload) * workload->batch;
        n_tokens = n > n_tokens ? n : n_tokens;
        workload_run_room(workload, &options);
    }
    if (stand_open(&s->stand, job->n_threads, err) != 0 ||
        (s->parent = parent_open(job->model, err)) == NULL ||
        (s->model = model_of_parent(s->parent, err)) == NULL || make_tokens(s, n_tokens, err) != 0)
        return -1;
    stand_recall(&s->stand);
    s->forward = forward_create(s->model, s->stand.kernels, s->stand.team, &options, err);
    if (s->forward == NULL)
        return -1;
    for (size_t w = 0; w < job->n_workloads; w++) {
        s->run[w] =
            workload_run_make(s->forward, s->tokens, &job->workload[w], s->model->geometry.n_vocab);
        s->item[w] = workload_run_item(&s->run[w]);
    }
    return 0;
}

static void close_service(struct service *s)
{
    forward_destroy(s->forward);
    free(s->tokens);
    model_destroy(s->model);
    parent_close(s->parent);
    stand_close(&s->stand);
}

static int serve(struct service *s, size_t n_workloads, struct err *err)
{
    size_t index;
    int n_read;

    while ((n_read = scanf("%zu", &index)) == 1) {
        if (index >= n_workloads) {
            err_set(err, ERR_USAGE, "workload %zu of %zu", index, n_workloads);
            return -1;
        }
        struct slowed slowed = {&s->item[index], s->slowdown};
        struct probe_item item = {prepare_slowed, run_slowed, &slowed, s->item[index].n_units,
                                  s->item[index].unit_ns};
        struct sample sample;
        if (sample_take(&item, &s->stand.place, &sample, err) != 0)
            return -1;
        /* Tokens were timed one by one, before the delay. */
        if (item.unit_ns != NULL)
            sample.ns *= 1 + s->slowdown;
        printf("%.17g %d\n", sample.ns, (int)sample.rejection);
        fflush(stdout);
    }
    return 0;
}

int stopwatch_serve(const struct stopwatch_job *job)
{
    struct service service = {0};
    struct err err = {0};
    const char *slowdown = getenv("KERF_TEST_SLOWDOWN");

    service.slowdown = slowdown != NULL ? strtod(slowdown, NULL) : 0;
    int status = open_service(&service, job, &err);
    if (status == 0) {
        printf("kerf-stopwatch 1 %s %s\n", service.stand.device.name, service.stand.kernels->name);
        fflush(stdout);
        status = serve(&service, job->n_workloads, &err);
    }
    if (status != 0) {
        printf("error %s\n", err.text);
        fflush(stdout);
    }
    close_service(&service);
    return status == 0 ? 0 : err_exit_status(err.code);
}
