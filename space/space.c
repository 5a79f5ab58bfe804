/* space.c - limits become genes, level vectors become genomes. */
#include "space/space.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define GLOBAL_ROW GEOMETRY_MAX_LAYERS

/* ---- defaults ------------------------------------------------------------------------------- */

void space_default_limits(struct space_limits *limits, const struct geometry *g,
                          enum profile profile)
{
    static const enum format wide[] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_0, FORMAT_Q4_K,
                                       FORMAT_Q5_K, FORMAT_Q6_K, FORMAT_Q8_0};
    static const enum format narrow[] = {FORMAT_IQ4_NL, FORMAT_Q5_0, FORMAT_Q8_0};
    static const enum format odd[] = {FORMAT_F16};
    static const enum format kv[] = {FORMAT_Q4_0, FORMAT_Q8_0, FORMAT_F16};
    const enum format *types = odd;

    memset(limits, 0, sizeof *limits);
    limits->profile = profile;
    limits->n_types = 1;
    if (g->d_model % 256 == 0)
        types = wide, limits->n_types = sizeof wide / sizeof wide[0];
    else if (g->d_model % 32 == 0)
        types = narrow, limits->n_types = sizeof narrow / sizeof narrow[0];
    memcpy(limits->types, types, limits->n_types * sizeof types[0]);

    /* Errors of embedding and head touch every token: three levels from 4 bits up are enough. */
    for (uint32_t i = 0; i < limits->n_types; i++)
        if (format_bits(types[i]) >= 4.0 && types[i] != FORMAT_Q5_K && types[i] != FORMAT_Q5_0)
            limits->embd_types[limits->n_embd_types++] = types[i];
    limits->min_layers = (g->n_layers + 1) / 2;
    limits->drop_attn = limits->drop_ffn = true;
    limits->min_ffn = 0.25;
    if (space_hidden_grid(g) == 256)
        limits->hidden[limits->n_hidden++] = 0.875;
    limits->hidden[limits->n_hidden++] = 1.0;
    for (size_t i = 0; i < sizeof kv / sizeof kv[0]; i++)
        if (format_fits(kv[i], g->head_dim))
            limits->kv[limits->n_kv++] = kv[i];
    limits->act[limits->n_act++] = ACT_Q8;
    if (profile == PROFILE_NATIVE)
        limits->act[limits->n_act++] = ACT_FLOAT;
}

/* ---- checking the limits -------------------------------------------------------------------- */

/* Quantized types that no row of d_model fits would all silently become F16. */
static int check_types(const char *pointer, const enum format *types, uint32_t n,
                       enum profile profile, const struct geometry *g, struct err *err)
{
    if (n < 1 || n > N_FORMATS) {
        err_set(err, ERR_CONFIG, "%s: expected at least one format, such as \"Q4_K\"", pointer);
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        assert((int)types[i] >= 0 && (int)types[i] < N_FORMATS);
    for (uint32_t i = 0; i < n; i++)
        if (!format_is_quantized(types[i]) ||
            format_is_quantized(profile_format(profile, types[i], g->d_model)))
            return 0;
    err_set(err, ERR_CONFIG,
            "%s: no format of the list fits rows of %u weights, not even by its fallback; add "
            "\"F16\"",
            pointer, g->d_model);
    return -1;
}

static int check_kv_groups(const struct space_limits *limits, const struct geometry *g,
                           struct err *err)
{
    bool has_own = false;

    for (uint32_t i = 0; i < limits->n_kv_groups; i++) {
        if (limits->kv_groups[i] < 1 || limits->kv_groups[i] > g->n_kv_heads) {
            err_set(err, ERR_CONFIG,
                    "/space/kv_groups/%u: %u groups asked for, the parent has %u; expected counts "
                    "from 1 to %u",
                    i, limits->kv_groups[i], g->n_kv_heads, g->n_kv_heads);
            return -1;
        }
        has_own = has_own || limits->kv_groups[i] == g->n_kv_heads;
    }
    if (!has_own) {
        err_set(err, ERR_CONFIG, "/space/kv_groups: the parent's own count is missing; add %u",
                g->n_kv_heads);
        return -1;
    }
    return 0;
}

static int check_kv(const struct space_limits *limits, const struct geometry *g, struct err *err)
{
    bool fits = false;

    for (uint32_t i = 0; i < limits->n_kv; i++) {
        if (!format_is_cache(limits->kv[i]) || limits->kv[i] == FORMAT_F32) {
            err_set(err, ERR_CONFIG,
                    "/space/kv/%u: the KV cache is not kept in %s; expected F16, Q8_0 or Q4_0", i,
                    format_name(limits->kv[i]));
            return -1;
        }
        fits = fits || format_fits(limits->kv[i], g->head_dim);
    }
    if (fits)
        return 0;
    err_set(err, ERR_CONFIG, "/space/kv: heads of %u take no KV cache in blocks of 32; add \"F16\"",
            g->head_dim);
    return -1;
}

static int check_act(const struct space_limits *limits, struct err *err)
{
    for (uint32_t i = 0; i < limits->n_act; i++) {
        if (limits->act[i] == ACT_Q8 || limits->profile == PROFILE_NATIVE)
            continue;
        err_set(err, ERR_CONFIG,
                "/space/act/%u: under profile %s activations follow the weights; leave only "
                "\"a8\", or choose profile native",
                i, profile_name(limits->profile));
        return -1;
    }
    return 0;
}

static int check_hidden(const struct space_limits *limits, const struct geometry *g,
                        struct err *err)
{
    bool has_own = false;

    for (uint32_t i = 0; i < limits->n_hidden; i++) {
        double share = limits->hidden[i];

        if (!(share > 0.0 && share <= 1.0) || space_hidden_width(g, share) < 1) {
            err_set(err, ERR_CONFIG,
                    "/space/hidden/%u: %g is no share of the hidden width; expected more than 0, "
                    "at most 1",
                    i, share);
            return -1;
        }
        if (share < 1.0 && space_hidden_width(g, share) == g->d_model) {
            err_set(err, ERR_CONFIG,
                    "/space/hidden/%u: %g of %u is nearer to all of it than to another multiple of "
                    "%u; choose a smaller share",
                    i, share, g->d_model, space_hidden_grid(g));
            return -1;
        }
        has_own = has_own || share == 1.0;
    }
    if (!has_own) {
        err_set(err, ERR_CONFIG, "/space/hidden: the parent's own width is missing; add 1");
        return -1;
    }
    return 0;
}

static int check_limits(const struct space_limits *limits, const struct geometry *g,
                        struct err *err)
{
    if ((unsigned)limits->profile >= N_PROFILES) {
        err_set(err, ERR_CONFIG, "/target/profile: expected gguf, gguf-hetero or native");
        return -1;
    }
    if (check_types("/space/types", limits->types, limits->n_types, limits->profile, g, err) != 0 ||
        check_types("/space/embedding", limits->embd_types, limits->n_embd_types, limits->profile,
                    g, err) != 0)
        return -1;
    if (limits->min_layers < 1 || limits->min_layers > g->n_layers) {
        err_set(err, ERR_CONFIG,
                "/space/depth/min: %u layers asked for, the parent has %u; expected 1 to %u",
                limits->min_layers, g->n_layers, g->n_layers);
        return -1;
    }
    if (limits->profile == PROFILE_GGUF && limits->drop_attn != limits->drop_ffn) {
        err_set(err, ERR_CONFIG,
                "/space/drop: profile gguf drops whole layers; list \"attn\" and \"ffn\" or "
                "neither, or choose profile gguf-hetero");
        return -1;
    }
    if (!(limits->min_ffn > 0.0 && limits->min_ffn <= 1.0)) {
        err_set(err, ERR_CONFIG,
                "/space/ffn/min: %g is no share of the FFN width; expected more than 0, at most 1",
                limits->min_ffn);
        return -1;
    }
    if (limits->ffn_grid < 1 || limits->ffn_grid > g->d_ff) {
        err_set(err, ERR_CONFIG,
                "/space/ffn/grid: a step of %u does not fit the parent's FFN of %u; expected 1 to "
                "%u",
                limits->ffn_grid, g->d_ff, g->d_ff);
        return -1;
    }
    if ((unsigned)limits->rotation >= N_ROTATIONS) {
        err_set(err, ERR_CONFIG, "/space/rotation: expected none or hadamard");
        return -1;
    }
    if (check_kv_groups(limits, g, err) != 0 || check_hidden(limits, g, err) != 0 ||
        check_kv(limits, g, err) != 0)
        return -1;
    return check_act(limits, err);
}

/* Lists mean the same in any order and with repetitions: keep them ascending, each value once. */
static void settle_formats(enum format *types, uint32_t *n)
{
    bool listed[N_FORMATS] = {false};

    for (uint32_t i = 0; i < *n; i++)
        listed[types[i]] = true;
    *n = 0;
    for (int f = 0; f < N_FORMATS; f++)
        if (listed[f])
            types[(*n)++] = (enum format)f;
}

/* The cheaper first, each once. */
static void settle_acts(struct space_limits *limits)
{
    bool listed[N_ACT_FORMATS] = {false};

    for (uint32_t i = 0; i < limits->n_act; i++)
        listed[limits->act[i]] = true;
    limits->n_act = 0;
    if (listed[ACT_Q8])
        limits->act[limits->n_act++] = ACT_Q8;
    if (listed[ACT_FLOAT])
        limits->act[limits->n_act++] = ACT_FLOAT;
}

static void settle_kv_groups(struct space_limits *limits)
{
    uint32_t *groups = limits->kv_groups, n = 0;

    /* Insertion sort that leaves out what is there already. */
    for (uint32_t i = 0; i < limits->n_kv_groups; i++) {
        uint32_t value = groups[i], at = 0;

        while (at < n && groups[at] < value)
            at++;
        if (at < n && groups[at] == value)
            continue;
        memmove(groups + at + 1, groups + at, (n - at) * sizeof *groups);
        groups[at] = value;
        n++;
    }
    limits->n_kv_groups = n;
}

/* Shares ascending; of those that lead to one width the first. */
static void settle_hidden(struct space_limits *limits, const struct geometry *g)
{
    double *shares = limits->hidden;
    uint32_t n = 0;

    for (uint32_t i = 0; i < limits->n_hidden; i++) {
        double share = shares[i];
        uint32_t at = 0, width = space_hidden_width(g, share);

        while (at < n && space_hidden_width(g, shares[at]) < width)
            at++;
        if (at < n && space_hidden_width(g, shares[at]) == width)
            continue;
        memmove(shares + at + 1, shares + at, (n - at) * sizeof *shares);
        shares[at] = share;
        n++;
    }
    limits->n_hidden = n;
}

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
    if (filled.ffn_grid == 0)
        filled.ffn_grid = geometry_grid(&checked);
    if (filled.n_kv_groups == 0) {
        filled.kv_groups[filled.n_kv_groups++] = checked.n_kv_heads;
        if (checked.n_kv_heads >= 2)
            filled.kv_groups[filled.n_kv_groups++] = checked.n_kv_heads / 2;
    }
    if (filled.n_hidden == 0)
        filled.hidden[filled.n_hidden++] = 1.0;
    if (filled.n_kv == 0)
        filled.kv[filled.n_kv++] = FORMAT_F16;
    if (filled.n_act == 0)
        filled.act[filled.n_act++] = ACT_Q8;
    if (check_limits(&filled, &checked, err) != 0)
        return -1;

    settle_formats(filled.types, &filled.n_types);
    settle_formats(filled.embd_types, &filled.n_embd_types);
    settle_formats(filled.kv, &filled.n_kv);
    settle_acts(&filled);
    settle_kv_groups(&filled);
    settle_hidden(&filled, &checked);
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

/* ---- level vectors -------------------------------------------------------------------------- */

static uint32_t value_of(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                         int32_t layer)
{
    int32_t gene = space_gene_of(space, kind, layer);

    return gene < 0 ? space->fixed[kind] : space->gene[gene].value[levels[gene]];
}

/* KV groups (or FFN width) of a layer; 0 when the unit or the layer is dropped. */
static uint32_t unit_size(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                          int32_t layer)
{
    return value_of(space, levels, GENE_LAYER, layer) ? value_of(space, levels, kind, layer) : 0;
}

static bool layer_kept(const struct space *space, const uint8_t *levels, int32_t layer)
{
    return unit_size(space, levels, GENE_KV_GROUPS, layer) > 0 ||
           unit_size(space, levels, GENE_FFN_WIDTH, layer) > 0;
}

/* Width of the residual stream, and how it is turned. */
static uint32_t hidden_of(const struct space *space, const uint8_t *levels, enum rotation *rotation)
{
    uint32_t width;

    space_basis_of(value_of(space, levels, GENE_BASIS, -1), &width, rotation);
    return width;
}

/* The lowest level with the same effect on rows of `row` weights; 0 for a unit that is gone. */
static void settle_format(const struct space *space, uint8_t *levels, enum gene_kind kind,
                          int32_t layer, uint32_t row)
{
    int32_t index = space->gene_of[layer < 0 ? GLOBAL_ROW : layer][kind];
    const struct gene *gene = &space->gene[index < 0 ? 0 : index];
    uint8_t level = 0;

    if (index < 0)
        return;
    if (row > 0) {
        enum profile profile = space->limits.profile;
        enum format effect = profile_format(profile, (enum format)gene->value[levels[index]], row);

        while (profile_format(profile, (enum format)gene->value[level], row) != effect)
            level++;
    }
    levels[index] = level;
}

/* What rows of `row` weights are kept in; any format for a unit that is gone (`row` 0). */
static enum format format_of(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                             int32_t layer, uint32_t row)
{
    enum format format = (enum format)value_of(space, levels, kind, layer);

    return row > 0 ? profile_format(space->limits.profile, format, row) : format;
}

/* Activations say nothing where no matrix of the unit is quantized, or the unit is gone. */
static void settle_act(const struct space *space, uint8_t *levels, enum gene_kind kind,
                       int32_t layer, bool is_quantized)
{
    int32_t index = space->gene_of[layer][kind];

    if (index >= 0 && !is_quantized)
        levels[index] = 0;
}

/* Whether the matrices that `kind` decides are kept and quantized, with rows of `row` weights. */
static bool is_quantized(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                         int32_t layer, uint32_t row)
{
    return row > 0 && format_is_quantized(format_of(space, levels, kind, layer, row));
}

void space_repair(const struct space *space, uint8_t *levels)
{
    const struct geometry *g = &space->geometry;
    const uint32_t head_columns = g->n_heads / g->n_kv_heads * g->head_dim;
    const int32_t n_layers = (int32_t)g->n_layers;
    enum rotation rotation;
    uint32_t kept = 0, hidden;
    bool has_attn = false;

    for (uint32_t i = 0; i < space->n_genes; i++)
        if (levels[i] >= space->gene[i].n_levels)
            levels[i] = (uint8_t)(space->gene[i].n_levels - 1);

    /* A dropped layer can come back by its keep gene, or by its FFN, whose level 0 is "dropped". */
    for (int32_t l = 0; l < n_layers; l++)
        kept += layer_kept(space, levels, l);
    for (int32_t l = 0; l < n_layers && kept < space->limits.min_layers; l++) {
        if (!layer_kept(space, levels, l)) {
            int32_t keep = space->gene_of[l][GENE_LAYER];

            levels[keep >= 0 ? keep : space->gene_of[l][GENE_FFN_WIDTH]] = 1;
            kept++;
        }
    }

    hidden = hidden_of(space, levels, &rotation);
    for (int32_t l = 0; l < n_layers; l++) {
        uint32_t groups = unit_size(space, levels, GENE_KV_GROUPS, l);
        uint32_t width = unit_size(space, levels, GENE_FFN_WIDTH, l);

        has_attn = has_attn || groups > 0;
        settle_format(space, levels, GENE_QKV, l, groups > 0 ? hidden : 0);
        settle_format(space, levels, GENE_O, l, groups * head_columns);
        settle_format(space, levels, GENE_GATE_UP, l, width > 0 ? hidden : 0);
        settle_format(space, levels, GENE_DOWN, l, width);
        settle_act(space, levels, GENE_ATTN_ACT, l,
                   is_quantized(space, levels, GENE_QKV, l, groups > 0 ? hidden : 0) ||
                       is_quantized(space, levels, GENE_O, l, groups * head_columns));
        settle_act(space, levels, GENE_FFN_ACT, l,
                   is_quantized(space, levels, GENE_GATE_UP, l, width > 0 ? hidden : 0) ||
                       is_quantized(space, levels, GENE_DOWN, l, width));
    }
    settle_format(space, levels, GENE_EMBD, -1, hidden);
    if (space->gene_of[GLOBAL_ROW][GENE_KV] >= 0 && !has_attn)
        levels[space->gene_of[GLOBAL_ROW][GENE_KV]] = 0;
}

void space_genome(const struct space *space, const uint8_t *levels, struct genome *genome)
{
    const struct geometry *g = &space->geometry;
    const uint32_t heads = g->n_heads / g->n_kv_heads;
    uint8_t repaired[SPACE_MAX_GENES];
    uint32_t hidden;
    int status;

    memcpy(repaired, levels, space->n_genes);
    space_repair(space, repaired);

    memset(genome, 0, sizeof *genome);
    genome->n_layers = g->n_layers;
    genome->kv = (enum format)value_of(space, repaired, GENE_KV, -1);
    genome->hidden = hidden = hidden_of(space, repaired, &genome->rotation);
    genome->embd = genome->head = format_of(space, repaired, GENE_EMBD, -1, hidden);
    genome->zero_ffn = profile_zero_ffn(space->limits.profile, g);
    genome->bias = profile_has_bias(space->limits.profile);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        int32_t layer = (int32_t)l;
        uint32_t groups = unit_size(space, repaired, GENE_KV_GROUPS, layer);
        uint32_t width = unit_size(space, repaired, GENE_FFN_WIDTH, layer);

        /* Where nothing is quantized the canonical form sees to the activations. */
        genome->attn[l] = (struct attn_choice){
            groups, heads, format_of(space, repaired, GENE_QKV, layer, hidden),
            format_of(space, repaired, GENE_O, layer, groups * heads * g->head_dim),
            (enum act_format)value_of(space, repaired, GENE_ATTN_ACT, layer)};
        genome->ffn[l] =
            (struct ffn_choice){width, format_of(space, repaired, GENE_GATE_UP, layer, hidden),
                                format_of(space, repaired, GENE_DOWN, layer, width),
                                (enum act_format)value_of(space, repaired, GENE_FFN_ACT, layer)};
    }
    status = genome_canonicalize(genome, g, NULL);
    assert(status == 0);
    (void)status;
}

/* ---- for people ----------------------------------------------------------------------------- */

double space_log10_size(const struct space *space)
{
    double log_size = 0.0;

    for (uint32_t i = 0; i < space->n_genes; i++)
        log_size += log10(space->gene[i].n_levels);
    return log_size;
}

const char *space_kind_name(enum gene_kind kind)
{
    static const char *const names[N_GENE_KINDS] = {
        [GENE_KV_GROUPS] = "attn_kv_groups",
        [GENE_QKV] = "attn_qkv",
        [GENE_O] = "attn_output",
        [GENE_FFN_WIDTH] = "ffn_width",
        [GENE_GATE_UP] = "ffn_gate_up",
        [GENE_DOWN] = "ffn_down",
        [GENE_LAYER] = "keep",
        [GENE_ATTN_ACT] = "attn_act",
        [GENE_FFN_ACT] = "ffn_act",
        [GENE_EMBD] = "token_embd",
        [GENE_KV] = "kv_cache",
        [GENE_BASIS] = "hidden",
    };

    assert((int)kind >= 0 && kind < N_GENE_KINDS);
    return names[kind];
}

const char *space_gene_name(const struct space *space, uint32_t gene, char text[48])
{
    const struct gene *g = &space->gene[gene];

    assert(gene < space->n_genes);
    if (g->layer < 0)
        snprintf(text, 48, "%s", space_kind_name(g->kind));
    else
        snprintf(text, 48, "blk.%d.%s", g->layer, space_kind_name(g->kind));
    return text;
}

const char *space_level_name(const struct space *space, uint32_t gene, uint32_t level,
                             char text[16])
{
    const struct gene *g = &space->gene[gene];
    uint32_t value = g->value[level], width;
    enum rotation rotation;

    assert(gene < space->n_genes && level < g->n_levels);
    switch (g->kind) {
    case GENE_QKV:
    case GENE_O:
    case GENE_GATE_UP:
    case GENE_DOWN:
    case GENE_EMBD:
    case GENE_KV:
        snprintf(text, 16, "%s", format_name((enum format)value));
        break;
    case GENE_ATTN_ACT:
    case GENE_FFN_ACT:
        snprintf(text, 16, "%s", act_format_name((enum act_format)value));
        break;
    case GENE_BASIS:
        space_basis_of(value, &width, &rotation);
        snprintf(text, 16, "%u%s", width, rotation == ROTATION_NONE ? "" : "r");
        break;
    case GENE_LAYER:
        snprintf(text, 16, "%s", value == 0 ? "drop" : "keep");
        break;
    default: /* a width or a count */
        if (value == 0)
            snprintf(text, 16, "drop");
        else
            snprintf(text, 16, "%u", value);
    }
    return text;
}
