/* additive.c - choices of units, their losses and costs; predictions and their refit. */
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
    line->factor = line->x / line->xx;
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
