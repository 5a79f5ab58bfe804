/* cut.h - one matrix of the parent, compressed: some of its rows and columns, packed in a format.
 *
 * Rows are selected.  Where columns go, the others are solved anew so that the outputs change least
 * (obs.h, with the Hessian of the layer's input); then the rows are quantized with the same
 * Hessian, the error of each weight fed to those after it (feedback.h).  With a diagonal
 * calibration nothing is solved or fed, and inputs count by their mean squares; without one each
 * weight is rounded for itself (quantize.h).  A matrix that keeps all its columns and already has
 * the format asked for is copied byte for byte.
 *
 * Rows may also be cut after they were packed, at the end of a block: then what is left has the
 * codes that it had in the whole row.
 *
 * Beside a bias.  Where the output has a bias, it takes over what the weights do to its mean:
 *
 *     b = W mu - W' mu_S      mu = the mean input
 *
 * and what is left to lose is tr(D C D'), C = H - mu mu' (hessian_centre; methods.md A1, "a bias is
 * free quality").  Such a cut is `centred`: solved, packed and judged with C.  The mean is one
 * direction of very many, so what it brings depends on how large it is among them.  Measured on the
 * reference model, KLD with biases over KLD without on the same 16,352 held-out tokens, +- standard
 * error (tests/bench/bench_bias, 16,384 calibration tokens):
 *
 *     every FFN 768, 512, 256 of 1024 wide    0.997 +- 0.004   1.001 +- 0.014   1.058 +- 0.018
 *     KV groups 2 of 4                        1.004 +- 0.003
 *     all units in Q2_K, Q3_K                 1.01  +- 0.02    1.03  +- 0.02
 *     all units in Q4_0, Q4_K                 0.94  +- 0.03    1.06  +- 0.03
 *     one attention dropped, mean of 8        0.76  +- 0.20    from 0.12 (layer 0) to 1.04
 *     one FFN dropped, mean of 8              0.92  +- 0.12    from 0.52 (layer 1) to 1.86 (last)
 *
 * So there it is worth something where a unit goes whole, but for the last FFN, and nothing beside
 * weights that are solved or rounded with feedback; errors of the format rows do not count the luck
 * of rounding.  Geometric means, their errors those of the mean of logarithms over the units.  The
 * parent's inputs are not what a model meets in which all layers are narrow: at 256 of 1024 weights
 * that were solved with H and given the bias afterwards did better (0.998 +- 0.001; 1.000 at 512).
 */
#ifndef KERF_CUT_H
#define KERF_CUT_H

#include "evaluator/compression/calibration.h"
#include "evaluator/formats/gguf.h"

struct err;

/* Kept positions, in the order in which they stand afterwards; `at` NULL means all of them as they
 * are.  Columns that are to be solved anew are ascending. */
struct kept {
    uint32_t *at;
    uint32_t n;
};

struct cut {
    const struct gguf_tensor *tensor;
    struct kept rows, cols;
    /* Where its inputs were heard; calibration NULL: nowhere, all inputs count the same. */
    const struct calibration *calibration;
    uint32_t layer;
    enum linear_site site;
    bool is_head; /* its inputs are the head's: no layer, no site; where nobody heard those, all
                     inputs count the same */
    /* For obs_repair, when `cols` is a list: OBS_PLAIN leaves the weights as they are (and copies
     * the parent's blocks where whole ones stay). */
    double damping;
    /* Columns that stay once the rows are packed, whole blocks from the left: 0 for all of them.
     * No weight makes up for what goes here. */
    uint32_t n_left;
    /* The rows with all of `cols`, packed before, to be cut short; NULL: they are packed. */
    const uint8_t *packed;
    bool centred; /* the output has a bias (needs a calibration) */
};

/* The weights that cut_build would pack: the kept rows, and where columns go those that stay solved
 * anew.  target[n_rows][n_cols or n_left], the caller's.  Errors as below. */
int cut_target(const struct cut *cut, float *target, struct err *err);

/* What cutting cost, summed over the rows that stay. */
struct cut_loss {
    double error; /* mean squared change of the output, tr(D H D') with D = parent's weights -
                     packed ones (0 where a column went), H not damped (C where centred) */
    double whole; /* of the parent's own output, tr(W H W') */
    /* Where H as it was heard would not do: the largest share of damping that solving or feedback
     * was raised to, INFINITY where rows were rounded plainly instead.  0: nowhere. */
    double fallback;
};

/* Pack into out[n_rows][format_row_bytes]; adds to *loss.
 *   bias  [n_rows] where centred: becomes b; else NULL
 *
 * Memory: the kept rows as floats and H as doubles.  ERR_DATA names tensor and position of a NaN,
 * an infinity or a value that the format cannot hold. */
int cut_build(const struct cut *cut, enum format format, uint8_t *out, float *bias,
              struct cut_loss *loss, struct err *err);

/* What is left of a centred cut when the matrix goes altogether: its mean output, bias[n_rows]. */
int cut_mean_output(const struct cut *cut, float *bias, struct cut_loss *loss, struct err *err);

#endif
