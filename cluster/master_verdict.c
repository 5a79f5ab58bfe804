/* master_verdict.c - what an answer changes: the archive, the tables, the search, the job list. */
#include "cluster/evaluation.h"
#include "cluster/journal.h"
#include "cluster/master_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FAILED     2 /* of its own fault: then quarantined */
#define MAX_LOST       2 /* workers lost over one job: then quarantined too */
#define MAX_UNABLE     8 /* in a row, over all jobs: then the machine cannot do it */
#define MAX_DISK       3 /* the same for a full disk, which no waiting empties */
#define UNABLE_PAUSE_S 5

/* --- answers --- */

static int enter_prepare(struct master *master, const char *result, struct err *err)
{
    cJSON *root = cJSON_Parse(result);
    const cJSON *device = cJSON_GetObjectItemCaseSensitive(root, "device");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(root, "device_id");
    const cJSON *kernels = cJSON_GetObjectItemCaseSensitive(root, "kernels");
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(root, "private_cache");
    const cJSON *diagonal = cJSON_GetObjectItemCaseSensitive(root, "diagonal");
    char number[32];
    struct id128 parsed;
    int status = -1;
    if (!cJSON_IsString(device) || !cJSON_IsString(id) || !cJSON_IsString(kernels) ||
        !cJSON_IsNumber(cache) || id128_parse(id->valuestring, &parsed) != 0) {
        err_set(err, ERR_DATA, "prepare: the answer names no device");
    } else if (master_begin(master, err) == 0) {
        snprintf(number, sizeof number, "%.0f", cache->valuedouble);
        status = archive_put_meta(master->archive, "device", device->valuestring, err) |
                 archive_put_meta(master->archive, "device_id", id->valuestring, err) |
                 archive_put_meta(master->archive, "kernels", kernels->valuestring, err) |
                 archive_put_meta(master->archive, "private_cache", number, err) |
                 archive_put_meta(master->archive, ARCHIVE_META_CALIBRATION,
                                  cJSON_IsTrue(diagonal) ? "diagonal" : "full", err);
    }
    cJSON_Delete(root);
    return status;
}

/* The class that every latency of this archive belongs to. */
static int read_device(struct master *master, struct id128 *id, struct err *err)
{
    char text[64];
    if (archive_get_meta(master->archive, "device_id", text, sizeof text, err) == 1 &&
        id128_parse(text, id) == 0)
        return 0;
    err_set(err, ERR_DATA, "the archive names no device class");
    return -1;
}

static int tell_search(struct master *master, const struct job *job,
                       const struct evaluation *evaluation, struct err *err)
{
    double objective[N_OBJECTIVES] = {fmax(evaluation->kld, OBJECTIVE_KLD_MIN),
                                      evaluation->decode.median_ns, evaluation->prefill.median_ns,
                                      (double)evaluation->weight_bytes};
    if (master->phase != PHASE_SEARCH || job->work.n_levels == 0)
        return 0;
    if (search_tell(master->search, job->work.levels, objective, err) != 0 ||
        master_learn_latency(master, job->work.levels, evaluation, err) != 0)
        return -1;
    return master_refit_forecast(master, err);
}

static void log_evaluation(const struct master *master, const struct job *job,
                           const struct evaluation *evaluation)
{
    char id[ID128_HEX];
    id128_hex(evaluation->candidate, id);
    log_info(job->work.rung == RUNG_FINAL ? "final" : "search",
             "done=%llu/%llu id=%.8s kld=%.3g decode_us=%.1f prefill_ms=%.2f mb=%.2f s=%.1f",
             (unsigned long long)master->n_candidates, (unsigned long long)master->options.evals,
             id, evaluation->kld, evaluation->decode.median_ns * 1e-3,
             evaluation->prefill.median_ns * 1e-6, (double)evaluation->weight_bytes * 1e-6,
             evaluation->seconds);
}

static int put_evaluation(struct master *master, struct evaluation *evaluation,
                          const struct evaluation_samples *samples, const char *details,
                          struct err *err)
{
    if (master_begin(master, err) != 0 ||
        archive_put_evaluation(master->archive, evaluation, details, err) != 0)
        return -1;
    for (uint32_t i = 0; i < samples->count; i++)
        if (archive_put_samples(master->archive, &evaluation->candidate, evaluation->attempt,
                                samples->name[i], samples->values[i], samples->n[i], err) != 0)
            return -1;
    return 0;
}

/* The raw samples have a place of their own; the details keep the rest.  Yours to free. */
static char *details_without_samples(const char *result)
{
    cJSON *root = cJSON_Parse(result);
    cJSON_DeleteItemFromObjectCaseSensitive(root, "samples");
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

/* ERR_DATA: the answer is no good (the child's fault); anything else: the archive cannot go on. */
static int enter_evaluation(struct master *master, const struct job *job, const char *result,
                            struct err *err)
{
    struct evaluation evaluation;
    struct evaluation_samples samples;
    if (evaluation_parse(result, master->study, &evaluation, &samples, err) != 0)
        return -1;
    evaluation.candidate = job->id;
    evaluation.rung = job->work.rung;
    evaluation.wall_s = clock_wall_s();
    master_foretell(master, job, &evaluation);
    char *details = details_without_samples(result);
    int status = read_device(master, &evaluation.device, err);
    if (status == 0 && details != NULL)
        status = put_evaluation(master, &evaluation, &samples, details, err);
    if (status == 0)
        status = tell_search(master, job, &evaluation, err);
    if (status == 0) {
        master->n_evaluated++;
        master->longest_s = fmax(master->longest_s, evaluation.seconds);
        log_evaluation(master, job, &evaluation);
    } else if (err != NULL && err->code == ERR_DATA) {
        err->code = ERR_INTERNAL; /* the archive's trouble is not the candidate's */
    }
    free(details);
    evaluation_samples_fini(&samples);
    return status;
}

static uint64_t count_of(const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e18
               ? (uint64_t)item->valuedouble
               : 0;
}

/* Evictions, and once that the bound is too small for a candidate. */
static void note_store(struct master *master, const char *result)
{
    cJSON *root = cJSON_Parse(result);
    const cJSON *store = cJSON_GetObjectItemCaseSensitive(root, "store");
    uint64_t n_evicted = count_of(store, "evicted"), n_unkept = count_of(store, "unkept");
    master->n_evicted += n_evicted;
    master->evicted_bytes += count_of(store, "evicted_bytes");
    if (n_evicted > 0)
        log_info("store", "evicted=%llu in_all=%llu mb=%.1f", (unsigned long long)n_evicted,
                 (unsigned long long)master->n_evicted, (double)master->evicted_bytes * 1e-6);
    if (n_unkept > 0 && master->n_unkept == 0)
        log_warn("store",
                 "the bound on the disk is less than what one worker has in use: %llu of its "
                 "variants had no room and will be built again each time; raise --max-disk",
                 (unsigned long long)n_unkept);
    master->n_unkept += n_unkept;
    cJSON_Delete(root);
}

static int enter_result(struct master *master, const struct job *job, const char *result,
                        struct err *err)
{
    switch (job->work.kind) {
    case WORK_PREPARE:
        return enter_prepare(master, result, err);
    case WORK_SENSITIVITY:
        return master_enter_sensitivity(master, job, result, err);
    case WORK_EVALUATE:
        return enter_evaluation(master, job, result, err);
    }
    return -1;
}

/* --- failures --- */

static void note_failure(struct master *master, const struct job *job, enum verdict verdict,
                         const char *reason)
{
    static const char *const kinds[] = {"prepare", "sensitivity", "evaluate"};
    char id[ID128_HEX] = "";
    if (job->work.kind == WORK_EVALUATE)
        id128_hex(job->id, id);
    log_warn("master", "verdict=%s work=%s id=%.8s reason=\"%s\"", verdict_name(verdict),
             kinds[job->work.kind], id, reason);
    cJSON *fields = cJSON_CreateObject();
    cJSON_AddStringToObject(fields, "verdict", verdict_name(verdict));
    cJSON_AddStringToObject(fields, "work", kinds[job->work.kind]);
    cJSON_AddStringToObject(fields, "id", id);
    cJSON_AddStringToObject(fields, "reason", reason);
    journal_write(master->study, "failure", fields);
}

static int enter_failure(struct master *master, struct job *job, enum verdict verdict,
                         const char *reason, struct err *err)
{
    bool own_fault =
        verdict == VERDICT_CRASH || verdict == VERDICT_TIMEOUT || verdict == VERDICT_BAD;
    note_failure(master, job, verdict, reason);
    master->n_failed++;
    job->out = false;
    job->work.attempt++;
    job->n_failed += own_fault;
    job->n_lost += verdict == VERDICT_LOST;
    bool unable = verdict == VERDICT_UNABLE || verdict == VERDICT_DISK;
    job->n_unable += unable;
    master->n_unable_in_row = unable ? master->n_unable_in_row + 1 : 0;
    job->not_before_s = master_now_s() + (unable ? UNABLE_PAUSE_S : 0);
    if (master->n_unable_in_row >= (verdict == VERDICT_DISK ? MAX_DISK : MAX_UNABLE)) {
        err_set(err, verdict == VERDICT_DISK ? ERR_IO : ERR_RESOURCE,
                "%u times in a row no worker could do its work: %.200s; everything committed is "
                "saved, run the same command again",
                master->n_unable_in_row, reason);
        return -1;
    }
    bool give_up = job->n_failed >= MAX_FAILED || job->n_lost >= MAX_LOST;
    if (job->work.kind != WORK_EVALUATE) {
        if (give_up)
            err_set(err, verdict == VERDICT_CRASH ? ERR_INTERNAL : ERR_DATA,
                    "the study cannot be prepared: %.250s", reason);
        return give_up ? -1 : 0;
    }
    if (give_up && job->work.n_levels == 0) {
        /* Nothing can be compared without the parent, so it is never put aside. */
        err_set(err, ERR_DATA, "the parent itself cannot be measured: %.250s", reason);
        return -1;
    }
    /* A loss is the worker's until the same candidate loses two. */
    if (!own_fault && !give_up)
        return 0;
    if (master_begin(master, err) != 0 ||
        archive_put_failure(master->archive, &job->id, reason, give_up, err) != 0)
        return -1;
    if (give_up) {
        master->n_quarantined++;
        jobs_remove(&master->jobs, job);
    }
    return 0;
}

int master_enter(struct master *master, struct job *job, enum verdict verdict, const char *reason,
                 const char *result, struct err *err)
{
    struct err trouble = {0};
    if (verdict != VERDICT_DONE)
        return enter_failure(master, job, verdict, reason, err);
    if (enter_result(master, job, result, &trouble) == 0) {
        note_store(master, result);
        master->n_unable_in_row = 0;
        jobs_remove(&master->jobs, job);
        return 0;
    }
    if (trouble.code == ERR_DATA)
        return enter_failure(master, job, VERDICT_BAD, trouble.text, err);
    err_set(err, trouble.code, "%s", trouble.text);
    return -1;
}
