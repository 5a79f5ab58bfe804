/* parent_file.h - a random model of model_fixture.h as a GGUF of architecture `llama`, with a small
 * vocabulary of GGUF's `llama` kind that kerf's tokenizer and stock engines both take, and a
 * temporary folder to put it in. */
#ifndef KERF_PARENT_FILE_H
#define KERF_PARENT_FILE_H

#include "evaluator/formats/gguf_write.h"
#include "space/base/err.h"
#include "tests/model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Three control pieces, 256 bytes, then made-up words until n_vocab (at least 260). */
__attribute__((unused)) static void parent_file_vocabulary(struct gguf_writer *w, uint32_t n_vocab)
{
    char(*text)[16] = calloc(n_vocab, sizeof *text);
    const char **piece = calloc(n_vocab, sizeof *piece);
    size_t *length = calloc(n_vocab, sizeof *length);
    float *score = calloc(n_vocab, sizeof *score);
    int32_t *type = calloc(n_vocab, sizeof *type);

    for (uint32_t i = 0; i < n_vocab; i++) {
        static const char *const control[3] = {"<unk>", "<s>", "</s>"};
        if (i < 3)
            snprintf(text[i], sizeof text[i], "%s", control[i]);
        else if (i < 259)
            snprintf(text[i], sizeof text[i], "<0x%02X>", i - 3);
        else
            snprintf(text[i], sizeof text[i], "\xe2\x96\x81w%u", i);
        type[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        score[i] = i < 259 ? 0.0F : -(float)i;
        piece[i] = text[i];
        length[i] = strlen(text[i]);
    }
    gguf_put_text(w, "tokenizer.ggml.model", "llama", NULL);
    gguf_put_text_array(w, "tokenizer.ggml.tokens", piece, length, n_vocab, NULL);
    gguf_put_f32_array(w, "tokenizer.ggml.scores", score, n_vocab, NULL);
    gguf_put_i32_array(w, "tokenizer.ggml.token_type", type, n_vocab, NULL);
    gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0, NULL);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1, NULL);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2, NULL);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", 1, NULL);
    free(type);
    free(score);
    free(length);
    free(piece);
    free(text);
}

__attribute__((unused)) static void parent_file_matrix(struct gguf_writer *w, const char *layer,
                                                       const char *name, const struct weights *m)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s.weight", layer, name);
    gguf_put_tensor(w, full, m->format, m->n_in, m->n_out, m->data, NULL);
}

__attribute__((unused)) static void parent_file_norm(struct gguf_writer *w, const char *layer,
                                                     const char *name, const float *gain, size_t n)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s.weight", layer, name);
    gguf_put_tensor(w, full, FORMAT_F32, n, 1, gain, NULL);
}

__attribute__((unused)) static void parent_file_keys(struct gguf_writer *w,
                                                     const struct geometry *g)
{
    gguf_put_text(w, "general.architecture", "llama", NULL);
    gguf_put_text(w, "general.name", "fixture", NULL);
    gguf_put_text(w, "general.license", "Apache-2.0", NULL);
    gguf_put_u32(w, "llama.block_count", g->n_layers, NULL);
    gguf_put_u32(w, "llama.context_length", g->n_ctx, NULL);
    gguf_put_u32(w, "llama.embedding_length", g->d_model, NULL);
    gguf_put_u32(w, "llama.feed_forward_length", g->d_ff, NULL);
    gguf_put_u32(w, "llama.attention.head_count", g->n_heads, NULL);
    gguf_put_u32(w, "llama.attention.head_count_kv", g->n_kv_heads, NULL);
    gguf_put_u32(w, "llama.attention.key_length", g->head_dim, NULL);
    gguf_put_u32(w, "llama.attention.value_length", g->head_dim, NULL);
    gguf_put_u32(w, "llama.rope.dimension_count", g->head_dim, NULL);
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", g->rms_eps, NULL);
    gguf_put_f32(w, "llama.rope.freq_base", g->rope_base, NULL);
    gguf_put_u32(w, "llama.vocab_size", g->n_vocab, NULL);
    parent_file_vocabulary(w, g->n_vocab);
}

/* A dense model (every unit whole) as a file.  Aborts when it cannot be written. */
__attribute__((unused)) static void parent_file_write(const char *path, const struct model *model)
{
    const struct geometry *g = &model->geometry;
    struct gguf_writer *w = gguf_writer_create(NULL);
    struct err err;

    if (w == NULL)
        abort();
    parent_file_keys(w, g);
    parent_file_matrix(w, "", "token_embd", &model->embd);
    parent_file_norm(w, "", "output_norm", model->out_norm, g->d_model);
    if (!g->tied)
        parent_file_matrix(w, "", "output", &model->head);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        char layer[40];

        snprintf(layer, sizeof layer, "blk.%u.", l);
        parent_file_norm(w, layer, "attn_norm", a->norm, g->d_model);
        parent_file_matrix(w, layer, "attn_q", &a->q);
        parent_file_matrix(w, layer, "attn_k", &a->k);
        parent_file_matrix(w, layer, "attn_v", &a->v);
        parent_file_matrix(w, layer, "attn_output", &a->o);
        parent_file_norm(w, layer, "ffn_norm", f->norm, g->d_model);
        parent_file_matrix(w, layer, "ffn_gate", &f->gate);
        parent_file_matrix(w, layer, "ffn_up", &f->up);
        parent_file_matrix(w, layer, "ffn_down", &f->down);
        snprintf(layer, sizeof layer, "blk.%u.attn_output.bias", l);
        if (a->bias != NULL)
            gguf_put_tensor(w, layer, FORMAT_F32, g->d_model, 1, a->bias, NULL);
        snprintf(layer, sizeof layer, "blk.%u.ffn_down.bias", l);
        if (f->bias != NULL)
            gguf_put_tensor(w, layer, FORMAT_F32, g->d_model, 1, f->bias, NULL);
    }
    if (gguf_writer_save(w, path, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    gguf_writer_destroy(w);
}

/* A fresh folder under TMPDIR; folder_remove takes it away with all that is in it. */
__attribute__((unused)) static void folder_make(char folder[256])
{
    const char *tmp = getenv("TMPDIR");

    snprintf(folder, 256, "%.200s/kerf-test-XXXXXX", tmp != NULL && tmp[0] != 0 ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        abort();
}

__attribute__((unused)) static void folder_remove(const char *folder)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", folder);
}

__attribute__((unused)) static const char *folder_path(const char *folder, const char *name,
                                                       char path[512])
{
    snprintf(path, 512, "%s/%s", folder, name);
    return path;
}

#endif
