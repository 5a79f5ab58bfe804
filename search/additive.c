/* additive.c - life of the additive prior, its predictions and their refit. */
#include "search/additive_parts.h"

#include "space/base/err.h"
#include "space/base/linalg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SATURATION 7.0
/* Losses beyond this are read as this: so near to the limit z would be all noise. */
#define LOSS_MOST   6.0
#define RIDGE       3.0
#define THETA_LEAST 0.1
#define THETA_MOST  5.0
/* Part of the finest vector's cost; nothing is predicted to cost less. */
#define LEAST_COST 1e-6
/* Part of the least sensitivity under which a measured loss is all noise. */
#define LEAST_LOSS_PART 0.01
/* Costs told before an offset is fitted beside the factor. */
#define LINE_MIN 8

static double saturate(double z)
{
    return SATURATION * (1 - exp(-z / SATURATION));
}

double additive_unsaturate(double loss)
{
    return -SATURATION * log1p(-fmin(loss, LOSS_MOST) / SATURATION);
}

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "search: out of memory");
    return -1;
}

/* --- predictions --- */

double additive_unit_loss(const struct additive *a, const uint8_t *levels, uint32_t unit)
{
    double loss = 0;
    uint32_t first = a->map->first[unit];
    for (uint32_t g = first; g < first + a->map->count[unit]; g++)
        if (gene_map_counts(a->map, levels, g))
            loss += a->loss[(size_t)g * a->stride + levels[g]];
    return loss;
}

double additive_loss(const struct additive *a, const uint8_t *levels)
{
    double z = 0;
    for (uint32_t u = 0; u < a->problem->n_units; u++)
        z += a->theta[u] * additive_unit_loss(a, levels, u);
    return saturate(z);
}

void additive_raw_costs(const struct additive *a, const uint8_t *levels, double *cost)
{
    uint32_t context = additive_context_of(a, levels);
    for (uint32_t j = 0; j < a->n_cost; j++)
        cost[j] = 0;
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        const double *unit = additive_unit_costs(a, levels, context, u);
        for (uint32_t j = 0; j < a->n_cost; j++)
            cost[j] += unit[j];
        const struct cost_pair *pair = &a->pair[u];
        if (pair->own >= 0 && levels[pair->own] == 0 && levels[pair->other] == 0)
            for (uint32_t j = 0; j < a->n_cost; j++)
                cost[j] += pair->more[j];
    }
}

void additive_costs(const struct additive *a, const uint8_t *levels, double *cost)
{
    additive_raw_costs(a, levels, cost);
    /* A sum of differences of measurements can miss zero. */
    for (uint32_t j = 0; j < a->n_cost; j++)
        cost[j] = a->line[j].offset + a->line[j].factor * fmax(cost[j], LEAST_COST * a->total[j]);
}

double additive_weight(const struct additive *a, uint32_t gene)
{
    return a->weight[gene];
}

double additive_theta(const struct additive *a, uint32_t unit)
{
    return a->theta[unit];
}

/* --- learning --- */

/* Rows of the ridge regression are k_u / z, the answer is 1: relative error by construction.  Only
 * their normal matrix is kept, so that a refit costs the same however much was told. */
static void learn_loss(struct additive *a, const uint8_t *levels, double loss)
{
    uint32_t n = a->problem->n_units;
    double z = additive_unsaturate(loss);
    for (uint32_t u = 0; u < n; u++)
        a->row[u] = additive_unit_loss(a, levels, u) / z;
    for (uint32_t u = 0; u < n; u++)
        a->answer[u] += a->row[u];
    linalg_syrk_add(n, 1, a->row, a->normal);
}

static void learn_costs(struct additive *a, const uint8_t *levels, const double *measured)
{
    double predicted[ADDITIVE_MAX_COSTS];
    additive_raw_costs(a, levels, predicted);
    for (uint32_t j = 0; j < a->n_cost; j++) {
        struct cost_line *line = &a->line[j];
        /* offset * one + factor * x = 1, both divided by what was measured. */
        double one = 1 / measured[j], x = predicted[j] / measured[j];
        line->oo += one * one;
        line->ox += one * x;
        line->xx += x * x;
        line->o += one;
        line->x += x;
    }
}

void additive_learn(struct additive *a, const uint8_t *levels, const double *objective)
{
    /* Below a hundredth of the smallest sensitivity a relative error says nothing. */
    if (objective[0] > a->least_loss)
        learn_loss(a, levels, objective[0]);
    learn_costs(a, levels, objective + 1);
    a->n_learnt++;
}

static void refit_line(const struct additive *a, struct cost_line *line)
{
    double determinant = line->oo * line->xx - line->ox * line->ox;
    double alone = line->x / line->xx;
    /* Sums that ran over tell nothing. */
    if (!isfinite(alone) || !(alone > 0))
        return;
    line->factor = alone;
    line->offset = 0;
    if (a->n_learnt < LINE_MIN || !(determinant > 1e-9 * line->oo * line->xx))
        return;
    double offset = (line->xx * line->o - line->ox * line->x) / determinant;
    double factor = (line->oo * line->x - line->ox * line->o) / determinant;
    /* What one pass costs beside its operations is not negative. */
    if (offset > 0 && factor > 0) {
        line->offset = offset;
        line->factor = factor;
    }
}

int additive_refit(struct additive *a, struct err *err)
{
    uint32_t n = a->problem->n_units;
    if (a->n_learnt == 0)
        return 0;
    for (uint32_t j = 0; j < a->n_cost; j++)
        refit_line(a, &a->line[j]);
    double *matrix = malloc((size_t)n * n * sizeof *matrix), *x = malloc(n * sizeof *x);
    int status = -1;
    if (matrix == NULL || x == NULL) {
        err_set(err, ERR_MEMORY, "search: out of memory");
    } else {
        memcpy(matrix, a->normal, (size_t)n * n * sizeof *matrix);
        for (uint32_t u = 0; u < n; u++) {
            matrix[(size_t)u * n + u] += RIDGE;
            x[u] = a->answer[u] + RIDGE;
        }
        status = linalg_solve_spd(n, matrix, x, err);
        for (uint32_t u = 0; u < n && status == 0; u++)
            a->theta[u] = fmin(THETA_MOST, fmax(THETA_LEAST, x[u]));
    }
    free(x);
    free(matrix);
    return status;
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
        additive_grid_all(a, g);
    if (additive_find_contexts(a, levels, err) != 0 || additive_find_classes(a, levels, err) != 0 ||
        additive_find_pairs(a, levels, err) != 0)
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
            if (additive_fill_list(a, context, u, levels, err) != 0)
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
        a->on_grid = calloc(n_genes, ADDITIVE_GRID_ROW);
        a->grid_level = calloc(n_genes, ADDITIVE_GRID_ROW);
        a->n_grid = calloc(n_genes, sizeof *a->n_grid);
        a->is_context = calloc(n_genes, sizeof *a->is_context);
        a->weight = calloc(n_genes, sizeof *a->weight);
        a->classes = calloc(n_units, sizeof *a->classes);
        a->class_of = calloc(n_units, sizeof *a->class_of);
        a->pair = calloc(n_units, sizeof *a->pair);
        a->theta = calloc(n_units, sizeof *a->theta);
        a->normal = calloc(n_units * n_units, sizeof *a->normal);
        a->answer = calloc(n_units, sizeof *a->answer);
        a->row = calloc(n_units, sizeof *a->row);
    }
    if (a == NULL || levels == NULL || a->loss == NULL || a->on_grid == NULL ||
        a->grid_level == NULL || a->n_grid == NULL || a->is_context == NULL || a->weight == NULL ||
        a->classes == NULL || a->class_of == NULL || a->pair == NULL || a->theta == NULL ||
        a->normal == NULL || a->answer == NULL || a->row == NULL) {
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
    free(a->pair);
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
