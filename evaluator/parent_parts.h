/* parent_parts.h - what the files of parent share.
 *   parent.c        opening, tensors, hash and genome
 *   parent_keys.c   keys to geometry */
#ifndef KERF_PARENT_PARTS_H
#define KERF_PARENT_PARTS_H

#include "evaluator/parent.h"
#include <stdbool.h>

/* What the keys say about one layer; 0 heads or width: the unit is not there. */
struct layer_shape {
    uint32_t n_heads, n_groups, width;
};

struct parent {
    struct gguf *gguf;
    const char *path; /* for messages: the last part of the file's path */
    char arch[16];    /* "llama" or "deci": the prefix of the keys */
    struct geometry geometry;
    struct layer_shape shape[GEOMETRY_MAX_LAYERS];
    const struct gguf_tensor *tensor[GEOMETRY_MAX_LAYERS][N_TENSOR_ROLES];
    const struct gguf_tensor *embd, *head, *out_norm;
    enum act_format act[GEOMETRY_MAX_LAYERS][2]; /* attention, FFN */
    enum format kv;
    bool hashed;
    struct hash256 hash;
};

/* From the keys: architecture, shape of each layer, and the geometry but for vocabulary and tying,
 * which the tensors tell.  ERR_DATA where a key is missing, damaged, or asks for what kerf does not
 * compute. */
int parent_read_geometry(struct parent *parent, struct err *err);

/* kerf's own keys about what is no weight: activations and the KV cache. */
int parent_read_choices(struct parent *parent, struct err *err);

/* The key "ARCH.name".  1 found, 0 absent (and *value as it was), -1 with `err`. */
int parent_read_number(const struct parent *parent, const char *name, uint32_t *value,
                       struct err *err);

#endif
