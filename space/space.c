/* space.c - limits become genes. */
#include "space/space_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- the residual stream -------------------------------------------------------------------- */

uint32_t space_hidden_grid(const struct geometry *g)
{
    static const uint32_t steps[] = {256, 32, 4};

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (g->d_model % steps[i] == 0 && g->d_model / steps[i] >= 8)
            return steps[i];
    return 1;
}

uint32_t space_hidden_width(const struct geometry *g, double share)
{
    uint32_t grid = space_hidden_grid(g);

    return (uint32_t)lround(share * g->d_model / grid) * grid;
}

uint32_t space_basis_value(uint32_t width, enum rotation rotation)
{
    return 2 * width + (rotation == ROTATION_NONE);
}

void space_basis_of(uint32_t value, uint32_t *width, enum rotation *rotation)
{
    *width = value / 2;
    *rotation = value % 2 == 1 ? ROTATION_NONE : ROTATION_HADAMARD;
}

/* ---- levels --------------------------------------------------------------------------------- */

/* The values that a gene can take, ascending. */
struct levels {
    uint32_t value[SPACE_MAX_LEVELS];
    uint32_t n;
};

static void push(struct levels *levels, uint32_t value)
{
    assert(levels->n < SPACE_MAX_LEVELS);
    levels->value[levels->n++] = value;
}

static struct levels kv_levels(const struct space_limits *limits)
{
    struct levels levels = {.n = 0};

    if (limits->drop_attn && limits->profile != PROFILE_GGUF)
        push(&levels, 0);
    for (uint32_t i = 0; i < limits->n_kv_groups; i++)
        push(&levels, limits->kv_groups[i]);
    return levels;
}

/* Widths from `least` up to d_ff on a grid of `step`, with d_ff itself; NULL only counts them. */
static uint32_t list_widths(uint32_t least, uint32_t d_ff, uint32_t grid, uint32_t step,
                            struct levels *levels)
{
    uint32_t below = (d_ff - 1) / grid * grid, n = 0, lowest = 0;

    /* Where d_ff is on the grid, steps are counted from it, else from the first width below. */
    if (d_ff % grid == 0)
        below = d_ff > step ? d_ff - step : 0;
    for (uint32_t w = below; w >= least && w > 0; w -= step < w ? step : w)
        n++, lowest = w;
    if (levels != NULL) {
        for (uint32_t i = 0; i < n; i++)
            push(levels, lowest + i * step);
        push(levels, d_ff);
    }
    return n + 1;
}

static struct levels ffn_levels(const struct space_limits *limits, const struct geometry *g)
{
    struct levels levels = {.n = 0};
    uint32_t least = (uint32_t)ceil(limits->min_ffn * g->d_ff - 1e-9);
    uint32_t step = limits->ffn_grid;

    if (limits->drop_ffn && limits->profile != PROFILE_GGUF)
        push(&levels, 0);
    while (list_widths(least, g->d_ff, limits->ffn_grid, step, NULL) > SPACE_MAX_LEVELS - levels.n)
        step += limits->ffn_grid;
    list_widths(least, g->d_ff, limits->ffn_grid, step, &levels);
    return levels;
}

/* A narrower stream is in a basis of its own anyway, and turned it can be rounded better; the full
 * one is there as it is, and turned if the study says so. */
static struct levels basis_levels(const struct space_limits *limits, const struct geometry *g)
{
    struct levels levels = {.n = 0};

    for (uint32_t i = 0; i < limits->n_hidden; i++)
        if (limits->hidden[i] < 1.0 || limits->rotation == ROTATION_HADAMARD)
            push(&levels,
                 space_basis_value(space_hidden_width(g, limits->hidden[i]), ROTATION_HADAMARD));
    push(&levels, space_basis_value(g->d_model, ROTATION_NONE));
    return levels;
}

/* Formats of the KV cache that heads can be kept in; in blocks of 32 or not at all, so what does
 * not fit is F16. */
static struct levels cache_levels(const struct space_limits *limits, const struct geometry *g)
{
    struct levels levels = {.n = 0};

    for (uint32_t i = 0; i < limits->n_kv; i++) {
        enum format format = format_fallback(limits->kv[i], g->head_dim);

        if (levels.n == 0 || levels.value[levels.n - 1] != (uint32_t)format)
            push(&levels, format);
    }
    return levels;
}

static struct levels act_levels(const struct space_limits *limits)
{
    struct levels levels = {.n = 0};

    for (uint32_t i = 0; i < limits->n_act; i++)
        push(&levels, limits->act[i]);
    return levels;
}

static bool same_on_rows(enum profile profile, enum format a, enum format b, const uint32_t *rows,
                         uint32_t n_rows)
{
    for (uint32_t r = 0; r < n_rows; r++)
        if (profile_format(profile, a, rows[r]) != profile_format(profile, b, rows[r]))
            return false;
    return true;
}

/* Formats from the coarsest to the finest; of those that fall to the same on every row that can
 * occur, the first one.  With a single row the level is what it falls to. */
static struct levels format_levels(enum profile profile, const enum format *types, uint32_t n_types,
                                   const uint32_t *rows, uint32_t n_rows)
{
    struct levels levels = {.n = 0};

    for (uint32_t t = 0; t < n_types; t++) {
        bool known = false;

        for (uint32_t i = 0; i < levels.n; i++)
            known = known ||
                    same_on_rows(profile, (enum format)levels.value[i], types[t], rows, n_rows);
        if (!known)
            push(&levels, n_rows == 1 ? profile_format(profile, types[t], rows[0]) : types[t]);
    }
    return levels;
}

/* ---- genes ---------------------------------------------------------------------------------- */

static void add_gene(struct space *space, enum gene_kind kind, int32_t layer, uint32_t unit,
                     const struct levels *levels)
{
    struct gene *gene = &space->gene[space->n_genes];

    assert(levels->n >= 1 && space->n_genes < SPACE_MAX_GENES);
    if (levels->n == 1) {
        space->fixed[kind] = levels->value[0];
        return;
    }
    *gene = (struct gene){.kind = kind, .layer = layer, .unit = unit, .n_levels = levels->n};
    memcpy(gene->value, levels->value, sizeof gene->value);
    space->gene_of[layer < 0 ? GLOBAL_ROW : layer][kind] = (int32_t)space->n_genes++;
}

/* The row lengths of o, or of down, that the kept levels of a width gene lead to. */
static uint32_t rows_of(const struct levels *widths, uint32_t scale, uint32_t *rows)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < widths->n; i++)
        if (widths->value[i] > 0)
            rows[n++] = widths->value[i] * scale;
    return n;
}

static void add_genes(struct space *space)
{
    const struct space_limits *limits = &space->limits;
    const struct geometry *g = &space->geometry;
    bool uniform = limits->profile == PROFILE_GGUF;
    uint32_t o_rows[SPACE_MAX_LEVELS], down_rows[SPACE_MAX_LEVELS], n_o, n_down;
    uint32_t in_rows[SPACE_MAX_LEVELS], n_in = 0;
    struct levels kv = kv_levels(limits), ffn = ffn_levels(limits, g);
    struct levels basis = basis_levels(limits, g);
    struct levels cache = cache_levels(limits, g), act = act_levels(limits);
    struct levels in, o, down, embd;
    const struct levels keep = {.value = {0, 1}, .n = 2};
    const uint32_t global_unit = 2 * g->n_layers;

    n_o = rows_of(&kv, g->n_heads / g->n_kv_heads * g->head_dim, o_rows);
    n_down = rows_of(&ffn, 1, down_rows);
    for (uint32_t i = 0; i < limits->n_hidden; i++)
        in_rows[n_in++] = space_hidden_width(g, limits->hidden[i]);
    in = format_levels(limits->profile, limits->types, limits->n_types, in_rows, n_in);
    o = format_levels(limits->profile, limits->types, limits->n_types, o_rows, n_o);
    down = format_levels(limits->profile, limits->types, limits->n_types, down_rows, n_down);
    embd = format_levels(limits->profile, limits->embd_types, limits->n_embd_types, in_rows, n_in);

    for (uint32_t l = 0; l < g->n_layers; l++) {
        int32_t layer = (int32_t)l;

        if (uniform && limits->drop_attn && limits->min_layers < g->n_layers)
            add_gene(space, GENE_LAYER, layer, 2 * l, &keep);
        if (!uniform) {
            struct levels own = kv;

            /* The loader takes the head size from the first layer. */
            if (limits->profile == PROFILE_GGUF_HETERO && l == 0 && kv.value[0] == 0) {
                own.n--;
                memmove(own.value, own.value + 1, own.n * sizeof own.value[0]);
            }
            add_gene(space, GENE_KV_GROUPS, layer, 2 * l, &own);
        }
        add_gene(space, GENE_QKV, layer, 2 * l, &in);
        add_gene(space, GENE_O, layer, 2 * l, &o);
        add_gene(space, GENE_ATTN_ACT, layer, 2 * l, &act);
        if (!uniform)
            add_gene(space, GENE_FFN_WIDTH, layer, 2 * l + 1, &ffn);
        add_gene(space, GENE_GATE_UP, layer, 2 * l + 1, &in);
        add_gene(space, GENE_DOWN, layer, 2 * l + 1, &down);
        add_gene(space, GENE_FFN_ACT, layer, 2 * l + 1, &act);
    }
    if (uniform) {
        add_gene(space, GENE_KV_GROUPS, -1, global_unit, &kv);
        add_gene(space, GENE_FFN_WIDTH, -1, global_unit, &ffn);
    }
    add_gene(space, GENE_EMBD, -1, global_unit, &embd);
    add_gene(space, GENE_BASIS, -1, global_unit, &basis);
    add_gene(space, GENE_KV, -1, global_unit, &cache);
}

int space_init(struct space *space, const struct geometry *geometry,
               const struct space_limits *limits, struct err *err)
{
    struct space_limits filled = *limits;
    struct geometry checked = *geometry;

    memset(space, 0, sizeof *space);
    if (geometry_check(&checked, err) != 0)
        return -1;
    if (space_limits_fill(&filled, &checked, err) != 0)
        return -1;
    space->geometry = checked;
    space->limits = filled;
    space->n_units = 2 * checked.n_layers + 1;
    memset(space->gene_of, -1, sizeof space->gene_of);
    space->fixed[GENE_LAYER] = 1;
    add_genes(space);
    if (space->n_genes == 0) {
        err_set(err, ERR_CONFIG,
                "/space: these limits leave nothing to choose; allow a second format or width");
        return -1;
    }
    return 0;
}

int32_t space_gene_of(const struct space *space, enum gene_kind kind, int32_t layer)
{
    int32_t own = layer < 0 ? -1 : space->gene_of[layer][kind];

    return own >= 0 ? own : space->gene_of[GLOBAL_ROW][kind];
}
