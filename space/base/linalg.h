/* linalg.h - the only door to BLAS and LAPACK, one thread at a time: a second caller waits, so
 * several threads are safe and not faster.  Row-major throughout. */
#ifndef KERF_LINALG_H
#define KERF_LINALG_H

#include <stddef.h>

struct err;

/* C[m][n] = alpha * A[m][k] * B'[k][n] + beta * C, where B is stored as B[n][k] (a weight matrix
 * of n output rows).  lda, ldb, ldc are row strides in elements. */
void linalg_gemm_nt(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *c, size_t ldc);
/* C[m][n] = alpha * A[m][k] * B[k][n] + beta * C. */
void linalg_gemm_nn(size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *c, size_t ldc);
/* The same two in double, and the one with A stored as A[k][m]: C = alpha * A' B + beta * C. */
void linalg_dgemm_nt(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc);
void linalg_dgemm_nn(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc);
void linalg_dgemm_tn(size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
                     const double *b, size_t ldb, double beta, double *c, size_t ldc);
/* y[m] = alpha * A[m][n] x[n] + beta * y in double. */
void linalg_dgemv(size_t m, size_t n, double alpha, const double *a, size_t lda, const double *x,
                  double beta, double *y);
/* C[n][n] += X'X for X[n_rows][n] in double; only the lower triangle is read and written. */
void linalg_syrk_add(size_t n, size_t n_rows, const double *x, double *c);

/* Solve A x = b for symmetric positive definite A[n][n], of which the lower triangle is read and
 * overwritten by its Cholesky factor; b becomes x.
 * -1 with ERR_DATA when A is not positive definite or a value is not finite; A and b are spoilt. */
int linalg_solve_spd(size_t n, double *a, double *b, struct err *err);
/* The same for many right-hand sides: each row of B[n_rows][n] becomes its solution, so that
 * B becomes B A^-1. */
int linalg_solve_spd_rows(size_t n, double *a, size_t n_rows, double *b, struct err *err);
/* A[n][n], of which the lower triangle is read, becomes its inverse, both triangles.  Errors as
 * above. */
int linalg_invert_spd(size_t n, double *a, struct err *err);

/* A = V D V' for symmetric positive definite A[n][n], V unit upper triangular, D diagonal: what
 * each variable owes to the ones before it (column j of V) and what it has of its own (D_j).  Of A
 * the lower triangle is read and overwritten: row j holds V_kj for k < j, then D_j.  Errors as
 * above; A is spoilt then. */
int linalg_factor_vdv(size_t n, double *a, struct err *err);

/* Eigenvalues of symmetric A[n][n], of which the lower triangle is read: values[n], ascending, and
 * in row i of A the eigenvector of values[i], of unit length.  ERR_DATA when a value is not finite,
 * ERR_MEMORY; A is spoilt then. */
int linalg_eigen(size_t n, double *a, double *values, struct err *err);

/* x >= 0 that minimises |A x - b|, A[m][n] (Lawson and Hanson, Solving Least Squares Problems,
 * 1974).  A and b are not changed.  ERR_DATA when a value is not finite; x is written only on
 * success. */
int linalg_nnls(size_t m, size_t n, const double *a, const double *b, double *x, struct err *err);

#endif
