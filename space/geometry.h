/* geometry.h - the shape of a parent model: a Llama-like decoder, the same in every layer. */
#ifndef KERF_GEOMETRY_H
#define KERF_GEOMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define GEOMETRY_MAX_LAYERS 256

struct geometry {
    uint32_t n_layers;   /* 1..GEOMETRY_MAX_LAYERS */
    uint32_t d_model;    /* width of the residual stream */
    uint32_t n_heads;    /* query heads, a multiple of n_kv_heads */
    uint32_t n_kv_heads; /* KV groups */
    uint32_t head_dim;   /* even; n_heads * head_dim need not equal d_model */
    uint32_t d_ff;       /* FFN width */
    uint32_t n_vocab;
    uint32_t n_ctx;      /* longest context the parent was trained for */
    bool tied;           /* the output matrix is the token embedding, stored once */
    float rms_eps;
    float rope_base;
};

/* 0, or -1 with the offending field (ERR_DATA): zero sizes, heads that do not divide, products
 * that overflow, limits passed. */
int geometry_check(const struct geometry *geometry, struct err *err);

/* Step between FFN widths that the format rules allow: 256 where d_ff and d_model are multiples of
 * it, else 32, else 4, else 1 (design.md 5: K-quants need rows of a multiple of 256). */
uint32_t geometry_grid(const struct geometry *geometry);

/* "dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536" */
const char *geometry_describe(const struct geometry *geometry, char text[160]);
/* That text read again, for what can be said of a model without having it: not tied, a context of
 * GEOMETRY_USUAL_CTX.  ERR_USAGE with the expected form; errors of geometry_check. */
#define GEOMETRY_USUAL_CTX 4096
int geometry_parse(const char *text, struct geometry *geometry, struct err *err);

#endif
