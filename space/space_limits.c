/* space_limits.c - what a user allows: defaults, contradictions, one order for every list. */
#include "space/space_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <string.h>

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

/* ---- all of it ------------------------------------------------------------------------------ */

int space_limits_fill(struct space_limits *limits, const struct geometry *g, struct err *err)
{
    if (limits->ffn_grid == 0)
        limits->ffn_grid = geometry_grid(g);
    if (limits->n_kv_groups == 0) {
        limits->kv_groups[limits->n_kv_groups++] = g->n_kv_heads;
        if (g->n_kv_heads >= 2)
            limits->kv_groups[limits->n_kv_groups++] = g->n_kv_heads / 2;
    }
    if (limits->n_hidden == 0)
        limits->hidden[limits->n_hidden++] = 1.0;
    if (limits->n_kv == 0)
        limits->kv[limits->n_kv++] = FORMAT_F16;
    if (limits->n_act == 0)
        limits->act[limits->n_act++] = ACT_Q8;
    if (check_limits(limits, g, err) != 0)
        return -1;
    settle_formats(limits->types, &limits->n_types);
    settle_formats(limits->embd_types, &limits->n_embd_types);
    settle_formats(limits->kv, &limits->n_kv);
    settle_acts(limits);
    settle_kv_groups(limits);
    settle_hidden(limits, g);
    return 0;
}
