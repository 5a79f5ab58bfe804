#include "cluster/run.h"
#include "cluster/journal.h"
#include "cluster/link.h"
#include "cluster/master.h"
#include "cluster/mpi_folder.h"
#include "cluster/run_status.h"
#include "cluster/scratch.h"
#include "cluster/supervisor.h"
#include "evaluator/compression/store.h"
#include "latency_model/machine.h"
#include "results/archive.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_NS   10000000000ll
#define LOOK_NS       1000000000ll /* for the watchdog */
#define MASTER_NAP_NS 20000000ll
#define IDLE_MS       5  /* nap of a supervisor without work */
#define WATCH_MS      50 /* of one that watches a child */

/* Stop requests so far: one drains, three leave at once (the archive is whole at any moment). */
static volatile sig_atomic_t n_stops;

static void on_stop(int signal)
{
    (void)signal;
    if (++n_stops >= 3)
        _exit(75);
}

void run_catch_stops(void)
{
    struct sigaction action = {.sa_handler = on_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* --- what both kinds of master do --- */

struct session {
    const struct study *study;
    struct archive *archive;
    struct master *master;
    bool without_candidates; /* by the plan */
    int64_t touched_ns, looked_ns;
};

/* The archive proves ids of genomes with the parent's hash. */
static int name_parent(struct archive *archive, const struct study *study, struct err *err)
{
    char there[HASH256_HEX], parent[HASH256_HEX];
    hash256_hex(study->parent, parent);
    if (archive_get_meta(archive, ARCHIVE_META_PARENT, there, sizeof there, err) == 1)
        return 0; /* the study's hash covers the parent's */
    return archive_put_meta(archive, ARCHIVE_META_PARENT, parent, err);
}

static int session_open(struct session *session, const struct study *study,
                        const struct run_options *options, struct link *link, struct err *err)
{
    char path[STUDY_PATH_MAX];
    struct hash256 owner = study_hash(study);
    *session = (struct session){.study = study, .without_candidates = options->sensitivity_only};
    if (options->scratch != NULL && scratch_choose(study, options->scratch, err) != 0)
        return -1;
    session->archive =
        archive_open(scratch_path(study, "archive", path), ARCHIVE_WRITE, &owner, err);
    if (session->archive == NULL)
        return -1;
    struct master_options wanted = {
        .evals = options->evals > 0 ? options->evals : study->evals,
        .time_s = options->time_s > 0 ? options->time_s : study->time_s,
        .sensitivity_only = options->sensitivity_only,
        .sensitivity = options->sensitivity,
    };
    if (name_parent(session->archive, study, err) == 0)
        session->master = master_create(study, session->archive, link, &wanted, err);
    if (session->master == NULL) {
        archive_close(session->archive);
        return -1;
    }
    run_status_remove(study); /* only now: a refused master leaves the word of the other alone */
    journal_write(study, "start", NULL);
    return 0;
}

/* As master_step, with the stop requests and the sign of life of a run. */
static int session_step(struct session *session, struct err *err)
{
    if (n_stops > 0 && !master_was_drained(session->master)) {
        log_info("search", "stopping: what is in flight may come home, then everything is saved");
        master_drain(session->master);
    }
    if (clock_now_ns() - session->looked_ns > LOOK_NS) {
        session->looked_ns = clock_now_ns();
        if (run_watchdog_is_dead() && !master_was_drained(session->master)) {
            log_warn("search", "stopping: the watchdog is gone");
            master_drain(session->master);
        }
    }
    if (clock_now_ns() - session->touched_ns > PROGRESS_NS) {
        session->touched_ns = clock_now_ns();
        run_progress_touch(session->study, getpid());
    }
    return master_step(session->master, err);
}

/* Close the archive first, tell the status last: a reader of it may start the next run at once. */
static struct run_status session_close(struct session *session, int last_step,
                                       const struct err *err)
{
    struct run_status status = {0};
    struct archive_counts counts;
    struct err trouble = {0};
    master_summary(session->master, &status.summary);
    if (last_step < 0) {
        status.code = err->code != ERR_NONE ? err->code : ERR_INTERNAL;
        snprintf(status.reason, sizeof status.reason, "%s", err->text);
    } else if (master_was_drained(session->master)) {
        status.code = ERR_STOPPED;
        snprintf(status.reason, sizeof status.reason,
                 "stopped as asked; everything is saved, run the same command again to go on");
    } else if (!session->without_candidates &&
               archive_counts(session->archive, &counts, NULL) == 0 && counts.n_done < 2) {
        /* The parent alone is no result. */
        status.code = ERR_NO;
        snprintf(status.reason, sizeof status.reason,
                 "no candidate could be measured, %llu are quarantined; %.200s/journal.jsonl says "
                 "why",
                 (unsigned long long)counts.n_quarantined, session->study->dir);
    }
    master_destroy(session->master);
    archive_close(session->archive);
    cJSON *fields = cJSON_CreateObject();
    cJSON_AddStringToObject(fields, "code", err_name(status.code));
    cJSON_AddStringToObject(fields, "reason", status.reason);
    journal_write(session->study, "end", fields);
    if (run_status_write(session->study, &status, &trouble) != 0)
        log_error("search", "%s", trouble.text);
    if (run_watchdog_is_dead())
        run_status_settle(session->study);
    return status;
}

static int fail(const struct err *err)
{
    fprintf(stderr, "kerf: %s\n", err->text[0] != '\0' ? err->text : err_phrase(err->code));
    return err_exit_status(err->code);
}

/* --- the worker's side --- */

struct worker {
    struct child_options options;
    struct supervisor *supervisor;
    char store[STUDY_PATH_MAX];
    int cpu[1024];
};

/* Where there are not cores enough for all workers of a node, all use the same ones: probes are
 * alone on the node in any case, and scoring only gets slower. */
static int plan_cpus(struct worker *worker, const struct link *link, uint32_t n_threads,
                     struct err *err)
{
    struct machine *machine = machine_load(err);
    if (machine == NULL)
        return -1;
    int status = machine_plan(machine, link->local_worker, link->n_local_workers, n_threads,
                              worker->cpu, NULL);
    if (status != 0) {
        status = machine_plan(machine, 0, 1, n_threads, worker->cpu, err);
        if (status == 0)
            log_info("worker", "sharing cores workers=%u threads=%u", link->n_local_workers,
                     n_threads);
    }
    machine_destroy(machine);
    return status;
}

static int worker_open(struct worker *worker, const struct study *study,
                       const struct run_options *options, struct link *link, struct err *err)
{
    uint32_t n_threads = options->threads > 0 ? options->threads : study->threads;
    memset(worker, 0, sizeof *worker);
    if (n_threads > 1024 || plan_cpus(worker, link, n_threads, err) != 0)
        return -1;
    scratch_path(study, "store", worker->store);
    worker->options = (struct child_options){.study_dir = study->dir,
                                             .store_dir = worker->store,
                                             .max_disk = options->max_disk > 0 ? options->max_disk
                                                                               : study->max_disk,
                                             .cpu = worker->cpu,
                                             .n_threads = n_threads};
    store_claim(worker->store, &study->parent);
    worker->supervisor = supervisor_create(link, &worker->options, err);
    return worker->supervisor != NULL ? 0 : -1;
}

/* --- alone --- */

static int loop_alone(struct session *session, struct worker *worker, struct err *err)
{
    for (;;) {
        int step = session_step(session, err);
        if (step <= 0)
            return step;
        int nap = supervisor_is_busy(worker->supervisor) ? WATCH_MS : 1;
        if (supervisor_step(worker->supervisor, nap, err) < 0)
            return -1;
    }
}

int run_alone(const struct study *study, const struct run_options *options)
{
    struct err err = {0};
    struct link *master_link, *worker_link;
    struct session session;
    struct worker worker;
    run_catch_stops();
    mpi_folder_sweep(); /* an earlier run of the study may have been under mpirun */
    if (link_local_open(&master_link, &worker_link, &err) != 0)
        return fail(&err);
    if (session_open(&session, study, options, master_link, &err) != 0)
        return fail(&err);
    int step = worker_open(&worker, study, options, worker_link, &err);
    if (step == 0)
        step = loop_alone(&session, &worker, &err);
    supervisor_destroy(worker.supervisor);
    struct run_status status = session_close(&session, step, &err);
    worker_link->close(worker_link, true);
    master_link->close(master_link, true);
    if (options->sensitivity_only)
        log_info("sensitivity", "units_measured=%u s=%.1f", status.summary.n_sensitivities,
                 status.summary.seconds);
    else
        run_status_print(study, &status);
    if (status.code != ERR_NONE)
        fprintf(stderr, "kerf: %s\n", status.reason);
    return err_exit_status(status.code);
}

/* --- a rank --- */

static void stop_workers(struct link *link)
{
    struct message *stop = calloc(1, sizeof *stop);
    if (stop == NULL)
        return;
    stop->kind = MESSAGE_STOP;
    for (uint32_t worker = 1; worker <= link->n_workers; worker++)
        link->send(link, worker, stop, NULL);
    free(stop);
}

static int master_rank(const struct study *study, const struct run_options *options,
                       struct link *link)
{
    struct err err = {0};
    struct session session;
    struct run_status status = {0};
    if (session_open(&session, study, options, link, &err) != 0) {
        status.code = err.code;
        snprintf(status.reason, sizeof status.reason, "%s", err.text);
        /* The watchdog tells what the status file says; under a bare mpirun nobody else does. */
        if (run_status_write(study, &status, NULL) != 0 || !run_is_watched())
            fail(&err);
    } else {
        int step;
        /* On a small machine the master shares the probe's cores: a longer nap disturbs it no more
         * than none at all does (mpi.md section 8), and an answer can wait. */
        while ((step = session_step(&session, &err)) > 0)
            clock_nap_ns(MASTER_NAP_NS);
        status = session_close(&session, step, &err);
    }
    stop_workers(link);
    link->close(link, status.summary.n_workers_lost == 0);
    return err_exit_status(status.code);
}

static int worker_rank(const struct study *study, const struct run_options *options,
                       struct link *link)
{
    struct err err = {0};
    struct worker worker;
    int step = worker_open(&worker, study, options, link, &err) == 0 ? 1 : -1;
    while (step > 0)
        step = supervisor_step(worker.supervisor,
                               supervisor_is_busy(worker.supervisor) ? WATCH_MS : IDLE_MS, &err);
    supervisor_destroy(worker.supervisor);
    if (step == 0) {
        link->close(link, true);
        return 0;
    }
    log_error("worker", "%s", err.text);
    /* The master counts this one as lost; MPI_Finalize could wait for ever. */
    _exit(err_exit_status(ERR_STOPPED));
}

int run_rank(const struct study *study, const struct run_options *options)
{
    struct err err = {0};
    run_catch_stops();
    struct link *link = link_mpi_open(&err);
    if (link == NULL)
        return fail(&err);
    log_setup(log_level(), (int)link->self);
    if (link->self == 0)
        return master_rank(study, options, link);
    return worker_rank(study, options, link);
}
