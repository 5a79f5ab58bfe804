/* train_export.c - the parts of the parameter vector under their names. */
#include "evaluator/reference/train_export.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/formats/gguf.h"
#include "evaluator/formats/gguf_write.h"
#include "space/base/err.h"

enum { FILE_TYPE_BF16 = 32 }; /* general.file_type of a model that is mostly BF16 */

/* Round to nearest even; weights are finite. */
static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static int put_keys(struct gguf_writer *w, const struct train_geometry *g, struct err *err)
{
    const struct {
        const char *key;
        size_t value;
    } counts[] = {
        {"general.file_type", FILE_TYPE_BF16},
        {"llama.block_count", g->n_layers},
        {"llama.context_length", g->context},
        {"llama.embedding_length", g->dim},
        {"llama.feed_forward_length", g->ffn},
        {"llama.attention.head_count", g->n_heads},
        {"llama.attention.head_count_kv", g->n_kv_heads},
        {"llama.attention.key_length", g->head_size},
        {"llama.attention.value_length", g->head_size},
        {"llama.rope.dimension_count", g->head_size},
        {"llama.vocab_size", g->vocab},
    };
    if (gguf_put_text(w, "general.architecture", "llama", err) != 0 ||
        gguf_put_text(w, "general.name", "kerf-reference", err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (gguf_put_u32(w, counts[i].key, (uint32_t)counts[i].value, err) != 0)
            return -1;
    }
    if (gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", g->norm_eps, err) != 0)
        return -1;
    return gguf_put_f32(w, "llama.rope.freq_base", g->rope_base, err);
}

static int put_vocab(struct gguf_writer *w, const struct gguf *vocab, struct err *err)
{
    static const char prefix[] = "tokenizer.";
    for (size_t i = 0; i < gguf_n_keys(vocab); i++) {
        struct gguf_text key = gguf_key_at(vocab, i);
        char name[128];
        if (key.length < sizeof prefix || key.length >= sizeof name ||
            memcmp(key.data, prefix, sizeof prefix - 1) != 0)
            continue;
        memcpy(name, key.data, key.length);
        name[key.length] = '\0';
        if (gguf_put_copy(w, vocab, name, err) != 0)
            return -1;
    }
    return 0;
}

struct source {
    const float *weights;
    uint16_t *bf16; /* all parameters, rounded; the writer borrows them until it has saved */
};

static int put_matrix(struct gguf_writer *w, const char *name, const struct source *from,
                      size_t offset, size_t n_out, size_t n_in, struct err *err)
{
    return gguf_put_tensor(w, name, FORMAT_BF16, n_in, n_out, from->bf16 + offset, err);
}

static int put_gain(struct gguf_writer *w, const char *name, const struct source *from,
                    size_t offset, size_t dim, struct err *err)
{
    return gguf_put_tensor(w, name, FORMAT_F32, dim, 1, from->weights + offset, err);
}

static int put_layer(struct gguf_writer *w, const struct train_geometry *g, size_t layer,
                     const struct source *from, struct err *err)
{
    struct train_layer_layout at = train_geometry_layer(g, layer);
    size_t dim = g->dim, width = train_geometry_att_width(g);
    size_t kv_rows = g->n_kv_heads * g->head_size;
    const struct {
        const char *name;
        size_t offset, n_out, n_in; /* n_out 0: a gain */
    } tensors[] = {
        {"attn_norm", at.attn_norm, 0, dim},
        {"attn_q", at.qkv, width, dim},
        {"attn_k", at.qkv + width * dim, kv_rows, dim},
        {"attn_v", at.qkv + (width + kv_rows) * dim, kv_rows, dim},
        {"attn_output", at.attn_out, dim, width},
        {"ffn_norm", at.ffn_norm, 0, dim},
        {"ffn_gate", at.gate_up, g->ffn, dim},
        {"ffn_up", at.gate_up + g->ffn * dim, g->ffn, dim},
        {"ffn_down", at.down, dim, g->ffn},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%zu.%s.weight", layer, tensors[i].name);
        int failed = tensors[i].n_out == 0 ? put_gain(w, name, from, tensors[i].offset, dim, err)
                                           : put_matrix(w, name, from, tensors[i].offset,
                                                        tensors[i].n_out, tensors[i].n_in, err);
        if (failed != 0)
            return -1;
    }
    return 0;
}

static int put_tensors(struct gguf_writer *w, const struct train_geometry *g,
                       const struct source *from, struct err *err)
{
    if (put_matrix(w, "token_embd.weight", from, 0, g->vocab, g->dim, err) != 0)
        return -1;
    for (size_t l = 0; l < g->n_layers; l++) {
        if (put_layer(w, g, l, from, err) != 0)
            return -1;
    }
    return put_gain(w, "output_norm.weight", from, train_geometry_output_norm(g), g->dim, err);
}

int train_export(const char *path, const struct train_geometry *g, const float *weights,
                 const struct gguf *vocab, struct err *err)
{
    size_t n = train_geometry_n_params(g);
    struct source from = {weights, malloc(n * sizeof *from.bf16)};
    struct gguf_writer *w = gguf_writer_create(err);
    int result = -1;
    if (from.bf16 == NULL)
        err_set(err, ERR_MEMORY, "out of memory for %zu weights in BF16", n);
    if (from.bf16 == NULL || w == NULL)
        goto done;
    for (size_t i = 0; i < n; i++)
        from.bf16[i] = to_bf16(weights[i]);
    if (put_keys(w, g, err) == 0 && (vocab == NULL || put_vocab(w, vocab, err) == 0) &&
        put_tensors(w, g, &from, err) == 0)
        result = gguf_writer_save(w, path, err);
done:
    gguf_writer_destroy(w);
    free(from.bf16);
    return result;
}
