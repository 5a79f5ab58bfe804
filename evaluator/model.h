/* model.h - a model that can run: pointers to packed weights and what shape they have.
 * It owns nothing but itself: weights are borrowed from the parent's map or from the variant store
 * and must outlive it.  Units may be narrower or missing, every matrix has its own format. */
#ifndef KERF_MODEL_H
#define KERF_MODEL_H

#include "space/format.h"
#include "space/geometry.h"

struct err;
struct parent;

/* W[n_out][n_in], rows of format_row_bytes(format, n_in) bytes. */
struct weights {
    const void *data;
    enum format format;
    enum act_format act; /* what multiplies it: ACT_FLOAT whenever format is a float one */
    uint32_t n_out, n_in;
};

struct attn_unit {
    bool present;
    const float *bias; /* [d_model] that the unit adds beside its output; where it is not present
                          what it leaves behind: its mean output.  NULL: none */
    uint32_t n_heads, n_groups; /* n_heads a multiple of n_groups */
    const float *norm;          /* [d_model] */
    struct weights q, k, v, o;  /* q: [n_heads*hd][d_model], k, v: [n_groups*hd][d_model],
                                   o: [d_model][n_heads*hd] */
};

struct ffn_unit {
    bool present;
    const float *bias; /* as above */
    uint32_t width;
    const float *norm;             /* [d_model] */
    struct weights gate, up, down; /* [width][d_model] twice, [d_model][width] */
};

struct model {
    struct geometry geometry; /* of the parent; units may be smaller */
    enum format kv;           /* of the KV cache (format_is_cache), rows of head_dim */
    uint32_t n_layers;        /* of the parent; a layer may have neither unit */
    struct weights embd;      /* [n_vocab][d_model] */
    struct weights head;      /* [n_vocab][d_model] */
    const float *out_norm;    /* [d_model] */
    struct attn_unit attn[GEOMETRY_MAX_LAYERS];
    struct ffn_unit ffn[GEOMETRY_MAX_LAYERS];
};

/* The model exactly as the file has it: its own formats, activations as act_format_of says, or as a
 * native file of kerf's says itself (parent_act); KV cache in F16.
 * Yours to free with model_destroy; the parent must stay open. */
struct model *model_of_parent(const struct parent *parent, struct err *err);
void model_destroy(struct model *model); /* NULL is fine; frees the struct only */

/* Sum of the bytes of all weights, norms and biases. */
uint64_t model_weight_bytes(const struct model *model);

#endif
