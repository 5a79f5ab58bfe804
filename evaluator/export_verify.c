/* export_verify.c - what stock llama.cpp asks of a file, and what it would silently get wrong.
 * The rules were found by loading such files and comparing with an independent float reference;
 * tests/engine does the same again. */
#include "evaluator/export.h"

#include "space/base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The keys that the rules speak of. */
struct shape {
    char arch[8];
    uint64_t n_layers;
    uint64_t n_heads[GEOMETRY_MAX_LAYERS], n_groups[GEOMETRY_MAX_LAYERS];
    uint64_t width[GEOMETRY_MAX_LAYERS];
};

static int refuse(const struct gguf *gguf, struct err *err, const char *rule)
{
    err_set(err, ERR_NO, "%s: %s", gguf_path(gguf), rule);
    return -1;
}

static int need_number(const struct gguf *gguf, const char *arch, const char *name, uint64_t *value,
                       struct err *err)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    int found = gguf_get_uint(gguf, key, value, err);
    if (found == 0)
        err_set(err, ERR_NO, "%s: key %s is not written; engines would guess it from others",
                gguf_path(gguf), key);
    return found == 1 ? 0 : -1;
}

/* A number for each layer: once for all, or an array. */
static int need_per_layer(const struct gguf *gguf, const char *arch, const char *name,
                          uint64_t n_layers, uint64_t *values, struct err *err)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    if (gguf_type_of(gguf, key) != GGUF_ARRAY) {
        if (need_number(gguf, arch, name, &values[0], err) != 0)
            return -1;
        for (uint64_t l = 1; l < n_layers; l++)
            values[l] = values[0];
        return 0;
    }
    if (gguf_array_length(gguf, key) != (int64_t)n_layers) {
        err_set(err, ERR_NO, "%s: %s has not one entry for each of %" PRIu64 " layers",
                gguf_path(gguf), key, n_layers);
        return -1;
    }
    for (uint64_t l = 0; l < n_layers; l++) {
        if (gguf_array_uint(gguf, key, l, &values[l], err) < 0)
            return -1;
        if (strcmp(arch, "llama") == 0 && values[l] != values[0]) {
            err_set(err, ERR_NO,
                    "%s: %s differs at layer %" PRIu64 "; architecture llama holds "
                    "all layers to one number, deci does not",
                    gguf_path(gguf), key, l);
            return -1;
        }
    }
    return 0;
}

static int read_shape(const struct gguf *gguf, struct shape *s, struct err *err)
{
    struct gguf_text arch;
    int found = gguf_get_text(gguf, "general.architecture", &arch, err);

    if (found < 0)
        return -1;
    if (found == 0 || arch.length >= sizeof s->arch)
        return refuse(gguf, err, "the architecture is neither llama nor deci");
    snprintf(s->arch, sizeof s->arch, "%.*s", (int)arch.length, arch.data);
    if (strcmp(s->arch, "llama") != 0 && strcmp(s->arch, "deci") != 0)
        return refuse(gguf, err, "the architecture is neither llama nor deci");
    if (need_number(gguf, s->arch, "block_count", &s->n_layers, err) != 0)
        return -1;
    if (s->n_layers == 0 || s->n_layers > GEOMETRY_MAX_LAYERS)
        return refuse(gguf, err, "the number of layers is not 1 to 256");
    if (need_per_layer(gguf, s->arch, "feed_forward_length", s->n_layers, s->width, err) != 0 ||
        need_per_layer(gguf, s->arch, "attention.head_count", s->n_layers, s->n_heads, err) != 0 ||
        need_per_layer(gguf, s->arch, "attention.head_count_kv", s->n_layers, s->n_groups, err) !=
            0)
        return -1;
    return 0;
}

/* A bias of a unit that is not there: kerf adds it, engines count one tensor too many or lose it.
 */
static int check_left_behind(const struct gguf *gguf, const struct shape *s, struct err *err)
{
    for (uint64_t l = 0; l < s->n_layers; l++) {
        for (int ffn = 0; ffn < 2; ffn++) {
            char name[48];
            if (ffn ? s->width[l] > 0 : s->n_heads[l] > 0)
                continue;
            snprintf(name, sizeof name, "blk.%" PRIu64 ".%s", l,
                     tensor_role_name(ffn ? TENSOR_DOWN_BIAS : TENSOR_O_BIAS));
            if (gguf_tensor_find(gguf, name) == NULL)
                continue;
            err_set(err, ERR_NO,
                    "%s: this file is for kerf alone: layer %" PRIu64 " has a mean output in place "
                    "of its %s (%s), which no other engine adds",
                    gguf_path(gguf), l, ffn ? "FFN" : "attention", name);
            return -1;
        }
    }
    return 0;
}

/* Float activations beside quantized weights: engines would take others. */
static int check_activations(const struct gguf *gguf, struct err *err)
{
    if (gguf_type_of(gguf, "kerf.activations") < 0)
        return 0;
    err_set(err, ERR_NO,
            "%s: this file is for kerf alone: some quantized units take float activations "
            "(kerf.activations), which no other engine gives them",
            gguf_path(gguf));
    return -1;
}

static int check_layers(const struct gguf *gguf, const struct shape *s, struct err *err)
{
    if (s->n_heads[0] == 0)
        return refuse(gguf, err, "layer 0 has no attention; head sizes are taken from it");
    for (uint64_t l = 0; l < s->n_layers; l++) {
        const char *rule = NULL;
        if (s->n_heads[l] > 0 && s->n_groups[l] == 0)
            rule = "has query heads without KV heads, which means something else to engines";
        else if (s->n_heads[l] > 0 && s->n_heads[l] % s->n_groups[l] != 0)
            rule = "has query heads that are no multiple of its KV heads";
        else if (s->n_heads[l] == 0 && s->n_groups[l] > 0)
            rule = "has KV heads without query heads";
        else if (s->width[l] == 0 && s->n_heads[l] > 0)
            rule = "has attention without an FFN: its output is thrown away; write a zero FFN";
        else if (s->width[l] == 0 && strcmp(s->arch, "llama") == 0)
            rule = "has no FFN";
        if (rule != NULL) {
            err_set(err, ERR_NO, "%s: layer %" PRIu64 " %s", gguf_path(gguf), l, rule);
            return -1;
        }
    }
    return 0;
}

/* Readers would otherwise divide the embedding by the heads of layer 0. */
static int check_head_size(const struct gguf *gguf, const struct shape *s, struct err *err)
{
    uint64_t key, value, rope;

    if (need_number(gguf, s->arch, "attention.key_length", &key, err) != 0 ||
        need_number(gguf, s->arch, "attention.value_length", &value, err) != 0 ||
        need_number(gguf, s->arch, "rope.dimension_count", &rope, err) != 0)
        return -1;
    if (key != value || key != rope)
        return refuse(gguf, err, "key_length, value_length and rope.dimension_count differ");
    if (key == 0 || key % 2 != 0)
        return refuse(gguf, err, "the head size is odd");
    return 0;
}

static int check_vocabulary(const struct gguf *gguf, struct err *err)
{
    const struct gguf_tensor *embd = gguf_tensor_find(gguf, "token_embd.weight");
    struct gguf_text model;
    int found = gguf_get_text(gguf, "tokenizer.ggml.model", &model, err);

    if (found < 0)
        return -1;
    if (found == 0)
        return refuse(gguf, err, "there is no tokenizer in it");
    if (embd != NULL && gguf_array_length(gguf, "tokenizer.ggml.tokens") != (int64_t)embd->dims[1])
        return refuse(gguf, err, "the vocabulary has another length than the embedding");
    return 0;
}

static int check_rows(const struct gguf *gguf, struct err *err)
{
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        if (!profile_row_is_safe(t->format, t->dims[0])) {
            err_set(err, ERR_NO,
                    "%s: tensor %.*s has rows of one %s block, which llama.cpp gets "
                    "wrong on processors with AMX",
                    gguf_path(gguf), (int)t->name.length, t->name.data, format_name(t->format));
            return -1;
        }
    }
    return 0;
}

int export_verify(const char *path, struct err *err)
{
    struct gguf *gguf = gguf_open(path, err);
    struct shape shape;

    if (gguf == NULL)
        return -1;
    int status = -1;
    if (read_shape(gguf, &shape, err) == 0 && check_left_behind(gguf, &shape, err) == 0 &&
        check_activations(gguf, err) == 0 && check_layers(gguf, &shape, err) == 0 &&
        check_head_size(gguf, &shape, err) == 0 && check_vocabulary(gguf, err) == 0 &&
        check_rows(gguf, err) == 0)
        status = 0;
    gguf_close(gguf);
    if (status != 0)
        return -1;
    /* Tensors, their shapes and formats: what kerf can read is what it can vouch for. */
    struct parent *parent = parent_open(path, err);
    parent_close(parent);
    return parent != NULL ? 0 : -1;
}
