/* evaluation_prepare.c - what a study needs once: calibration and the order in which parts are
 * kept, the parent's states on the held-out tokens, the op table and the parent's own latency. Each
 * is a file in tables/, made only when it is not there, so that a start after a kill makes what is
 * missing. */
#include "cluster/evaluation_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <stdlib.h>
#include <string.h>

#define OP_TABLE_ROUNDS      5
#define REFERENCE_ROUNDS_MIN 30

/* The parent in every basis that the space has beside its own. */
static int ensure_bases(struct workbench *bench, const char *calibration, bool biased,
                        struct err *err)
{
    const struct space *space = bench->space;
    int32_t index = space_gene_of(space, GENE_BASIS, -1);
    const struct gene *gene = &space->gene[index < 0 ? 0 : index];
    for (uint32_t i = 0; index >= 0 && i + 1 < gene->n_levels; i++) {
        enum rotation rotation;
        uint32_t hidden;
        space_basis_of(gene->value[i], &hidden, &rotation);
        if (hidden == space->geometry.d_model)
            hidden = 0;
        if (workshop_prepare_basis(bench->parent, &bench->study->parent, calibration, hidden,
                                   rotation, biased, err) != 0)
            return -1;
    }
    return 0;
}

static int ensure_calibration(struct workbench *bench, struct err *err)
{
    const struct study *study = bench->study;
    struct calibration_options options = {.checkpoint_s = CALIBRATION_CHECKPOINT_S};
    enum calibration_origin origin;
    char path[STUDY_PATH_MAX];
    struct token_set set;

    study_path(study, TABLE_CALIBRATION, path);
    if (token_set_read(&set, bench->tokenizer, study->calibration, study->separator,
                       study->sequence, study->calibration_tokens, 2, err) != 0)
        return -1;
    int status = calibration_ensure(path, bench->parent, &study->parent, bench->kernels,
                                    bench->team, &set, &options, &origin, err);
    if (status == 0 && origin != CALIBRATION_FOUND)
        log_info("prepare", "calibration tokens=%u", set.n_tokens);
    token_set_fini(&set);
    bool biased = profile_has_bias(study->limits.profile);
    if (status != 0 || workshop_prepare(bench->parent, &study->parent, path, biased, err) != 0)
        return -1;
    return ensure_bases(bench, path, biased, err);
}

static int ensure_states(struct workbench *bench, struct err *err)
{
    char path[STUDY_PATH_MAX];
    study_path(bench->study, TABLE_STATES, path);
    struct parent_states *there =
        parent_states_open(path, &bench->study->parent, &bench->heldout, NULL);
    if (there != NULL) {
        parent_states_close(there);
        return 0;
    }
    log_info("prepare", "parent states tokens=%u", bench->heldout.n_tokens);
    return parent_states_make(path, &bench->study->parent, bench->parent_model, bench->kernels,
                              bench->team, &bench->heldout, err);
}

static int ensure_op_table(struct workbench *bench, struct err *err)
{
    char path[STUDY_PATH_MAX];
    study_path(bench->study, TABLE_OPS, path);
    struct op_table *table = op_table_load(path, &bench->device, NULL);
    if (table == NULL) {
        struct workload workloads[2] = {bench->study->decode, bench->study->prefill};
        if (quiet_probe_begin(bench->quiet, err) != 0)
            return -1;
        table = op_table_measure(bench->space, workloads, 2, bench->kernels, bench->team,
                                 &bench->device, OP_TABLE_ROUNDS, err);
        quiet_probe_end(bench->quiet);
        if (table == NULL || op_table_save(table, path, err) != 0) {
            op_table_destroy(table);
            return -1;
        }
        log_info("prepare", "op table ops=%zu", op_table_n(table));
    }
    op_table_destroy(table);
    return 0;
}

/* The parent against itself: its latency, and a ratio that must be 1 within its interval. */
static int measure_reference(struct workbench *bench, const char *path, struct err *err)
{
    struct forward *a = workbench_forward(bench, bench->parent_model, err);
    struct forward *b = a != NULL ? workbench_forward(bench, bench->parent_model, err) : NULL;
    struct probe_pair *pair = calloc(2, sizeof *pair);
    int status = -1;
    if (pair == NULL)
        err_set(err, ERR_MEMORY, "prepare: out of memory");
    else if (b != NULL)
        status = workbench_probe(bench, a, b, REFERENCE_ROUNDS_MIN, bench->study->rounds_max, 0,
                                 pair, err);
    forward_destroy(b);
    forward_destroy(a);
    cJSON *reference = status == 0 ? cJSON_CreateObject() : NULL;
    if (reference != NULL) {
        evaluation_put_probe(reference, "decode", &pair[0].candidate, 0);
        evaluation_put_probe(reference, "prefill", &pair[1].candidate, 0);
        cJSON *device = cJSON_AddObjectToObject(reference, "device");
        cJSON_AddStringToObject(device, "name", bench->device.name);
        cJSON_AddRawToObject(device, "details", bench->device.details);
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
    char path[STUDY_PATH_MAX], device[ID128_HEX];
    if (file_make_dirs(study_path(bench->study, "tables", path), err) != 0 ||
        quiet_work_begin(bench->quiet, err) != 0)
        return -1;
    int status = ensure_calibration(bench, err);
    if (status == 0)
        status = ensure_states(bench, err);
    quiet_work_end(bench->quiet);
    if (status != 0 || ensure_op_table(bench, err) != 0)
        return -1;
    study_path(bench->study, TABLE_REFERENCE, path);
    if (!file_exists(path) && measure_reference(bench, path, err) != 0)
        return -1;
    id128_hex(bench->device.id, device);
    cJSON_AddStringToObject(result, "device", bench->device.name);
    cJSON_AddStringToObject(result, "device_id", device);
    cJSON_AddNumberToObject(result, "private_cache", (double)machine_private_cache(bench->machine));
    return 0;
}
