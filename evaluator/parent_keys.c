/* parent_keys.c - what the keys of the file say: the geometry, and whether anything is in use that
 * kerf does not compute. */
#include "evaluator/parent_parts.h"

#include "space/base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* "llama.block_count" for "block_count". */
static const char *key_name(const struct parent *parent, const char *name, char key[96])
{
    snprintf(key, 96, "%s.%s", parent->arch, name);
    return key;
}

static int number_fits(const struct parent *parent, const char *key, uint64_t value,
                       struct err *err)
{
    if (value <= INT32_MAX)
        return 0;
    err_set(err, ERR_DATA, "%s: %s is %" PRIu64 ", which no model has: the file is damaged",
            parent->path, key, value);
    return -1;
}

int parent_read_number(const struct parent *parent, const char *name, uint32_t *value,
                       struct err *err)
{
    char key[96];
    uint64_t number;

    key_name(parent, name, key);
    int found = gguf_get_uint(parent->gguf, key, &number, err);
    if (found <= 0)
        return found;
    if (number_fits(parent, key, number, err) != 0)
        return -1;
    *value = (uint32_t)number;
    return 1;
}

static int absent(const struct parent *parent, const char *name, struct err *err)
{
    err_set(err, ERR_DATA, "%s: key %s.%s is missing: not a complete %s model", parent->path,
            parent->arch, name, parent->arch);
    return -1;
}

static int need_number(const struct parent *parent, const char *name, uint32_t *value,
                       struct err *err)
{
    int found = parent_read_number(parent, name, value, err);

    return found > 0 ? 0 : found < 0 ? -1 : absent(parent, name, err);
}

/* 0 and *value as it was when absent. */
static int read_real(const struct parent *parent, const char *name, float *value, struct err *err)
{
    char key[96];
    double number;

    int found = gguf_get_float(parent->gguf, key_name(parent, name, key), &number, err);
    if (found > 0)
        *value = (float)number;
    return found < 0 ? -1 : 0;
}

/* A number for every layer, given once or as an array.  1 found, 0 absent, -1 with `err`. */
static int read_per_layer(const struct parent *parent, const char *name,
                          uint32_t value[GEOMETRY_MAX_LAYERS], struct err *err)
{
    uint32_t n_layers = parent->geometry.n_layers;
    char key[96];

    if (gguf_type_of(parent->gguf, key_name(parent, name, key)) != GGUF_ARRAY) {
        int found = parent_read_number(parent, name, &value[0], err);
        for (uint32_t l = 1; l < n_layers && found > 0; l++)
            value[l] = value[0];
        return found;
    }
    int64_t length = gguf_array_length(parent->gguf, key);
    if (length != (int64_t)n_layers) {
        err_set(err, ERR_DATA, "%s: %s has %" PRId64 " entries for %u layers: the file is damaged",
                parent->path, key, length, n_layers);
        return -1;
    }
    for (uint32_t l = 0; l < n_layers; l++) {
        uint64_t number;
        if (gguf_array_uint(parent->gguf, key, l, &number, err) != 0 ||
            number_fits(parent, key, number, err) != 0)
            return -1;
        value[l] = (uint32_t)number;
        /* Stock engines take such an array under `llama` only as one number written many times. */
        if (value[l] != value[0] && strcmp(parent->arch, "llama") == 0) {
            err_set(err, ERR_DATA,
                    "%s: %s differs between layers, which architecture llama does not have: "
                    "export it as deci",
                    parent->path, key);
            return -1;
        }
    }
    return 1;
}

static int read_arch(struct parent *parent, struct err *err)
{
    struct gguf_text arch;

    int found = gguf_get_text(parent->gguf, "general.architecture", &arch, err);
    if (found < 0)
        return -1;
    static const char *const known[] = {"llama", "deci"};
    for (size_t i = 0; i < 2 && found > 0; i++) {
        if (arch.length != strlen(known[i]) || memcmp(arch.data, known[i], arch.length) != 0)
            continue;
        snprintf(parent->arch, sizeof parent->arch, "%s", known[i]);
        return 0;
    }
    err_set(err, ERR_DATA, "%s: architecture %.*s is not supported: kerf reads llama and deci",
            parent->path, found > 0 ? (int)(arch.length < 40 ? arch.length : 40) : 4,
            found > 0 ? arch.data : "none");
    return -1;
}

/* Keys that change the result and that kerf does not follow; 0 (or absent) means "not in use". */
static int refuse_features(const struct parent *parent, struct err *err)
{
    static const char *const counts[] = {"expert_count", "attention.sliding_window"};
    static const char *const reals[] = {
        "attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale",       "logit_scale",
        "residual_scale",      "embedding_scale",          "attn_logit_softcapping"};
    static const char *const factors[] = {"rope.scaling.factor", "rope.scale_linear",
                                          "rope.scaling.attn_factor"};
    const char *bad = NULL;
    struct gguf_text scaling;
    char key[96];

    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && bad == NULL; i++) {
        uint32_t value = 0;
        if (parent_read_number(parent, counts[i], &value, err) < 0)
            return -1;
        bad = value != 0 ? counts[i] : NULL;
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0] && bad == NULL; i++) {
        float value = 0;
        if (read_real(parent, reals[i], &value, err) != 0)
            return -1;
        bad = value != 0 ? reals[i] : NULL;
    }
    for (size_t i = 0; i < sizeof factors / sizeof factors[0] && bad == NULL; i++) {
        float value = 1;
        if (read_real(parent, factors[i], &value, err) != 0)
            return -1;
        bad = value != 1 ? factors[i] : NULL;
    }
    int found =
        gguf_get_text(parent->gguf, key_name(parent, "rope.scaling.type", key), &scaling, err);
    if (found < 0)
        return -1;
    if (found > 0 && (scaling.length != 4 || memcmp(scaling.data, "none", 4) != 0))
        bad = "rope.scaling.type";
    if (bad == NULL)
        return 0;
    err_set(err, ERR_DATA, "%s: %s.%s is in use, which kerf does not compute", parent->path,
            parent->arch, bad);
    return -1;
}

/* Head size: what the keys say, which must agree, or the division that stock engines make. */
static int read_head_dim(struct parent *parent, struct err *err)
{
    static const char *const others[] = {"attention.value_length", "rope.dimension_count"};
    struct geometry *g = &parent->geometry;
    uint32_t heads = parent->shape[0].n_heads;

    int found = parent_read_number(parent, "attention.key_length", &g->head_dim, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        if (heads == 0 || g->d_model % heads != 0)
            return absent(parent, "attention.key_length", err);
        g->head_dim = g->d_model / heads;
    }
    for (size_t i = 0; i < 2; i++) {
        uint32_t value = g->head_dim;
        if (parent_read_number(parent, others[i], &value, err) < 0)
            return -1;
        if (value != g->head_dim) {
            err_set(err, ERR_DATA, "%s: %s.%s is %u and the head size %u: kerf needs them equal",
                    parent->path, parent->arch, others[i], value, g->head_dim);
            return -1;
        }
    }
    return 0;
}

/* Heads, groups and widths of all layers; the geometry is that of the largest. */
static int read_shapes(struct parent *parent, struct err *err)
{
    struct geometry *g = &parent->geometry;
    uint32_t heads[GEOMETRY_MAX_LAYERS], groups[GEOMETRY_MAX_LAYERS], width[GEOMETRY_MAX_LAYERS];
    uint32_t ratio = 1;

    int found = read_per_layer(parent, "attention.head_count", heads, err);
    if (found <= 0)
        return found < 0 ? -1 : absent(parent, "attention.head_count", err);
    found = read_per_layer(parent, "attention.head_count_kv", groups, err);
    if (found < 0)
        return -1;
    if (found == 0) /* no groups: every query head has its own */
        memcpy(groups, heads, sizeof groups[0] * g->n_layers);
    found = read_per_layer(parent, "feed_forward_length", width, err);
    if (found <= 0)
        return found < 0 ? -1 : absent(parent, "feed_forward_length", err);

    g->n_kv_heads = 1;
    for (uint32_t l = 0; l < g->n_layers; l++) {
        struct layer_shape *s = &parent->shape[l];
        *s = (struct layer_shape){heads[l], groups[l], width[l]};
        if ((s->n_heads == 0) != (s->n_groups == 0) ||
            (s->n_groups > 0 && s->n_heads % s->n_groups != 0)) {
            err_set(err, ERR_DATA,
                    "%s: layer %u has %u query heads and %u KV heads, which kerf "
                    "does not compute",
                    parent->path, l, s->n_heads, s->n_groups);
            return -1;
        }
        if (s->n_groups > 0 && s->n_heads / s->n_groups > ratio)
            ratio = s->n_heads / s->n_groups;
        g->n_kv_heads = s->n_groups > g->n_kv_heads ? s->n_groups : g->n_kv_heads;
        g->d_ff = s->width > g->d_ff ? s->width : g->d_ff;
    }
    uint64_t n_heads = (uint64_t)g->n_kv_heads * ratio;
    g->n_heads = n_heads <= INT32_MAX ? (uint32_t)n_heads : INT32_MAX; /* refused by the check */
    if (g->d_ff == 0)
        g->d_ff = 1; /* a file without any FFN: no width is left to name */
    return 0;
}

int parent_read_geometry(struct parent *parent, struct err *err)
{
    struct geometry *g = &parent->geometry;

    if (read_arch(parent, err) != 0 || refuse_features(parent, err) != 0 ||
        need_number(parent, "block_count", &g->n_layers, err) != 0 ||
        need_number(parent, "embedding_length", &g->d_model, err) != 0 ||
        need_number(parent, "context_length", &g->n_ctx, err) != 0)
        return -1;
    if (g->n_layers < 1 || g->n_layers > GEOMETRY_MAX_LAYERS) {
        err_set(err, ERR_DATA, "%s: %u layers, allowed are 1 to %d", parent->path, g->n_layers,
                GEOMETRY_MAX_LAYERS);
        return -1;
    }
    if (read_shapes(parent, err) != 0 || read_head_dim(parent, err) != 0)
        return -1;
    g->rope_base = 10000.0F;
    if (read_real(parent, "attention.layer_norm_rms_epsilon", &g->rms_eps, err) != 0 ||
        read_real(parent, "rope.freq_base", &g->rope_base, err) != 0)
        return -1;
    return g->rms_eps != 0 ? 0 : absent(parent, "attention.layer_norm_rms_epsilon", err);
}

/* --- what is no weight ------------------------------------------------------------------------ */

/* Two words a layer. */
static int read_activations(struct parent *parent, const struct gguf_text *text, struct err *err)
{
    const char *at = text->data, *end = text->data + text->length;
    uint32_t n_units = 2 * parent->geometry.n_layers, n = 0;

    for (bool known = true; at < end && n < n_units && known; n++) {
        const char *blank = memchr(at, ' ', (size_t)(end - at));
        size_t length = (size_t)((blank != NULL ? blank : end) - at);
        char word[8] = "";
        if (length < sizeof word)
            memcpy(word, at, length);
        parent->act[n / 2][n % 2] = act_format_parse(word, &known);
        if (!known)
            break;
        at += length + (blank != NULL);
    }
    if (n == n_units && at == end && text->length > 0 && end[-1] != ' ')
        return 0;
    err_set(err, ERR_DATA,
            "%s: kerf.activations does not say a8 or a16 for each of %u units: the file is damaged",
            parent->path, n_units);
    return -1;
}

static int read_kv_cache(struct parent *parent, const struct gguf_text *text, struct err *err)
{
    for (int f = 0; f < N_FORMATS; f++) {
        const char *name =
            format_is_cache((enum format)f) ? profile_cache_type((enum format)f) : "";
        if (strlen(name) != text->length || memcmp(name, text->data, text->length) != 0)
            continue;
        parent->kv = format_fallback((enum format)f, parent->geometry.head_dim);
        return 0;
    }
    err_set(err, ERR_DATA, "%s: kerf.kv_cache names no format of a KV cache: the file is damaged",
            parent->path);
    return -1;
}

int parent_read_choices(struct parent *parent, struct err *err)
{
    struct gguf_text text;

    parent->kv = FORMAT_F16;
    for (uint32_t l = 0; l < GEOMETRY_MAX_LAYERS; l++)
        parent->act[l][0] = parent->act[l][1] = ACT_Q8;
    int found = gguf_get_text(parent->gguf, "kerf.activations", &text, err);
    if (found < 0 || (found > 0 && read_activations(parent, &text, err) != 0))
        return -1;
    found = gguf_get_text(parent->gguf, "kerf.kv_cache", &text, err);
    return found < 0 || (found > 0 && read_kv_cache(parent, &text, err) != 0) ? -1 : 0;
}
