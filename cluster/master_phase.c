/* master_phase.c - what is to be done next.  Every phase is derived from what is committed, so that
 * a start after a kill goes on where the last commit was. */
#include "cluster/master_parts.h"
#include "cluster/workbench.h"
#include "evaluator/parent.h"
#include "results/front.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PREPARE_DEADLINE_S  7200
#define EVALUATE_DEADLINE_S 300
#define FINAL_PASSES        3

/* --- prepare --- */

static bool is_prepared(struct master *master)
{
    char path[STUDY_PATH_MAX], device[128];
    if (archive_get_meta(master->archive, "device", device, sizeof device, NULL) != 1 ||
        !file_exists(study_path(master->study, TABLE_CALIBRATION, path)) ||
        !file_exists(study_path(master->study, TABLE_STATES, path)) ||
        !file_exists(study_path(master->study, TABLE_REFERENCE, path)))
        return false;
    if (master->ops == NULL)
        master->ops = op_table_load(study_path(master->study, TABLE_OPS, path), NULL, NULL);
    return master->ops != NULL;
}

static int add_prepare(struct master *master, struct err *err)
{
    struct job job = {.work = {.kind = WORK_PREPARE, .deadline_s = PREPARE_DEADLINE_S}};
    return jobs_add(&master->jobs, &job, err);
}

/* --- candidates --- */

/* Slow ones are waited for, hung ones are not: ten times the slowest so far. */
static double evaluation_deadline(const struct master *master, enum rung rung)
{
    double seconds = 10 * master->longest_s * (rung == RUNG_FINAL ? 4 : 1);
    return seconds > EVALUATE_DEADLINE_S ? seconds : EVALUATE_DEADLINE_S;
}

static struct job evaluation_job(const struct master *master, const struct candidate *candidate,
                                 enum rung rung)
{
    struct job job = {.id = candidate->id,
                      .n_failed = candidate->n_failures,
                      .work = {.kind = WORK_EVALUATE,
                               .rung = rung,
                               .sequence = candidate->sequence,
                               .n_levels = candidate->n_levels,
                               .deadline_s = evaluation_deadline(master, rung)}};
    memcpy(job.work.levels, candidate->levels, candidate->n_levels);
    return job;
}

/* Commit a new candidate as PENDING and queue its evaluation. */
static int propose(struct master *master, const struct genome *genome, const uint8_t *levels,
                   uint32_t n_levels, uint32_t origin, enum rung rung, struct err *err)
{
    char *text = malloc(GENOME_TEXT_MAX);
    struct candidate *candidate = calloc(1, sizeof *candidate);
    int status = -1;
    if (text == NULL || candidate == NULL) {
        err_set(err, ERR_MEMORY, "master: out of memory");
    } else if (master_begin(master, err) == 0) {
        genome_format(genome, text);
        candidate->id = genome_id(genome, &master->study->parent);
        candidate->origin = origin;
        candidate->n_levels = n_levels;
        if (n_levels > 0)
            memcpy(candidate->levels, levels, n_levels);
        status = archive_put_candidate(master->archive, candidate, text, err);
    }
    if (status == 0) {
        struct job job = evaluation_job(master, candidate, rung);
        status = jobs_add(&master->jobs, &job, err);
        master->n_candidates += n_levels > 0;
    }
    free(candidate);
    free(text);
    return status;
}

/* --- the parent --- */

static int add_parent(struct master *master, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);
    struct candidate *there = malloc(sizeof *there);
    struct parent *parent = NULL;
    int status = -1;
    if (genome == NULL || there == NULL)
        err_set(err, ERR_MEMORY, "master: out of memory");
    else if ((parent = parent_open(master->study->model, err)) != NULL) {
        parent_genome(parent, genome);
        struct id128 id = genome_id(genome, &master->study->parent);
        status = 0;
        if (archive_get_candidate(master->archive, &id, there, NULL) != 0)
            status = propose(master, genome, NULL, 0, ORIGIN_PARENT, RUNG_FINAL, err);
        else if (there->status == STATUS_PENDING) {
            struct job job = evaluation_job(master, there, RUNG_FINAL);
            status = jobs_add(&master->jobs, &job, err);
        }
    }
    parent_close(parent);
    free(there);
    free(genome);
    return status;
}

/* --- search --- */

static int replay_evaluation(void *arg, const struct evaluation *evaluation)
{
    struct master *master = arg;
    struct candidate *candidate = malloc(sizeof *candidate);
    if (candidate == NULL)
        return -1;
    int status = archive_get_candidate(master->archive, &evaluation->candidate, candidate, NULL);
    /* The first result of each speaks; the parent is no member of the space. */
    if (status == 0 && evaluation->attempt == 0 && candidate->n_levels == master->space.n_genes) {
        double objective[N_OBJECTIVES] = {
            fmax(evaluation->kld, OBJECTIVE_KLD_MIN), evaluation->decode.median_ns,
            evaluation->prefill.median_ns, (double)evaluation->weight_bytes};
        status = search_tell(master->search, candidate->levels, objective, NULL);
        if (status == 0)
            status = master_learn_latency(master, candidate->levels, evaluation, NULL);
        master->longest_s = fmax(master->longest_s, evaluation->seconds);
    }
    free(candidate);
    return status;
}

struct replay {
    struct master *master;
    struct err *err;
};

/* Pending ones are sent first; neither they nor quarantined ones are proposed again. */
static int replay_candidate(void *arg, const struct candidate *candidate)
{
    struct replay *replay = arg;
    struct master *master = replay->master;
    if (candidate->n_levels != master->space.n_genes)
        return 0;
    master->n_candidates++;
    if (candidate->status == STATUS_DONE)
        return 0;
    if (search_discard(master->search, candidate->levels, replay->err) != 0)
        return -1;
    if (candidate->status != STATUS_PENDING)
        return 0;
    struct job job = evaluation_job(master, candidate, RUNG_SEARCH);
    return jobs_add(&master->jobs, &job, replay->err);
}

/* Seeds of a plan of `evals` candidates, as study.json tells its reader: half of them, and no more
 * than a sweep of the additive model has to say. */
static uint32_t count_seeds(uint64_t evals)
{
    const uint32_t most = 96;

    return evals / 2 < most ? (uint32_t)(evals / 2) : most;
}

static int begin_search(struct master *master, struct err *err)
{
    const struct study *study = master->study;
    if (master_open_forecast(master, err) != 0)
        return -1;
    study_problem_init(&master->problem, study, &master->space, &master->forecast);
    study_losses(master->sensitivity, master->loss);
    struct sensitivity_table table = {.loss = &master->loss[0][0], .stride = SPACE_MAX_LEVELS};
    uint64_t evals = master->options.evals;
    struct search_options options = {.seed = study->seed,
                                     .population = study->population,
                                     .n_seeds = count_seeds(evals),
                                     .n_screened = 30,
                                     .loss_cap = OBJECTIVE_KLD_MAX};
    master->search = search_create(&master->problem.problem, &table, &options, err);
    if (master->search == NULL)
        return -1;
    struct replay replay = {.master = master, .err = err};
    master->n_candidates = 0;
    if (archive_each_candidate(master->archive, replay_candidate, &replay, err) != 0 ||
        archive_each_evaluation(master->archive, replay_evaluation, master, err) != 0 ||
        master_refit_forecast(master, err) != 0)
        return -1;
    log_info("search", "begin candidates=%llu told=%zu plan=%llu seeds=%u log10_space=%.0f",
             (unsigned long long)master->n_candidates, search_n_told(master->search),
             (unsigned long long)evals, options.n_seeds, space_log10_size(&master->space));
    return 0;
}

static bool search_is_over(const struct master *master)
{
    return master->drained || master->n_candidates >= master->options.evals ||
           master_now_s() - master->start_s > master->options.time_s;
}

static bool is_known(struct master *master, const struct genome *genome)
{
    struct id128 id = genome_id(genome, &master->study->parent);
    struct candidate *there = malloc(sizeof *there);
    bool known = there != NULL && archive_get_candidate(master->archive, &id, there, NULL) == 0;
    free(there);
    return known;
}

static int add_proposal(struct master *master, bool *exhausted, struct err *err)
{
    uint8_t levels[SPACE_MAX_GENES];
    enum search_origin origin;
    int asked = search_ask(master->search, levels, &origin, err);
    *exhausted = asked == 0;
    if (asked <= 0)
        return asked;
    struct genome *genome = malloc(sizeof *genome);
    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "master: out of memory");
        return -1;
    }
    space_genome(&master->space, levels, genome);
    /* A vector may stand for the very genome of the parent, which is measured already. */
    int status = is_known(master, genome) ? search_discard(master->search, levels, err)
                                          : propose(master, genome, levels, master->space.n_genes,
                                                    origin, RUNG_SEARCH, err);
    free(genome);
    return status;
}

/* --- final rung --- */

/* Front members that only the search has seen get the final evaluation. */
static int add_finals(struct master *master, struct err *err)
{
    struct front front = {0};
    if (front_load(&front, master->archive, &master->space.geometry, err) != 0)
        return -1;
    int status = 0;
    for (size_t i = 0; i < front.n && status == 0; i++) {
        if (front.member[i].evaluation.rung == RUNG_FINAL)
            continue;
        struct job job = evaluation_job(master, &front.member[i].candidate, RUNG_FINAL);
        status = jobs_add(&master->jobs, &job, err);
    }
    log_info("final", "front=%zu to_measure=%zu", front.n, master->jobs.n);
    front_fini(&front);
    return status;
}

/* --- the order of phases --- */

/* Nothing is waiting or out: enter the next phase that has something to do. */
static int next_phase(struct master *master, struct err *err)
{
    switch (master->phase) {
    case PHASE_PREPARE:
        if (!is_prepared(master)) {
            err_set(err, ERR_INTERNAL, "prepared, but the tables are not there");
            return -1;
        }
        if (!master->options.sensitivity_only) {
            master->phase = PHASE_PARENT;
            return add_parent(master, err);
        }
        /* fall through */
    case PHASE_PARENT:
        master->phase = PHASE_SENSITIVITY;
        return master_add_sensitivities(master, err);
    case PHASE_SENSITIVITY:
        if (master->options.sensitivity_only) {
            master->phase = PHASE_DONE;
            return 0;
        }
        master->phase = PHASE_SEARCH;
        return begin_search(master, err);
    case PHASE_SEARCH:
        master->phase = PHASE_FINAL;
        /* fall through */
    case PHASE_FINAL:
        if (master->final_passes++ < FINAL_PASSES && add_finals(master, err) != 0)
            return -1;
        if (master->jobs.n == 0)
            master->phase = PHASE_DONE;
        return 0;
    case PHASE_DONE:
        return 0;
    }
    return 0;
}

int master_fill(struct master *master, uint32_t n_free, struct err *err)
{
    bool exhausted = false;
    if (master->drained)
        return 0;
    if (master->phase == PHASE_PREPARE && master->jobs.n == 0 && !is_prepared(master))
        return add_prepare(master, err);
    while (master->phase == PHASE_SEARCH && !search_is_over(master) && !exhausted &&
           master->jobs.n < leases_n_busy(master->leases) + n_free)
        if (add_proposal(master, &exhausted, err) != 0)
            return -1;
    if (master->jobs.n == 0 && master->phase != PHASE_DONE)
        return next_phase(master, err);
    return 0;
}
