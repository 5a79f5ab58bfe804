/* additive_choices.c - what a unit can become: the grid of its levels, the contexts, the costs
 * asked of the problem, and the lists that a sweep picks from. */
#include "search/additive_parts.h"

#include "space/base/err.h"
#include "space/base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GRID_ROW 256
/* Choices compared before two units count as alike, and how close they must cost. */
#define TWIN_PROBES 12
#define TWIN_NEAR   1e-9
/* Part of the least sensitivity under which a measured loss is all noise. */
#define LEAST_LOSS_PART 0.01

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "search: out of memory");
    return -1;
}

/* --- the grid --- */

static void grid_set(struct additive *a, uint32_t gene, const uint8_t *levels, uint32_t n)
{
    uint8_t *row = a->grid_level + (size_t)gene * GRID_ROW;
    uint8_t *back = a->on_grid + (size_t)gene * GRID_ROW;
    memmove(row, levels, n);
    a->n_grid[gene] = n;
    for (uint32_t level = 0, at = 0; level < a->problem->n_levels[gene]; level++) {
        while (at + 1 < n && abs((int)row[at + 1] - (int)level) <= abs((int)row[at] - (int)level))
            at++;
        /* Level 0 may drop a part: nothing else counts as that, nor that as anything else. */
        back[level] = (uint8_t)(at == 0 && level > 0 && n > 1 ? 1 : at);
    }
}

static void grid_all(struct additive *a, uint32_t gene)
{
    uint8_t levels[GRID_ROW];
    for (uint32_t i = 0; i < a->problem->n_levels[gene]; i++)
        levels[i] = (uint8_t)i;
    grid_set(a, gene, levels, a->problem->n_levels[gene]);
}

/* Leave out every second level between the first and the last; of two keep the finer, which only
 * units of more than a dozen genes come to. */
static void grid_halve(struct additive *a, uint32_t gene)
{
    uint8_t *row = a->grid_level + (size_t)gene * GRID_ROW, levels[GRID_ROW];
    uint32_t n = 0, last = a->n_grid[gene] - 1;
    if (last > 1)
        levels[n++] = row[0];
    for (uint32_t i = 2 - last % 2; i < last; i += 2)
        levels[n++] = row[i];
    levels[n++] = row[last];
    grid_set(a, gene, levels, n);
}

/* Halve the finest grid among the unit's genes (those of contexts, or the others) until at most
 * `limit` combinations are left; returns their number. */
static uint32_t grid_thin(struct additive *a, uint32_t unit, bool context, uint32_t limit)
{
    for (;;) {
        double product = 1;
        uint32_t first = a->map->first[unit], widest = first, n_widest = 0;
        for (uint32_t g = first; g < first + a->map->count[unit]; g++) {
            if (a->is_context[g] != context)
                continue;
            product *= a->n_grid[g];
            if (a->n_grid[g] >= n_widest) {
                n_widest = a->n_grid[g];
                widest = g;
            }
        }
        if (product <= limit || n_widest <= 1)
            return (uint32_t)product;
        grid_halve(a, widest);
    }
}

/* Number of the combination that the unit's genes (of contexts, or the others) are nearest to. */
static uint32_t combination_of(const struct additive *a, const uint8_t *levels, uint32_t unit,
                               bool context)
{
    uint32_t number = 0, first = a->map->first[unit];
    for (uint32_t g = first; g < first + a->map->count[unit]; g++)
        if (a->is_context[g] == context)
            number = number * a->n_grid[g] + a->on_grid[(size_t)g * GRID_ROW + levels[g]];
    return number;
}

static void set_combination(const struct additive *a, uint32_t unit, bool context, uint32_t number,
                            uint8_t *levels)
{
    uint32_t first = a->map->first[unit];
    for (uint32_t g = first + a->map->count[unit]; g-- > first;) {
        if (a->is_context[g] != context)
            continue;
        levels[g] = a->grid_level[(size_t)g * GRID_ROW + number % a->n_grid[g]];
        number /= a->n_grid[g];
    }
}

/* --- contexts --- */

uint32_t additive_context_of(const struct additive *a, const uint8_t *levels)
{
    return a->n_contexts > 1 ? combination_of(a, levels, a->problem->n_units - 1, true) : 0;
}

void additive_set_context(const struct additive *a, uint32_t context, uint8_t *levels)
{
    if (a->n_contexts > 1)
        set_combination(a, a->problem->n_units - 1, true, context, levels);
}

uint32_t additive_n_contexts(const struct additive *a)
{
    return a->n_contexts;
}

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

static int find_contexts(struct additive *a, uint8_t *levels, struct err *err)
{
    uint32_t last = a->problem->n_units - 1;
    uint32_t first = a->map->first[last];
    for (uint32_t g = first; g < first + a->map->count[last]; g++)
        if (find_coupling(a, g, levels, err) != 0)
            return -1;
    a->n_contexts = grid_thin(a, last, true, ADDITIVE_MAX_CONTEXTS);
    return 0;
}

/* --- costs --- */

/* The finest vector of a context with one combination of one unit, repaired. */
static void moved_vector(const struct additive *a, uint32_t context, uint32_t unit,
                         uint32_t combination, uint8_t *levels)
{
    memcpy(levels, a->map->finest, a->problem->n_genes);
    additive_set_context(a, context, levels);
    set_combination(a, unit, false, combination, levels);
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
        moved_vector(a, context, u, own, levels);
        if (ask_cost(a, levels, u, of_u, err) != 0)
            return -1;
        moved_vector(a, context, v, own, levels);
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
            moved_vector(a, context, class->unit, own, levels);
            uint32_t canonical = combination_of(a, levels, class->unit, false);
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
    if (class->cost == NULL || (is_owned && class->gone == NULL))
        return out_of_memory(err);
    return fill_class(a, class, levels, err);
}

static int find_classes(struct additive *a, uint8_t *levels, struct err *err)
{
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        uint32_t n_own = grid_thin(a, u, false, ADDITIVE_MAX_CHOICES);
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

const double *additive_unit_costs(const struct additive *a, const uint8_t *levels, uint32_t context,
                                  uint32_t unit)
{
    const struct cost_class *class = &a->classes[a->class_of[unit]];
    int32_t owner = a->map->unit_owner[unit];
    if (owner >= 0 && levels[owner] == 0)
        return class->gone + (size_t)context * a->n_cost;
    size_t own = combination_of(a, levels, unit, false);
    return class->cost + ((size_t)context * class->n_own + own) * a->n_cost;
}

/* --- the lists --- */

static bool takes_units_along(const struct additive *a, const uint8_t *levels, uint32_t unit)
{
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        int32_t owner = a->map->unit_owner[u];
        if (owner >= 0 && a->problem->unit[owner] == unit && levels[owner] == 0)
            return true;
    }
    return false;
}

static bool choice_beats(const struct choice *x, const struct choice *y, uint32_t n_cost)
{
    if (x->loss > y->loss)
        return false;
    for (uint32_t j = 0; j < n_cost; j++)
        if (x->cost[j] > y->cost[j])
            return false;
    return true;
}

/* Enter it unless beaten; drop those that it beats.  One that takes other units along is compared
 * with nobody: its own figures do not tell what it saves. */
static void list_offer(struct choice_list *list, const struct choice *offered, uint32_t n_cost)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->n && !offered->takes_along; i++)
        if (!list->choice[i].takes_along && choice_beats(&list->choice[i], offered, n_cost))
            return;
    for (size_t i = 0; i < list->n; i++) {
        bool falls = !offered->takes_along && !list->choice[i].takes_along &&
                     choice_beats(offered, &list->choice[i], n_cost);
        if (!falls)
            list->choice[kept++] = list->choice[i];
    }
    list->choice[kept] = *offered;
    list->n = kept + 1;
}

static int fill_list(struct additive *a, uint32_t context, uint32_t unit, uint8_t *levels,
                     struct err *err)
{
    struct choice_list *list = &a->lists[(size_t)context * a->problem->n_units + unit];
    uint32_t n_own = a->classes[a->class_of[unit]].n_own, count = a->map->count[unit];
    list->levels = malloc((size_t)n_own * count + 1);
    list->choice = malloc(n_own * sizeof *list->choice);
    bool *seen = calloc(n_own, sizeof *seen);
    if (list->levels == NULL || list->choice == NULL || seen == NULL) {
        free(seen);
        return out_of_memory(err);
    }
    /* From the finest down, so that of equal ones the finer stays. */
    for (uint32_t own = n_own; own-- > 0;) {
        struct choice choice = {.levels = list->levels + (size_t)own * count};
        moved_vector(a, context, unit, own, levels);
        uint32_t canonical = combination_of(a, levels, unit, false);
        if (seen[canonical])
            continue;
        seen[canonical] = true;
        memcpy(list->levels + (size_t)own * count, levels + a->map->first[unit], count);
        choice.loss = additive_unit_loss(a, levels, unit);
        choice.takes_along = takes_units_along(a, levels, unit);
        const double *cost = additive_unit_costs(a, levels, context, unit);
        for (uint32_t j = 0; j < a->n_cost; j++)
            choice.cost[j] = cost[j] / a->total[j];
        list_offer(list, &choice, a->n_cost);
    }
    free(seen);
    struct choice *fitted = realloc(list->choice, list->n * sizeof *fitted);
    list->choice = fitted != NULL ? fitted : list->choice;
    return 0;
}

const struct choice *additive_choices(const struct additive *a, uint32_t context, uint32_t unit,
                                      size_t *n)
{
    const struct choice_list *list = &a->lists[(size_t)context * a->problem->n_units + unit];
    *n = list->n;
    return list->choice;
}

/* --- life --- */

static int copy_losses(struct additive *a, const struct sensitivity_table *table, struct err *err)
{
    a->least_loss = INFINITY;
    for (uint32_t g = 0; g < a->problem->n_genes; g++) {
        for (uint32_t level = 0; level < a->problem->n_levels[g]; level++) {
            double loss = table->loss[(size_t)g * table->stride + level];
            if (!isfinite(loss) || loss < 0) {
                err_set(err, ERR_DATA, "search: loss of gene %u at level %u is %g", g, level, loss);
                return -1;
            }
            a->loss[(size_t)g * a->stride + level] = additive_unsaturate(loss);
            if (loss > 0)
                a->least_loss = fmin(a->least_loss, LEAST_LOSS_PART * loss);
        }
    }
    return 0;
}

/* A gene weighs what is saved when it alone goes to 0. */
static void weigh_genes(struct additive *a, uint8_t *levels)
{
    double less[ADDITIVE_MAX_COSTS];
    for (uint32_t g = 0; g < a->problem->n_genes; g++) {
        memcpy(levels, a->map->finest, a->problem->n_genes);
        levels[g] = 0;
        problem_repair(a->problem, levels);
        additive_raw_costs(a, levels, less);
        for (uint32_t j = 0; j < a->n_cost; j++)
            a->weight[g] += fmax(0, 1 - less[j] / a->total[j]);
    }
}

static int ask_all(struct additive *a, const struct sensitivity_table *table, uint8_t *levels,
                   struct err *err)
{
    const struct problem *problem = a->problem;
    if (copy_losses(a, table, err) != 0)
        return -1;
    for (uint32_t g = 0; g < problem->n_genes; g++)
        grid_all(a, g);
    if (find_contexts(a, levels, err) != 0 || find_classes(a, levels, err) != 0)
        return -1;
    additive_raw_costs(a, a->map->finest, a->total);
    for (uint32_t j = 0; j < a->n_cost; j++) {
        a->line[j].factor = 1;
        if (!(a->total[j] > 0)) {
            err_set(err, ERR_DATA, "search: the finest vector has cost %u of %g", j, a->total[j]);
            return -1;
        }
    }
    weigh_genes(a, levels);
    a->lists = calloc((size_t)a->n_contexts * problem->n_units, sizeof *a->lists);
    if (a->lists == NULL)
        return out_of_memory(err);
    for (uint32_t context = 0; context < a->n_contexts; context++)
        for (uint32_t u = 0; u < problem->n_units; u++)
            if (fill_list(a, context, u, levels, err) != 0)
                return -1;
    return 0;
}

struct additive *additive_create(const struct problem *problem, const struct gene_map *map,
                                 const struct sensitivity_table *table, struct err *err)
{
    struct additive *a = calloc(1, sizeof *a);
    uint8_t *levels = malloc(problem->n_genes);
    size_t n_genes = problem->n_genes, n_units = problem->n_units;
    int status = -1;
    if (a != NULL) {
        *a = (struct additive){
            .problem = problem, .map = map, .n_cost = problem->n_obj - 1, .stride = table->stride};
        a->loss = calloc(n_genes * table->stride, sizeof *a->loss);
        a->on_grid = calloc(n_genes, GRID_ROW);
        a->grid_level = calloc(n_genes, GRID_ROW);
        a->n_grid = calloc(n_genes, sizeof *a->n_grid);
        a->is_context = calloc(n_genes, sizeof *a->is_context);
        a->weight = calloc(n_genes, sizeof *a->weight);
        a->classes = calloc(n_units, sizeof *a->classes);
        a->class_of = calloc(n_units, sizeof *a->class_of);
        a->theta = calloc(n_units, sizeof *a->theta);
        a->normal = calloc(n_units * n_units, sizeof *a->normal);
        a->answer = calloc(n_units, sizeof *a->answer);
        a->row = calloc(n_units, sizeof *a->row);
    }
    if (a == NULL || levels == NULL || a->loss == NULL || a->on_grid == NULL ||
        a->grid_level == NULL || a->n_grid == NULL || a->is_context == NULL || a->weight == NULL ||
        a->classes == NULL || a->class_of == NULL || a->theta == NULL || a->normal == NULL ||
        a->answer == NULL || a->row == NULL) {
        out_of_memory(err);
    } else {
        for (size_t u = 0; u < n_units; u++)
            a->theta[u] = 1;
        status = ask_all(a, table, levels, err);
    }
    free(levels);
    if (status != 0) {
        additive_destroy(a);
        return NULL;
    }
    return a;
}

void additive_destroy(struct additive *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; a->lists != NULL && i < (size_t)a->n_contexts * a->problem->n_units; i++) {
        free(a->lists[i].choice);
        free(a->lists[i].levels);
    }
    for (uint32_t c = 0; c < a->n_classes; c++) {
        free(a->classes[c].cost);
        free(a->classes[c].gone);
    }
    free(a->lists);
    free(a->classes);
    free(a->class_of);
    free(a->loss);
    free(a->on_grid);
    free(a->grid_level);
    free(a->n_grid);
    free(a->is_context);
    free(a->weight);
    free(a->theta);
    free(a->normal);
    free(a->answer);
    free(a->row);
    free(a);
}
