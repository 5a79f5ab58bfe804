/* match.h - weights that make of other inputs what the parent made of its own, in closed form.
 *
 * Behind compressed parts a matrix meets inputs z where the parent's meets x.  With the parent's W
 * and weights W' that stand for it (its own, or repaired ones where columns went), over N tokens:
 *
 *     H = Z Z' / N      C = X Z' / N      D = Y Z' / N      R = W C + D - W' H
 *     W~ = W' + alpha R (H + ridge I)^-1
 *
 * R is what the error W x + y - W' z still has in common with z.  At alpha = 1 and without a ridge
 * W~ minimises the mean of |W x + y - W~ z|^2 (methods.md A2: GPTAQ, 2025, solved before rounding
 * instead of inside its loop); at alpha = 0 it is W'.  y is what the output ought to make up for
 * besides, column by column: the distance that two residual streams have already, or nothing.
 * Where z has fewer channels than x nothing changes but the shape of C.
 *
 * The ridge is a share of the mean of diag H (hessian_live_mean) and pulls towards W', not towards
 * nothing: where x = z and nothing else is asked for, R = 0 and W~ is W' exactly. */
#ifndef KERF_MATCH_H
#define KERF_MATCH_H

#include "evaluator/compression/hessian.h"

struct err;

/* Sums over tokens, then means. */
struct match {
    size_t n_x, n_z, n_y; /* n_y = 0: nothing besides */
    struct hessian zz;    /* sums; its lower triangle */
    double *h;            /* [n_z][n_z], symmetric; once closed */
    double *xz;           /* [n_x][n_z] C */
    double *yz;           /* [n_y][n_z] D */
};

/* Zero sums. */
int match_init(struct match *match, size_t n_x, size_t n_z, size_t n_y, struct err *err);
void match_fini(struct match *match); /* a zeroed struct is fine */

/* Add tokens x[n_rows][n_x], z[n_rows][n_z], y[n_rows][n_y] (NULL when n_y is 0), floats that were
 * laid out by hessian_widen.  The work is cut into `n_parts` as hessian_add does it. */
void match_add(struct match *match, const struct kernels *kernels, const double *x, const double *z,
               const double *y, size_t n_rows, unsigned part, unsigned n_parts);
/* Sums become means; nothing is added afterwards.  Needs at least one token. */
void match_close(struct match *match);

/* target[n_out][n_z] = W~ of w[n_out][n_x] and stand_in[n_out][n_z]; n_out is n_y if there is a y.
 *   damping  in: the ridge's share to begin with; out: what it was raised to (tenfold, up to 1)
 *            where H was not positive definite, INFINITY where that did not help: then W~ = W'
 * ERR_MEMORY; ERR_DATA when a weight comes out that is not finite. */
int match_solve(const struct match *match, const float *w, const float *stand_in, size_t n_out,
                double alpha, double *damping, float *target, struct err *err);

#endif
