#include "cluster/master_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "space/base/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT_S 1.0
/* Nobody greeted for so long: the workers never started. */
#define NOBODY_S 60.0
/* So long evaluations in flight are waited for once a stop was asked for; a batch system gives a
 * minute or two. */
#define DRAIN_S 45.0

double master_now_s(void)
{
    return (double)clock_now_ns() * 1e-9;
}

struct master *master_create(const struct study *study, struct archive *archive, struct link *link,
                             const struct master_options *options, struct err *err)
{
    struct master *master = calloc(1, sizeof *master);
    if (master == NULL) {
        err_set(err, ERR_MEMORY, "master: out of memory");
        return NULL;
    }
    master->study = study;
    master->archive = archive;
    master->link = link;
    master->options = *options;
    master->start_s = master_now_s();
    master->leases = leases_create(link->n_workers, err);
    if (master->leases == NULL ||
        space_init(&master->space, &study->geometry, &study->limits, err) != 0 ||
        master_open_sensitivity(master, err) != 0) {
        master_destroy(master);
        return NULL;
    }
    return master;
}

void master_destroy(struct master *master)
{
    if (master == NULL)
        return;
    if (master->transaction)
        archive_abort(master->archive);
    search_destroy(master->search);
    forecast_fini(&master->forecast);
    op_table_destroy(master->ops);
    sensitivity_destroy(master->sensitivity);
    leases_destroy(master->leases);
    jobs_fini(&master->jobs);
    free(master);
}

int master_begin(struct master *master, struct err *err)
{
    if (master->transaction)
        return 0;
    if (archive_begin(master->archive, err) != 0)
        return -1;
    master->transaction = true;
    return 0;
}

static int commit(struct master *master, struct err *err)
{
    if (!master->transaction)
        return 0;
    master->transaction = false;
    return archive_commit(master->archive, err);
}

/* --- messages --- */

/* The result of a verdict: inline, or in a spool file that is removed once it has been read. */
static char *take_result(struct master *master, const struct message *message, struct err *err)
{
    char name[192], path[STUDY_PATH_MAX];
    if (message->spool[0] == '\0')
        return strdup(message->result);
    snprintf(name, sizeof name, "spool/%s", message->spool);
    char *text = file_read(study_path(master->study, name, path), MESSAGE_RESULT_MAX, NULL, err);
    unlink(path);
    return text;
}

static int take_verdict(struct master *master, const struct message *message, struct err *err)
{
    struct work work;
    struct job *job = NULL;
    if (leases_finish(master->leases, message->from, message->lease, &work, master_now_s()))
        job = jobs_find(&master->jobs, message->lease);
    if (job == NULL) {
        log_info("master", "dropped a late verdict worker=%u lease=%llu", message->from,
                 (unsigned long long)message->lease);
        return 0;
    }
    if (message->verdict != VERDICT_DONE)
        return master_enter(master, job, message->verdict, message->reason, NULL, err);
    struct err trouble = {0};
    char *result = take_result(master, message, &trouble);
    int status = result != NULL
                     ? master_enter(master, job, VERDICT_DONE, "", result, err)
                     : master_enter(master, job, VERDICT_UNABLE, trouble.text, NULL, err);
    free(result);
    return status;
}

/* A lost worker that beats was only slow: no beats go to the lost of their own accord, but without
 * any it would take the master for dead and leave. */
static int take_beat(struct master *master, uint32_t worker, uint64_t lease, struct err *err)
{
    struct message *message = &master->outgoing;
    leases_beat(master->leases, worker, master_now_s());
    leases_begun(master->leases, worker, lease);
    if (!leases_is_lost(master->leases, worker))
        return 0;
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_BEAT;
    return master->link->send(master->link, worker, message, err);
}

static int take_messages(struct master *master, struct err *err)
{
    int got;
    while ((got = master->link->receive(master->link, &master->incoming, err)) > 0) {
        const struct message *message = &master->incoming;
        if (message->from < 1 || message->from > master->link->n_workers)
            continue;
        master->heard_s = master_now_s();
        if (message->kind == MESSAGE_READY)
            leases_ready(master->leases, message->from, master_now_s());
        else if (message->kind == MESSAGE_BEAT &&
                 take_beat(master, message->from, message->lease, err) != 0)
            return -1;
        else if (message->kind == MESSAGE_VERDICT && take_verdict(master, message, err) != 0)
            return -1;
    }
    return got;
}

static int take_losses(struct master *master, struct err *err)
{
    uint32_t worker;
    struct work work;
    while (leases_expire(master->leases, master_now_s(), &worker, &work)) {
        char reason[64];
        snprintf(reason, sizeof reason, "worker %u fell silent", worker);
        master->link->retire(master->link, worker);
        struct job *job = jobs_find(&master->jobs, work.lease);
        if (job != NULL && !leases_has_begun(master->leases, worker)) {
            /* Dead before the work came: the work is not to blame. */
            log_warn("master", "given back reason=\"%s\"", reason);
            job->out = false;
        } else if (job != NULL && master_enter(master, job, VERDICT_LOST, reason, NULL, err) != 0)
            return -1;
    }
    if (leases_n_alive(master->leases) > 0)
        return 0;
    if (leases_n_lost(master->leases) == 0 && master_now_s() - master->start_s < NOBODY_S)
        return 0;
    /* A worker that was only slow may greet again; wait as long as for a new one. */
    if (leases_n_lost(master->leases) > 0 && master_now_s() - master->heard_s < NOBODY_S)
        return 0;
    err_set(err, ERR_STOPPED,
            "no worker is left (%u lost); everything committed is saved, run the "
            "same command again",
            leases_n_lost(master->leases));
    return -1;
}

/* --- orders --- */

static int send_work(struct master *master, uint32_t worker, struct job *job, struct err *err)
{
    struct message *message = &master->outgoing;
    leases_assign(master->leases, worker, &job->work, master_now_s());
    job->out = true;
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_TASK;
    message->work = job->work;
    return master->link->send(master->link, worker, message, err);
}

static uint32_t count_free(const struct master *master)
{
    return leases_n_alive(master->leases) - leases_n_busy(master->leases);
}

/* Proposals are on disk before they are sent (methods.md B1 step 6). */
static int give_orders(struct master *master, struct err *err)
{
    if (count_free(master) > 0 && master_fill(master, count_free(master), err) != 0)
        return -1;
    if (commit(master, err) != 0)
        return -1;
    uint32_t worker;
    struct job *job;
    while (!master->drained && (worker = leases_free_worker(master->leases)) != 0 &&
           (job = jobs_next(&master->jobs, master_now_s())) != NULL)
        if (send_work(master, worker, job, err) != 0)
            return -1;
    return 0;
}

static int beat(struct master *master, struct err *err)
{
    if (master_now_s() - master->beat_s < BEAT_S)
        return 0;
    master->beat_s = master_now_s();
    struct message *message = &master->outgoing;
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_BEAT;
    for (uint32_t worker = 1; worker <= master->link->n_workers; worker++)
        if (!leases_is_lost(master->leases, worker) &&
            master->link->send(master->link, worker, message, err) != 0)
            return -1;
    return 0;
}

/* Evaluations in flight come home; tables are made again from where they were, so nobody waits for
 * the rest of one. */
static bool is_drained(const struct master *master)
{
    if (!master->drained)
        return false;
    bool wanted = false;
    for (size_t i = 0; i < master->jobs.n; i++)
        wanted |= master->jobs.job[i].out && master->jobs.job[i].work.kind == WORK_EVALUATE;
    return !wanted || master_now_s() - master->drained_s > DRAIN_S;
}

int master_step(struct master *master, struct err *err)
{
    if (take_messages(master, err) != 0 || take_losses(master, err) != 0 ||
        give_orders(master, err) != 0 || beat(master, err) != 0) {
        /* What this step had entered so far is sound: keep it if the disk lets us. */
        if (master->transaction && commit(master, NULL) != 0)
            log_warn("master", "the last step could not be committed");
        return -1;
    }
    return master->phase == PHASE_DONE || is_drained(master) ? 0 : 1;
}

void master_drain(struct master *master)
{
    master->drained = true;
    master->drained_s = master_now_s();
}

bool master_was_drained(const struct master *master)
{
    return master->drained;
}

/* --- summary --- */

struct pairs {
    double *predicted[2], *measured[2]; /* decode, prefill */
    size_t n, room;
};

static int collect_pair(void *arg, const struct evaluation *e)
{
    struct pairs *pairs = arg;
    if (isnan(e->predicted_decode_ns) || isnan(e->predicted_prefill_ns))
        return 0;
    if (pairs->n == pairs->room)
        return 1;
    pairs->predicted[0][pairs->n] = e->predicted_decode_ns;
    pairs->predicted[1][pairs->n] = e->predicted_prefill_ns;
    pairs->measured[0][pairs->n] = e->decode.median_ns;
    pairs->measured[1][pairs->n] = e->prefill.median_ns;
    pairs->n++;
    return 0;
}

static double mean_error(const double *predicted, const double *measured, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabs(predicted[i] / measured[i] - 1);
    return n > 0 ? sum / (double)n : NAN;
}

static void summarize_predictions(const struct master *master, struct master_summary *summary)
{
    struct archive_counts counts;
    struct pairs pairs = {0};
    if (archive_counts(master->archive, &counts, NULL) != 0 || counts.n_evaluations == 0)
        return;
    pairs.room = counts.n_evaluations;
    double *block = malloc(4 * pairs.room * sizeof *block);
    if (block == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        pairs.predicted[i] = block + (size_t)(2 * i) * pairs.room;
        pairs.measured[i] = block + (size_t)(2 * i + 1) * pairs.room;
    }
    if (archive_each_evaluation(master->archive, collect_pair, &pairs, NULL) == 0) {
        summary->n_predicted = (uint32_t)pairs.n;
        summary->decode_mape = mean_error(pairs.predicted[0], pairs.measured[0], pairs.n);
        summary->prefill_mape = mean_error(pairs.predicted[1], pairs.measured[1], pairs.n);
        summary->decode_rho = stats_spearman(pairs.predicted[0], pairs.measured[0], pairs.n);
        summary->prefill_rho = stats_spearman(pairs.predicted[1], pairs.measured[1], pairs.n);
    }
    free(block);
}

void master_summary(const struct master *master, struct master_summary *summary)
{
    *summary = (struct master_summary){
        .n_evaluated = master->n_evaluated,
        .n_failed = master->n_failed,
        .n_quarantined = master->n_quarantined,
        .n_sensitivities = master->n_sensitivities,
        .n_evicted = master->n_evicted,
        .evicted_bytes = (double)master->evicted_bytes,
        .n_workers_lost = leases_n_lost(master->leases),
        .seconds = master_now_s() - master->start_s,
        .hypervolume = master->search != NULL ? search_hypervolume(master->search) : 0,
    };
    summarize_predictions(master, summary);
}
