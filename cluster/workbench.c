#include "cluster/workbench.h"
#include "latency_model/workload_run.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for everything that a pass of this study needs. */
static struct forward_options room_needed(const struct study *study)
{
    uint32_t n_ctx =
        study->sequence > study->geometry.n_ctx ? study->sequence : study->geometry.n_ctx;
    struct forward_options options = {
        .n_ctx = n_ctx, .n_batch = n_ctx < 512 ? n_ctx : 512, .d_model = study->geometry.d_model};
    workload_run_room(&study->decode, &options);
    workload_run_room(&study->prefill, &options);
    return options;
}

static int open_heldout(struct workbench *bench, struct err *err)
{
    const struct study *study = bench->study;
    return token_set_read(&bench->heldout, bench->tokenizer, study->heldout, study->separator,
                          study->sequence, study->final_tokens, study->search_tokens, err);
}

int workbench_open(struct workbench *bench, const struct study *study,
                   const struct evaluation_place *place, struct err *err)
{
    memset(bench, 0, sizeof *bench);
    bench->study = study;
    bench->place = place;
    /* Bind first, then touch memory (design.md section 7). */
    if (stand_open_on(&bench->stand, place->cpu, place->n_threads, err) != 0)
        return -1;
    bench->parent = parent_open(study->model, err);
    bench->parent_model = bench->parent != NULL ? model_of_parent(bench->parent, err) : NULL;
    if (bench->parent_model == NULL)
        goto undo;
    bench->tokenizer = tokenizer_create(parent_gguf(bench->parent), err);
    bench->space = bench->tokenizer != NULL ? malloc(sizeof *bench->space) : NULL;
    if (bench->space == NULL ||
        space_init(bench->space, &study->geometry, &study->limits, err) != 0 ||
        open_heldout(bench, err) != 0)
        goto undo;
    return 0;

undo:
    workbench_close(bench);
    return -1;
}

/* The parent's two latencies, measured when the study was prepared on this device class. */
static int open_reference(struct workbench *bench, struct err *err)
{
    char path[STUDY_PATH_MAX];
    struct config_json json;
    static const char *const pointer[2] = {"/decode/median_ns", "/prefill/median_ns"};
    static const char *const rest[2] = {"/decode/rest_steps", "/prefill/rest_steps"};
    if (config_json_open(&json, study_path(bench->study, TABLE_REFERENCE, path), err) != 0)
        return -1;
    int status = 0;
    for (int i = 0; i < 2; i++) {
        const cJSON *node = config_json_get(&json, pointer[i]);
        bench->reference_ns[i] = cJSON_IsNumber(node) ? node->valuedouble : NAN;
        const cJSON *steps = config_json_get(&json, rest[i]); /* older studies have none */
        bench->rest_steps[i] = cJSON_IsNumber(steps) ? fmax(0, steps->valuedouble) : 0;
        if (!(bench->reference_ns[i] > 0)) {
            config_json_error(&json, pointer[i], err, "expected a time in ns; remove the file");
            status = -1;
        }
    }
    const cJSON *device = config_json_get(&json, "/device/name");
    if (status == 0 &&
        (!cJSON_IsString(device) || strcmp(device->valuestring, bench->stand.device.name) != 0)) {
        err_set(err, ERR_RESOURCE,
                "%s: measured on %s, this is %s; latencies of unlike machines "
                "are not mixed",
                path, cJSON_IsString(device) ? device->valuestring : "nothing",
                bench->stand.device.name);
        status = -1;
    }
    config_json_close(&json);
    return status;
}

int workbench_open_tables(struct workbench *bench, struct err *err)
{
    const struct study *study = bench->study;
    char path[STUDY_PATH_MAX];
    if (workshop_open(&bench->shop, study->model, &study->parent,
                      study_path(study, TABLE_CALIBRATION, path), bench->place->store,
                      profile_has_bias(study->limits.profile), err) != 0)
        return -1;
    bench->shop.source.compress_order = study->compress_order;
    if (store_bound(bench->shop.store, bench->place->max_disk, err) != 0)
        return -1;
    bench->states = parent_states_open(study_path(study, TABLE_STATES, path), &study->parent,
                                       &bench->heldout, err);
    return bench->states != NULL ? 0 : -1;
}

int workbench_open_latencies(struct workbench *bench, struct err *err)
{
    char path[STUDY_PATH_MAX];
    study_path(bench->study, TABLE_OPS, path);
    bench->ops = op_table_load(path, &bench->stand.device, err);
    return bench->ops != NULL ? open_reference(bench, err) : -1;
}

void workbench_close(struct workbench *bench)
{
    op_table_destroy(bench->ops);
    parent_states_close(bench->states);
    workshop_close(&bench->shop);
    token_set_fini(&bench->heldout);
    free(bench->space);
    tokenizer_destroy(bench->tokenizer);
    model_destroy(bench->parent_model);
    parent_close(bench->parent);
    stand_close(&bench->stand);
    memset(bench, 0, sizeof *bench);
}

struct forward *workbench_forward(const struct workbench *bench, const struct model *model,
                                  struct err *err)
{
    struct forward_options options = room_needed(bench->study);
    return forward_create(model, bench->stand.kernels, bench->stand.team, &options, err);
}

/* Prompt tokens of a workload: the held-out text itself, so that timing sees real activations; of
 * a batch each sequence has every so manyth token. */
static int check_tokens(const struct workbench *bench, const struct workload *workload,
                        struct err *err)
{
    uint32_t wanted = workload_positions(workload) * workload->batch;
    char name[32];
    if (bench->heldout.n_tokens >= wanted)
        return 0;
    err_set(err, ERR_CONFIG,
            "latency workload %s of %u tokens, but the held-out set has %u; "
            "raise /quality/final/tokens",
            workload_format(workload, name), wanted, bench->heldout.n_tokens);
    return -1;
}

static int probe_workload(struct workbench *bench, struct forward *reference,
                          struct forward *candidate, const struct workload *workload,
                          const struct probe_plan *plan, struct rng *rng, struct probe_pair *pair,
                          struct err *err)
{
    struct probe_result results[2];
    if (check_tokens(bench, workload, err) != 0 ||
        stand_time(&bench->stand, reference, candidate, bench->heldout.tokens, workload, plan, rng,
                   results, err) != 0)
        return -1;
    pair->reference = results[0];
    pair->candidate = results[1];
    return 0;
}

int workbench_probe(struct workbench *bench, struct forward *reference, struct forward *candidate,
                    uint32_t rounds_min, uint32_t rounds_max, uint64_t stream,
                    struct probe_pair pair[2], struct err *err)
{
    struct rng rng = rng_make(bench->study->seed, stream);
    struct probe_plan plan = PROBE_PLAN_DEFAULT;
    plan.rounds_min = rounds_min;
    plan.rounds_max = rounds_max;
    plan.ci = bench->study->ci;
    const struct workload *workload[2] = {&bench->study->decode, &bench->study->prefill};
    if (quiet_probe_begin(bench->stand.quiet, err) != 0)
        return -1;
    int status = 0;
    for (int i = 0; i < 2 && status == 0; i++) {
        bench->stand.place.rest_steps = bench->rest_steps[i];
        status =
            probe_workload(bench, reference, candidate, workload[i], &plan, &rng, &pair[i], err);
    }
    quiet_probe_end(bench->stand.quiet);
    return status;
}

int workbench_weigh(struct workbench *bench, struct forward *candidate, double seconds,
                    struct stand_needs *needs, struct err *err)
{
    const struct workload workloads[STAND_WORKLOADS] = {bench->study->decode,
                                                        bench->study->prefill};
    if (check_tokens(bench, &workloads[0], err) != 0 ||
        check_tokens(bench, &workloads[1], err) != 0 ||
        quiet_probe_begin(bench->stand.quiet, err) != 0)
        return -1;
    int status = stand_weigh(candidate, bench->heldout.tokens, workloads, seconds, needs, err);
    quiet_probe_end(bench->stand.quiet);
    return status;
}
