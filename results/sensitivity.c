#include "results/sensitivity_parts.h"
#include "space/base/err.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void sensitivity_levels(const struct space *space, uint32_t gene, uint32_t level, uint8_t *levels)
{
    assert(gene < space->n_genes && level < space->gene[gene].n_levels);
    for (uint32_t g = 0; g < space->n_genes; g++)
        levels[g] = (uint8_t)(space->gene[g].n_levels - 1);
    levels[gene] = (uint8_t)level;
    space_repair(space, levels);
}

static void genome_of(const struct sensitivity *table, uint32_t gene, uint32_t level,
                      struct genome *genome)
{
    uint8_t levels[SPACE_MAX_GENES];
    sensitivity_levels(table->space, gene, level, levels);
    space_genome(table->space, levels, genome);
}

static int compare_names(const void *a, const void *b)
{
    const struct sensitivity_name *x = a, *y = b;
    int order = id128_compare(x->id, y->id);
    if (order == 0)
        order = (x->gene > y->gene) - (x->gene < y->gene);
    return order != 0 ? order : (x->level > y->level) - (x->level < y->level);
}

/* False without memory. */
static bool name_rows(struct sensitivity *table)
{
    const struct space *space = table->space;
    const struct hash256 *parent = &table->study->parent;
    struct genome *genome = malloc(sizeof *genome);
    for (uint32_t g = 0; g < space->n_genes; g++)
        table->n_rows += space->gene[g].n_levels - 1;
    table->name = malloc(table->n_rows * sizeof *table->name);
    if (genome == NULL || table->name == NULL) {
        free(genome);
        return false;
    }
    genome_of(table, 0, space->gene[0].n_levels - 1, genome);
    table->base_id = genome_id(genome, parent);
    size_t n = 0;
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; l + 1 < space->gene[g].n_levels; l++) {
            genome_of(table, g, l, genome);
            table->name[n++] = (struct sensitivity_name){genome_id(genome, parent), g, l};
        }
    free(genome);
    qsort(table->name, n, sizeof *table->name, compare_names);
    return true;
}

struct sensitivity *sensitivity_create(const struct study *study, const struct space *space,
                                       const char *method, struct err *err)
{
    struct sensitivity *table = calloc(1, sizeof *table);
    if (table == NULL)
        goto full;
    table->study = study;
    table->space = space;
    table->base_kld = table->base_kld_se = NAN;
    snprintf(table->method, sizeof table->method, "%s", method);
    table->row = malloc(space->n_genes * sizeof *table->row);
    if (table->row == NULL || !name_rows(table))
        goto full;
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; l < SPACE_MAX_LEVELS; l++)
            table->row[g][l] = (struct sensitivity_row){NAN, NAN, NAN};
    /* A level that falls back to the finest one changes nothing, and that needs no measurement. */
    sensitivity_enter(table, table->base_id, &(struct sensitivity_row){0, 0, NAN});
    return table;

full:
    err_set(err, ERR_MEMORY, "sensitivities: out of memory");
    sensitivity_destroy(table);
    return NULL;
}

void sensitivity_destroy(struct sensitivity *table)
{
    if (table == NULL)
        return;
    free(table->name);
    free(table->row);
    free(table);
}

const struct space *sensitivity_space(const struct sensitivity *table)
{
    return table->space;
}

/* --- rows --- */

const struct sensitivity_row *sensitivity_at(const struct sensitivity *table, uint32_t gene,
                                             uint32_t level)
{
    assert(gene < table->space->n_genes && level + 1 < table->space->gene[gene].n_levels);
    return &table->row[gene][level];
}

size_t sensitivity_find(const struct sensitivity *table, struct id128 id)
{
    size_t low = 0, high = table->n_rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (id128_compare(table->name[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t sensitivity_enter(struct sensitivity *table, struct id128 id,
                         const struct sensitivity_row *row)
{
    size_t n = 0;
    for (size_t i = sensitivity_find(table, id);
         i < table->n_rows && id128_equal(table->name[i].id, id); i++) {
        struct sensitivity_row *there = &table->row[table->name[i].gene][table->name[i].level];
        if (!isnan(there->kld))
            continue;
        *there = *row;
        n++;
    }
    return n;
}

static struct id128 id_of(const struct sensitivity *table, uint32_t gene, uint32_t level)
{
    size_t i = 0;
    while (table->name[i].gene != gene || table->name[i].level != level)
        i++;
    return table->name[i].id;
}

void sensitivity_put(struct sensitivity *table, uint32_t gene, uint32_t level,
                     const struct sensitivity_row *row)
{
    assert(isfinite(row->kld));
    sensitivity_enter(table, id_of(table, gene, level), row);
}

void sensitivity_put_base(struct sensitivity *table, double kld, double kld_se, const char *kernels)
{
    if (!isnan(table->base_kld))
        return;
    table->base_kld = kld;
    table->base_kld_se = kld_se;
    snprintf(table->kernels, sizeof table->kernels, "%s", kernels);
}

/* --- questions --- */

bool sensitivity_has_unit(const struct sensitivity *table, uint32_t unit)
{
    const struct space *space = table->space;
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; space->gene[g].unit == unit && l + 1 < space->gene[g].n_levels; l++)
            if (isnan(table->row[g][l].kld))
                return false;
    return true;
}

size_t sensitivity_count(const struct sensitivity *table, size_t *n_rows)
{
    size_t n = 0;
    for (size_t i = 0; i < table->n_rows; i++)
        n += !isnan(table->row[table->name[i].gene][table->name[i].level].kld);
    if (n_rows != NULL)
        *n_rows = table->n_rows;
    return n;
}

void sensitivity_saved(const struct sensitivity *table, uint32_t gene, uint32_t level,
                       double *weight_bytes, double *kv_bytes_per_token)
{
    const struct geometry *geometry = &table->space->geometry;
    struct genome base, genome;
    genome_of(table, gene, table->space->gene[gene].n_levels - 1, &base);
    genome_of(table, gene, level, &genome);
    *weight_bytes = (double)account_weight_bytes(&base, geometry) -
                    (double)account_weight_bytes(&genome, geometry);
    *kv_bytes_per_token = (double)account_kv_bytes_per_token(&base, geometry) -
                          (double)account_kv_bytes_per_token(&genome, geometry);
}

void sensitivity_base(const struct sensitivity *table, double *kld, double *kld_se,
                      const char **kernels)
{
    *kld = table->base_kld;
    *kld_se = table->base_kld_se;
    *kernels = table->kernels;
}

const char *sensitivity_method(const struct sensitivity *table)
{
    return table->method;
}
