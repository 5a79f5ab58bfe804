/* The fit of times to terms: exact sums, priors, brute force, coverage of its interval, choice of
 * points; and, where KERF_PUBLIC_DATA is set, public latency tables measured by others. */
#include "latency_model/time_fit.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "tests/tap.h"
#include <stdlib.h>

#define N_TERMS 5

static const double zeros[TIME_FIT_MAX_TERMS];

/* Terms of random models: sizes that spread over a decade, the first one constant. */
static void random_terms(struct rng *rng, size_t n, double *phi)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < N_TERMS; k++)
            phi[i * N_TERMS + k] = k == 0 ? 1 : exp(2.3 * rng_double(rng)) * (double)(k + 1);
}

static double truth(const double *phi)
{
    static const double weight[N_TERMS] = {3, 0.5, 2, 0, 1};
    double t = 0;
    for (size_t k = 0; k < N_TERMS; k++)
        t += weight[k] * phi[k];
    return t;
}

static void test_exact(void)
{
    struct rng rng = rng_make(1, 0);
    struct time_fit fit;
    double phi[20 * N_TERMS], t[20], lo, hi, fresh[N_TERMS];

    random_terms(&rng, 20, phi);
    for (size_t i = 0; i < 20; i++)
        t[i] = truth(phi + i * N_TERMS);
    ok(time_fit_make(&fit, 20, N_TERMS, phi, t, zeros, NULL) == 0, "20 exact times are fitted");
    random_terms(&rng, 1, fresh);
    near(time_fit_predict(&fit, fresh) / truth(fresh), 1, 1e-3, "a new time is foretold");
    ok(time_fit_error(&fit) < 1e-3, "nothing is missed: %.2g", time_fit_error(&fit));
    time_fit_interval(&fit, fresh, 0.9, &lo, &hi);
    ok(lo <= truth(fresh) * 1.001 && hi >= truth(fresh) * 0.999 && hi / lo < 1.01,
       "its interval is narrow: %.4g .. %.4g", lo, hi);
    time_fit_fini(&fit);
}

/* The second term never occurs: its weight stays what it was believed to be. */
static void test_prior(void)
{
    double phi[4 * 2] = {1, 0, 2, 0, 3, 0, 5, 0}, t[4] = {2, 4, 6, 10}, prior[2] = {1, 1.5};
    double other[2] = {1, 2};
    struct time_fit fit;

    ok(time_fit_make(&fit, 4, 2, phi, t, prior, NULL) == 0, "a term that no point has is no fault");
    near(fit.weight[1], 1.5, 1e-9, "it keeps its prior");
    near(time_fit_predict(&fit, other), 5, 0.01, "and serves where it does occur");
    time_fit_fini(&fit);
}

/* The weights without a point are those of a fit that never saw it. */
static void test_left_out(void)
{
    struct rng rng = rng_make(2, 0);
    double phi[12 * N_TERMS], t[12], less[11 * N_TERMS], less_t[11], worst = 0;
    struct time_fit fit, again;

    random_terms(&rng, 12, phi);
    for (size_t i = 0; i < 12; i++)
        t[i] = truth(phi + i * N_TERMS) * exp(0.05 * rng_normal(&rng));
    ok(time_fit_make(&fit, 12, N_TERMS, phi, t, zeros, NULL) == 0, "12 noisy times are fitted");
    /* With another number of points lambda weighs otherwise, so only the misses are compared. */
    for (size_t i = 0; i < 12; i++) {
        for (size_t j = 0, m = 0; j < 12; j++) {
            if (j == i)
                continue;
            memcpy(less + m * N_TERMS, phi + j * N_TERMS, N_TERMS * sizeof *phi);
            less_t[m++] = t[j];
        }
        if (time_fit_make(&again, 11, N_TERMS, less, less_t, zeros, NULL) != 0)
            break;
        double miss = log(t[i] / time_fit_predict(&again, phi + i * N_TERMS));
        worst = fmax(worst, fabs(miss - fit.miss[i]));
        time_fit_fini(&again);
    }
    ok(worst < 0.05, "what is missed without a point is what a fit without it misses (%.3f)",
       worst);
    time_fit_fini(&fit);
}

static void test_coverage(void)
{
    struct rng rng = rng_make(3, 0);
    double phi[30 * N_TERMS], t[30];
    int n_held = 0, n = 0;

    for (int trial = 0; trial < 60; trial++) {
        struct time_fit fit;
        random_terms(&rng, 30, phi);
        for (size_t i = 0; i < 30; i++)
            t[i] = truth(phi + i * N_TERMS) * exp(0.1 * rng_normal(&rng));
        if (time_fit_make(&fit, 20, N_TERMS, phi, t, zeros, NULL) != 0)
            break;
        for (size_t i = 20; i < 30; i++, n++) {
            double lo, hi;
            time_fit_interval(&fit, phi + i * N_TERMS, 0.9, &lo, &hi);
            n_held += t[i] >= lo && t[i] <= hi;
        }
        time_fit_fini(&fit);
    }
    ok(n == 600 && n_held >= 0.87 * n && n_held <= 0.97 * n,
       "an interval of 90 %% holds %d of %d new times", n_held, n);
}

/* Error of the weights where the chosen points are measured with noise, against random ones. */
static void test_choice(void)
{
    struct rng rng = rng_make(4, 0);
    enum { POOL = 200, WANTED = 10 };
    double phi[POOL * N_TERMS], about[POOL], error[2] = {0};

    for (int trial = 0; trial < 40; trial++) {
        size_t chosen[WANTED] = {7, 11};
        random_terms(&rng, POOL, phi);
        for (size_t i = 0; i < POOL; i++)
            about[i] = truth(phi + i * N_TERMS);
        size_t n = time_fit_choose(POOL, N_TERMS, phi, about, 2, WANTED, chosen);
        if (trial == 0)
            ok(n == WANTED && chosen[0] == 7 && chosen[1] == 11, "what is given stays in front");
        for (int way = 0; way < 2; way++) {
            double some[WANTED * N_TERMS], t[WANTED];
            struct time_fit fit;
            for (size_t i = 0; i < WANTED; i++) {
                size_t at = way == 0 ? chosen[i] : (size_t)rng_below(&rng, POOL);
                memcpy(some + i * N_TERMS, phi + at * N_TERMS, N_TERMS * sizeof *phi);
                t[i] = about[at] * exp(0.03 * rng_normal(&rng));
            }
            if (time_fit_make(&fit, WANTED, N_TERMS, some, t, zeros, NULL) != 0)
                return;
            for (size_t i = 0; i < POOL; i++)
                error[way] +=
                    fabs(time_fit_predict(&fit, phi + i * N_TERMS) / about[i] - 1) / POOL / 40;
            time_fit_fini(&fit);
        }
    }
    ok(error[0] < 0.8 * error[1],
       "chosen points teach more than random ones: %.2f %% against %.2f %%", 100 * error[0],
       100 * error[1]);
}

static void test_bad(void)
{
    double phi[4] = {1, 2, 3, 4}, t[2] = {1, 2};
    struct time_fit fit;
    struct err err = {0};

    ok(time_fit_make(&fit, 1, 2, phi, t, zeros, &err) == -1 && err.code == ERR_DATA, "%s",
       err.text);
    t[1] = 0;
    ok(time_fit_make(&fit, 2, 2, phi, t, zeros, &err) == -1 && err.code == ERR_DATA, "%s",
       err.text);
    t[1] = NAN;
    ok(time_fit_make(&fit, 2, 2, phi, t, zeros, &err) == -1 && err.code == ERR_DATA,
       "a NaN is no time");
    t[1] = 2;
    phi[3] = -1;
    ok(time_fit_make(&fit, 2, 2, phi, t, zeros, &err) == -1 && err.code == ERR_DATA,
       "a term is not negative");
    time_fit_fini(&fit);
}

/* --- public tables: decoders of hardware-aware transformers --- */

#define N_MODELS 2000

struct decoder {
    double phi[7], ms;
};

/* encoder width, layers, ffn, heads; decoder width, layers, ffn, heads, cross heads, cross span;
 * encoder ms, decoder ms.  What a decoder multiplies per token: its own attention, the one that
 * looks at the encoder, the FFN; the head; and what a layer and a token cost by themselves. */
static size_t read_decoders(const char *path, struct decoder *models)
{
    char *text = file_read(path, 1 << 22, NULL, NULL);
    size_t n = 0;

    for (char *line = text != NULL ? strchr(text, '\n') : NULL; line != NULL && n < N_MODELS;
         line = strchr(line + 1, '\n')) {
        double v[12];
        char *at = line;
        size_t k = 0;
        for (; k < 12; k++) {
            char *end;
            v[k] = strtod(at + 1, &end);
            if (end == at + 1)
                break;
            at = end;
        }
        if (k < 12)
            continue;
        double width = v[4], layers = v[5];
        double phi[7] = {1,
                         layers,
                         width,
                         layers * width * v[7],
                         layers * width * v[8],
                         layers * width * v[6],
                         layers * v[8] * v[9]};
        memcpy(models[n].phi, phi, sizeof phi);
        models[n++].ms = v[11];
    }
    free(text);
    return n;
}

/* Fit 20 random models and foretell 500 others, many times over. */
static void judge_table(const char *name, const char *file, double mape_most, double rho_least)
{
    static struct decoder models[N_MODELS];
    enum { N_FIT = 20, N_HELD = 500, N_TRIALS = 40 };
    char path[1100];
    struct rng rng = rng_make(5, 0);
    double mape[N_TRIALS], rho[N_TRIALS], held = 0;

    snprintf(path, sizeof path, "%s/tables/hat/%s", getenv("KERF_PUBLIC_DATA"), file);
    if (!file_exists(path)) {
        printf("# SKIP %s: %s is not there\n", name, path);
        return;
    }
    size_t n = read_decoders(path, models);
    if (!ok(n == N_MODELS, "%s: %zu decoders", name, n))
        return;
    for (int trial = 0; trial < N_TRIALS; trial++) {
        double phi[N_FIT * 7], t[N_FIT], got[N_HELD], want[N_HELD];
        struct time_fit fit;
        rng_shuffle(&rng, models, n, sizeof models[0]);
        for (size_t i = 0; i < N_FIT; i++) {
            memcpy(phi + i * 7, models[i].phi, sizeof models[i].phi);
            t[i] = models[i].ms;
        }
        if (time_fit_make(&fit, N_FIT, 7, phi, t, zeros, NULL) != 0)
            return;
        mape[trial] = 0;
        for (size_t i = 0; i < N_HELD; i++) {
            const struct decoder *m = &models[N_FIT + i];
            double lo, hi;
            got[i] = time_fit_predict(&fit, m->phi);
            want[i] = m->ms;
            mape[trial] += fabs(got[i] / want[i] - 1) / N_HELD;
            time_fit_interval(&fit, m->phi, 0.9, &lo, &hi);
            held += m->ms >= lo && m->ms <= hi;
        }
        rho[trial] = stats_spearman(got, want, N_HELD);
        time_fit_fini(&fit);
    }
    ok(stats_median(mape, N_TRIALS) <= mape_most && stats_median(rho, N_TRIALS) >= rho_least,
       "%s: 20 samples foretell 500 others to %.2f %% (at most %.1f), rank correlation %.4f (at "
       "least "
       "%.3f)",
       name, 100 * stats_median(mape, N_TRIALS), 100 * mape_most, stats_median(rho, N_TRIALS),
       rho_least);
    held /= N_TRIALS * N_HELD;
    ok(held >= 0.86, "%s: intervals of 90 %% hold %.1f %% of them", name, 100 * held);
}

int main(void)
{
    test_exact();
    test_prior();
    test_left_out();
    test_coverage();
    test_choice();
    test_bad();
    if (getenv("KERF_PUBLIC_DATA") == NULL) {
        printf("# SKIP public latency tables: KERF_PUBLIC_DATA is not set\n");
        return tap_done();
    }
    judge_table("Raspberry Pi", "wmt14ende_cpu_raspberrypi_all.csv", 0.023, 0.993);
    judge_table("Xeon", "wmt14ende_cpu_xeon_all.csv", 0.059, 0.979);
    return tap_done();
}
