#include "cluster/study_problem.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void repair(void *arg, uint8_t *levels)
{
    struct study_problem *self = arg;
    space_repair(self->space, levels);
}

/* Bytes of what `unit` adds to the file. */
static double unit_bytes(struct study_problem *self, uint32_t unit)
{
    const struct geometry *geometry = &self->space->geometry;
    bool both = account_unit_pair(&self->genome, unit, &self->with, &self->without);
    double bytes = (double)account_weight_bytes(&self->with, geometry);
    return both ? bytes - (double)account_weight_bytes(&self->without, geometry) : bytes;
}

static void unit_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    struct study_problem *self = arg;
    const struct geometry *geometry = &self->space->geometry;
    space_genome(self->space, levels, &self->genome);
    cost[OBJECTIVE_DECODE - 1] =
        op_table_unit_ns(self->ops, &self->genome, geometry, &self->study->decode, unit);
    cost[OBJECTIVE_PREFILL - 1] =
        op_table_unit_ns(self->ops, &self->genome, geometry, &self->study->prefill, unit);
    cost[OBJECTIVE_BYTES - 1] = unit_bytes(self, unit);
}

void study_problem_init(struct study_problem *self, const struct study *study,
                        const struct space *space, const struct op_table *ops)
{
    self->space = space;
    self->study = study;
    self->ops = ops;
    for (uint32_t g = 0; g < space->n_genes; g++) {
        self->n_levels[g] = space->gene[g].n_levels;
        self->unit[g] = space->gene[g].unit;
    }
    self->problem = (struct problem){.n_genes = space->n_genes,
                                     .n_units = space->n_units,
                                     .n_obj = N_OBJECTIVES,
                                     .n_levels = self->n_levels,
                                     .unit = self->unit,
                                     .arg = self,
                                     .repair = repair,
                                     .unit_cost = unit_cost};
}

/* --- the table of losses --- */

static void loss_table_clear(struct loss_table *table)
{
    for (size_t g = 0; g < SPACE_MAX_GENES; g++)
        for (size_t l = 0; l < SPACE_MAX_LEVELS; l++)
            table->loss[g][l] = NAN;
}

/* {"gene": g, "loss": [...]} with one finite loss a level. */
static int enter_gene(struct loss_table *table, const struct space *space, const cJSON *node,
                      int64_t unit, struct err *err)
{
    const cJSON *index = cJSON_GetObjectItemCaseSensitive(node, "gene");
    const cJSON *losses = cJSON_GetObjectItemCaseSensitive(node, "loss");
    if (!cJSON_IsNumber(index) || index->valuedouble < 0 || index->valuedouble >= space->n_genes) {
        err_set(err, ERR_DATA, "sensitivities: no such gene");
        return -1;
    }
    const struct gene *gene = &space->gene[(uint32_t)index->valuedouble];
    double *row = table->loss[(uint32_t)index->valuedouble];
    const cJSON *loss;
    uint32_t level = 0;
    cJSON_ArrayForEach(loss, losses)
    {
        if (level >= gene->n_levels || !cJSON_IsNumber(loss) || !(loss->valuedouble >= 0))
            break;
        row[level++] = loss->valuedouble;
    }
    if (level == gene->n_levels && (unit < 0 || gene->unit == (uint32_t)unit))
        return 0;
    err_set(err, ERR_DATA, "sensitivities: gene %u has %u levels, the table gives other ones",
            (unsigned)index->valuedouble, gene->n_levels);
    return -1;
}

static int enter_genes(struct loss_table *table, const struct space *space, const cJSON *root,
                       int64_t unit, struct err *err)
{
    const cJSON *node;
    const cJSON *genes = cJSON_GetObjectItemCaseSensitive(root, "genes");
    if (!cJSON_IsArray(genes)) {
        err_set(err, ERR_DATA, "sensitivities: no list of genes");
        return -1;
    }
    cJSON_ArrayForEach(node, genes)
    {
        if (enter_gene(table, space, node, unit, err) != 0)
            return -1;
    }
    return 0;
}

int loss_table_enter(struct loss_table *table, const struct space *space, uint32_t unit,
                     const char *json, struct err *err)
{
    cJSON *root = cJSON_Parse(json);
    int status = enter_genes(table, space, root, unit, err);
    cJSON_Delete(root);
    if (status == 0 && !loss_table_has_unit(table, space, unit)) {
        err_set(err, ERR_DATA, "sensitivities of unit %u are incomplete", unit);
        status = -1;
    }
    return status;
}

bool loss_table_has_unit(const struct loss_table *table, const struct space *space, uint32_t unit)
{
    for (uint32_t g = 0; g < space->n_genes; g++)
        if (space->gene[g].unit == unit && isnan(table->loss[g][0]))
            return false;
    return true;
}

int loss_table_load(struct loss_table *table, const struct study *study, const struct space *space,
                    struct err *err)
{
    char path[STUDY_PATH_MAX];
    size_t length;
    loss_table_clear(table);
    study_path(study, TABLE_SENSITIVITY, path);
    if (!file_exists(path))
        return 0;
    char *text = file_read(path, 64 << 20, &length, err);
    if (text == NULL)
        return -1;
    cJSON *root = cJSON_ParseWithLength(text, length);
    int status = enter_genes(table, space, root, -1, err);
    if (status != 0)
        err_prefix(err, "%s (remove it to measure again)", path);
    cJSON_Delete(root);
    free(text);
    return status;
}

int loss_table_save(const struct loss_table *table, const struct study *study,
                    const struct space *space, struct err *err)
{
    char path[STUDY_PATH_MAX], name[48];
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", 1);
    cJSON *genes = cJSON_AddArrayToObject(root, "genes");
    for (uint32_t g = 0; g < space->n_genes; g++) {
        const struct gene *gene = &space->gene[g];
        if (isnan(table->loss[g][0]))
            continue;
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(genes, node);
        cJSON_AddNumberToObject(node, "gene", g);
        cJSON_AddStringToObject(node, "name", space_gene_name(space, g, name));
        cJSON_AddItemToObject(node, "loss",
                              cJSON_CreateDoubleArray(table->loss[g], (int)gene->n_levels));
    }
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    int status = text != NULL ? file_replace(study_path(study, TABLE_SENSITIVITY, path), text,
                                             strlen(text), err)
                              : -1;
    free(text);
    return status;
}
