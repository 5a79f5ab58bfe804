#include "latency_model/peer_rounds.h"
#include "latency_model/quiet.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

/* A file may come from a slow disk, an engine may be far slower than ours; only what hangs is to be
 * ended. */
#define LIMIT_S     300.0
#define LIMIT_TIMES 50.0

static int time_workload(struct peer_bench *bench, const struct workload *workload,
                         const char *path, double *median_ns, struct peer_sample *origin,
                         struct err *err)
{
    struct peer_sample sample;
    if (peer_bench_run(bench, path, workload, &sample, err) != 0)
        return -1;
    *median_ns = stats_median(sample.ns, sample.n);
    if (origin != NULL) {
        *origin = sample;
        origin->n = 0;
    }
    return 0;
}

/* Whether the file is to blame, and not the program or the user. */
static bool is_about_file(const struct err *fault)
{
    return fault->code == ERR_DATA;
}

static int run_round(struct peer_bench *bench, const struct peer_plan *plan, uint32_t round,
                     struct peer_file *files, const size_t *order, size_t n_files,
                     struct peer_sample *origin, struct err *err)
{
    for (size_t i = 0; i < n_files; i++) {
        struct peer_file *file = &files[order[i]];
        struct err fault = {0};
        if (file->fault.code != ERR_NONE)
            continue;
        bench->kv = file->kv;
        bench->limit_s = LIMIT_S + LIMIT_TIMES * file->expected_s;
        if (time_workload(bench, &plan->decode, file->path, &file->run_ns[0][round], origin,
                          &fault) == 0 &&
            time_workload(bench, &plan->prefill, file->path, &file->run_ns[1][round], origin,
                          &fault) == 0)
            continue;
        if (!is_about_file(&fault)) {
            err_set(err, fault.code, "%s", fault.text);
            return -1;
        }
        file->fault = fault;
    }
    return 0;
}

static struct peer_time summarize(double *run_ns, uint32_t n)
{
    struct peer_time time;
    stats_sort(run_ns, n);
    time.median_ns = stats_quantile(run_ns, n, 0.5);
    stats_median_interval(run_ns, n, &time.lo_ns, &time.hi_ns);
    return time;
}

/* -1 when nobody could be timed. */
static int finish(const struct peer_plan *plan, struct peer_file *files, size_t n_files,
                  struct err *err)
{
    const struct peer_file *refused = NULL;
    size_t n_timed = 0;
    for (size_t i = 0; i < n_files; i++) {
        if (is_about_file(&files[i].fault) && refused == NULL)
            refused = &files[i];
        if (files[i].fault.code != ERR_NONE)
            continue;
        files[i].decode = summarize(files[i].run_ns[0], plan->n_rounds);
        files[i].prefill = summarize(files[i].run_ns[1], plan->n_rounds);
        n_timed++;
    }
    if (n_timed > 0)
        return 0;
    err_set(err, ERR_RESOURCE, "none of the exported files could be timed: %.300s",
            refused != NULL ? refused->fault.text : "there are none");
    return -1;
}

int peer_rounds_run(struct peer_bench *bench, const struct peer_plan *plan, struct peer_file *files,
                    size_t n_files, struct rng *rng, struct quiet *quiet,
                    struct peer_sample *origin, struct err *err)
{
    assert(plan->n_rounds >= 1 && plan->n_rounds <= PEER_ROUNDS_MAX);
    size_t *order = calloc(n_files + 1, sizeof *order);
    if (order == NULL) {
        err_set(err, ERR_MEMORY, "peer: out of memory");
        return -1;
    }
    for (size_t i = 0; i < n_files; i++)
        order[i] = i;
    int status = 0;
    for (uint32_t round = 0; round < plan->n_rounds && status == 0; round++) {
        rng_shuffle(rng, order, n_files, sizeof order[0]);
        status = quiet_probe_begin(quiet, err);
        if (status != 0)
            break;
        status = run_round(bench, plan, round, files, order, n_files, origin, err);
        quiet_probe_end(quiet);
        log_debug("peer", "round=%u of=%u", round + 1, plan->n_rounds);
    }
    free(order);
    return status == 0 ? finish(plan, files, n_files, err) : -1;
}
