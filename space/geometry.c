/* geometry.c - limits of what a parent may look like; everything later trusts these numbers. */
#include "space/geometry.h"

#include "space/base/err.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Far above any real model, and small enough that a product of two fits 64 bits with room. */
enum {
    MAX_D_MODEL = 1 << 18,
    MAX_HEADS = 1 << 14,
    MAX_HEAD_DIM = 1 << 12,
    MAX_D_FF = 1 << 22,
    MAX_VOCAB = 1 << 24,
    MAX_CTX = 1 << 24,
};

static int check_size(const char *name, uint32_t value, uint32_t most, struct err *err)
{
    if (value >= 1 && value <= most)
        return 0;
    err_set(err, ERR_DATA, "geometry: %s is %u, allowed is 1 to %u", name, value, most);
    return -1;
}

int geometry_check(const struct geometry *g, struct err *err)
{
    if (check_size("number of layers", g->n_layers, GEOMETRY_MAX_LAYERS, err) != 0 ||
        check_size("model width", g->d_model, MAX_D_MODEL, err) != 0 ||
        check_size("number of query heads", g->n_heads, MAX_HEADS, err) != 0 ||
        check_size("number of KV heads", g->n_kv_heads, MAX_HEADS, err) != 0 ||
        check_size("head size", g->head_dim, MAX_HEAD_DIM, err) != 0 ||
        check_size("FFN width", g->d_ff, MAX_D_FF, err) != 0 ||
        check_size("vocabulary", g->n_vocab, MAX_VOCAB, err) != 0 ||
        check_size("context", g->n_ctx, MAX_CTX, err) != 0)
        return -1;
    if (g->n_heads % g->n_kv_heads != 0) {
        err_set(err, ERR_DATA, "geometry: %u query heads cannot be shared by %u KV heads",
                g->n_heads, g->n_kv_heads);
        return -1;
    }
    /* Rotary embedding turns pairs of values. */
    if (g->head_dim % 2 != 0) {
        err_set(err, ERR_DATA, "geometry: head size is %u, it must be even", g->head_dim);
        return -1;
    }
    if ((uint64_t)g->n_heads * g->head_dim > MAX_D_FF) {
        err_set(err, ERR_DATA, "geometry: %u heads of %u are wider than %d", g->n_heads,
                g->head_dim, MAX_D_FF);
        return -1;
    }
    if (!(g->rms_eps > 0.0F && g->rms_eps < 1.0F)) {
        err_set(err, ERR_DATA, "geometry: RMS epsilon is %g, it must lie in (0, 1)",
                (double)g->rms_eps);
        return -1;
    }
    if (!(g->rope_base >= 1.0F && isfinite(g->rope_base))) {
        err_set(err, ERR_DATA, "geometry: RoPE base is %g, it must be finite and at least 1",
                (double)g->rope_base);
        return -1;
    }
    return 0;
}

uint32_t geometry_grid(const struct geometry *g)
{
    static const uint32_t steps[] = {256, 32, 4};

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (g->d_ff % steps[i] == 0 && g->d_model % steps[i] == 0)
            return steps[i];
    return 1;
}

const char *geometry_describe(const struct geometry *g, char text[160])
{
    snprintf(text, 160, "dim %u, %u layers, %u/%u heads of %u, FFN %u, vocabulary %u", g->d_model,
             g->n_layers, g->n_heads, g->n_kv_heads, g->head_dim, g->d_ff, g->n_vocab);
    return text;
}

int geometry_parse(const char *text, struct geometry *g, struct err *err)
{
    struct geometry read = {.n_ctx = GEOMETRY_USUAL_CTX, .rms_eps = 1e-5F, .rope_base = 10000.0F};
    char again[160];

    /* What it reads is what it would write: no sign, no blanks, nothing behind. */
    if (sscanf(text, "dim %u, %u layers, %u/%u heads of %u, FFN %u, vocabulary %u", &read.d_model,
               &read.n_layers, &read.n_heads, &read.n_kv_heads, &read.head_dim, &read.d_ff,
               &read.n_vocab) != 7 ||
        strcmp(geometry_describe(&read, again), text) != 0) {
        err_set(err, ERR_USAGE,
                "geometry: '%.100s', expected a text such as \"dim 2048, 22 layers, 32/4 heads of "
                "64, FFN 5632, vocabulary 32000\"",
                text);
        return -1;
    }
    if (geometry_check(&read, err) != 0)
        return -1;
    *g = read;
    return 0;
}
