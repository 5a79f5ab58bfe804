/* gene_map.c - units and owners of genes. */
#include "search/gene_map.h"

#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

void problem_repair(const struct problem *problem, uint8_t *levels)
{
    for (uint32_t g = 0; g < problem->n_genes; g++)
        if (levels[g] >= problem->n_levels[g])
            levels[g] = (uint8_t)(problem->n_levels[g] - 1);
    problem->repair(problem->arg, levels);
}

static int check_problem(const struct problem *problem, struct err *err)
{
    bool good = problem->n_obj >= 2 && problem->n_obj <= PROBLEM_MAX_OBJ && problem->n_genes >= 1 &&
                problem->n_genes <= PROBLEM_MAX_GENES && problem->n_units >= 1 &&
                problem->n_units <= PROBLEM_MAX_UNITS;
    for (uint32_t g = 0; good && g < problem->n_genes; g++)
        good = problem->n_levels[g] >= 1 && problem->n_levels[g] <= 256 &&
               problem->unit[g] < problem->n_units;
    if (!good)
        err_set(err, ERR_INTERNAL, "search: malformed problem of %u genes, %u units, %u objectives",
                problem->n_genes, problem->n_units, problem->n_obj);
    return good ? 0 : -1;
}

/* Genes of a unit are neighbours. */
static int map_units(struct gene_map *map, const struct problem *problem, struct err *err)
{
    for (uint32_t g = 0; g < problem->n_genes; g++) {
        uint32_t unit = problem->unit[g];
        if (map->count[unit] == 0)
            map->first[unit] = g;
        if (map->first[unit] + map->count[unit] != g) {
            err_set(err, ERR_INTERNAL, "search: gene %u is apart from the others of unit %u", g,
                    unit);
            return -1;
        }
        map->count[unit]++;
    }
    return 0;
}

static void map_owners(struct gene_map *map, const struct problem *problem, uint8_t *levels)
{
    for (uint32_t g = 0; g < problem->n_genes; g++) {
        memcpy(levels, map->finest, problem->n_genes);
        levels[g] = 0;
        problem_repair(problem, levels);
        if (levels[g] != 0)
            continue;
        for (uint32_t h = 0; h < problem->n_genes; h++) {
            if (h != g && map->finest[h] > 0 && levels[h] == 0 && map->owner[h] < 0) {
                map->owner[h] = (int32_t)g;
                map->is_owner[g] = true;
            }
        }
    }
}

static void map_unit_owners(struct gene_map *map, const struct problem *problem)
{
    for (uint32_t u = 0; u < problem->n_units; u++) {
        int32_t owner = map->count[u] > 0 ? map->owner[map->first[u]] : -1;
        for (uint32_t i = 0; i < map->count[u]; i++)
            if (map->owner[map->first[u] + i] != owner)
                owner = -1;
        map->unit_owner[u] = owner >= 0 && problem->unit[owner] != u ? owner : -1;
    }
}

int gene_map_init(struct gene_map *map, const struct problem *problem, struct err *err)
{
    *map = (struct gene_map){0};
    if (check_problem(problem, err) != 0)
        return -1;
    uint32_t n = problem->n_genes;
    uint8_t *levels = calloc(n, 1);
    map->first = calloc(problem->n_units, sizeof *map->first);
    map->count = calloc(problem->n_units, sizeof *map->count);
    map->unit_owner = calloc(problem->n_units, sizeof *map->unit_owner);
    map->finest = calloc(n, 1);
    map->owner = calloc(n, sizeof *map->owner);
    map->is_owner = calloc(n, sizeof *map->is_owner);
    int status = -1;
    if (levels == NULL || map->first == NULL || map->count == NULL || map->unit_owner == NULL ||
        map->finest == NULL || map->owner == NULL || map->is_owner == NULL) {
        err_set(err, ERR_MEMORY, "search: out of memory");
    } else if ((status = map_units(map, problem, err)) == 0) {
        for (uint32_t g = 0; g < n; g++) {
            map->finest[g] = (uint8_t)(problem->n_levels[g] - 1);
            map->owner[g] = -1;
        }
        problem_repair(problem, map->finest);
        map_owners(map, problem, levels);
        map_unit_owners(map, problem);
    }
    free(levels);
    if (status != 0)
        gene_map_fini(map);
    return status;
}

void gene_map_fini(struct gene_map *map)
{
    free(map->first);
    free(map->count);
    free(map->unit_owner);
    free(map->finest);
    free(map->owner);
    free(map->is_owner);
    *map = (struct gene_map){0};
}

bool gene_map_counts(const struct gene_map *map, const uint8_t *levels, uint32_t gene)
{
    return map->owner[gene] < 0 || levels[map->owner[gene]] != 0;
}
