/* feedback.h - packed rows whose errors make up for each other.
 *
 * Rounding moves the output of y = W x by E x, E = W - Q, and over the inputs of the calibration
 * text that costs tr(E H E') a token, H = mean of x x'.  quantize.h rounds as if H were diagonal.
 * Here every column is rounded knowing what the columns before it did (LDLQ, QuIP 2023; the same
 * codes as OPTQ, 2023; methods.md A2): with H = V D V', V unit upper triangular,
 *
 *     x_j = w_j + sum_{k<j} e_k V_kj      q_j = round(x_j)      e H e' = sum_j D_j (x_j - q_j)^2
 *
 * for one row w, e = w - q.  Per row and block of the format, left to right:
 *
 *   1. the search of quantize.h on the updated weights x gives factors, scales and minima;
 *   2. group by group, neighbouring scales and minima are tried: each rounds the whole group with
 *      feedback inside it, and the least sum of D_j (x_j - q_j)^2 stays;
 *   3. when the row is done, a few sweeps from group to group solve the group's scale and minimum
 *      for the codes there are, then each code for all others, in e H e' itself: only steps down.
 *
 * For each row the outcome stands against the plain importance search of quantize.h; the one with
 * the smaller e H e' is written, so that no row is ever worse than without feedback.
 *
 * Measured on the first reference model: tr(E H E') over that of the importance search, geometric
 * mean over the seven matrices of layers 0, 3 and 7 (64 rows each); with the moments of another
 * text the figures are at most 1 % higher.
 *
 *                                Q2_K Q3_K IQ4_NL Q4_0 Q4_K Q5_0 Q5_K Q6_K Q8_0
 *     scales of the plain search  .60  .50  .49    .47  .53  .47  .52  .52  .49
 *     step 1                      .59  .49  .45    .44  .52  .44  .51  .51  .45
 *     steps 1 and 2               .42  .41  .41    .39  .41  .39  .41  .41  .39
 *     all three                   .38  .36  .36    .35  .38  .35  .38  .38  .35
 *     KL divergence, all three    .53  .41  .51    .49  .51  .42  .47  .44  .44
 *
 * The last line: all layers so rounded, 8,000 held-out tokens, ratio to the importance search with
 * a standard error of .02 to .05.
 *
 * Damping.  Codes are chosen with H + share * mean(diag H) * I, the mean over the inputs that were
 * seen, so that H may be singular and an input that was never seen keeps its weights.  Where that
 * is not positive definite the share is raised tenfold up to 1, and where that does not help, or no
 * input was ever seen, rows are rounded plainly; both are said in the log.  Rows are judged with H
 * as it came.
 *
 * Rows are computed side by side in double, each sum in a fixed order and without fused operations:
 * a row's bytes depend neither on its neighbours nor on the number of threads nor on the
 * processor's vectors.  V is LAPACK's, whose last bits another processor may change.
 *
 * Cost of a row of n weights: about 4.5 n^2 multiplications, 25 (75 with minima) roundings of each
 * group, and twice the search of quantize.h; n^3 / 6 multiplications for V once.  Rows are worked
 * on 32 at a time and eight side by side: single rows cost as much as eight. */
#ifndef KERF_FEEDBACK_H
#define KERF_FEEDBACK_H

#include "space/format.h"
#include <math.h>

struct err;
struct feedback;

#define FEEDBACK_DAMPING 0.01     /* where every caller begins */
#define FEEDBACK_PLAIN   INFINITY /* no factor, no feedback: rows are rounded plainly */

/* What rounding cost, sums over rows of e H e'. */
struct feedback_tally {
    double error;  /* of what was written */
    double plain;  /* had every row been rounded without feedback */
    size_t n_rows; /* all rows */
    size_t n_fed;  /* rows that were written with feedback */
};

/* Prepare for rows that meet inputs with second moments hessian[n][n]: symmetric, not damped,
 * borrowed until the feedback is destroyed.  Its own memory: n^2 doubles.
 *   name     stands in messages: "layer 3, down"
 *   damping  the share to begin with; FEEDBACK_PLAIN to have none
 * ERR_DATA naming the inputs of a moment that is not finite, of a negative mean square or of two
 * moments that should be equal; ERR_MEMORY. */
struct feedback *feedback_create(const char *name, const double *hessian, size_t n, double damping,
                                 struct err *err);
void feedback_destroy(struct feedback *feedback); /* NULL is fine */

/* The share that was used, FEEDBACK_PLAIN if none did. */
double feedback_damping(const struct feedback *feedback);

/* Pack w[n_rows][n] into out[n_rows][format_row_bytes]; n must fit the format.  Float formats are
 * rounded as quantize_rows does it.  Adds to *tally (may be NULL).  Any number of threads may use
 * one feedback.  Errors of quantize_rows; ERR_MEMORY.  `out` is then undefined, the tally as it
 * was. */
int feedback_quantize(const struct feedback *feedback, enum format format, const float *w,
                      size_t n_rows, void *out, struct feedback_tally *tally, struct err *err);

#endif
