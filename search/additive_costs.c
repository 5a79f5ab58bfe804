/* additive_costs.c - what the units cost: global genes that other units' costs hang on, and the
 * costs of every combination, asked of the problem as seldom as possible. */
#include "search/additive_parts.h"

#include "space/base/err.h"
#include "space/base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Choices compared before two units count as alike, and how close they must cost. */
#define TWIN_PROBES 12
#define TWIN_NEAR   1e-9

/* --- contexts --- */

static int ask_cost(const struct additive *a, const uint8_t *levels, uint32_t unit, double *cost,
                    struct err *err)
{
    a->problem->unit_cost(a->problem->arg, levels, unit, cost);
    for (uint32_t j = 0; j < a->n_cost; j++) {
        if (isfinite(cost[j]))
            continue;
        err_set(err, ERR_DATA, "search: cost %u of unit %u is not a number", j, unit);
        return -1;
    }
    return 0;
}

static bool is_near(const double *a, const double *b, uint32_t n)
{
    for (uint32_t j = 0; j < n; j++)
        if (fabs(a[j] - b[j]) > TWIN_NEAR * (fabs(a[j]) + fabs(b[j])))
            return false;
    return true;
}

/* Whether any other unit's cost hangs on `gene` of the last unit. */
static int find_coupling(struct additive *a, uint32_t gene, uint8_t *levels, struct err *err)
{
    double with[ADDITIVE_MAX_COSTS], without[ADDITIVE_MAX_COSTS];
    for (uint32_t u = 0; u + 1 < a->problem->n_units && !a->is_context[gene]; u++) {
        memcpy(levels, a->map->finest, a->problem->n_genes);
        if (ask_cost(a, levels, u, with, err) != 0)
            return -1;
        levels[gene] = 0;
        problem_repair(a->problem, levels);
        if (ask_cost(a, levels, u, without, err) != 0)
            return -1;
        a->is_context[gene] = !is_near(with, without, a->n_cost);
    }
    return 0;
}

int additive_find_contexts(struct additive *a, uint8_t *levels, struct err *err)
{
    uint32_t last = a->problem->n_units - 1;
    uint32_t first = a->map->first[last];
    for (uint32_t g = first; g < first + a->map->count[last]; g++)
        if (find_coupling(a, g, levels, err) != 0)
            return -1;
    a->n_contexts = additive_grid_thin(a, last, true, ADDITIVE_MAX_CONTEXTS);
    return 0;
}

/* --- costs --- */

void additive_moved(const struct additive *a, uint32_t context, uint32_t unit, uint32_t combination,
                    uint8_t *levels)
{
    memcpy(levels, a->map->finest, a->problem->n_genes);
    additive_set_context(a, context, levels);
    additive_set_combination(a, unit, false, combination, levels);
    problem_repair(a->problem, levels);
}

static bool same_shape(const struct additive *a, uint32_t u, uint32_t v)
{
    const struct gene_map *map = a->map;
    if (map->count[u] != map->count[v] || (map->unit_owner[u] < 0) != (map->unit_owner[v] < 0))
        return false;
    for (uint32_t i = 0; i < map->count[u]; i++)
        if (a->n_grid[map->first[u] + i] != a->n_grid[map->first[v] + i] ||
            a->is_context[map->first[u] + i] != a->is_context[map->first[v] + i])
            return false;
    return true;
}

/* Layers of one shape cost the same, and asking is slow: units that agree in their extremes and in
 * choices drawn at random share one table.  1 alike, 0 not, -1 on error. */
static int are_twins(const struct additive *a, uint32_t u, uint32_t v, uint32_t n_own,
                     uint8_t *levels, struct err *err)
{
    struct rng rng = rng_make(0, 0);
    if (!same_shape(a, u, v))
        return 0;
    for (uint32_t probe = 0; probe < TWIN_PROBES; probe++) {
        double of_u[ADDITIVE_MAX_COSTS], of_v[ADDITIVE_MAX_COSTS];
        uint32_t context = (uint32_t)rng_below(&rng, a->n_contexts);
        uint32_t own = probe == 0 ? 0 : (uint32_t)rng_below(&rng, n_own);
        if (probe == 1)
            own = n_own - 1;
        additive_moved(a, context, u, own, levels);
        if (ask_cost(a, levels, u, of_u, err) != 0)
            return -1;
        additive_moved(a, context, v, own, levels);
        if (ask_cost(a, levels, v, of_v, err) != 0)
            return -1;
        if (!is_near(of_u, of_v, a->n_cost))
            return 0;
    }
    return 1;
}

/* Ask for every combination in every context.  Several can repair to one: that is asked once. */
static int fill_class(struct additive *a, struct cost_class *class, uint8_t *levels,
                      struct err *err)
{
    size_t n_cost = a->n_cost;
    for (uint32_t context = 0; context < a->n_contexts; context++) {
        double *costs = class->cost + (size_t)context * class->n_own * n_cost;
        for (uint32_t own = 0; own < class->n_own; own++) {
            additive_moved(a, context, class->unit, own, levels);
            uint32_t canonical = additive_combination(a, levels, class->unit, false);
            if (canonical < own)
                memcpy(costs + own * n_cost, costs + canonical * n_cost, n_cost * sizeof *costs);
            else if (ask_cost(a, levels, class->unit, costs + own * n_cost, err) != 0)
                return -1;
        }
        if (class->gone == NULL)
            continue;
        memcpy(levels, a->map->finest, a->problem->n_genes);
        additive_set_context(a, context, levels);
        levels[a->map->unit_owner[class->unit]] = 0;
        problem_repair(a->problem, levels);
        if (ask_cost(a, levels, class->unit, class->gone + context * n_cost, err) != 0)
            return -1;
    }
    return 0;
}

static int add_class(struct additive *a, uint32_t unit, uint32_t n_own, uint8_t *levels,
                     struct err *err)
{
    struct cost_class *class = &a->classes[a->n_classes];
    size_t n = (size_t)a->n_contexts * a->n_cost;
    bool is_owned = a->map->unit_owner[unit] >= 0;
    *class = (struct cost_class){.unit = unit, .n_own = n_own};
    class->cost = calloc(n * n_own, sizeof *class->cost);
    class->gone = is_owned ? calloc(n, sizeof *class->gone) : NULL;
    a->class_of[unit] = a->n_classes++;
    if (class->cost == NULL || (is_owned && class->gone == NULL)) {
        err_set(err, ERR_MEMORY, "search: out of memory");
        return -1;
    }
    return fill_class(a, class, levels, err);
}

int additive_find_classes(struct additive *a, uint8_t *levels, struct err *err)
{
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        uint32_t n_own = additive_grid_thin(a, u, false, ADDITIVE_MAX_CHOICES);
        int twin = 0;
        for (uint32_t c = 0; c < a->n_classes && twin == 0; c++) {
            twin = are_twins(a, u, a->classes[c].unit, n_own, levels, err);
            if (twin < 0)
                return -1;
            a->class_of[u] = c;
        }
        if (twin == 0 && add_class(a, u, n_own, levels, err) != 0)
            return -1;
    }
    return 0;
}

/* --- pairs --- */

/* Cost of `unit` with the genes own and other (-1: neither) at 0 and the rest at the finest. */
static int ask_dropped(const struct additive *a, uint32_t unit, uint32_t own, int32_t other,
                       uint8_t *levels, double *cost, struct err *err)
{
    memcpy(levels, a->map->finest, a->problem->n_genes);
    levels[own] = 0;
    if (other >= 0)
        levels[other] = 0;
    problem_repair(a->problem, levels);
    return ask_cost(a, levels, unit, cost, err);
}

/* Try the owners of `neighbour` beside `own`, the gene that drops `unit`. */
static int find_pair(struct additive *a, uint32_t unit, uint32_t own, uint32_t neighbour,
                     uint8_t *levels, struct err *err)
{
    double alone[ADDITIVE_MAX_COSTS], both[ADDITIVE_MAX_COSTS];
    uint32_t first = a->map->first[neighbour];
    for (uint32_t g = first; g < first + a->map->count[neighbour]; g++) {
        if (!a->map->is_owner[g])
            continue;
        if (ask_dropped(a, unit, own, -1, levels, alone, err) != 0 ||
            ask_dropped(a, unit, own, (int32_t)g, levels, both, err) != 0)
            return -1;
        if (levels[own] != 0 || levels[g] != 0 || is_near(alone, both, a->n_cost))
            continue;
        a->pair[unit] = (struct cost_pair){.own = (int32_t)own, .other = (int32_t)g};
        for (uint32_t j = 0; j < a->n_cost; j++)
            a->pair[unit].more[j] = both[j] - alone[j];
    }
    return 0;
}

int additive_find_pairs(struct additive *a, uint8_t *levels, struct err *err)
{
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        a->pair[u].own = -1;
        for (uint32_t g = a->map->first[u]; g < a->map->first[u] + a->map->count[u]; g++) {
            if (!a->map->is_owner[g])
                continue;
            if (u > 0 && find_pair(a, u, g, u - 1, levels, err) != 0)
                return -1;
            if (u + 1 < a->problem->n_units && find_pair(a, u, g, u + 1, levels, err) != 0)
                return -1;
        }
    }
    return 0;
}

const double *additive_unit_costs(const struct additive *a, const uint8_t *levels, uint32_t context,
                                  uint32_t unit)
{
    const struct cost_class *class = &a->classes[a->class_of[unit]];
    int32_t owner = a->map->unit_owner[unit];
    if (owner >= 0 && levels[owner] == 0)
        return class->gone + (size_t)context * a->n_cost;
    size_t own = additive_combination(a, levels, unit, false);
    return class->cost + ((size_t)context * class->n_own + own) * a->n_cost;
}
