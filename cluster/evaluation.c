#include "cluster/evaluation.h"
#include "cluster/evaluation_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <stdlib.h>

static int dispatch(struct workbench *bench, const struct work *work, cJSON *result,
                    struct err *err)
{
    if (work->kind == WORK_PREPARE)
        return evaluation_prepare(bench, result, err);
    if (workbench_open_tables(bench, err) != 0)
        return -1;
    if (work->kind == WORK_SENSITIVITY)
        return evaluation_sensitivity(bench, work->unit, result, err);
    return workbench_open_latencies(bench, err) == 0
               ? evaluation_candidate(bench, work, result, err)
               : -1;
}

/* What became of the store, for the one who watches over all of them. */
static void put_store(const struct workbench *bench, cJSON *result)
{
    struct store_counts counts;
    if (bench->shop.store == NULL)
        return;
    store_counts(bench->shop.store, &counts);
    cJSON *node = cJSON_AddObjectToObject(result, "store");
    cJSON_AddNumberToObject(node, "built", (double)counts.n_built);
    cJSON_AddNumberToObject(node, "found", (double)counts.n_found);
    cJSON_AddNumberToObject(node, "evicted", (double)counts.n_evicted);
    cJSON_AddNumberToObject(node, "evicted_bytes", (double)counts.evicted_bytes);
    cJSON_AddNumberToObject(node, "unkept", (double)counts.n_unkept);
}

char *evaluation_run(const struct study *study, const struct evaluation_place *place,
                     const struct work *work, struct err *err)
{
    static const char *const kinds[] = {"prepare", "sensitivity", "evaluate"};
    struct workbench bench;
    int64_t start_ns = clock_now_ns();
    if (workbench_open(&bench, study, place, err) != 0)
        return NULL;
    char *line = NULL;
    cJSON *result = cJSON_CreateObject();
    if (result == NULL) {
        err_set(err, ERR_MEMORY, "evaluation: out of memory");
    } else if (dispatch(&bench, work, result, err) == 0) {
        cJSON_AddStringToObject(result, "kind", kinds[work->kind]);
        cJSON_AddStringToObject(result, "kernels", bench.stand.kernels->name);
        cJSON_AddNumberToObject(result, "threads", place->n_threads);
        put_store(&bench, result);
        cJSON_AddNumberToObject(result, "seconds", (double)(clock_now_ns() - start_ns) * 1e-9);
        line = cJSON_PrintUnformatted(result);
        if (line == NULL)
            err_set(err, ERR_MEMORY, "evaluation: out of memory");
    }
    cJSON_Delete(result);
    workbench_close(&bench);
    return line;
}

void evaluation_put_probe(cJSON *result, const char *name, const struct probe_result *probe,
                          double reference_ns)
{
    /* Every time is scaled alike, so that quantiles keep their relation to the median. */
    double scale = reference_ns * probe->ratio_mid / probe->median_ns;
    cJSON *node = cJSON_AddObjectToObject(result, name);
    cJSON_AddNumberToObject(node, "median_ns", probe->median_ns * scale);
    cJSON_AddNumberToObject(node, "lo_ns", reference_ns * probe->ratio_lo);
    cJSON_AddNumberToObject(node, "hi_ns", reference_ns * probe->ratio_hi);
    cJSON_AddNumberToObject(node, "min_ns", probe->min_ns * scale);
    cJSON_AddNumberToObject(node, "p10_ns", probe->p10_ns * scale);
    cJSON_AddNumberToObject(node, "p90_ns", probe->p90_ns * scale);
    cJSON_AddNumberToObject(node, "raw_median_ns", probe->median_ns);
    cJSON_AddNumberToObject(node, "ratio", probe->ratio_mid);
    cJSON_AddNumberToObject(node, "ratio_lo", probe->ratio_lo);
    cJSON_AddNumberToObject(node, "ratio_hi", probe->ratio_hi);
    cJSON_AddNumberToObject(node, "n_accepted", probe->n_accepted);
    cJSON_AddNumberToObject(node, "n_warmup", probe->n_warmup);
    cJSON_AddBoolToObject(node, "noisy", probe->noisy);
    cJSON *rejected = cJSON_AddObjectToObject(node, "rejected");
    for (int r = ACCEPTED + 1; r < N_REJECTIONS; r++)
        cJSON_AddNumberToObject(rejected, rejection_name((enum rejection)r), probe->rejected[r]);
}
