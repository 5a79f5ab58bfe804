/* Every closed form of obs.h against brute force: least squares by elimination in long double,
 * losses from their definition, and all choices tried. */
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { MAX = 60, ROWS = 5 };

static double hessian[MAX * MAX];
static float weights[ROWS * MAX];

/* Inputs that depend on one another, with unlike sizes: H of `tokens` random tokens. */
static struct obs_layer make_layer(size_t n, size_t tokens, uint64_t seed)
{
    struct rng rng = rng_make(seed, 8);
    double *mix = malloc(n * n * sizeof *mix), *x = malloc(n * sizeof *x);

    for (size_t i = 0; i < n * n; i++)
        mix[i] = rng_normal(&rng) * (0.2 + (double)(i % n % 5));
    memset(hessian, 0, sizeof hessian);
    for (size_t t = 0; t < tokens; t++) {
        memset(x, 0, n * sizeof *x);
        for (size_t k = 0; k < n; k++) {
            double z = rng_normal(&rng) / (1.0 + (double)k);
            for (size_t i = 0; i < n; i++)
                x[i] += z * mix[k * n + i];
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                hessian[i * n + j] += x[i] * x[j] / (double)tokens;
    }
    for (size_t i = 0; i < ROWS * n; i++)
        weights[i] = (float)rng_normal(&rng);
    free(x);
    free(mix);
    return (struct obs_layer){n, ROWS, hessian, weights};
}

/* H as every use sees it. */
static void damp(const struct obs_layer *layer, double share, double *h)
{
    size_t n = layer->n_in, n_live = 0;
    double mean = 0;

    for (size_t i = 0; i < n; i++) {
        mean += layer->hessian[i * n + i];
        n_live += layer->hessian[i * n + i] > 0;
    }
    for (size_t i = 0; i < n * n; i++)
        h[i] = layer->hessian[i] + (i % (n + 1) == 0 ? share * mean / (double)n_live : 0);
}

/* Solve A x = b by elimination with pivots; false when singular. */
static bool eliminate(size_t n, const long double *a, const long double *b, long double *x)
{
    static long double m[MAX][MAX + 1];

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            m[i][j] = a[i * n + j];
        m[i][n] = b[i];
    }
    for (size_t k = 0; k < n; k++) {
        size_t p = k;
        for (size_t i = k; i < n; i++)
            if (fabsl(m[i][k]) > fabsl(m[p][k]))
                p = i;
        if (m[p][k] == 0)
            return false;
        for (size_t j = 0; j <= n; j++) {
            long double swap = m[k][j];
            m[k][j] = m[p][j];
            m[p][j] = swap;
        }
        for (size_t i = 0; i < n; i++) {
            long double f = m[i][k] / m[k][k];
            for (size_t j = k; i != k && j <= n; j++)
                m[i][j] -= f * m[k][j];
        }
    }
    for (size_t k = 0; k < n; k++)
        x[k] = m[k][n] / m[k][k];
    return true;
}

/* The best weights on kept[] by least squares, d[ROWS][n] = W - W', and E = tr(d h d'). */
static double brute_loss(const struct obs_layer *layer, const double *h, const bool *kept,
                         double *d)
{
    static long double a[MAX * MAX], b[MAX], x[MAX];
    size_t n = layer->n_in, at[MAX], m = 0;
    long double loss = 0;

    for (size_t i = 0; i < n; i++)
        if (kept[i])
            at[m++] = i;
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < m; i++) {
            b[i] = 0;
            for (size_t j = 0; j < n; j++)
                b[i] += (long double)h[at[i] * n + j] * layer->weights[r * n + j];
            for (size_t j = 0; j < m; j++)
                a[i * m + j] = h[at[i] * n + at[j]];
        }
        if (!eliminate(m, a, b, x))
            return NAN;
        for (size_t j = 0; j < n; j++)
            d[r * n + j] = layer->weights[r * n + j];
        for (size_t i = 0; i < m; i++)
            d[r * n + at[i]] -= (double)x[i];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                loss += (long double)d[r * n + i] * h[i * n + j] * d[r * n + j];
    }
    return (double)loss;
}

/* The whole greedy run against brute force: in every step the loss of each possible removal is
 * solved for; the order must have taken the least one, at that price. */
static void check_greedy(const struct obs_layer *layer, const struct obs_items *items,
                         const char *what)
{
    size_t n = layer->n_in, n_items = items->n_classes * items->per_class;
    double *h = malloc(n * n * sizeof *h), *d = malloc(ROWS * n * sizeof *d);
    double *added = malloc(n_items * sizeof *added), damping = OBS_DAMPING;
    uint32_t *order = malloc(n_items * sizeof *order);
    bool kept[MAX], had[MAX];
    double loss = 0, worst_price = 0, worst_choice = 0;
    struct err err;

    memset(kept, true, sizeof kept);
    damp(layer, OBS_DAMPING, h);
    bool done = obs_order(layer, items, order, added, &damping, &err) == 0;
    for (size_t left = items->per_class; done && left-- > 0;) {
        memset(had, false, sizeof had);
        for (size_t round = 0; round < items->n_classes; round++) {
            double least = INFINITY, price = NAN;
            size_t best = n_items;
            for (size_t i = 0; i < n_items; i++) {
                size_t class = i / items->per_class;
                if (had[class] || !kept[i * items->size])
                    continue;
                memset(kept + i * items->size, false, items->size);
                double after = brute_loss(layer, h, kept, d);
                memset(kept + i * items->size, true, items->size);
                least = fmin(least, after);
                if (order[class * items->per_class + left] == i % items->per_class &&
                    (best == n_items || after < price)) {
                    best = i;
                    price = after;
                }
            }
            /* Of the items that go in this round, the order does not say which goes first: the
             * cheapest must be among them. */
            worst_choice = fmax(worst_choice, fabs(price - least) / (1 + least));
            memset(kept + best * items->size, false, items->size);
            had[best / items->per_class] = true;
            double rise = added[best / items->per_class * items->per_class + left];
            worst_price = fmax(worst_price, fabs(price - loss - rise) / (1 + price));
            loss = price;
        }
    }
    ok(done && damping == OBS_DAMPING, "%s: ordered with the damping that was asked for", what);
    near(worst_choice, 0, 1e-8, "%s: each removal is the best one of all", what);
    near(worst_price, 0, 1e-8, "%s: and costs what least squares says", what);
    free(order);
    free(added);
    free(d);
    free(h);
}

static void check_damping(void)
{
    ok(obs_damping(1024, 1 << 20) == OBS_DAMPING && obs_damping(1024, 16384) == OBS_DAMPING,
       "with many tokens the damping is the least");
    near(obs_damping(1000, 4000), 0.05, 1e-15, "with few it grows");
    ok(obs_damping(1024, 64) == 1, "up to the mean itself");
}

static void check_orders(void)
{
    struct obs_layer layer = make_layer(9, 100, 1);
    struct obs_items single = {1, 9, 1}, triple = {1, 3, 3}, pairs = {3, 3, 1};

    check_greedy(&layer, &single, "single columns");
    check_greedy(&layer, &triple, "groups of three");
    check_greedy(&layer, &pairs, "three classes in rounds");
    /* More removals than a panel holds, and groups that a panel's end falls into. */
    layer = make_layer(42, 400, 2);
    struct obs_items many = {1, 42, 1}, sevens = {1, 6, 7}, heads = {3, 2, 7};
    check_greedy(&layer, &many, "42 columns");
    check_greedy(&layer, &sevens, "6 groups of seven");
    check_greedy(&layer, &heads, "two items in each of 3 classes");
    /* Fewer tokens than inputs: the damping alone makes H definite. */
    layer = make_layer(40, 10, 3);
    struct obs_items forty = {1, 40, 1};
    check_greedy(&layer, &forty, "10 tokens for 40 inputs");
}

/* Repaired weights against least squares, and their loss against the sum of what was added. */
static void check_repair(void)
{
    struct obs_layer layer = make_layer(60, 300, 4);
    struct obs_items items = {1, 60, 1};
    double h[60 * 60], d[ROWS * 60], dw[ROWS * 60], work[ROWS * 60], added[60];
    double damping = OBS_DAMPING, worst = 0, gradient = 0, sum = 0;
    uint32_t order[60], kept[25];
    float repaired[ROWS * 25];
    bool is_kept[MAX] = {false};
    size_t m = 0;

    obs_order(&layer, &items, order, added, &damping, NULL);
    for (size_t k = 0; k < 25; k++)
        is_kept[order[k]] = true;
    for (uint32_t i = 0; i < 60; i++)
        if (is_kept[i])
            kept[m++] = i;
    damp(&layer, OBS_DAMPING, h);
    double want = brute_loss(&layer, h, is_kept, d);
    ok(obs_repair(&layer, kept, 25, &damping, repaired, NULL) == 0 && damping == OBS_DAMPING,
       "weights are repaired");
    for (size_t i = 0; i < ROWS * 60; i++)
        dw[i] = (double)weights[i];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t k = 0; k < 25; k++) {
            size_t at = r * 60 + kept[k];
            double best = (double)weights[at] - d[at];
            worst = fmax(worst, fabs((double)repaired[r * 25 + k] - best) / (1 + fabs(best)));
            dw[at] -= (double)repaired[r * 25 + k];
        }
    near(worst, 0, 6.1e-8, "they are the least-squares solution, as floats");
    for (size_t k = 25; k < 60; k++)
        sum += added[k];
    near(sum / want, 1, 1e-8, "what the removals added is the loss of the final set");
    near(hessian_loss(60, h, ROWS, d, work) / want, 1, 1e-8, "which is tr(D H D')");
    near(hessian_loss(60, h, ROWS, dw, work) / want, 1, 1e-6, "with the repaired floats too");
    for (size_t r = 0; r < ROWS; r++)
        for (size_t k = 0; k < 25; k++) {
            double slope = 0;
            for (size_t i = 0; i < 60; i++)
                slope += d[r * 60 + i] * h[i * 60 + kept[k]];
            gradient = fmax(gradient, fabs(slope));
        }
    near(gradient, 0, 1e-8, "and has no slope left on what stays");

    uint32_t all[60];
    float same[ROWS * 60];
    for (uint32_t i = 0; i < 60; i++)
        all[i] = i;
    obs_repair(&layer, all, 60, &damping, same, NULL);
    ok(memcmp(same, weights, sizeof same) == 0, "where nothing goes the weights stay as they are");
    damping = OBS_PLAIN;
    obs_repair(&layer, kept, 25, &damping, repaired, NULL);
    ok(repaired[3] == weights[kept[3]] && damping == OBS_PLAIN, "OBS_PLAIN only selects");
}

/* An input that is never there: first to go, at no cost, and nobody's weights change for it. */
static void check_dead(void)
{
    struct obs_layer layer = make_layer(12, 100, 5);
    struct obs_items items = {1, 12, 1};
    double added[12], damping = OBS_DAMPING, worst = 0;
    uint32_t order[12], kept[10] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10};
    float repaired[ROWS * 10];

    for (size_t i = 0; i < 12; i++)
        hessian[4 * 12 + i] = hessian[i * 12 + 4] = hessian[11 * 12 + i] = hessian[i * 12 + 11] = 0;
    obs_order(&layer, &items, order, added, &damping, NULL);
    ok(order[11] == 11 && order[10] == 4 && added[11] == 0 && added[10] == 0 && added[9] > 0,
       "dead inputs go first and cost nothing");
    obs_repair(&layer, kept, 10, &damping, repaired, NULL);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t k = 0; k < 10; k++)
            worst = fmax(worst, fabs(repaired[r * 10 + k] - weights[r * 12 + kept[k]]));
    near(worst, 0, 0, "nobody has to stand in for them");

    memset(hessian, 0, sizeof hessian);
    ok(obs_order(&layer, &items, order, added, &damping, NULL) == 0 && damping == OBS_PLAIN,
       "where every input is dead the answer is plain selection");
    bool falls = true;
    for (size_t i = 1; i < 12; i++)
        falls = falls && added[i] <= added[i - 1];
    ok(falls && added[11] > 0, "by the size of the columns");
}

/* Symmetric with ones on the diagonal and `c` elsewhere: least eigenvalue 1 - c. */
static void fill_constant(size_t n, double c)
{
    for (size_t i = 0; i < n * n; i++)
        hessian[i] = i % (n + 1) == 0 ? 1 : c;
}

static void check_singular(void)
{
    struct obs_layer layer = make_layer(6, 100, 6);
    struct obs_items items = {1, 6, 1}, pairs = {1, 3, 2};
    uint32_t order[6], kept[3] = {0, 2, 5};
    double added[6], damping = OBS_DAMPING, plain[6] = {0};
    float repaired[ROWS * 3];
    size_t wrong = 0;

    fill_constant(6, 1.05);
    ok(obs_order(&layer, &items, order, added, &damping, NULL) == 0 && fabs(damping - 0.1) < 1e-12,
       "an indefinite H is damped more");
    damping = OBS_DAMPING;
    ok(obs_repair(&layer, kept, 3, &damping, repaired, NULL) == 0 && fabs(damping - 0.1) < 1e-12,
       "for the weights likewise");
    fill_constant(6, 5);
    damping = OBS_DAMPING;
    ok(obs_order(&layer, &items, order, added, &damping, NULL) == 0 && damping == OBS_PLAIN,
       "a hopeless one is given up for plain selection");
    for (size_t i = 0; i < ROWS * 6; i++)
        plain[i % 6] += (double)weights[i] * (double)weights[i];
    for (size_t i = 1; i < 6; i++)
        wrong += plain[order[i]] > plain[order[i - 1]];
    near(added[5], plain[order[5]], 1e-12, "which scores energies");
    ok(wrong == 0, "and takes the smallest first");
    damping = OBS_DAMPING;
    ok(obs_repair(&layer, kept, 3, &damping, repaired, NULL) == 0 && damping == OBS_PLAIN &&
           repaired[7] == weights[2 * 6 + 2],
       "its weights stay as they are");
    damping = OBS_DAMPING;
    ok(obs_order(&layer, &pairs, order, added, &damping, NULL) == 0 && damping == OBS_PLAIN,
       "groups are no different");
}

static void check_refusals(void)
{
    struct obs_layer layer = make_layer(6, 100, 7);
    struct obs_items items = {1, 6, 1};
    uint32_t order[6], kept[2] = {1, 3};
    double damping = OBS_DAMPING;
    float repaired[ROWS * 2];
    struct err err;

    weights[2 * 6 + 4] = NAN;
    ok(obs_order(&layer, &items, order, NULL, &damping, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "column 4") != NULL,
       "a weight that is no number is ERR_DATA, naming its column");
    ok(obs_repair(&layer, kept, 2, &damping, repaired, &err) != 0 && err.code == ERR_DATA,
       "for the repair too");
    weights[2 * 6 + 4] = 1;
    hessian[5 * 6 + 1] = INFINITY;
    ok(obs_order(&layer, &items, order, NULL, &damping, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "column 5") != NULL,
       "so is a moment");
}

int main(void)
{
    check_damping();
    check_orders();
    check_repair();
    check_dead();
    check_singular();
    check_refusals();
    return tap_done();
}
