/* train_geometry.c - see the header for the layout. */
#include "evaluator/reference/train_geometry.h"

#include <assert.h>

#include "space/base/err.h"

enum { PARTS_PER_LAYER = 6 };

struct train_geometry train_geometry_default(void)
{
    return (struct train_geometry){
        .vocab = 1536,
        .dim = 256,
        .n_layers = 8,
        .n_heads = 16,
        .n_kv_heads = 4,
        .head_size = 32,
        .ffn = 1024,
        .context = 512,
        .norm_eps = 1e-5f,
        .rope_base = 10000.0f,
    };
}

int train_geometry_check(const struct train_geometry *g, struct err *err)
{
    /* Far above anything this trainer is for, far below what overflows the arithmetic. */
    const size_t limit = 65536;
    const struct {
        const char *name;
        size_t value;
    } fields[] = {
        {"vocab", g->vocab},
        {"dim", g->dim},
        {"layers", g->n_layers},
        {"heads", g->n_heads},
        {"kv-heads", g->n_kv_heads},
        {"head-size", g->head_size},
        {"ffn", g->ffn},
        {"context", g->context},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].value < 1 || fields[i].value > limit) {
            err_set(err, ERR_USAGE, "%s is %zu, expected 1 to %zu", fields[i].name, fields[i].value,
                    limit);
            return -1;
        }
    }
    if (g->n_heads % g->n_kv_heads != 0) {
        err_set(err, ERR_USAGE, "%zu heads are no multiple of %zu kv-heads", g->n_heads,
                g->n_kv_heads);
        return -1;
    }
    if (g->head_size % 2 != 0) {
        err_set(err, ERR_USAGE, "head-size %zu is odd, rotary positions turn pairs", g->head_size);
        return -1;
    }
    if (!(g->norm_eps > 0) || !(g->rope_base > 1)) {
        err_set(err, ERR_USAGE, "norm-eps must be above 0 and rope-base above 1");
        return -1;
    }
    return 0;
}

size_t train_geometry_qkv_rows(const struct train_geometry *g)
{
    return (g->n_heads + 2 * g->n_kv_heads) * g->head_size;
}

size_t train_geometry_att_width(const struct train_geometry *g)
{
    return g->n_heads * g->head_size;
}

static size_t layer_params(const struct train_geometry *g)
{
    return g->dim * (2 + train_geometry_qkv_rows(g) + train_geometry_att_width(g) + 3 * g->ffn);
}

struct train_layer_layout train_geometry_layer(const struct train_geometry *g, size_t layer)
{
    assert(layer < g->n_layers);
    struct train_layer_layout at;
    at.attn_norm = g->vocab * g->dim + layer * layer_params(g);
    at.qkv = at.attn_norm + g->dim;
    at.attn_out = at.qkv + train_geometry_qkv_rows(g) * g->dim;
    at.ffn_norm = at.attn_out + g->dim * train_geometry_att_width(g);
    at.gate_up = at.ffn_norm + g->dim;
    at.down = at.gate_up + 2 * g->ffn * g->dim;
    return at;
}

size_t train_geometry_output_norm(const struct train_geometry *g)
{
    return g->vocab * g->dim + g->n_layers * layer_params(g);
}

size_t train_geometry_n_params(const struct train_geometry *g)
{
    return train_geometry_output_norm(g) + g->dim;
}

size_t train_geometry_n_parts(const struct train_geometry *g)
{
    return 2 + PARTS_PER_LAYER * g->n_layers;
}

struct train_part train_geometry_part(const struct train_geometry *g, size_t index)
{
    assert(index < train_geometry_n_parts(g));
    if (index == 0)
        return (struct train_part){0, g->vocab, g->dim, 1};
    if (index == train_geometry_n_parts(g) - 1)
        return (struct train_part){train_geometry_output_norm(g), 1, g->dim, 0};

    struct train_layer_layout at = train_geometry_layer(g, (index - 1) / PARTS_PER_LAYER);
    const struct train_part parts[PARTS_PER_LAYER] = {
        {at.attn_norm, 1, g->dim, 0},
        {at.qkv, train_geometry_qkv_rows(g), g->dim, 1},
        {at.attn_out, g->dim, train_geometry_att_width(g), 1},
        {at.ffn_norm, 1, g->dim, 0},
        {at.gate_up, 2 * g->ffn, g->dim, 1},
        {at.down, g->dim, g->ffn, 1},
    };
    return parts[(index - 1) % PARTS_PER_LAYER];
}
