/* hessian.h - the second moments of what meets a linear layer: H = X X' / N and mu = X 1 / N for
 * inputs X[n][N], one column a token (methods.md A0; N is divided out, so that H does not grow with
 * the text).  The output error of any change D of the weights is tr(D H D') per token.
 *
 * Summing.  A product of two floats is exact in double, and every entry takes its products in the
 * order of the tokens (kernels.h, moments).  So the error of a sum is that of N additions in
 * double, at most N 2^-53 of the sum of magnitudes, and the bits are the same for any number of
 * threads, any batches and any processor; products in float would be twice as fast and keep none of
 * that.  The sums stay in double until hessian_pack rounds them once.
 *
 * Keeping.  The lower triangle by rows as floats: a relative error of 6e-8 in an entry, where the
 * sampling of N tokens makes one of about 1 / sqrt(N) and the damping of every use adds 1e-2 to the
 * diagonal.  Half of a square, half of a double: a quarter of the bytes to read, hash and map.
 * The triangle of the first k inputs is the beginning of the triangle of all. */
#ifndef KERF_HESSIAN_H
#define KERF_HESSIAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct kernels;

/* Sums over tokens of one input site, [n] wide. */
struct hessian {
    size_t n;
    uint64_t n_tokens;
    double *second; /* [n][n] sums of x x'; the lower triangle counts, the rest is anything */
    double *first;  /* [n] sums of x */
};

/* Zero sums.  n = 0 is a site that is not there. */
int hessian_init(struct hessian *hessian, size_t n, struct err *err);
void hessian_fini(struct hessian *hessian); /* a zeroed struct is fine */
void hessian_clear(struct hessian *hessian);

/* A batch of tokens as the kernels want it: columns in panels of MOMENTS_PANEL, one panel after
 * another, [panel][n_rows][MOMENTS_PANEL], zeros behind the last column. */
size_t hessian_wide_size(size_t n_rows, size_t n); /* doubles */
/* wide = x[n_rows][n]; false when a value is not finite. */
bool hessian_widen(const float *x, size_t n_rows, size_t n, double *wide);
/* Add the tokens of a batch.  The work is cut into `n_parts`: call once for every part in
 * 0..n_parts-1, by several threads at once if wanted. */
void hessian_add(struct hessian *hessian, const struct kernels *kernels, const double *wide,
                 size_t n_rows, unsigned part, unsigned n_parts);

/* The same of two kinds of inputs to the same tokens: c[n_a][n_b] += sums of a b'. */
void hessian_add_cross(const struct kernels *kernels, const double *a, size_t n_a, const double *b,
                       size_t n_b, size_t n_rows, unsigned part, unsigned n_parts, double *c);

/* Floats in the triangle of n inputs: n (n + 1) / 2. */
size_t hessian_triangle_size(size_t n);
/* The means: triangle[] of H, mean[n].  Needs at least one token. */
void hessian_pack(const struct hessian *hessian, float *triangle, float *mean);
/* square[n][n], symmetric, of the first n inputs of a triangle. */
void hessian_unpack(const float *triangle, size_t n, double *square);

/* Covariances in place of second moments: square[n][n] -= mean mean'.  What is left of a mean
 * square after that is 1e-6 of it or less is rounding: such an input never varies, its row and
 * column become 0.  Where a bias makes up for the mean, tr(D C D') is the output error of any
 * change D of the weights (methods.md A1), and C stands wherever H stands else. */
void hessian_centre(size_t n, double *square, const float *mean);

/* Mean of the diagonal of H[n][n] over the inputs that were seen, H_ii > 0; 0 when none was.  What
 * every damping is a share of. */
double hessian_live_mean(size_t n, const double *h);

/* tr(D H D') for D[n_rows][n], H[n][n]; `work` has room for D. */
double hessian_loss(size_t n, const double *h, size_t n_rows, const double *d, double *work);

#endif
