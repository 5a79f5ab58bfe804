/* train_geometry.h - the shape of the model that is trained, and where each matrix lies.
 * Llama architecture: RMSNorm, rotary positions on pairs (2i, 2i+1), grouped-query attention,
 * SwiGLU, no biases, output matrix tied to the token embedding.
 *
 * All parameters form one vector of floats, so that optimizer, clipping and checkpoint see plain
 * ranges.  Matrices are [n_out][n_in], row-major:
 *
 *   embedding [vocab][dim]
 *   each layer: attn_norm [dim]
 *               qkv       [q rows | k rows | v rows][dim]
 *               attn_out  [dim][n_heads * head_size]
 *               ffn_norm  [dim]
 *               gate_up   [gate rows | up rows][dim]
 *               down      [dim][ffn]
 *   output_norm [dim] */
#ifndef TRAIN_GEOMETRY_H
#define TRAIN_GEOMETRY_H

#include <stddef.h>

struct err;

struct train_geometry {
    size_t vocab;      /* pieces of the tokenizer, at most 65,536 (tokens are 16 bits) */
    size_t dim;        /* width of the residual stream */
    size_t n_layers;   /* 1 or more */
    size_t n_heads;    /* query heads, a multiple of n_kv_heads */
    size_t n_kv_heads; /* heads of keys and values */
    size_t head_size;  /* even */
    size_t ffn;        /* width of the feed-forward part */
    size_t context;    /* tokens of a training sequence */
    float norm_eps;
    float rope_base;
};

/* Offsets into the parameter vector, in floats. */
struct train_layer_layout {
    size_t attn_norm, qkv, attn_out, ffn_norm, gate_up, down;
};

/* The defaults of the project's reference model. */
struct train_geometry train_geometry_default(void);

/* 0, or -1 with ERR_USAGE naming the field that makes no sense. */
int train_geometry_check(const struct train_geometry *g, struct err *err);

/* Rows of the joint q, k, v matrix. */
size_t train_geometry_qkv_rows(const struct train_geometry *g);
/* Columns of attn_out: all query heads side by side. */
size_t train_geometry_att_width(const struct train_geometry *g);

/* Layout; the embedding is at offset 0. */
struct train_layer_layout train_geometry_layer(const struct train_geometry *g, size_t layer);
size_t train_geometry_output_norm(const struct train_geometry *g);
size_t train_geometry_n_params(const struct train_geometry *g);

/* One row a matrix or vector of the parameter vector, in the order of the vector.  Vectors (norm
 * gains) have n_out == 1.  The table has 2 + 6 * n_layers rows. */
struct train_part {
    size_t offset, n_out, n_in;
    int is_matrix;
};
size_t train_geometry_n_parts(const struct train_geometry *g);
struct train_part train_geometry_part(const struct train_geometry *g, size_t index);

#endif
