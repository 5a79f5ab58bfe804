/* opening.c - corners and uniform vectors. */
#include "search/opening.h"

#include "space/base/err.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Heights of the owners, as a share of their range; never 0, which would drop everything. */
static const double owner_heights[] = {1.0, 0.5, 0.75, 0.25};

static uint32_t most_levels(const struct problem *problem)
{
    uint32_t most = 1;
    for (uint32_t g = 0; g < problem->n_genes; g++)
        most = problem->n_levels[g] > most ? problem->n_levels[g] : most;
    return most;
}

/* Owners at `height` of their range, the others `below` levels under their last one. */
static void uniform_vector(const struct problem *problem, const struct gene_map *map, double height,
                           uint32_t below, uint8_t *levels)
{
    for (uint32_t g = 0; g < problem->n_genes; g++) {
        uint32_t top = problem->n_levels[g] - 1;
        if (map->is_owner[g])
            levels[g] = (uint8_t)fmax(1, round(height * top));
        else
            levels[g] = (uint8_t)(top > below ? top - below : 0);
    }
    problem_repair(problem, levels);
}

int opening_fill(struct vector_set *vectors, const struct problem *problem,
                 const struct gene_map *map, size_t limit, struct err *err)
{
    const size_t n_heights = sizeof owner_heights / sizeof owner_heights[0];
    uint32_t n_levels = most_levels(problem);
    /* Where not all fit, each second, third, ... level from the finest down. */
    uint32_t stride = limit > OPENING_N_CORNERS
                          ? (uint32_t)((n_levels - 1) / (limit - OPENING_N_CORNERS)) + 1
                          : 1;
    uint8_t *levels = calloc(problem->n_genes, 1);
    bool full = levels == NULL;
    if (!full && limit > 0)
        full = vector_set_add(vectors, map->finest) == VECTOR_NONE;
    if (!full && limit > 1) {
        problem_repair(problem, levels);
        full = vector_set_add(vectors, levels) == VECTOR_NONE;
    }
    size_t n_steps = (n_levels + stride - 1) / stride;
    for (size_t i = 0; i < n_heights * n_steps && !full && vectors->n < limit; i++) {
        uniform_vector(problem, map, owner_heights[i / n_steps], (uint32_t)(i % n_steps) * stride,
                       levels);
        full = vector_set_add(vectors, levels) == VECTOR_NONE;
    }
    free(levels);
    if (full)
        err_set(err, ERR_MEMORY, "search: out of memory");
    return full ? -1 : 0;
}
