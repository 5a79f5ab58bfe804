/* linalg.c - the few calls of BLAS and LAPACK that kerf makes.
 * LAPACK is called by its Fortran names, which OpenBLAS itself carries: the C wrapper library would
 * pull in whatever BLAS the machine prefers, a threaded one perhaps, beside the serial one here. */
#include "space/base/linalg.h"

#include "space/base/err.h"

#include <assert.h>
#include <cblas.h>
#include <lapack.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* One call at a time.  A serial OpenBLAS hands out its work buffers without a lock: two threads
 * that enter together get the same one and spoil each other's sums (seen with Debian 12's 0.3.21:
 * sums of squares below zero). */
static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;

/* BLAS counts in int. */
static int int_of(size_t n)
{
    assert(n <= INT_MAX);
    return (int)n;
}

static bool all_finite(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* C = alpha * op(A) op(B) + beta * C with C[m][n] and k terms; `ta` and `tb` say which of the two
 * is stored turned.  A row of what is stored is no shorter than what is taken from it. */
static void sgemm(enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k,
                  float alpha, const float *a, size_t lda, const float *b, size_t ldb, float beta,
                  float *c, size_t ldc)
{
    if (m == 0 || n == 0)
        return;
    assert(lda >= (ta == CblasTrans ? m : k) && ldb >= (tb == CblasTrans ? k : n) && ldc >= n);
    pthread_mutex_lock(&door);
    cblas_sgemm(CblasRowMajor, ta, tb, int_of(m), int_of(n), int_of(k), alpha, a, int_of(lda), b,
                int_of(ldb), beta, c, int_of(ldc));
    pthread_mutex_unlock(&door);
}

static void dgemm(enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k,
                  double alpha, const double *a, size_t lda, const double *b, size_t ldb,
                  double beta, double *c, size_t ldc)
{
    if (m == 0 || n == 0)
        return;
    assert(lda >= (ta == CblasTrans ? m : k) && ldb >= (tb == CblasTrans ? k : n) && ldc >= n);
    pthread_mutex_lock(&door);
    cblas_dgemm(CblasRowMajor, ta, tb, int_of(m), int_of(n), int_of(k), alpha, a, int_of(lda), b,
                int_of(ldb), beta, c, int_of(ldc));
    pthread_mutex_unlock(&door);
}

void linalg_gemm_nt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    sgemm(CblasNoTrans, CblasTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linalg_gemm_nn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    sgemm(CblasNoTrans, CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linalg_dgemm_nt(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc)
{
    dgemm(CblasNoTrans, CblasTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linalg_dgemm_nn(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc)
{
    dgemm(CblasNoTrans, CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linalg_dgemm_tn(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc)
{
    dgemm(CblasTrans, CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linalg_dgemv(size_t m, size_t n, double alpha, const double *a, size_t lda, const double *x,
                  double beta, double *y)
{
    if (m == 0)
        return;
    assert(lda >= n && lda > 0);
    pthread_mutex_lock(&door);
    cblas_dgemv(CblasRowMajor, CblasNoTrans, int_of(m), int_of(n), alpha, a, int_of(lda), x, 1,
                beta, y, 1);
    pthread_mutex_unlock(&door);
}

void linalg_syrk_add(size_t n, size_t n_rows, const double *x, double *c)
{
    if (n == 0 || n_rows == 0)
        return;
    pthread_mutex_lock(&door);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, int_of(n), int_of(n_rows), 1.0, x, int_of(n),
                1.0, c, int_of(n));
    pthread_mutex_unlock(&door);
}

/* The Cholesky factor in the place of the lower triangle. */
static int factor_spd(size_t n, double *a, struct err *err)
{
    const int size = int_of(n);
    int info = 0;

    /* The lower triangle by rows is the upper one by columns: Fortran's order, so no copy. */
    pthread_mutex_lock(&door);
    LAPACK_dpotrf("U", &size, a, &size, &info);
    pthread_mutex_unlock(&door);
    if (info > 0) {
        err_set(err, ERR_DATA, "matrix of %d rows is not positive definite (pivot %d)", size, info);
        return -1;
    }
    return 0;
}

int linalg_solve_spd(size_t n, double *a, double *b, struct err *err)
{
    return linalg_solve_spd_rows(n, a, 1, b, err);
}

int linalg_solve_spd_rows(size_t n, double *a, size_t n_rows, double *b, struct err *err)
{
    const int size = int_of(n), count = int_of(n_rows);
    int info = 0;

    if (n == 0)
        return 0;
    if (factor_spd(n, a, err) != 0)
        return -1;
    /* Rows of B are columns to Fortran. */
    pthread_mutex_lock(&door);
    LAPACK_dpotrs("U", &size, &count, a, &size, b, &size, &info);
    pthread_mutex_unlock(&door);
    /* A NaN slips through the pivots; it cannot hide in the answer. */
    if (info != 0 || !all_finite(b, n * n_rows)) {
        err_set(err, ERR_DATA, "matrix or right-hand side of %d rows is not finite", size);
        return -1;
    }
    return 0;
}

int linalg_invert_spd(size_t n, double *a, struct err *err)
{
    const int size = int_of(n);
    int info = 0;

    if (n == 0)
        return 0;
    if (factor_spd(n, a, err) != 0)
        return -1;
    pthread_mutex_lock(&door);
    LAPACK_dpotri("U", &size, a, &size, &info);
    pthread_mutex_unlock(&door);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            a[j * n + i] = a[i * n + j];
    if (info != 0 || !all_finite(a, n * n)) {
        err_set(err, ERR_DATA, "matrix of %d rows has no finite inverse", size);
        return -1;
    }
    return 0;
}

static void reverse(double *x, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        double swap = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = swap;
    }
}

/* With rows and columns in reverse order A is the reversed array, and its Cholesky factor G is V
 * reversed but for the lengths of V's columns: G = J V sqrt(D) J. */
int linalg_factor_vdv(size_t n, double *a, struct err *err)
{
    const int size = int_of(n);
    int info = 0;

    if (n == 0)
        return 0;
    reverse(a, n * n);
    /* Columns of G to Fortran are rows here, which is where columns of V are wanted. */
    pthread_mutex_lock(&door);
    LAPACK_dpotrf("L", &size, a, &size, &info);
    pthread_mutex_unlock(&door);
    reverse(a, n * n);
    if (info > 0) {
        err_set(err, ERR_DATA, "matrix of %d rows is not positive definite (pivot %d)", size, info);
        return -1;
    }
    for (size_t j = 0; j < n; j++) {
        double *row = a + j * n, length = row[j];
        row[j] = length * length;
        for (size_t k = 0; k < j; k++)
            row[k] /= length;
        if (!all_finite(row, j + 1)) {
            err_set(err, ERR_DATA, "matrix of %d rows has no finite factor", size);
            return -1;
        }
    }
    return 0;
}

int linalg_eigen(size_t n, double *a, double *values, struct err *err)
{
    const int size = int_of(n);
    int info = 0, n_whole = 3 + 5 * size; /* what dsyevd asks for */
    size_t n_work = 1 + 6 * n + 2 * n * n;

    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (!all_finite(a + i * n, i + 1)) {
            err_set(err, ERR_DATA, "matrix of %d rows is not finite", size);
            return -1;
        }
    }
    /* LAPACK counts its workspace in int: 32,766 rows are the most. */
    double *work = n_work <= INT_MAX ? malloc(n_work * sizeof *work) : NULL;
    int *whole = malloc((size_t)n_whole * sizeof *whole);
    if (work == NULL || whole == NULL) {
        err_set(err, ERR_MEMORY, "eigenvectors of %d rows: out of memory", size);
        free(whole);
        free(work);
        return -1;
    }
    /* The lower triangle by rows is the upper one by columns, and columns of what comes back are
     * rows here. */
    const int work_size = int_of(n_work);
    pthread_mutex_lock(&door);
    LAPACK_dsyevd("V", "U", &size, a, &size, values, work, &work_size, whole, &n_whole, &info);
    pthread_mutex_unlock(&door);
    free(whole);
    free(work);
    if (info != 0 || !all_finite(a, n * n)) {
        err_set(err, ERR_DATA, "matrix of %d rows has no eigenvectors (%d)", size, info);
        return -1;
    }
    return 0;
}

/* The state of one non-negative least squares problem.  Columns have unit length, so that one
 * tolerance fits all; a zero column stays out.  Invariant: x[j] > 0 only where in_set[j]. */
struct nnls {
    size_t m, n;
    double *columns;  /* [n][m] */
    double *length;   /* [n], of the columns as they came */
    double *residual; /* [m], b - A x */
    double *x;        /* [n], of the unit columns */
    double *z;        /* [n], the unconstrained trial */
    double *work_a;   /* [n][m], the chosen columns; LAPACK destroys them */
    double *work_b;   /* [max(m, n)] */
    double *work;     /* [n_work], LAPACK's own */
    int n_work;
    int *pivot;    /* [n] */
    bool *in_set;  /* [n] */
    bool *refused; /* [n], columns that entered with a negative trial in this step */
};

static void nnls_fini(struct nnls *s)
{
    free(s->columns);
    free(s->length);
    free(s->residual);
    free(s->x);
    free(s->z);
    free(s->work_a);
    free(s->work_b);
    free(s->work);
    free(s->pivot);
    free(s->in_set);
    free(s->refused);
}

/* 0, or -1 without memory; nnls_fini in both cases. */
static int nnls_init(struct nnls *s, size_t m, size_t n, const double *a)
{
    size_t longest = m > n ? m : n;

    *s = (struct nnls){.m = m, .n = n};
    s->columns = calloc(m * n, sizeof *s->columns);
    s->length = calloc(n, sizeof *s->length);
    s->residual = calloc(m, sizeof *s->residual);
    s->x = calloc(n, sizeof *s->x);
    s->z = calloc(n, sizeof *s->z);
    s->work_a = calloc(m * n, sizeof *s->work_a);
    s->work_b = calloc(longest, sizeof *s->work_b);
    /* More than dgelsy's least need, 4 n + 1, and enough for its blocks of 32. */
    s->n_work = int_of(64 * (n + 1) + 4 * n);
    s->work = calloc((size_t)s->n_work, sizeof *s->work);
    s->pivot = calloc(n, sizeof *s->pivot);
    s->in_set = calloc(n, sizeof *s->in_set);
    s->refused = calloc(n, sizeof *s->refused);
    if (s->columns == NULL || s->length == NULL || s->residual == NULL || s->x == NULL ||
        s->z == NULL || s->work_a == NULL || s->work_b == NULL || s->work == NULL ||
        s->pivot == NULL || s->in_set == NULL || s->refused == NULL)
        return -1;
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++)
            s->columns[j * m + i] = a[i * n + j];
        s->length[j] = cblas_dnrm2(int_of(m), s->columns + j * m, 1);
        for (size_t i = 0; s->length[j] > 0 && i < m; i++)
            s->columns[j * m + i] /= s->length[j];
    }
    return 0;
}

static void nnls_residual(struct nnls *s, const double *b)
{
    memcpy(s->residual, b, s->m * sizeof *b);
    for (size_t j = 0; j < s->n; j++)
        if (s->in_set[j])
            cblas_daxpy(int_of(s->m), -s->x[j], s->columns + j * s->m, 1, s->residual, 1);
}

/* z = least squares over the chosen columns, 0 elsewhere. */
static int nnls_trial(struct nnls *s, const double *b, struct err *err)
{
    size_t n_chosen = 0, k = 0;

    for (size_t j = 0; j < s->n; j++) {
        s->z[j] = 0;
        if (s->in_set[j])
            memcpy(s->work_a + n_chosen++ * s->m, s->columns + j * s->m, s->m * sizeof *b);
    }
    if (n_chosen == 0)
        return 0;
    memcpy(s->work_b, b, s->m * sizeof *b);
    memset(s->pivot, 0, n_chosen * sizeof *s->pivot);
    const int one = 1, m = int_of(s->m), n = int_of(n_chosen), ldb = m > n ? m : n;
    const double smallest = 1e-13; /* singular values below this part of the largest count as 0 */
    int rank = 0, info = 0;
    pthread_mutex_lock(&door);
    LAPACK_dgelsy(&m, &n, &one, s->work_a, &m, s->work_b, &ldb, s->pivot, &smallest, &rank, s->work,
                  &s->n_work, &info);
    pthread_mutex_unlock(&door);
    if (info != 0) {
        err_set(err, ERR_INTERNAL, "least squares of %d columns failed (%d)", n, info);
        return -1;
    }
    for (size_t j = 0; j < s->n; j++)
        if (s->in_set[j])
            s->z[j] = s->work_b[k++];
    return 0;
}

/* The column outside the set that lowers the residual most, or n when none does. */
static size_t nnls_enter(const struct nnls *s, double tolerance)
{
    size_t best = s->n;
    double best_slope = tolerance;

    for (size_t j = 0; j < s->n; j++) {
        if (s->in_set[j] || s->refused[j] || !(s->length[j] > 0))
            continue;
        double slope = cblas_ddot(int_of(s->m), s->columns + j * s->m, 1, s->residual, 1);
        if (slope > best_slope) {
            best_slope = slope;
            best = j;
        }
    }
    return best;
}

/* Walk from x towards z until the first variable reaches 0; that one (and what else is there)
 * leaves the set.  False when z is positive throughout: then x = z. */
static bool nnls_step_back(struct nnls *s)
{
    double part = 1;
    size_t first = s->n;

    for (size_t j = 0; j < s->n; j++) {
        if (s->in_set[j] && s->z[j] <= 0) {
            double reach = s->x[j] / (s->x[j] - s->z[j]);
            if (first == s->n || reach < part) {
                part = reach;
                first = j;
            }
        }
    }
    for (size_t j = 0; j < s->n; j++) {
        if (!s->in_set[j])
            continue;
        s->x[j] = first == s->n ? s->z[j] : s->x[j] + part * (s->z[j] - s->x[j]);
        if (j == first || (first != s->n && s->x[j] <= 0)) {
            s->x[j] = 0;
            s->in_set[j] = false;
        }
    }
    return first != s->n;
}

static int nnls_run(struct nnls *s, const double *b, struct err *err)
{
    double tolerance = 1e-13 * (double)s->m * cblas_dnrm2(int_of(s->m), b, 1);
    size_t n_steps_max = 30 * s->n + 30;

    nnls_residual(s, b);
    for (size_t step = 0; step < n_steps_max; step++) {
        size_t j = nnls_enter(s, tolerance);
        if (j == s->n)
            return 0;
        s->in_set[j] = true;
        if (nnls_trial(s, b, err) != 0)
            return -1;
        /* Rounding alone made this slope positive: without the refusal the loop would never end. */
        if (s->z[j] <= 0) {
            s->in_set[j] = false;
            s->refused[j] = true;
            continue;
        }
        while (nnls_step_back(s))
            if (nnls_trial(s, b, err) != 0)
                return -1;
        nnls_residual(s, b);
        memset(s->refused, 0, s->n * sizeof *s->refused);
    }
    err_set(err, ERR_INTERNAL, "non-negative least squares of %zu columns did not settle", s->n);
    return -1;
}

int linalg_nnls(size_t m, size_t n, const double *a, const double *b, double *x, struct err *err)
{
    struct nnls s;
    int result = -1;

    if (m == 0 || n == 0) {
        for (size_t j = 0; j < n; j++)
            x[j] = 0;
        return 0;
    }
    if (!all_finite(a, m * n) || !all_finite(b, m)) {
        err_set(err, ERR_DATA, "least squares of %zu x %zu: a value is not finite", m, n);
        return -1;
    }
    if (nnls_init(&s, m, n, a) != 0) {
        err_set(err, ERR_MEMORY, "least squares of %zu x %zu: out of memory", m, n);
    } else if (nnls_run(&s, b, err) == 0) {
        for (size_t j = 0; j < n; j++)
            x[j] = s.x[j] > 0 ? s.x[j] / s.length[j] : 0;
        result = 0;
    }
    nnls_fini(&s);
    return result;
}
