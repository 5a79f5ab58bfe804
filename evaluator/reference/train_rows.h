/* train_rows.h - the work of the trainer that goes row by row: norms, rotations, SwiGLU, softmax.
 *
 * Activations that feed a matrix product are stored in the element type of the backend: float, or
 * bf16 where the products run on bf16 tiles.  The kernels are written once (train_rows_impl.h) over
 * that type and built twice; arithmetic is float in both.  `void *` arrays below are of that type.
 * Nothing here allocates; arrays do not overlap unless said. */
#ifndef TRAIN_ROWS_H
#define TRAIN_ROWS_H

#include <stddef.h>
#include <stdint.h>

struct train_rows {
    size_t act_bytes; /* of one stored activation: 4 or 2 */

    /* y = x * inv * gain with inv = 1 / sqrt(mean(x^2) + eps), kept in inv[n_rows].
     * x[n_rows][dim], y[n_rows][dim] stored. */
    void (*norm)(size_t n_rows, size_t dim, float eps, const float *x, const float *gain, void *y,
                 float *inv);
    /* Adds the gradient of `norm` to dx[n_rows][dim] and to dgain[dim]; dy[n_rows][dim]. */
    void (*norm_back)(size_t n_rows, size_t dim, const float *x, const float *inv,
                      const float *gain, const float *dy, float *dx, float *dgain);

    /* Turn the pairs (2i, 2i+1) of the first n_heads heads of each row of x[n_rows][ld], in place.
     * Row r is position first + r; cos and sin are [positions][head_size / 2].  direction 1 turns
     * forward, -1 back (the gradient of a rotation is the rotation back). */
    void (*rope)(size_t n_rows, size_t n_heads, size_t head_size, size_t ld, size_t first,
                 const float *cos, const float *sin, float direction, void *x);

    /* y[n_rows][ffn] = silu(gate) * up with gate_up[n_rows][gate: ffn | up: ffn]. */
    void (*swiglu)(size_t n_rows, size_t ffn, const void *gate_up, void *y);
    /* Gradient of the same: dy[n_rows][ffn] -> d_gate_up[n_rows][2 * ffn]. */
    void (*swiglu_back)(size_t n_rows, size_t ffn, const void *gate_up, const void *dy,
                        void *d_gate_up);

    /* y[n] = x[n], in the stored type. */
    void (*store)(size_t n, const float *x, void *y);

    /* Sum over rows of -log softmax(logits[row])[targets[row]], in nats.  When d_logits is not
     * NULL it receives softmax - onehot, the gradient of that sum.  logits is overwritten. */
    double (*cross_entropy)(size_t n_rows, size_t vocab, float *logits, const uint16_t *targets,
                            void *d_logits);
};

extern const struct train_rows train_rows_f32;  /* plain C, any processor */
extern const struct train_rows train_rows_bf16; /* built for AVX-512; call only where it runs */

#endif
