/* test_linalg.c - products against plain loops, least squares against all supports. */
#include "space/base/err.h"
#include "space/base/linalg.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <pthread.h>
#include <stdlib.h>

static void fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(rng);
}

/* Odd shapes, strides wider than the rows: the largest difference from three plain loops, and
 * whether the padding behind each row of C was left alone. */
static double gemm_worst(struct rng *rng, int is_nt, float beta, bool *padding_kept)
{
    double worst = 0;

    for (int t = 0; t < 30; t++) {
        size_t m = 1 + rng_below(rng, 20), n = 1 + rng_below(rng, 20), k = 1 + rng_below(rng, 40);
        size_t lda = k + 3, ldb = (is_nt ? k : n) + 2, ldc = n + 1;
        float *a = malloc(m * lda * sizeof *a), *b = malloc((n + k) * ldb * sizeof *b);
        float *c = malloc(m * ldc * sizeof *c), *old = malloc(m * ldc * sizeof *old);
        fill(rng, a, m * lda);
        fill(rng, b, (n + k) * ldb);
        fill(rng, c, m * ldc);
        memcpy(old, c, m * ldc * sizeof *c);
        (is_nt ? linalg_gemm_nt : linalg_gemm_nn)(m, n, k, 1.5f, a, lda, b, ldb, beta, c, ldc);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t p = 0; p < k; p++)
                    sum += (double)a[i * lda + p] * (is_nt ? b[j * ldb + p] : b[p * ldb + j]);
                double want = 1.5 * sum + beta * (double)old[i * ldc + j];
                worst = fmax(worst, fabs(c[i * ldc + j] - want));
            }
            *padding_kept = *padding_kept && c[i * ldc + n] == old[i * ldc + n];
        }
        free(a);
        free(b);
        free(c);
        free(old);
    }
    return worst;
}

static void test_gemm(void)
{
    struct rng rng = rng_make(1, 1);
    bool kept = true;
    float a[2] = {1, 2}, b[2] = {3, 4}, c[1] = {NAN};

    /* 40 products of numbers near 1 in single precision. */
    near(gemm_worst(&rng, 1, 0.5f, &kept), 0, 5e-5, "A B' with strides equals plain loops");
    near(gemm_worst(&rng, 0, 0.5f, &kept), 0, 5e-5, "A B with strides equals plain loops");
    ok(kept, "what lies behind a row of C is left alone");
    linalg_gemm_nt(1, 1, 2, 1, a, 2, b, 2, 0, c, 1);
    near(c[0], 11, 0, "beta 0 overwrites even a NaN");
    c[0] = 6;
    linalg_gemm_nt(0, 1, 2, 1, a, 2, b, 2, 0, c, 1);
    linalg_gemm_nn(1, 0, 2, 1, a, 2, b, 2, 0, c, 1);
    ok(c[0] == 6, "empty shapes write nothing");
    linalg_gemm_nt(1, 1, 0, 1, a, 2, b, 2, 0.5f, c, 1);
    near(c[0], 3, 0, "a sum of no products leaves beta C");
}

/* A random symmetric positive definite matrix, lower triangle only; NAN above. */
static void fill_spd(struct rng *rng, size_t n, double *a)
{
    size_t n_rows = 2 * n + 3;
    double *x = malloc(n_rows * n * sizeof *x);

    for (size_t i = 0; i < n_rows * n; i++)
        x[i] = rng_normal(rng);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            a[i * n + j] = j > i ? NAN : 0;
    linalg_syrk_add(n, n_rows, x, a);
    linalg_syrk_add(n, n_rows, x, a);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            double want = 0;
            for (size_t r = 0; r < n_rows; r++)
                want += 2 * x[r * n + i] * x[r * n + j];
            worst = fmax(worst, fabs(a[i * n + j] - want));
        }
    }
    near(worst, 0, 1e-11, "two additions of X'X, %zu columns", n);
    free(x);
}

static void test_solve(void)
{
    struct rng rng = rng_make(2, 2);
    struct err err = {0};

    for (size_t n = 1; n <= 13; n += 4) {
        double *a = malloc(n * n * sizeof *a), *kept = malloc(n * n * sizeof *kept);
        double *b = malloc(n * sizeof *b), *x = malloc(n * sizeof *x), worst = 0;
        fill_spd(&rng, n, a);
        memcpy(kept, a, n * n * sizeof *a);
        for (size_t i = 0; i < n; i++)
            x[i] = b[i] = rng_normal(&rng);
        int result = linalg_solve_spd(n, a, x, &err);
        for (size_t i = 0; i < n; i++) {
            double sum = -b[i];
            for (size_t j = 0; j < n; j++)
                sum += (j <= i ? kept[i * n + j] : kept[j * n + i]) * x[j];
            worst = fmax(worst, fabs(sum));
        }
        ok(result == 0 && worst < 1e-10, "%zu equations are solved from the lower triangle", n);
        free(a);
        free(kept);
        free(b);
        free(x);
    }
    double not_definite[] = {1, 0, 2, 1}, b[] = {1, 1};
    ok(linalg_solve_spd(2, not_definite, b, &err) == -1 && err.code == ERR_DATA,
       "a matrix that is not positive definite is refused");
    double hole[] = {1, 0, NAN, 1}, c[] = {1, 1};
    ok(linalg_solve_spd(2, hole, c, &err) == -1 && err.code == ERR_DATA, "so is a NaN");
}

enum { NT, NN, TN };

/* As gemm_worst, in double, for the three ways that A and B may lie. */
static double dgemm_worst(struct rng *rng, int how)
{
    double worst = 0;

    for (int t = 0; t < 20; t++) {
        size_t m = 1 + rng_below(rng, 20), n = 1 + rng_below(rng, 20), k = 1 + rng_below(rng, 40);
        size_t lda = (how == TN ? m : k) + 3, ldb = (how == NT ? k : n) + 2, ldc = n + 1;
        double *a = malloc((m + k) * lda * sizeof *a), *b = malloc((n + k) * ldb * sizeof *b);
        double *c = malloc(m * ldc * sizeof *c), *old = malloc(m * ldc * sizeof *old);
        for (size_t i = 0; i < (m + k) * lda; i++)
            a[i] = rng_normal(rng);
        for (size_t i = 0; i < (n + k) * ldb; i++)
            b[i] = rng_normal(rng);
        for (size_t i = 0; i < m * ldc; i++)
            c[i] = old[i] = rng_normal(rng);
        (how == NT   ? linalg_dgemm_nt
         : how == NN ? linalg_dgemm_nn
                     : linalg_dgemm_tn)(m, n, k, 1.5, a, lda, b, ldb, -0.5, c, ldc);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t p = 0; p < k; p++)
                    sum += (how == TN ? a[p * lda + i] : a[i * lda + p]) *
                           (how == NT ? b[j * ldb + p] : b[p * ldb + j]);
                worst = fmax(worst, fabs(c[i * ldc + j] - (1.5 * sum - 0.5 * old[i * ldc + j])));
            }
        free(a);
        free(b);
        free(c);
        free(old);
    }
    return worst;
}

static void test_dgemm(void)
{
    struct rng rng = rng_make(5, 5);
    double a[6] = {1, 2, 9, 3, 4, 9}, x[2] = {5, 6}, y[2] = {1, 1};

    near(dgemm_worst(&rng, NT), 0, 1e-13, "A B' in double equals plain loops");
    near(dgemm_worst(&rng, NN), 0, 1e-13, "so does A B");
    near(dgemm_worst(&rng, TN), 0, 1e-13, "and A' B");
    linalg_dgemv(2, 2, 2, a, 3, x, -1, y);
    ok(y[0] == 2 * 17 - 1 && y[1] == 2 * 39 - 1, "a matrix with a stride times a vector");
}

/* B A^-1 A must be B, and A^-1 A the identity. */
static void test_inverse(void)
{
    struct rng rng = rng_make(6, 6);
    struct err err = {0};

    for (size_t n = 1; n <= 9; n += 4) {
        double *a = malloc(n * n * sizeof *a), *inverse = malloc(n * n * sizeof *inverse);
        double *factor = malloc(n * n * sizeof *factor), worst = 0;
        double b[3 * 9], x[3 * 9];
        fill_spd(&rng, n, a);
        memcpy(inverse, a, n * n * sizeof *a);
        memcpy(factor, a, n * n * sizeof *a);
        for (size_t i = 0; i < 3 * n; i++)
            x[i] = b[i] = rng_normal(&rng);
        bool done = linalg_invert_spd(n, inverse, &err) == 0 &&
                    linalg_solve_spd_rows(n, factor, 3, x, &err) == 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++)
                a[j * n + i] = a[i * n + j];
        for (size_t i = 0; i < n + 3; i++)
            for (size_t j = 0; j < n; j++) {
                const double *row = i < n ? inverse + i * n : x + (i - n) * n;
                double sum = i < n ? -(double)(i == j) : -b[(i - n) * n + j];
                for (size_t p = 0; p < n; p++)
                    sum += row[p] * a[p * n + j];
                worst = fmax(worst, fabs(sum));
            }
        ok(done && worst < 1e-10, "%zu rows: inverse and many right-hand sides", n);
        free(a);
        free(inverse);
        free(factor);
    }
    double not_definite[] = {1, 0, 2, 1}, rows[] = {1, 1, 2, 2}, hole[] = {1, 0, NAN, 1};
    ok(linalg_invert_spd(2, not_definite, &err) == -1 && err.code == ERR_DATA,
       "what is not positive definite has no inverse here");
    ok(linalg_invert_spd(2, hole, &err) == -1 && err.code == ERR_DATA, "nor has a NaN");
    double again[] = {1, 0, 2, 1};
    ok(linalg_solve_spd_rows(2, again, 2, rows, &err) == -1 && err.code == ERR_DATA,
       "and its equations are not solved");
}

static void test_vdv(void)
{
    struct rng rng = rng_make(12, 1);
    struct err err = {0};

    for (size_t n = 1; n <= 70; n += 23) {
        double *a = malloc(n * n * sizeof *a), *f = malloc(n * n * sizeof *f), worst = 0;
        bool positive = true;
        fill_spd(&rng, n, a);
        memcpy(f, a, n * n * sizeof *a);
        int result = linalg_factor_vdv(n, f, &err);
        for (size_t i = 0; i < n; i++) {
            positive = positive && f[i * n + i] > 0;
            for (size_t k = 0; k <= i; k++) {
                double sum = 0; /* of V_ij D_j V_kj over j >= i >= k */
                for (size_t j = i; j < n; j++)
                    sum += (j == i ? 1 : f[j * n + i]) * f[j * n + j] * (j == k ? 1 : f[j * n + k]);
                worst = fmax(worst, fabs(sum - a[i * n + k]));
            }
        }
        ok(result == 0 && positive, "%zu variables are factored", n);
        near(worst, 0, 1e-10, "V D V' is the matrix again");
        free(a);
        free(f);
    }
    double not_definite[] = {1, 2, 2, 1}, hole[] = {1, NAN, NAN, 1}, corner[] = {NAN, 0, 0, 1};
    ok(linalg_factor_vdv(2, not_definite, &err) == -1 && err.code == ERR_DATA,
       "a matrix that is not positive definite has no such factor");
    ok(linalg_factor_vdv(2, hole, &err) == -1 && err.code == ERR_DATA, "nor has a NaN");
    ok(linalg_factor_vdv(2, corner, &err) == -1 && err.code == ERR_DATA, "wherever it stands");
}

static double residual2(size_t m, size_t n, const double *a, const double *b, const double *x)
{
    double sum = 0;

    for (size_t i = 0; i < m; i++) {
        double r = b[i];
        for (size_t j = 0; j < n; j++)
            r -= a[i * n + j] * x[j];
        sum += r * r;
    }
    return sum;
}

/* Gauss elimination with pivots on the normal equations of one support; false when singular. */
static bool support_solve(size_t m, size_t n, const double *a, const double *b, unsigned support,
                          double *x)
{
    double g[8][9];
    size_t cols[8], k = 0;

    for (size_t j = 0; j < n; j++) {
        x[j] = 0;
        if (support >> j & 1)
            cols[k++] = j;
    }
    for (size_t p = 0; p < k; p++) {
        for (size_t q = 0; q <= k; q++) {
            g[p][q] = 0;
            for (size_t i = 0; i < m; i++)
                g[p][q] += a[i * n + cols[p]] * (q < k ? a[i * n + cols[q]] : b[i]);
        }
    }
    for (size_t p = 0; p < k; p++) {
        size_t best = p;
        for (size_t r = p + 1; r < k; r++)
            if (fabs(g[r][p]) > fabs(g[best][p]))
                best = r;
        if (fabs(g[best][p]) < 1e-10)
            return false;
        for (size_t q = 0; q <= k; q++) {
            double swap = g[p][q];
            g[p][q] = g[best][q];
            g[best][q] = swap;
        }
        for (size_t r = 0; r < k; r++) {
            double factor = r == p ? 0 : g[r][p] / g[p][p];
            for (size_t q = p; q <= k; q++)
                g[r][q] -= factor * g[p][q];
        }
    }
    for (size_t p = 0; p < k; p++)
        x[cols[p]] = g[p][k] / g[p][p];
    return true;
}

/* The least residual over all supports whose solution is not negative: the answer. */
static double brute_best(size_t m, size_t n, const double *a, const double *b)
{
    double best = INFINITY, x[8];

    for (unsigned support = 0; support < 1u << n; support++) {
        if (!support_solve(m, n, a, b, support, x))
            continue;
        bool fits = true;
        for (size_t j = 0; j < n; j++)
            fits = fits && x[j] >= 0;
        if (fits)
            best = fmin(best, residual2(m, n, a, b, x));
    }
    return best;
}

static void test_nnls(void)
{
    struct rng rng = rng_make(4, 4);
    double a[12 * 7], b[12], x[7], worst = 0;
    int n_failed = 0, n_negative = 0, n_on_edge = 0;

    for (int t = 0; t < 500; t++) {
        size_t m = 1 + rng_below(&rng, 12), n = 1 + rng_below(&rng, 7);
        for (size_t i = 0; i < m * n; i++) {
            a[i] = rng_normal(&rng);
            if (t % 4 == 1) /* columns of very different size, as times of operations are */
                a[i] = fabs(a[i]) * pow(10, (double)(i % n) - 3);
            if (t % 4 == 2) /* small integers, zero and equal columns among them */
                a[i] = (double)rng_below(&rng, 2);
            if (t % 4 == 3 && i % n > 0) /* columns that differ by rounding alone */
                a[i] = a[i - i % n] * (1 + 1e-15 * (double)rng_below(&rng, 5));
        }
        for (size_t i = 0; i < m; i++)
            b[i] = rng_normal(&rng);
        n_failed += linalg_nnls(m, n, a, b, x, NULL) != 0;
        for (size_t j = 0; j < n; j++) {
            n_negative += !(x[j] >= 0);
            n_on_edge += x[j] == 0;
        }
        worst = fmax(worst, residual2(m, n, a, b, x) - brute_best(m, n, a, b));
    }
    ok(n_failed == 0, "500 problems are solved, rank-deficient ones too");
    ok(n_negative == 0, "no answer is negative");
    ok(n_on_edge > 200, "the bound was active often (%d times)", n_on_edge);
    ok(worst < 1e-9, "no support does better (%.1e)", worst);
}

static void test_nnls_edges(void)
{
    struct err err = {0};
    double a[] = {1, 2, 3, 4, 5, 6}, b[] = {3, 7, 11}, minus[] = {-1, -1, -1}, x[] = {9, 9};

    ok(linalg_nnls(3, 2, a, b, x, &err) == 0, "an exact system is solved");
    near(fabs(x[0] - 1) + fabs(x[1] - 1), 0, 1e-12, "its answer is 1, 1");
    ok(a[0] == 1 && b[2] == 11, "the input is left as it was");
    linalg_nnls(3, 2, a, minus, x, &err);
    ok(x[0] == 0 && x[1] == 0, "a negative target gives zeros");
    double hole[] = {1, NAN, 1};
    x[0] = 5;
    ok(linalg_nnls(3, 2, a, hole, x, &err) == -1 && err.code == ERR_DATA && x[0] == 5,
       "a NaN is refused, the answer left alone");
    ok(linalg_nnls(0, 2, a, b, x, &err) == 0 && x[0] == 0 && x[1] == 0, "no rows give zeros");

    /* Tall, wide range, positive truth: what the operation table asks for. */
    struct rng rng = rng_make(6, 6);
    double tall[100 * 7], times[100], truth[7], got[7], worst = 0;
    for (int j = 0; j < 7; j++)
        truth[j] = j % 3 == 0 ? 0 : 1e-6 * pow(10, j % 4);
    for (int i = 0; i < 100; i++) {
        times[i] = 0;
        for (int j = 0; j < 7; j++) {
            tall[i * 7 + j] = (double)rng_below(&rng, 9);
            times[i] += tall[i * 7 + j] * truth[j];
        }
    }
    ok(linalg_nnls(100, 7, tall, times, got, &err) == 0, "100 sums of 7 times are taken apart");
    for (int j = 0; j < 7; j++)
        worst = fmax(worst, fabs(got[j] - truth[j]));
    near(worst, 0, 1e-14, "and the times come back");
}

/* ---- several threads ---- */

enum { CROWD = 4, ROUNDS = 3000, SIDE = 72 };

/* Products of one matrix of the thread's own, each compared with the first; NULL when all agree. */
static void *crowd_multiply(void *arg)
{
    double x[SIDE * SIDE], first[SIDE * SIDE], again[SIDE * SIDE];
    double seed = *(const double *)arg;
    for (size_t i = 0; i < SIDE * SIDE; i++)
        x[i] = sin(seed + (double)i);
    linalg_dgemm_tn(SIDE, SIDE, SIDE, 1, x, SIDE, x, SIDE, 0, first, SIDE);
    for (int round = 0; round < ROUNDS; round++) {
        linalg_dgemm_tn(SIDE, SIDE, SIDE, 1, x, SIDE, x, SIDE, 0, again, SIDE);
        if (memcmp(first, again, sizeof first) != 0)
            return arg;
    }
    return NULL;
}

/* A serial BLAS that hands one work buffer to two threads spoils their sums. */
static void test_threads(void)
{
    pthread_t threads[CROWD];
    double seeds[CROWD] = {1, 20, 300, 4000};
    int n_spoilt = 0;
    for (int i = 0; i < CROWD; i++)
        pthread_create(&threads[i], NULL, crowd_multiply, &seeds[i]);
    for (int i = 0; i < CROWD; i++) {
        void *spoilt;
        pthread_join(threads[i], &spoilt);
        n_spoilt += spoilt != NULL;
    }
    ok(n_spoilt == 0, "%d threads at once get the sums of one (%d spoilt)", CROWD, n_spoilt);
}

int main(void)
{
    test_threads();
    test_gemm();
    test_solve();
    test_dgemm();
    test_inverse();
    test_vdv();
    test_nnls();
    test_nnls_edges();
    return tap_done();
}
