/* test_lagrange.c - the additive prior and the vectors on its hull, against enumeration. */
#include "search/hypervolume.h"
#include "search/lagrange.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/search_fixture.h"

#include <stdlib.h>

struct prior {
    struct gene_map map;
    struct additive *additive;
    struct lagrange lagrange;
};

static bool prior_init(struct prior *prior, const struct problem *problem,
                       const struct sensitivity_table *table)
{
    struct err err = {0};
    memset(prior, 0, sizeof *prior);
    bool good = gene_map_init(&prior->map, problem, &err) == 0 &&
                (prior->additive = additive_create(problem, &prior->map, table, &err)) != NULL &&
                lagrange_init(&prior->lagrange, problem, &prior->map, prior->additive, &err) == 0;
    if (!good)
        printf("# %s\n", err.text);
    return good;
}

static void prior_fini(struct prior *prior)
{
    additive_destroy(prior->additive);
    gene_map_fini(&prior->map);
}

/* Sum of the problem's own costs at `levels`. */
static void true_costs(const struct problem *problem, const uint8_t *levels, double *cost)
{
    memset(cost, 0, (problem->n_obj - 1) * sizeof *cost);
    for (uint32_t u = 0; u < problem->n_units; u++) {
        double unit[3];
        problem->unit_cost(problem->arg, levels, u, unit);
        for (uint32_t j = 0; j + 1 < problem->n_obj; j++)
            cost[j] += unit[j];
    }
}

/* ---- one unit, one choice ------------------------------------------------------------------- */

static void test_owners(void)
{
    struct toy toy;
    struct prior prior;
    toy_init(&toy, 4, 3, 0.5, 0, 1);
    ok(prior_init(&prior, &toy.problem, &toy.table), "a prior of four units");
    bool good = true;
    for (uint32_t u = 0; u < 4; u++)
        good = good && prior.map.owner[2 * u + 1] == (int32_t)(2 * u) &&
               prior.map.owner[2 * u] == -1 && prior.map.unit_owner[u] == -1;
    ok(good, "a width that can drop its unit owns the precision");
    uint8_t levels[8] = {3, 4, 3, 4, 3, 4, 3, 4};
    near(additive_loss(prior.additive, levels), 0, 1e-15, "the finest vector loses nothing");
    levels[2] = levels[3] = 0;
    near(additive_loss(prior.additive, levels), toy.loss[2][0], 1e-12,
         "a dropped unit loses its drop and not its precision");

    /* Of 20 combinations 5 are the same drop; nothing that stays is beaten. */
    size_t n;
    const struct choice *choices = additive_choices(prior.additive, 0, 1, &n);
    int n_dropped = 0, n_beaten = 0;
    for (size_t i = 0; i < n; i++) {
        n_dropped += choices[i].levels[0] == 0;
        for (size_t k = 0; k < n; k++)
            n_beaten += k != i && choices[k].loss <= choices[i].loss &&
                        choices[k].cost[0] <= choices[i].cost[0] &&
                        choices[k].cost[1] <= choices[i].cost[1];
    }
    ok(n_dropped == 1 && n_beaten == 0 && n > 3, "choices are canonical and none beats another");
    prior_fini(&prior);
}

/* Costs predicted for every vector of a small space. */
static double worst_cost_error(const struct problem *problem, const struct additive *additive)
{
    uint8_t levels[16] = {0}, repaired[16];
    double worst = 0;
    do {
        double got[3], want[3];
        memcpy(repaired, levels, sizeof levels);
        problem_repair(problem, repaired);
        additive_costs(additive, repaired, got);
        true_costs(problem, repaired, want);
        for (uint32_t j = 0; j + 1 < problem->n_obj; j++)
            worst = fmax(worst, fabs(got[j] - want[j]) / fmax(want[j], 1));
    } while (toy_next(problem, levels));
    return worst;
}

static void test_costs(void)
{
    struct toy toy;
    struct prior prior;
    toy_init(&toy, 3, 4, 0, 0, 2);
    prior_init(&prior, &toy.problem, &toy.table);
    /* Nothing is predicted to be free: the empty model is at a millionth of the finest. */
    ok(worst_cost_error(&toy.problem, prior.additive) < 1e-4,
       "costs of units that stand alone are predicted for every vector");
    prior_fini(&prior);
}

/* ---- minima --------------------------------------------------------------------------------- */

/* The least of the Lagrangian over all vectors of a small space. */
static double least_score(const struct problem *problem, const struct prior *prior,
                          const double *lambda, const uint8_t *only)
{
    uint8_t levels[16] = {0}, repaired[16];
    double finest[3], least = INFINITY;
    true_costs(problem, prior->map.finest, finest);
    do {
        double cost[3];
        memcpy(repaired, only != NULL ? only : levels, problem->n_genes);
        problem_repair(problem, repaired);
        true_costs(problem, repaired, cost);
        double score = -7 * log1p(-additive_loss(prior->additive, repaired) / 7);
        for (uint32_t j = 0; j + 1 < problem->n_obj; j++)
            score += lambda[j] * cost[j] / finest[j];
        least = fmin(least, score);
    } while (only == NULL && toy_next(problem, levels));
    return least;
}

/* Solutions in all contexts; the best has to be the minimum over the whole space. */
static double worst_solution(const struct problem *problem, const struct prior *prior, int n_rounds)
{
    struct rng rng = rng_make(11, 0);
    double worst = 0;
    for (int round = 0; round < n_rounds; round++) {
        double lambda[3], got = INFINITY;
        uint8_t levels[16];
        for (uint32_t j = 0; j < 3; j++)
            lambda[j] = exp(3 * rng_normal(&rng));
        for (uint32_t c = 0; c < additive_n_contexts(prior->additive); c++) {
            memcpy(levels, prior->map.finest, problem->n_genes);
            lagrange_solve(&prior->lagrange, lambda, NULL, c, levels);
            got = fmin(got, least_score(problem, prior, lambda, levels));
        }
        worst = fmax(worst, fabs(got - least_score(problem, prior, lambda, NULL)));
    }
    return worst;
}

static void test_minima(void)
{
    struct toy toy;
    struct prior prior;
    toy_init(&toy, 3, 4, 0, 0, 3);
    prior_init(&prior, &toy.problem, &toy.table);
    ok(worst_solution(&toy.problem, &prior, 20) < 1e-9,
       "the separable minimum is the minimum over 8,000 vectors");
    prior_fini(&prior);
}

/* Equal layers: gene 0 keeps the layer of units 0 and 1, gene 5 is a global width that every unit's
 * cost hangs on, gene 6 a global format that costs on its own.
 *   unit 0: keep, format   unit 1: format   unit 2: keep, format (no second unit)   unit 3: globals
 */
static void layered_repair(void *arg, uint8_t *levels)
{
    (void)arg;
    if (levels[0] == 0)
        levels[1] = levels[2] = 0;
    if (levels[3] == 0)
        levels[4] = 0;
}

static void layered_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    static const double width[3] = {0.5, 0.75, 1};
    (void)arg;
    double w = width[levels[5]],
           bytes[4] = {levels[0] * w * (1 + levels[1]), levels[0] * w * w * (2 + levels[2]),
                       levels[3] * w * (1 + levels[4]), 1 + levels[6]};
    cost[0] = bytes[unit];
    cost[1] = bytes[unit] > 0 ? 1 + sqrt(bytes[unit]) : 0;
}

static void test_layers(void)
{
    static const uint32_t n_levels[7] = {2, 4, 4, 2, 4, 3, 3}, unit[7] = {0, 0, 1, 2, 2, 3, 3};
    static const double loss[7][4] = {{2, 0},        {0.5, 0.2, 0.05, 0}, {0.8, 0.3, 0.04, 0},
                                      {1, 0},        {0.6, 0.1, 0.02, 0}, {1.5, 0.4, 0},
                                      {0.3, 0.05, 0}};
    const struct problem problem = {.n_genes = 7,
                                    .n_units = 4,
                                    .n_obj = 3,
                                    .n_levels = n_levels,
                                    .unit = unit,
                                    .repair = layered_repair,
                                    .unit_cost = layered_cost};
    const struct sensitivity_table table = {.loss = &loss[0][0], .stride = 4};
    struct prior prior;
    prior_init(&prior, &problem, &table);
    ok(prior.map.unit_owner[1] == 0 && prior.map.unit_owner[2] == -1,
       "a keep gene owns the other unit of its layer");
    ok(additive_n_contexts(prior.additive) == 3,
       "a global width is taken level by level, a global format is not");
    ok(worst_cost_error(&problem, prior.additive) < 1e-5,
       "costs are predicted for every width and every dropped layer");
    ok(worst_solution(&problem, &prior, 100) < 1e-9,
       "the best over the widths is the minimum over the space");
    prior_fini(&prior);
}

/* Two units: where the second is dropped beside the first, 3 remain, and they go with the first. */
static void guarded_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    (void)arg;
    double own = levels[2 * unit] * (1.0 + levels[2 * unit + 1]);
    cost[0] = unit == 1 && levels[2] == 0 && levels[0] > 0 ? 3 : own;
}

static void test_pairs(void)
{
    struct toy toy;
    struct prior prior;
    toy_init(&toy, 2, 2, 0, 0, 9);
    toy.problem.unit_cost = guarded_cost;
    prior_init(&prior, &toy.problem, &toy.table);
    const uint8_t second[4] = {3, 4, 0, 0}, both[4] = {0};
    double cost;
    additive_costs(prior.additive, second, &cost);
    near(cost, 15 + 3, 1e-12, "what stands in for a dropped unit is counted");
    additive_costs(prior.additive, both, &cost);
    near(cost, 0, 1e-3, "and goes with its neighbour");
    ok(worst_cost_error(&toy.problem, prior.additive) < 1e-3, "costs of all other vectors hold");
    prior_fini(&prior);
}

/* ---- learning ------------------------------------------------------------------------------- */

static void test_refit(void)
{
    struct toy toy;
    struct prior prior;
    toy_init(&toy, 8, 3, 0, 0.6, 4);
    prior_init(&prior, &toy.problem, &toy.table);
    struct rng rng = rng_make(5, 5);
    double before = 0, after = 0, cost_error = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 160; i++) {
            uint8_t levels[16];
            double objective[3], cost[2];
            for (uint32_t g = 0; g < 16; g++)
                levels[g] = (uint8_t)rng_below(&rng, toy.n_levels[g]);
            toy_repair(&toy, levels);
            toy_evaluate(&toy, levels, objective);
            double miss = fabs(log(additive_loss(prior.additive, levels) / objective[0]));
            *(round == 0 ? &before : &after) += miss / 160;
            additive_costs(prior.additive, levels, cost);
            for (uint32_t j = 0; j < 2 && round == 1; j++)
                cost_error = fmax(cost_error, fabs(cost[j] / objective[j + 1] - 1));
            if (round == 0)
                additive_learn(prior.additive, levels, objective);
        }
        if (round == 0)
            ok(additive_refit(prior.additive, NULL) == 0, "a refit succeeds");
    }
    printf("# mean log error of the loss: %.3f, refitted %.3f\n", before, after);
    ok(after < before / 3, "sensitivities that were off are put right by what was measured");
    ok(cost_error < 1e-6, "so are costs that are a constant and a factor off");
    bool inside = true;
    for (uint32_t u = 0; u < 8; u++)
        inside = inside && additive_theta(prior.additive, u) >= 0.1 &&
                 additive_theta(prior.additive, u) <= 5;
    ok(inside, "factors stay within 0.1 and 5");
    prior_fini(&prior);
}

/* ---- seeds ---------------------------------------------------------------------------------- */

/* Log objectives as the prior predicts them. */
static void predicted_point(const struct prior *prior, const uint8_t *levels, double *point)
{
    double cost[3];
    additive_costs(prior->additive, levels, cost);
    point[0] = log(additive_loss(prior->additive, levels) + 1e-3);
    point[1] = log(cost[0]);
    point[2] = log(cost[1]);
}

static void test_seeds(void)
{
    enum { N = 32, ALL = 20 * 20 * 20 };
    static double all[ALL * 3];
    struct toy toy;
    struct prior prior;
    struct vector_set seeds;
    uint8_t levels[6] = {0}, repaired[6];
    double ref[3] = {-INFINITY, -INFINITY, -INFINITY}, got[N * 3];
    toy_init(&toy, 3, 3, 0, 0, 6);
    prior_init(&prior, &toy.problem, &toy.table);
    vector_set_init(&seeds, 6);
    ok(lagrange_seeds(&prior.lagrange, N, 1e-3, 0, &seeds, NULL) == 0 && seeds.n == N,
       "as many seeds as asked for");
    /* All without the empty model: its cost, a millionth by convention, would be all the volume. */
    size_t n_all = 0, n_got = 0;
    do {
        memcpy(repaired, levels, 6);
        problem_repair(&toy.problem, repaired);
        if (repaired[0] + repaired[2] + repaired[4] > 0)
            predicted_point(&prior, repaired, all + 3 * n_all++);
    } while (toy_next(&toy.problem, levels));
    for (size_t i = 0; i < 3 * n_all; i++)
        ref[i % 3] = fmax(ref[i % 3], all[i] + log(1.1));
    for (size_t i = 0; i < seeds.n; i++) {
        const uint8_t *seed = vector_set_at(&seeds, i);
        if (seed[0] + seed[2] + seed[4] > 0)
            predicted_point(&prior, seed, got + 3 * n_got++);
    }
    double share = hypervolume(got, n_got, 3, ref) / hypervolume(all, n_all, 3, ref);
    printf("# %d seeds have %.4f of the hypervolume of all %zu vectors\n", N, share, n_all);
    ok(share > 0.95, "32 seeds have more than 95 %% of the hypervolume of all vectors");

    ok(lagrange_seeds(&prior.lagrange, 100000, 1e-3, 0, &seeds, NULL) == 0, "all that are of use");
    ok(seeds.n > N && seeds.n < 8000, "where fewer are of use, fewer come (%zu)", seeds.n);
    vector_set_fini(&seeds);
    prior_fini(&prior);
}

/* ---- refusals and limits -------------------------------------------------------------------- */

static void nan_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    toy_unit_cost(arg, levels, unit, cost);
    if (unit == 1 && levels[2] == 1)
        cost[0] = NAN;
}

static void test_refusals(void)
{
    struct toy toy;
    struct gene_map map;
    struct err err = {0};
    toy_init(&toy, 2, 3, 0, 0, 7);
    gene_map_init(&map, &toy.problem, NULL);
    toy.loss[1][2] = NAN;
    ok(additive_create(&toy.problem, &map, &toy.table, &err) == NULL && err.code == ERR_DATA,
       "a missing sensitivity is refused: %s", err.text);
    toy.loss[1][2] = 0.1;
    toy.problem.unit_cost = nan_cost;
    ok(additive_create(&toy.problem, &map, &toy.table, &err) == NULL && err.code == ERR_DATA,
       "a cost that is no number is refused: %s", err.text);
    gene_map_fini(&map);
    toy.unit[1] = 1;
    toy.unit[2] = 0;
    ok(gene_map_init(&map, &toy.problem, &err) == -1 && err.code == ERR_INTERNAL,
       "genes of a unit must be neighbours: %s", err.text);
}

static void wide_repair(void *arg, uint8_t *levels)
{
    (void)arg;
    if (levels[0] == 0)
        levels[1] = levels[2] = levels[3] = 0;
}

static void wide_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    (void)arg;
    (void)unit;
    cost[0] = levels[0] == 0 ? 0 : 10.0 * levels[0] + levels[1] + levels[2] + levels[3];
}

/* 16^4 combinations in one unit are more than are looked at. */
static void test_wide_unit(void)
{
    static const uint32_t n_levels[4] = {16, 16, 16, 16}, unit[4] = {0};
    double loss[4][16];
    for (int g = 0; g < 4; g++)
        for (int level = 0; level < 16; level++)
            loss[g][level] = 0.01 * (15 - level);
    const struct problem problem = {.n_genes = 4,
                                    .n_units = 1,
                                    .n_obj = 2,
                                    .n_levels = n_levels,
                                    .unit = unit,
                                    .repair = wide_repair,
                                    .unit_cost = wide_cost};
    const struct sensitivity_table table = {.loss = &loss[0][0], .stride = 16};
    struct prior prior;
    ok(prior_init(&prior, &problem, &table), "a unit of 65,536 combinations is looked at in part");
    struct rng rng = rng_make(8, 8);
    double worst = 0, cost, want;
    for (int i = 0; i < 2000; i++) {
        uint8_t levels[4];
        for (int g = 0; g < 4; g++)
            levels[g] = (uint8_t)rng_below(&rng, 16);
        levels[0] += levels[0] == 0;
        additive_costs(prior.additive, levels, &cost);
        wide_cost(NULL, levels, 0, &want);
        worst = fmax(worst, fabs(cost - want));
    }
    ok(worst <= 14, "costs of the rest are those of a neighbour (%.0f of 195 off at most)", worst);
    const uint8_t dropped[4] = {0};
    additive_costs(prior.additive, dropped, &cost);
    ok(cost < 0.01, "a dropped unit is no neighbour of a narrow one");
    prior_fini(&prior);
}

int main(void)
{
    test_owners();
    test_costs();
    test_minima();
    test_layers();
    test_pairs();
    test_refit();
    test_seeds();
    test_refusals();
    test_wide_unit();
    return tap_done();
}
