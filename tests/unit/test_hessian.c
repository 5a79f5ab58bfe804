/* Second moments against plain sums over the tokens. */
#include "evaluator/compression/hessian.h"
#include "evaluator/kernels/kernels.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

/* Thirteen panels, the last one half full; inputs with a mean and of unlike sizes. */
enum { N = 300, TOKENS = 501 };

static float x[TOKENS * N];
static double wide[TOKENS * (N + MOMENTS_PANEL)], want[N * N], square[N * N];

static void make_inputs(void)
{
    struct rng rng = rng_make(3, 1);

    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < N; i++)
            x[t * N + i] = (float)((rng_normal(&rng) + 0.5) * (1.0 + (double)(i % 7)));
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            for (size_t t = 0; t < TOKENS; t++)
                want[i * N + j] += (double)x[t * N + i] * (double)x[t * N + j] / TOKENS;
}

/* All tokens in batches of `batch`, each in `n_parts` parts. */
static void sum_up(struct hessian *h, const struct kernels *kernels, size_t batch, unsigned n_parts)
{
    hessian_clear(h);
    for (size_t at = 0; at < TOKENS; at += batch) {
        size_t n = TOKENS - at < batch ? TOKENS - at : batch;
        hessian_widen(x + at * N, n, N, wide);
        for (unsigned part = n_parts; part-- > 0;)
            hessian_add(h, kernels, wide, n, part, n_parts);
    }
}

static void check_sums(void)
{
    float *triangle = malloc(hessian_triangle_size(N) * sizeof *triangle), *mean = malloc(N * 4);
    float *again = malloc(hessian_triangle_size(N) * sizeof *again), *mean2 = malloc(N * 4);
    double worst = 0, worst_mean = 0, asymmetry = 0, worst_sum = 0;
    struct hessian h;

    ok(hessian_init(&h, N, NULL) == 0 && hessian_triangle_size(3) == 6,
       "a triangle of 3 inputs has 6 entries");
    sum_up(&h, kernels_reference(), 128, 1);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            worst_sum = fmax(worst_sum, fabs(h.second[i * N + j] / TOKENS - want[i * N + j]) /
                                            sqrt(want[i * N + i] * want[j * N + j]));
    near(worst_sum, 0, 1e-13, "sums in double are those of plain loops");
    hessian_pack(&h, triangle, mean);
    hessian_unpack(triangle, N, square);
    for (size_t i = 0; i < N; i++) {
        double sum = 0;
        for (size_t t = 0; t < TOKENS; t++)
            sum += (double)x[t * N + i] / TOKENS;
        worst_mean = fmax(worst_mean, fabs(mean[i] - sum) / fabs(sum));
        for (size_t j = 0; j < N; j++) {
            worst = fmax(worst, fabs(square[i * N + j] - want[i * N + j]) / fabs(want[i * N + j]));
            asymmetry = fmax(asymmetry, fabs(square[i * N + j] - square[j * N + i]));
        }
    }
    near(worst, 0, 6.1e-8, "kept, they are the nearest floats");
    near(worst_mean, 0, 6.1e-8, "and so are the means");
    ok(asymmetry == 0 && h.n_tokens == TOKENS, "the square is symmetric, every token counted");

    sum_up(&h, kernels_reference(), 128, 3);
    hessian_pack(&h, again, mean2);
    ok(memcmp(triangle, again, hessian_triangle_size(N) * sizeof *again) == 0 &&
           memcmp(mean, mean2, N * sizeof *mean) == 0,
       "three threads' parts make the same bits");
    for (int isa = ISA_REF + 1; isa < N_ISAS; isa++) {
        const struct kernels *fast = kernels_for((enum isa)isa, NULL);
        if (fast == NULL)
            continue;
        sum_up(&h, fast, 77, 2);
        hessian_pack(&h, again, mean2);
        ok(memcmp(triangle, again, hessian_triangle_size(N) * sizeof *again) == 0 &&
               memcmp(mean, mean2, N * sizeof *mean) == 0,
           "so do the kernels of %s, in other batches", fast->name);
    }

    double *first = malloc(100 * 100 * sizeof *first);
    size_t wrong = 0;
    hessian_unpack(triangle, 100, first);
    for (size_t i = 0; i < 100; i++)
        for (size_t j = 0; j < 100; j++)
            wrong += first[i * 100 + j] != square[i * N + j];
    ok(wrong == 0, "the triangle of the first inputs is the beginning of all");
    hessian_fini(&h);
    free(first);
    free(mean2);
    free(again);
    free(mean);
    free(triangle);
}

/* What tr(D H D') says is what the outputs of D are, squared and averaged. */
static void check_loss(void)
{
    struct rng rng = rng_make(4, 1);
    double *d = malloc(5 * N * sizeof *d), *work = malloc(5 * N * sizeof *work), mean = 0;

    for (size_t i = 0; i < 5 * N; i++)
        d[i] = rng_normal(&rng);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < 5; r++) {
            double y = 0;
            for (size_t i = 0; i < N; i++)
                y += d[r * N + i] * (double)x[t * N + i];
            mean += y * y / TOKENS;
        }
    double loss = hessian_loss(N, want, 5, d, work);
    near(loss / mean, 1, 1e-11, "the loss is the mean square of the output's change");
    free(work);
    free(d);
}

static void check_edges(void)
{
    float bad[4] = {1, 2, INFINITY, 3};
    struct hessian none;

    ok(!hessian_widen(bad, 2, 2, wide) && hessian_widen(bad, 1, 2, wide) && wide[1] == 2 &&
           wide[2] == 0 && hessian_wide_size(1, 2) == MOMENTS_PANEL,
       "an input that is not finite is noticed");
    bad[2] = NAN;
    ok(!hessian_widen(bad, 2, 2, wide), "so is a NaN");
    ok(hessian_init(&none, 0, NULL) == 0, "a site that is not there has no sums");
    hessian_add(&none, kernels_reference(), wide, 3, 0, 2);
    ok(none.n_tokens == 3, "but counts its tokens");
    hessian_fini(&none);
}

int main(void)
{
    make_inputs();
    check_sums();
    check_loss();
    check_edges();
    return tap_done();
}
