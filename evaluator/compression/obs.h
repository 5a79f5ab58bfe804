/* obs.h - structured pruning with closed-form repair: optimal brain surgeon on groups of columns
 * (methods.md A1; Hassibi and Stork 1993, greedy with downdates as in ZipLM, 2023).
 *
 * A layer y = W x with H = mean of x x'.  When the columns P of W go and S stay, the best weights
 * on S, and what they lose, are
 *
 *     W'_S = W_S + W_P H_PS (H_SS)^-1           E = tr(D H D'),  D = W - W'  (0 for W' on P)
 *
 * and of one more group b of columns, once W and H^-1 are those of what is left, the loss rises by
 *
 *     tr( W_b ([H^-1]_bb)^-1 W_b' )
 *
 * so that the greedy order takes the group with the smallest rise, again and again, down to
 * nothing: one run names the kept set of every width, and the sets are nested.
 *
 * Exact, in double: each removal downdates H^-1 and the Gram matrix W'W (which is all that scores
 * need of W, so the cost does not grow with the rows) by the very columns that go; columns of up to
 * 32 removals are gathered and multiplied out at once, while diagonals are kept current, so the
 * order is that of one removal at a time.  About 2 n^3 flop in products and 3 n^2 doubles; nothing
 * is approximated but by rounding.  Weights are always solved anew on the final set: obs_repair.
 *
 * Damping.  Everywhere H stands for H + share * mean(diag H) * I, the mean over the live inputs.
 * An input that was never seen (H_ii = 0) is dead: its column goes first, for nothing.  Where H is
 * not positive definite the share is raised tenfold up to 1; where that does not help, or no input
 * was ever seen, the answer is plain selection: order by H_ii |W_:i|^2, weights as they are.  The
 * share that was used is handed out; OBS_PLAIN stands for the last.
 *
 * No state; different calls may run at the same time. */
#ifndef KERF_OBS_H
#define KERF_OBS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define OBS_DAMPING 0.01     /* the least share that obs_damping gives */
#define OBS_PLAIN   INFINITY /* no repair: weights as they are */

/* The share to begin with when H is the mean over `n_tokens`: max(0.01, 0.4 (n_in / n_tokens)^1.5),
 * at most 1.  With few tokens H knows the text by heart, and weights that are solved for it lose
 * more on another one than weights that are left alone; the share grows until they do not.
 * Measured as KLD * 1000 on held-out text, every FFN of the reference model cut to half of 1024
 * channels (fits 2n/3, share by column; the order always made with 0.01):
 *
 *     n_tokens   as they are  0.01  0.03   0.1   0.3     1   rule
 *          512      340        388   361   343   333   329   1
 *         1024      247        273   254   239   233   233   0.4
 *         2048      266        243   235   228   228   236   0.14
 *         4096      218        162   161   164   171   184   0.05
 *        16384      114         54    55    58    64    75   0.01 */
double obs_damping(size_t n_in, uint64_t n_tokens);

struct obs_layer {
    size_t n_in, n_out;
    const double *hessian; /* [n_in][n_in], symmetric, not damped */
    const float *weights;  /* [n_out][n_in] */
};

/* Columns that go together: item i is the columns i * size .. i * size + size - 1.  Items are taken
 * in rounds in which each class of `per_class` neighbours loses one: n_classes = 1 is the plain
 * greedy order, more keep the classes equally large.
 *   n_classes * per_class * size = n_in */
struct obs_items {
    size_t n_classes, per_class, size;
};

/* The order in which items stay: order[n_classes][per_class], each class best first, items as
 * numbers inside their class.
 *   added    [n_classes][per_class] or NULL: how much E rose when that item went
 *   damping  in: the share to begin with (obs_damping); out: the share that was used
 * ERR_DATA naming the column of a weight or a moment that is not finite; ERR_MEMORY. */
int obs_order(const struct obs_layer *layer, const struct obs_items *items, uint32_t *order,
              double *added, double *damping, struct err *err);

/* The best weights on the columns kept[n_kept], ascending: repaired[n_out][n_kept].
 *   damping  as above; OBS_PLAIN only selects.  Errors as above. */
int obs_repair(const struct obs_layer *layer, const uint32_t *kept, size_t n_kept, double *damping,
               float *repaired, struct err *err);

#endif
