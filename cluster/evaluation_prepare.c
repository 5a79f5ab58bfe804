/* evaluation_prepare.c - what a study needs once: calibration and the order in which parts are
 * kept, the parent's states on the held-out tokens, the op table and the parent's own latency. Each
 * is a file in tables/, made only when it is not there, so that a start after a kill makes what is
 * missing. */
#include "cluster/evaluation_parts.h"
#include "cluster/preparation.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <stdlib.h>
#include <string.h>

#define REFERENCE_ROUNDS_MIN 30

static int ensure_op_table(struct workbench *bench, struct err *err)
{
    char path[STUDY_PATH_MAX];
    study_path(bench->study, TABLE_OPS, path);
    struct workload workloads[2] = {bench->study->decode, bench->study->prefill};
    struct op_table *table =
        op_table_ensure(path, bench->space, workloads, 2, bench->stand.kernels, bench->stand.team,
                        bench->stand.quiet, &bench->stand.device, err);
    op_table_destroy(table);
    return table != NULL ? 0 : -1;
}

/* Its times at rest; `rest_steps` is what all probes of the study hold the parent against. */
static void put_reference(cJSON *reference, const char *name, const struct probe_result *probe)
{
    evaluation_put_probe(reference, name, probe, probe->rest_ns);
    cJSON_AddNumberToObject(cJSON_GetObjectItem(reference, name), "rest_steps", probe->rest_steps);
}

/* The parent against itself, decode and prefill. */
static int probe_reference(struct workbench *bench, struct forward *a, struct forward *b,
                           struct probe_pair pair[2], struct err *err)
{
    if (workbench_probe(bench, a, b, REFERENCE_ROUNDS_MIN, bench->study->rounds_max, 0, pair,
                        err) != 0)
        return -1;
    if (!pair[0].reference.noisy && !pair[1].reference.noisy)
        return 0;
    log_warn("prepare", "the parent's latency is noisy, and all others hang on it: quieten the "
                        "machine, remove " TABLE_REFERENCE " and start again");
    return 0;
}

static int measure_reference(struct workbench *bench, const char *path, struct err *err)
{
    struct forward *a = workbench_forward(bench, bench->parent_model, err);
    struct forward *b = a != NULL ? workbench_forward(bench, bench->parent_model, err) : NULL;
    struct probe_pair *pair = calloc(2, sizeof *pair);
    int status = -1;
    if (pair == NULL)
        err_set(err, ERR_MEMORY, "prepare: out of memory");
    else if (b != NULL)
        status = probe_reference(bench, a, b, pair, err);
    forward_destroy(b);
    forward_destroy(a);
    cJSON *reference = status == 0 ? cJSON_CreateObject() : NULL;
    if (reference != NULL) {
        put_reference(reference, "decode", &pair[0].reference);
        put_reference(reference, "prefill", &pair[1].reference);
        cJSON *device = cJSON_AddObjectToObject(reference, "device");
        cJSON_AddStringToObject(device, "name", bench->stand.device.name);
        cJSON_AddRawToObject(device, "details", bench->stand.device.details);
        char *text = cJSON_Print(reference);
        status = text != NULL ? file_replace(path, text, strlen(text), err) : -1;
        free(text);
    }
    cJSON_Delete(reference);
    free(pair);
    return status;
}

int evaluation_prepare(struct workbench *bench, cJSON *result, struct err *err)
{
    struct calibration_options options = {.checkpoint_s = CALIBRATION_CHECKPOINT_S};
    char path[STUDY_PATH_MAX], device[ID128_HEX];
    struct preparation done;
    if (preparation_make(bench, &options, &done, err) != 0 || ensure_op_table(bench, err) != 0)
        return -1;
    study_path(bench->study, TABLE_REFERENCE, path);
    if (!file_exists(path) && measure_reference(bench, path, err) != 0)
        return -1;
    id128_hex(bench->stand.device.id, device);
    cJSON_AddStringToObject(result, "device", bench->stand.device.name);
    cJSON_AddStringToObject(result, "device_id", device);
    cJSON_AddBoolToObject(result, "diagonal", done.is_diagonal);
    cJSON_AddNumberToObject(result, "private_cache",
                            (double)machine_private_cache(bench->stand.machine));
    return 0;
}
