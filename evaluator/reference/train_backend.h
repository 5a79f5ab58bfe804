/* train_backend.h - the matrix work of the trainer behind one table of functions.
 *
 * Three backends: "f32" does everything in float through the linear algebra module and runs
 * everywhere; "amx" and "dot" store activations in bf16 and multiply blocks with float sums, on AMX
 * tiles or by the dot products of AVX-512 (5 to 20 times as fast).  train_backend_best picks at
 * run time.
 *
 * A linear map is y = x W' with W[n_out][n_in].  Its matrix is brought into the backend's own form
 * once per optimizer step (weight_pack), because every sequence of a step reuses it.
 *
 * Stored arrays (`void *`) have elements of rows->act_bytes bytes; ld is a row stride in elements.
 * Nothing here allocates: `scratch` has at least the bytes that linear_scratch or attention_scratch
 * answer, is aligned to 64 bytes, and belongs to one thread at a time. */
#ifndef TRAIN_BACKEND_H
#define TRAIN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

struct train_rows;

/* Where a product goes: stored when `y_float` is NULL, else float, with `add` (same shape and
 * stride, may be y_float itself, may be NULL) added. */
struct train_output {
    void *y_stored;
    float *y_float;
    const float *add;
    size_t ld;
};

/* Heads of one sequence.  qkv[context][(n_heads + 2 n_kv_heads) * head_size] stored, rotated. */
struct train_heads {
    size_t context, n_heads, n_kv_heads, head_size;
};

struct train_backend {
    const char *name;
    const struct train_rows *rows;

    /* Bytes of the packed form of W[n_out][n_in], both directions. */
    size_t (*weight_bytes)(size_t n_out, size_t n_in);
    void (*weight_pack)(size_t n_out, size_t n_in, const float *w, void *packed);

    size_t (*linear_scratch)(size_t n_out, size_t n_in);
    /* x[n_rows][n_in] stored -> x W' [n_rows][n_out]. */
    void (*linear)(size_t n_rows, size_t n_out, size_t n_in, const void *x, size_t ldx,
                   const void *packed, struct train_output y, void *scratch);
    /* dy[n_rows][n_out] stored -> dy W [n_rows][n_in]. */
    void (*linear_back)(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                        const void *packed, struct train_output dx, void *scratch);
    /* dw[n_out][n_in] += dy' x. */
    void (*linear_weight)(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                          const void *x, size_t ldx, float *dw, void *scratch);

    /* Whether attention can run these heads; the f32 backend runs all. */
    bool (*attention_fits)(const struct train_heads *heads);
    size_t (*attention_scratch)(const struct train_heads *heads);
    /* Causal softmax(q k' / sqrt(head_size)) v of one sequence: out[context][n_heads * head_size]
     * stored.  log_sum[n_heads][context] keeps the log of each softmax's denominator. */
    void (*attention)(const struct train_heads *heads, const void *qkv, void *out, float *log_sum,
                      void *scratch);
    /* Its gradient: d_out (as out) -> d_qkv (as qkv, overwritten). */
    void (*attention_back)(const struct train_heads *heads, const void *qkv, const void *out,
                           const float *log_sum, const void *d_out, void *d_qkv, void *scratch);
};

extern const struct train_backend train_backend_f32;

/* The backend of a name (amx, dot, f32), or NULL with a sentence in *why (static text) when this
 * processor or kernel cannot run it or there is none of that name. */
const struct train_backend *train_backend_find(const char *name, const char **why);

/* The fastest backend that runs here and fits the heads.  *why: a sentence when it is f32. */
const struct train_backend *train_backend_best(const struct train_heads *heads, const char **why);

#endif
