/* quantize.h - floats to packed rows of any format, exactly as ggml lays them out.
 *
 * Rounding loses the least where the scale of a block is chosen for the weights that matter.  With
 * h[i] the mean squared activation that meets input i, the error of a row is
 *
 *     sum_i  h[i] * sqrt(sigma2 + x[i]^2) * (x[i] - q[i])^2,      sigma2 = mean of x^2 over the row
 *
 * the weighting of llama.cpp's quantizer with an importance matrix: h[i] is the diagonal of the
 * layer's Hessian, the root leans towards large weights.  Without importance h = 1; with it, h is
 * at least 1e-4 of its mean, so that an input which calibration never saw keeps its weights.
 *
 * Search: for each group of 16 or 32 weights a few dozen trial scales, each followed by a weighted
 * least-squares fit of scale (and minimum); then the block's own factors, which the group scales
 * are multiples of; then single steps of each group's integers and refits of the factors as long as
 * the error falls.  Last, every weight is rounded again with the scales as stored.
 *
 * The result depends on nothing but the arguments: same bytes on every machine and in every thread
 * count.  No state; rows may be quantized by several threads at once. */
#ifndef KERF_QUANTIZE_H
#define KERF_QUANTIZE_H

#include "space/format.h"

struct err;

/* Pack w[n_rows][row_len] into out[n_rows][format_row_bytes].  row_len must fit the format.
 *   importance  [row_len], not negative, or NULL
 * 0, or -1 with ERR_DATA naming row and column of a weight or importance that is not finite (or
 * negative importance), or a weight too large for the format; `out` is then undefined. */
int quantize_rows(enum format format, const float *w, size_t n_rows, size_t row_len,
                  const float *importance, void *out, struct err *err);

/* The same without any search, for comparison: each scale from the largest magnitude (or the range)
 * of its group, then rounding to nearest.  For the 32-blocks these are the bytes of ggml's
 * reference quantizer. */
int quantize_rows_plain(enum format format, const float *w, size_t n_rows, size_t row_len,
                        void *out, struct err *err);

/* The error of one packed row as defined above. */
double quantize_row_error(enum format format, const float *w, size_t row_len,
                          const float *importance, const void *packed);

#endif
