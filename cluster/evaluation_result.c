/* evaluation_result.c - the master's side of an evaluator's answer: untrusted JSON into a record.
 */
#include "cluster/evaluation.h"
#include "latency_model/sample.h"
#include "space/base/err.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A required finite number of `node` within [least, most]; else sets *bad to its name and stands in
 * with `least`, so that conversions stay defined. */
static double number(const cJSON *node, const char *name, double least, double most,
                     const char **bad)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (value >= least && value <= most)
        return value;
    if (*bad == NULL)
        *bad = name;
    return least;
}

static void read_measured(const cJSON *root, const char *name, struct measured *measured,
                          const char **bad)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(root, name);
    const double most = 1e15; /* eleven days, in ns */
    measured->median_ns = number(node, "median_ns", 1, most, bad);
    measured->lo_ns = number(node, "lo_ns", 0, most, bad);
    measured->hi_ns = number(node, "hi_ns", 1, most, bad);
    measured->min_ns = number(node, "min_ns", 0, most, bad);
    measured->p10_ns = number(node, "p10_ns", 0, most, bad);
    measured->p90_ns = number(node, "p90_ns", 0, most, bad);
    measured->ratio = number(node, "ratio", 1e-9, 1e9, bad);
    measured->ratio_lo = number(node, "ratio_lo", 0, 1e9, bad);
    measured->ratio_hi = number(node, "ratio_hi", 0, 1e9, bad);
    measured->n_accepted = (uint32_t)number(node, "n_accepted", 1, 1e6, bad);
    const cJSON *rejected = cJSON_GetObjectItemCaseSensitive(node, "rejected");
    measured->n_rejected = 0;
    for (int r = ACCEPTED + 1; r < N_REJECTIONS; r++)
        measured->n_rejected +=
            (uint32_t)number(rejected, rejection_name((enum rejection)r), 0, 1e6, bad);
}

static bool is_noisy(const cJSON *root, const char *name)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(root, name);
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(node, "noisy"));
}

static void read_quality(const cJSON *root, struct evaluation *evaluation, const char **bad)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(root, "quality");
    evaluation->n_tokens = (uint32_t)number(node, "n_tokens", 1, 4e9, bad);
    evaluation->kld = number(node, "kld", -1e-6, 1e6, bad);
    evaluation->kld_se = number(node, "kld_se", 0, 1e6, bad);
    evaluation->kld_p99 = number(node, "kld_p99", -1e-6, 1e6, bad);
    evaluation->ppl = number(node, "ppl", 0.5, 1e300, bad);
    evaluation->parent_ppl = number(node, "parent_ppl", 0.5, 1e300, bad);
    evaluation->ppl_ratio = number(node, "ppl_ratio", 1e-9, 1e300, bad);
    evaluation->ppl_ratio_se = number(node, "ppl_ratio_se", 0, 1e300, bad);
    evaluation->top1 = number(node, "top1", 0, 1, bad);
    evaluation->top1_se = number(node, "top1_se", 0, 1, bad);
}

/* Mean of the tasks' length-normalised accuracies; absent at the search rung. */
static void read_tasks(const cJSON *root, struct evaluation *evaluation, const char **bad)
{
    const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks");
    const cJSON *task;
    double sum = 0, variance = 0;
    evaluation->n_tasks = 0;
    cJSON_ArrayForEach(task, tasks)
    {
        double se = number(task, "acc_norm_se", 0, 1, bad);
        sum += number(task, "acc_norm", 0, 1, bad);
        variance += se * se;
        evaluation->n_tasks++;
    }
    double n = evaluation->n_tasks;
    evaluation->accuracy = n > 0 ? sum / n : NAN;
    evaluation->accuracy_se = n > 0 ? sqrt(variance) / n : NAN;
}

static double optional(const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? item->valuedouble : NAN;
}

static int read_samples(const cJSON *root, struct evaluation_samples *samples)
{
    const cJSON *array;
    cJSON_ArrayForEach(array, cJSON_GetObjectItemCaseSensitive(root, "samples"))
    {
        int n = cJSON_GetArraySize(array);
        if (samples->count == 4 || n < 0 || strlen(array->string) >= sizeof samples->name[0])
            return -1;
        uint32_t i = samples->count;
        samples->values[i] = malloc((size_t)(n > 0 ? n : 1) * sizeof(float));
        if (samples->values[i] == NULL)
            return -1;
        samples->count++;
        strcpy(samples->name[i], array->string);
        const cJSON *value;
        cJSON_ArrayForEach(value, array)
        {
            if (!cJSON_IsNumber(value) || !(value->valuedouble > 0))
                return -1;
            samples->values[i][samples->n[i]++] = (float)value->valuedouble;
        }
    }
    return 0;
}

int evaluation_parse(const char *json, const struct study *study, struct evaluation *evaluation,
                     struct evaluation_samples *samples, struct err *err)
{
    (void)study;
    memset(evaluation, 0, sizeof *evaluation);
    memset(samples, 0, sizeof *samples);
    cJSON *root = cJSON_Parse(json);
    const char *bad = NULL;
    if (root == NULL) {
        err_set(err, ERR_DATA, "an evaluator answered no JSON");
        return -1;
    }
    read_quality(root, evaluation, &bad);
    read_measured(root, "decode", &evaluation->decode, &bad);
    read_measured(root, "prefill", &evaluation->prefill, &bad);
    evaluation->flags = (is_noisy(root, "decode") ? EVALUATION_DECODE_NOISY : 0) |
                        (is_noisy(root, "prefill") ? EVALUATION_PREFILL_NOISY : 0);
    read_tasks(root, evaluation, &bad);
    const cJSON *predicted = cJSON_GetObjectItemCaseSensitive(root, "predicted");
    evaluation->predicted_decode_ns = optional(predicted, "decode_ns");
    evaluation->predicted_prefill_ns = optional(predicted, "prefill_ns");
    const cJSON *needs = cJSON_GetObjectItemCaseSensitive(root, "needs");
    double peak = optional(needs, "peak_rss_bytes");
    evaluation->peak_rss_bytes = peak < 1e18 ? (uint64_t)peak : 0;
    evaluation->decode_joules = optional(needs, "decode_joules");
    evaluation->prefill_joules = optional(needs, "prefill_joules");
    evaluation->weight_bytes = (uint64_t)number(root, "weight_bytes", 1, 1e18, &bad);
    evaluation->kv_bytes_per_token = (uint64_t)number(root, "kv_bytes_per_token", 0, 1e12, &bad);
    evaluation->kernel_bound = (uint32_t)number(root, "kernel_bound", 0, 4294967295.0, &bad);
    evaluation->seconds = number(root, "seconds", 0, 1e9, &bad);
    if (bad == NULL && read_samples(root, samples) != 0)
        bad = "samples";
    cJSON_Delete(root);
    if (bad == NULL)
        return 0;
    err_set(err, ERR_DATA, "an evaluator's answer has no sound '%s'", bad);
    evaluation_samples_fini(samples);
    return -1;
}

void evaluation_samples_fini(struct evaluation_samples *samples)
{
    for (uint32_t i = 0; i < samples->count; i++)
        free(samples->values[i]);
    memset(samples, 0, sizeof *samples);
}

/* A row of `unit`; one that may be absent stays NAN. */
static bool read_row(const cJSON *node, uint32_t unit, struct sensitivity *table, const char **bad)
{
    const struct space *space = sensitivity_space(table);
    const char *wrong = NULL;
    uint32_t gene = (uint32_t)number(node, "gene", 0, space->n_genes - 1, &wrong);
    uint32_t level = (uint32_t)number(node, "level", 0, space->gene[gene].n_levels - 2, &wrong);
    struct sensitivity_row row = {number(node, "kld", -1e6, 1e6, &wrong), NAN, NAN};
    if (cJSON_HasObjectItem(node, "kld_se"))
        row.kld_se = number(node, "kld_se", 0, 1e6, &wrong);
    if (cJSON_HasObjectItem(node, "layer_error"))
        row.layer_error = number(node, "layer_error", 0, 1e6, &wrong);
    if (wrong == NULL && space->gene[gene].unit != unit)
        wrong = "gene";
    if (wrong == NULL)
        sensitivity_put(table, gene, level, &row);
    else if (*bad == NULL)
        *bad = wrong;
    return wrong == NULL;
}

int evaluation_parse_sensitivity(const char *json, uint32_t unit, struct sensitivity *table,
                                 struct err *err)
{
    cJSON *root = cJSON_Parse(json);
    const cJSON *base = cJSON_GetObjectItemCaseSensitive(root, "base"), *node;
    const cJSON *kernels = cJSON_GetObjectItemCaseSensitive(root, "kernels");
    const char *bad = cJSON_IsString(kernels) ? NULL : "kernels";
    double kld = number(base, "kld", -1e-6, 1e6, &bad), kld_se = NAN;
    if (cJSON_HasObjectItem(base, "kld_se"))
        kld_se = number(base, "kld_se", 0, 1e6, &bad);
    if (bad == NULL)
        sensitivity_put_base(table, kld, kld_se, kernels->valuestring);
    cJSON_ArrayForEach(node, cJSON_GetObjectItemCaseSensitive(root, "rows"))
    {
        if (bad != NULL || !read_row(node, unit, table, &bad))
            break;
    }
    if (bad == NULL && !sensitivity_has_unit(table, unit))
        bad = "rows";
    if (bad != NULL)
        err_set(err, ERR_DATA, "an evaluator's sensitivities of unit %u have no sound '%s'", unit,
                bad);
    cJSON_Delete(root);
    return bad == NULL ? 0 : -1;
}
