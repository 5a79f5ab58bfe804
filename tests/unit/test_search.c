/* test_search.c - the whole search on functions with a known front, on a space that is enumerated
 * completely, and the promises of its header: no duplicates, replay, any number out. */
#include "search/hypervolume.h"
#include "search/search.h"
#include "search/vector_set.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/search_fixture.h"

#include <stdlib.h>

#define MAX_EVALS 2000

typedef void (*evaluate_fn)(const void *arg, const uint8_t *levels, double *objective);

static void evaluate_toy(const void *arg, const uint8_t *levels, double *objective)
{
    toy_evaluate(arg, levels, objective);
}

static struct search_options options_of(uint64_t seed, uint32_t n_seeds, uint32_t n_screened)
{
    return (struct search_options){
        .seed = seed, .population = 40, .n_seeds = n_seeds, .n_screened = n_screened};
}

/* Log objectives of `n_evals` proposals, told with up to `n_out` out at a time and in an order that
 * is drawn; NULL options: vectors at random.  Returns how many there were. */
static size_t run(const struct problem *problem, const struct sensitivity_table *table,
                  const struct search_options *options, evaluate_fn evaluate, const void *arg,
                  size_t n_evals, size_t n_out, double *points)
{
    uint8_t out[16][PROBLEM_MAX_GENES];
    struct rng rng = rng_make(options != NULL ? options->seed : n_out, 1234);
    size_t n_waiting = 0, n_asked = 0, n = 0;
    struct search *search = options != NULL ? search_create(problem, table, options, NULL) : NULL;
    while (n < n_evals) {
        double objective[PROBLEM_MAX_OBJ];
        enum search_origin origin;
        while (n_waiting < (search != NULL ? n_out : 1) && n_asked < n_evals) {
            for (uint32_t g = 0; search == NULL && g < problem->n_genes; g++)
                out[n_waiting][g] = (uint8_t)rng_below(&rng, problem->n_levels[g]);
            if (search == NULL)
                problem->repair(problem->arg, out[n_waiting]);
            else if (search_ask(search, out[n_waiting], &origin, NULL) != 1)
                break;
            n_waiting++;
            n_asked++;
        }
        if (n_waiting == 0)
            break;
        size_t next = (size_t)rng_below(&rng, n_waiting);
        evaluate(arg, out[next], objective);
        if (search != NULL)
            search_tell(search, out[next], objective, NULL);
        memmove(out[next], out[--n_waiting], sizeof out[next]);
        for (uint32_t j = 0; j < problem->n_obj; j++)
            points[n * problem->n_obj + j] = log(objective[j]);
        n++;
    }
    search_destroy(search);
    return n;
}

/* Mean share of `whole` that searches (or random ones) reach over some seeds. */
static double mean_share(const struct problem *problem, const struct sensitivity_table *table,
                         const struct search_options *options, evaluate_fn evaluate,
                         const void *arg, size_t n_evals, size_t n_out, const double *reference,
                         double whole)
{
    static double points[MAX_EVALS * PROBLEM_MAX_OBJ];
    const int n_runs = 3;
    double sum = 0;
    for (int i = 0; i < n_runs; i++) {
        struct search_options mine = options != NULL ? *options : (struct search_options){0};
        mine.seed += (uint64_t)i;
        /* Without options `n_out` is the seed. */
        size_t n = run(problem, table, options != NULL ? &mine : NULL, evaluate, arg, n_evals,
                       options != NULL ? n_out : (size_t)i + 1, points);
        sum += hypervolume(points, n, problem->n_obj, reference) / whole / n_runs;
    }
    return sum;
}

/* ---- known fronts --------------------------------------------------------------------------- */

static void no_repair(void *arg, uint8_t *levels)
{
    (void)arg;
    (void)levels;
}

static void no_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    (void)arg;
    (void)levels;
    (void)unit;
    cost[0] = cost[1] = 0;
}

#define ZDT_GENES  8
#define ZDT_LEVELS 21

/* Best level of gene i >= 1, different for each: no corner and no uniform vector has them all. */
static int zdt_best(int i)
{
    return (7 * i) % ZDT_LEVELS;
}

/* Zitzler, Deb and Thiele 2000, problems 1 to 3, on a grid, objectives moved away from 0. */
static void zdt(const void *arg, const uint8_t *levels, double *objective)
{
    int number = *(const int *)arg;
    double x = levels[0] / (ZDT_LEVELS - 1.0), sum = 0;
    for (int i = 1; i < ZDT_GENES; i++)
        sum += abs(levels[i] - zdt_best(i)) / (ZDT_LEVELS - 1.0);
    double g = 1 + 9 * sum / (ZDT_GENES - 1), h = 1 - sqrt(x / g);
    if (number == 2)
        h = 1 - (x / g) * (x / g);
    if (number == 3)
        h -= x / g * sin(31.41592653589793 * x);
    objective[0] = g * h + 1;
    objective[1] = x + 0.1;
}

static void test_zdt(void)
{
    uint32_t n_levels[ZDT_GENES], unit[ZDT_GENES];
    for (uint32_t g = 0; g < ZDT_GENES; g++) {
        n_levels[g] = ZDT_LEVELS;
        unit[g] = g;
    }
    const struct problem problem = {.n_genes = ZDT_GENES,
                                    .n_units = ZDT_GENES,
                                    .n_obj = 2,
                                    .n_levels = n_levels,
                                    .unit = unit,
                                    .repair = no_repair,
                                    .unit_cost = no_cost};
    const struct search_options options = options_of(1, 60, 1);
    const double reference[2] = {log(11), log(1.2)};
    for (int number = 1; number <= 3; number++) {
        /* On the front every gene but the first is at its best level. */
        double front[ZDT_LEVELS * 2];
        for (uint8_t i = 0; i < ZDT_LEVELS; i++) {
            uint8_t levels[ZDT_GENES] = {i};
            double objective[2];
            for (int g = 1; g < ZDT_GENES; g++)
                levels[g] = (uint8_t)zdt_best(g);
            zdt(&number, levels, objective);
            front[2 * i] = log(objective[0]);
            front[2 * i + 1] = log(objective[1]);
        }
        double whole = hypervolume(front, ZDT_LEVELS, 2, reference);
        double found =
            mean_share(&problem, NULL, &options, zdt, &number, 1000, 1, reference, whole);
        double random = mean_share(&problem, NULL, NULL, zdt, &number, 1000, 1, reference, whole);
        ok(found >= 0.97 && found >= random + 0.2,
           "ZDT%d: 1,000 of 3.8e10 vectors without a prior find 97 %% of the front, random ones "
           "less by 0.2 (%.4f, %.4f)",
           number, found, random);
    }
}

#define DTLZ_GENES  6
#define DTLZ_LEVELS 13

/* Deb, Thiele, Laumanns and Zitzler 2002, problem 2 with three objectives. */
static void dtlz2(const void *arg, const uint8_t *levels, double *objective)
{
    (void)arg;
    double x[DTLZ_GENES], g = 0;
    for (int i = 0; i < DTLZ_GENES; i++)
        x[i] = levels[i] / (DTLZ_LEVELS - 1.0);
    for (int i = 2; i < DTLZ_GENES; i++)
        g += (x[i] - 0.5) * (x[i] - 0.5);
    double a = x[0] * 1.5707963267948966, b = x[1] * 1.5707963267948966;
    objective[0] = 0.5 + (1 + g) * cos(a) * cos(b);
    objective[1] = 0.5 + (1 + g) * cos(a) * sin(b);
    objective[2] = 0.5 + (1 + g) * sin(a);
}

static void test_dtlz2(void)
{
    uint32_t n_levels[DTLZ_GENES], unit[DTLZ_GENES];
    double front[DTLZ_LEVELS * DTLZ_LEVELS * 3];
    for (uint32_t g = 0; g < DTLZ_GENES; g++) {
        n_levels[g] = DTLZ_LEVELS;
        unit[g] = g;
    }
    const struct problem problem = {.n_genes = DTLZ_GENES,
                                    .n_units = DTLZ_GENES,
                                    .n_obj = 3,
                                    .n_levels = n_levels,
                                    .unit = unit,
                                    .repair = no_repair,
                                    .unit_cost = no_cost};
    for (int i = 0; i < DTLZ_LEVELS * DTLZ_LEVELS; i++) {
        const uint8_t half = DTLZ_LEVELS / 2;
        const uint8_t levels[DTLZ_GENES] = {
            (uint8_t)(i % DTLZ_LEVELS), (uint8_t)(i / DTLZ_LEVELS), half, half, half, half};
        dtlz2(NULL, levels, front + 3 * i);
        for (int j = 0; j < 3; j++)
            front[3 * i + j] = log(front[3 * i + j]);
    }
    const double reference[3] = {log(2.6), log(2.6), log(2.6)};
    const struct search_options options = options_of(1, 60, 1);
    double whole = hypervolume(front, DTLZ_LEVELS * DTLZ_LEVELS, 3, reference);
    double found = mean_share(&problem, NULL, &options, dtlz2, NULL, 800, 1, reference, whole);
    double random = mean_share(&problem, NULL, NULL, dtlz2, NULL, 800, 1, reference, whole);
    ok(found >= 0.96 && found >= random + 0.05,
       "DTLZ2: 800 of 4.8e6 vectors find 96 %% of the front, random ones less by 0.05 "
       "(%.4f, %.4f)",
       found, random);
}

/* ---- spaces like a study's ------------------------------------------------------------------ */

/* The empty model costs the overhead alone and would be most of the volume: the corner that bounds
 * the objectives is that of the finest vector's costs and the worst loss. */
static void toy_reference(const struct toy *toy, double *reference)
{
    uint8_t levels[2 * TOY_MAX_UNITS];
    double objective[PROBLEM_MAX_OBJ];
    for (uint32_t g = 0; g < toy->problem.n_genes; g++)
        levels[g] = (uint8_t)(toy->n_levels[g] - 1);
    toy_evaluate(toy, levels, objective);
    for (uint32_t j = 1; j < toy->problem.n_obj; j++)
        reference[j] = log(1.1 * objective[j]);
    reference[0] = log(7.7);
}

/* Four units, 65,536 vectors, all of them evaluated; losses interact, sensitivities are 30 % off.
 */
static void test_enumerated(void)
{
    enum { ALL = 160000 };
    struct toy toy;
    for (uint32_t n_obj = 2; n_obj <= 4; n_obj++) {
        double *all = malloc(ALL * n_obj * sizeof *all), reference[PROBLEM_MAX_OBJ];
        uint8_t levels[8] = {0};
        size_t n = 0;
        toy_init(&toy, 4, n_obj, 0.5, 0.3, 20 + n_obj);
        toy_reference(&toy, reference);
        do {
            uint8_t repaired[8];
            memcpy(repaired, levels, 8);
            toy_repair(&toy, repaired);
            if (memcmp(repaired, levels, 8) != 0)
                continue;
            toy_evaluate(&toy, levels, all + n * n_obj);
            for (uint32_t j = 0; j < n_obj; j++)
                all[n * n_obj + j] = log(all[n * n_obj + j]);
            n++;
        } while (toy_next(&toy.problem, levels));
        double whole = hypervolume(all, n, n_obj, reference);
        free(all);
        const struct search_options options = options_of(1, 40, 30);
        double found = mean_share(&toy.problem, &toy.table, &options, evaluate_toy, &toy, 160, 1,
                                  reference, whole);
        double out16 = mean_share(&toy.problem, &toy.table, &options, evaluate_toy, &toy, 160, 16,
                                  reference, whole);
        double random =
            mean_share(&toy.problem, NULL, NULL, evaluate_toy, &toy, 160, 1, reference, whole);
        ok(found >= 0.99 && found >= random + 0.1,
           "%u objectives: 160 of %zu vectors have 99 %% of the true hypervolume, random ones less "
           "by 0.1 (%.4f, %.4f)",
           n_obj, n, found, random);
        ok(out16 >= 0.985, "with 16 out at a time 98.5 %% (%.4f)", out16);
    }
}

/* methods.md B2 in small: what each part of the strategy is worth at 200 evaluations of 2.6e14
 * vectors, with sensitivities that are far off (log error 0.8) and interactions. */
static void test_synthetic(void)
{
    struct toy toy;
    double reference[3], share[4] = {0};
    for (uint64_t instance = 0; instance < 3; instance++) {
        toy_init(&toy, 12, 3, 0.6, 0.8, 40 + instance);
        toy_reference(&toy, reference);
        const struct search_options full = options_of(1, 80, 30), plain = options_of(1, 80, 1);
        const struct sensitivity_table *table = &toy.table;
        const struct search_options *options[4] = {NULL, &plain, &plain, &full};
        for (int kind = 0; kind < 4; kind++)
            share[kind] += mean_share(&toy.problem, kind < 2 ? NULL : table, options[kind],
                                      evaluate_toy, &toy, 200, 1, reference, 1);
    }
    for (int kind = 0; kind < 4; kind++)
        printf("# %s: %.3f of the full strategy\n",
               (const char *[]){"random", "evolution from uniform vectors", "with seeds",
                                "with seeds and screening"}[kind],
               share[kind] / share[3]);
    ok(share[0] < 0.6 * share[3], "random vectors have less than 60 %% of the full strategy");
    ok(share[1] < 0.9 * share[3], "evolution without a prior less than 90 %%");
    ok(share[3] > share[2], "screening adds to the seeds");
}

/* Beyond a cache every byte costs more, which no sum over units can say. */
static double beyond(const struct toy *toy, double cost)
{
    double finest = 0;
    for (uint32_t u = 0; u < toy->problem.n_units; u++)
        finest += toy->size[u] * toy_bits[TOY_BITS - 1];
    return cost + 3 * fmax(0, cost - 0.5 * finest);
}

static void evaluate_beyond(const void *arg, const uint8_t *levels, double *objective)
{
    toy_evaluate(arg, levels, objective);
    objective[1] = beyond(arg, objective[1]);
}

/* Knows the first cost, and says so of vectors that are repaired; leaves the second. */
static void whole_cost(void *arg, const uint8_t *levels, double *cost)
{
    uint8_t repaired[2 * TOY_MAX_UNITS];
    double objective[PROBLEM_MAX_OBJ] = {0};
    const struct toy *toy = arg;
    memcpy(repaired, levels, toy->problem.n_genes);
    toy_repair(arg, repaired);
    evaluate_beyond(arg, levels, objective);
    cost[0] = memcmp(repaired, levels, toy->problem.n_genes) == 0 ? objective[1] : NAN;
}

static void test_whole_costs(void)
{
    double reference[3], share[2] = {0};
    for (uint64_t instance = 0; instance < 3; instance++) {
        struct toy toy;
        toy_init(&toy, 12, 3, 0.3, 0.3, 70 + instance);
        toy_reference(&toy, reference);
        reference[1] = log(beyond(&toy, exp(reference[1])));
        const struct search_options options = options_of(1, 40, 30);
        for (int known = 0; known < 2; known++) {
            toy.problem.whole_cost = known ? whole_cost : NULL;
            share[known] += mean_share(&toy.problem, &toy.table, &options, evaluate_beyond, &toy,
                                       150, 1, reference, 1);
        }
    }
    ok(share[1] > share[0], "who knows what the whole costs finds more (%.4f times as much)",
       share[1] / share[0]);
}

/* ---- promises ------------------------------------------------------------------------------- */

static void test_no_duplicates(void)
{
    enum { N = 2000 };
    struct toy toy;
    toy_init(&toy, 12, 3, 0.5, 0.3, 50);
    const struct search_options options = options_of(3, 60, 4);
    for (int with_table = 0; with_table < 2; with_table++) {
        struct vector_set seen;
        struct search *search =
            search_create(&toy.problem, with_table ? &toy.table : NULL, &options, NULL);
        size_t n_origin[6] = {0}, n_repaired = 0;
        vector_set_init(&seen, toy.problem.n_genes);
        for (int i = 0; i < N; i++) {
            uint8_t levels[24], repaired[24];
            double objective[3];
            enum search_origin origin;
            if (search_ask(search, levels, &origin, NULL) != 1)
                break;
            vector_set_add(&seen, levels);
            n_origin[origin]++;
            memcpy(repaired, levels, 24);
            toy_repair(&toy, repaired);
            n_repaired += memcmp(repaired, levels, 24) == 0;
            /* Every third stays out for good, every third fails. */
            toy_evaluate(&toy, levels, objective);
            if (i % 3 == 0)
                search_tell(search, levels, objective, NULL);
            else if (i % 3 == 1)
                search_discard(search, levels, NULL);
        }
        ok(seen.n == N && n_repaired == N, "%d asks, no vector twice, all repaired (%s)", N,
           with_table ? "with a prior" : "without");
        ok(n_origin[ORIGIN_CORNER] == 2 && n_origin[ORIGIN_UNIFORM] > 5 &&
               n_origin[ORIGIN_CORNER] + n_origin[ORIGIN_UNIFORM] <= 15 &&
               (n_origin[ORIGIN_SEED] >= 30) == with_table && n_origin[ORIGIN_CHILD] > N / 2,
           "two corners, uniform ones to a quarter of the seeds, seeds, children "
           "(%zu %zu %zu %zu, %zu random)",
           n_origin[0], n_origin[1], n_origin[2], n_origin[3], n_origin[4]);
        ok(search_n_told(search) == (N + 2) / 3, "as many told as were told");
        vector_set_fini(&seen);
        search_destroy(search);
    }
}

/* A run is cut after some tellings; a new search is told the same in the same order, with those
 * that were out discarded first.  Both must go on alike. */
static void test_replay(void)
{
    enum { N = 150, AFTER = 40, OUT = 5 };
    struct toy toy;
    toy_init(&toy, 8, 4, 0.5, 0.5, 60);
    const struct search_options options = options_of(9, 48, 10);
    static uint8_t told[N][16];
    static double objective[N][4];
    uint8_t out[OUT][16];
    struct search *first = search_create(&toy.problem, &toy.table, &options, NULL);
    enum search_origin origin;
    struct rng rng = rng_make(1, 2);
    for (int i = 0; i < OUT; i++)
        search_ask(first, out[i], &origin, NULL);
    for (int i = 0; i < N; i++) {
        uint64_t next = rng_below(&rng, OUT);
        memcpy(told[i], out[next], 16);
        toy_evaluate(&toy, told[i], objective[i]);
        search_tell(first, told[i], objective[i], NULL);
        search_ask(first, out[next], &origin, NULL);
    }
    struct search *second = search_create(&toy.problem, &toy.table, &options, NULL);
    for (int i = OUT; i-- > 0;)
        search_discard(second, out[i], NULL);
    for (int i = 0; i < N; i++)
        search_tell(second, told[i], objective[i], NULL);
    ok(search_hypervolume(first) > 0 && search_hypervolume(first) == search_hypervolume(second),
       "replay brings back the hypervolume to the last bit");
    int n_same = 0;
    for (int i = 0; i < AFTER; i++) {
        uint8_t a[16], b[16];
        double f[4];
        search_ask(first, a, &origin, NULL);
        search_ask(second, b, &origin, NULL);
        n_same += memcmp(a, b, 16) == 0;
        /* What was out at the cut comes home too: discarded first, told later. */
        const uint8_t *levels = i < OUT ? out[i] : a;
        toy_evaluate(&toy, levels, f);
        search_tell(first, levels, f, NULL);
        search_tell(second, levels, f, NULL);
    }
    ok(n_same == AFTER, "and the same next proposals (%d of %d)", n_same, AFTER);
    ok(search_n_told(second) == N + AFTER,
       "what was discarded first and told later counts as told");
    search_destroy(first);
    search_destroy(second);

    struct search_options other = options;
    other.seed++;
    struct search *a = search_create(&toy.problem, &toy.table, &options, NULL);
    struct search *b = search_create(&toy.problem, &toy.table, &other, NULL);
    n_same = 0;
    for (int i = 0; i < 80; i++) {
        uint8_t x[16], y[16];
        search_ask(a, x, &origin, NULL);
        search_ask(b, y, &origin, NULL);
        n_same += memcmp(x, y, 16) == 0;
    }
    ok(n_same < 60, "another seed draws other children");
    search_destroy(a);
    search_destroy(b);
}

static void test_exhausted(void)
{
    struct toy toy;
    for (int with_table = 0; with_table < 2; with_table++) {
        const struct search_options options = options_of(1, 16, 6);
        uint8_t levels[4];
        enum search_origin origin = ORIGIN_CORNER;
        struct vector_set seen;
        toy_init(&toy, 2, 2, 0.5, 0.3, 70);
        vector_set_init(&seen, 4);
        struct search *search =
            search_create(&toy.problem, with_table ? &toy.table : NULL, &options, NULL);
        int asked;
        while ((asked = search_ask(search, levels, &origin, NULL)) == 1 && seen.n < 1000) {
            double objective[2];
            vector_set_add(&seen, levels);
            toy_evaluate(&toy, levels, objective);
            search_tell(search, levels, objective, NULL);
        }
        ok(asked == 0 && seen.n == 256, "a space of 256 vectors is asked completely, then 0 (%zu)",
           seen.n);
        ok(search_ask(search, levels, &origin, NULL) == 0, "and 0 again");
        vector_set_fini(&seen);
        search_destroy(search);
    }
}

static void test_telling(void)
{
    struct toy toy;
    struct err err = {0};
    const struct search_options options = options_of(1, 8, 1);
    toy_init(&toy, 4, 3, 0.5, 0, 80);
    struct search *search = search_create(&toy.problem, &toy.table, &options, NULL);
    uint8_t levels[8] = {3, 4, 3, 4, 3, 4, 0, 2};
    const double bad[3][3] = {{NAN, 1, 1}, {1, 0, 1}, {1, 1, INFINITY}}, good[3] = {1, 2, 3};
    int n_refused = 0;
    for (int i = 0; i < 3; i++)
        n_refused += search_tell(search, levels, bad[i], &err) == -1 && err.code == ERR_DATA;
    ok(n_refused == 3 && search_n_told(search) == 0, "bad objectives are refused: %s", err.text);
    ok(search_tell(search, levels, good, &err) == 0 && search_n_told(search) == 1,
       "a vector that was never asked can be told");
    levels[7] = 0;
    ok(search_tell(search, levels, good, &err) == 0 && search_n_told(search) == 1,
       "the same vector under another name counts once");
    ok(search_hypervolume(search) == 0, "no hypervolume before the reference is known");
    levels[6] = 3;
    ok(search_predict_loss(search, levels) > 0, "the prior predicts a loss");
    search_destroy(search);
    search = search_create(&toy.problem, NULL, &options, NULL);
    ok(isnan(search_predict_loss(search, levels)), "without a table there is no prediction");
    search_destroy(search);
    search_destroy(NULL);
    is_text(search_origin_name(ORIGIN_SEED), "seed", "origins have names");
}

int main(void)
{
    test_zdt();
    test_dtlz2();
    test_enumerated();
    test_synthetic();
    test_whole_costs();
    test_no_duplicates();
    test_replay();
    test_exhausted();
    test_telling();
    return tap_done();
}
