/* evaluation_sensitivity.c - what each single deviation of one unit costs: the gene is moved to
 * each of its levels while all others stay at their last (finest) level, and the KLD above that of
 * the all-finest vector is its loss (methods.md B1 step 0).
 *
 *   {"base": kld, "genes": [{"gene": 17, "loss": [l0, l1, ..., 0]}, ...]} */
#include "cluster/evaluation_parts.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

/* Levels below which a loss is noise: seeds need a positive, monotone scale. */
#define SMALLEST_LOSS 1e-7

static int measure_levels(struct workbench *bench, struct forward *forward, const uint8_t *levels,
                          double *kld, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);
    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "sensitivity: out of memory");
        return -1;
    }
    space_genome(bench->space, levels, genome);
    struct model *model = stitch_model(&bench->shop.source, bench->shop.store, genome, err);
    struct quality quality;
    int status = -1;
    if (model != NULL) {
        forward_set_model(forward, model);
        status = quality_measure(forward, bench->parent_model, bench->states, &bench->heldout,
                                 (uint32_t)bench->study->sensitivity_tokens, &quality, err);
    }
    if (status == 0)
        *kld = quality.kld;
    forward_set_model(forward, bench->parent_model); /* it must never look at a freed model */
    model_destroy(model);
    free(genome);
    return status;
}

static void finest_levels(const struct space *space, uint8_t *levels)
{
    for (uint32_t g = 0; g < space->n_genes; g++)
        levels[g] = (uint8_t)(space->gene[g].n_levels - 1);
    space_repair(space, levels);
}

static int measure_gene(struct workbench *bench, struct forward *forward, uint32_t gene,
                        double base, cJSON *genes, struct err *err)
{
    uint8_t levels[SPACE_MAX_GENES];
    uint32_t n_levels = bench->space->gene[gene].n_levels;
    cJSON *node = cJSON_CreateObject();
    cJSON_AddItemToArray(genes, node);
    cJSON_AddNumberToObject(node, "gene", gene);
    cJSON *loss = cJSON_AddArrayToObject(node, "loss");
    for (uint32_t level = 0; level < n_levels; level++) {
        double kld = base;
        finest_levels(bench->space, levels);
        levels[gene] = (uint8_t)level;
        if (level + 1 < n_levels && measure_levels(bench, forward, levels, &kld, err) != 0)
            return -1;
        double above = kld - base;
        if (level + 1 == n_levels)
            above = 0;
        else if (above < SMALLEST_LOSS)
            above = SMALLEST_LOSS;
        cJSON_AddItemToArray(loss, cJSON_CreateNumber(above));
        /* Step aside for a probe that waits. */
        if (quiet_work_step(bench->quiet, err) != 0)
            return -1;
    }
    return 0;
}

int evaluation_sensitivity(struct workbench *bench, uint32_t unit, cJSON *result, struct err *err)
{
    struct forward *forward = workbench_forward(bench, bench->parent_model, err);
    if (forward == NULL || quiet_work_begin(bench->quiet, err) != 0) {
        forward_destroy(forward);
        return -1;
    }
    uint8_t levels[SPACE_MAX_GENES];
    double base;
    finest_levels(bench->space, levels);
    int status = measure_levels(bench, forward, levels, &base, err);
    cJSON *genes = cJSON_AddArrayToObject(result, "genes");
    if (status == 0)
        cJSON_AddNumberToObject(result, "base", base);
    for (uint32_t gene = 0; status == 0 && gene < bench->space->n_genes; gene++)
        if (bench->space->gene[gene].unit == unit)
            status = measure_gene(bench, forward, gene, base, genes, err);
    quiet_work_end(bench->quiet);
    forward_destroy(forward);
    return status;
}
