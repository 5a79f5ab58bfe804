/* evaluation_sensitivity.c - what each single deviation of one unit costs: the gene is moved to
 * each of its levels while all others stay at their last (finest) level, and the KLD above that of
 * the all-finest vector is its loss (methods.md B1 step 0).  What the study's table knows already
 * is not measured again.
 *
 *   {"base": {"kld", "kld_se"},
 *    "rows": [{"gene": 17, "level": 0, "kld", "kld_se", "layer_error"}, ...]} */
#include "cluster/evaluation_parts.h"
#include "results/sensitivity.h"
#include "space/base/err.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct deviations {
    struct workbench *bench;
    struct forward *forward;
    struct sensitivity *table;
    struct genome base, genome;
    struct quality base_quality;
    double *base_kld, *kld; /* [sequences] */
};

static uint32_t n_tokens(const struct deviations *d)
{
    return (uint32_t)d->bench->study->sensitivity_tokens;
}

static int open_deviations(struct deviations *d, struct workbench *bench, struct err *err)
{
    char method[64], path[STUDY_PATH_MAX];
    struct sensitivity_taken taken;
    d->bench = bench;
    d->table = sensitivity_create(bench->study, bench->space, workshop_method(method), err);
    if (d->table == NULL)
        return -1;
    /* Where it cannot be read everything is measured: the master looks at it with other eyes. */
    sensitivity_take(d->table, study_path(bench->study, TABLE_SENSITIVITY, path), &taken, NULL);
    uint32_t n = token_set_n_within(&bench->heldout, n_tokens(d));
    d->base_kld = malloc(2 * (size_t)n * sizeof *d->base_kld);
    if (d->base_kld == NULL) {
        err_set(err, ERR_MEMORY, "sensitivity: out of memory");
        return -1;
    }
    d->kld = d->base_kld + n;
    d->forward = workbench_forward(bench, bench->parent_model, err);
    return d->forward != NULL ? 0 : -1;
}

static void close_deviations(struct deviations *d)
{
    forward_destroy(d->forward);
    free(d->base_kld);
    sensitivity_destroy(d->table);
}

static int measure_genome(struct deviations *d, const struct genome *genome,
                          struct quality *quality, double *kld, struct err *err)
{
    struct workbench *bench = d->bench;
    struct model *model = workshop_model(&bench->shop, genome, err);
    int status = -1;
    if (model != NULL) {
        forward_set_model(d->forward, model);
        status = quality_measure_sequences(d->forward, bench->parent_model, bench->states,
                                           &bench->heldout, n_tokens(d), quality, kld, err);
    }
    forward_set_model(d->forward, bench->parent_model); /* it must never look at a freed model */
    model_destroy(model);
    return status;
}

static void genome_at(const struct deviations *d, uint32_t gene, uint32_t level,
                      struct genome *genome)
{
    uint8_t levels[SPACE_MAX_GENES];
    sensitivity_levels(d->bench->space, gene, level, levels);
    space_genome(d->bench->space, levels, genome);
}

static int measure_base(struct deviations *d, cJSON *result, struct err *err)
{
    genome_at(d, 0, d->bench->space->gene[0].n_levels - 1, &d->base);
    if (measure_genome(d, &d->base, &d->base_quality, d->base_kld, err) != 0)
        return -1;
    cJSON *node = cJSON_AddObjectToObject(result, "base");
    cJSON_AddNumberToObject(node, "kld", d->base_quality.kld);
    if (isfinite(d->base_quality.kld_se))
        cJSON_AddNumberToObject(node, "kld_se", d->base_quality.kld_se);
    return 0;
}

static int measure_row(struct deviations *d, uint32_t gene, uint32_t level, cJSON *rows,
                       struct err *err)
{
    struct quality quality;
    struct sensitivity_row row;
    genome_at(d, gene, level, &d->genome);
    if (measure_genome(d, &d->genome, &quality, d->kld, err) != 0)
        return -1;
    /* Layers of a stream in another basis have no counterpart in the base. */
    row.layer_error = NAN;
    if (!genome_is_turned(&d->genome) &&
        stitch_error(&d->bench->shop.source, d->bench->shop.store, &d->base, &d->genome,
                     &row.layer_error, err) != 0)
        return -1;
    row.kld = quality_difference(&d->bench->heldout, n_tokens(d), d->kld, d->base_kld, &row.kld_se);
    if (!isfinite(row.kld)) {
        err_set(err, ERR_MEMORY, "sensitivity: out of memory");
        return -1;
    }
    sensitivity_put(d->table, gene, level, &row);
    cJSON *node = cJSON_CreateObject();
    cJSON_AddItemToArray(rows, node);
    cJSON_AddNumberToObject(node, "gene", gene);
    cJSON_AddNumberToObject(node, "level", level);
    cJSON_AddNumberToObject(node, "kld", row.kld);
    if (isfinite(row.kld_se))
        cJSON_AddNumberToObject(node, "kld_se", row.kld_se);
    if (isfinite(row.layer_error))
        cJSON_AddNumberToObject(node, "layer_error", row.layer_error);
    return 0;
}

static int measure_unit(struct deviations *d, uint32_t unit, cJSON *result, struct err *err)
{
    const struct space *space = d->bench->space;
    if (measure_base(d, result, err) != 0)
        return -1;
    cJSON *rows = cJSON_AddArrayToObject(result, "rows");
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; space->gene[g].unit == unit && l + 1 < space->gene[g].n_levels; l++) {
            if (!isnan(sensitivity_at(d->table, g, l)->kld))
                continue;
            /* Step aside for a probe that waits. */
            if (measure_row(d, g, l, rows, err) != 0 ||
                quiet_work_step(d->bench->stand.quiet, err) != 0)
                return -1;
        }
    return 0;
}

int evaluation_sensitivity(struct workbench *bench, uint32_t unit, cJSON *result, struct err *err)
{
    struct deviations *d = calloc(1, sizeof *d);
    if (d == NULL) {
        err_set(err, ERR_MEMORY, "sensitivity: out of memory");
        return -1;
    }
    int status = -1;
    if (open_deviations(d, bench, err) == 0 && quiet_work_begin(bench->stand.quiet, err) == 0) {
        status = measure_unit(d, unit, result, err);
        quiet_work_end(bench->stand.quiet);
    }
    close_deviations(d);
    free(d);
    return status;
}
