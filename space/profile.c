/* profile.c - the loader rules of the deployed engine as checks on a canonical genome. */
#include "space/profile.h"

#include "space/base/err.h"

#include <stdio.h>
#include <string.h>

static const char *const names[N_PROFILES] = {
    [PROFILE_GGUF] = "gguf",
    [PROFILE_GGUF_HETERO] = "gguf-hetero",
    [PROFILE_NATIVE] = "native",
};

const char *profile_name(enum profile profile)
{
    return (unsigned)profile < N_PROFILES ? names[profile] : "unknown";
}

enum profile profile_parse(const char *name)
{
    for (int p = 0; p < N_PROFILES; p++)
        if (strcmp(names[p], name) == 0)
            return (enum profile)p;
    return N_PROFILES;
}

uint32_t profile_zero_ffn(enum profile profile, const struct geometry *g)
{
    if (profile != PROFILE_GGUF_HETERO)
        return 0;
    return g->d_ff < PROFILE_ZERO_FFN ? g->d_ff : PROFILE_ZERO_FFN;
}

bool profile_has_bias(enum profile profile)
{
    return profile == PROFILE_NATIVE;
}

bool profile_row_is_safe(enum format format, size_t row_len)
{
    return row_len > 32 || (format != FORMAT_Q4_0 && format != FORMAT_Q8_0);
}

enum format profile_format(enum profile profile, enum format format, size_t row_len)
{
    enum format fits = format_fallback(format, row_len);

    if (profile == PROFILE_NATIVE || profile_row_is_safe(fits, row_len))
        return fits;
    return fits == FORMAT_Q4_0 ? FORMAT_Q5_0 : FORMAT_F16;
}

const char *profile_cache_type(enum format kv)
{
    return kv == FORMAT_Q4_0   ? "q4_0"
           : kv == FORMAT_Q8_0 ? "q8_0"
           : kv == FORMAT_F32  ? "f32"
                               : "f16";
}

const char *profile_cache_options(enum format kv, char text[64])
{
    const char *type = profile_cache_type(kv);

    text[0] = '\0';
    if (kv != FORMAT_F16)
        snprintf(text, 64, "-ctk %s -ctv %s -fa on", type, type);
    return text;
}

/* The first layer with a unit left: layer 0 of the exported file.  n_layers when there is none. */
static uint32_t first_kept(const struct genome *genome)
{
    uint32_t l = 0;

    while (l < genome->n_layers && genome->attn[l].kv_groups == 0 && genome->ffn[l].width == 0)
        l++;
    return l;
}

/* The engine decides by the weights alone how a matrix is multiplied. */
static int check_act(const char *unit, uint32_t layer, enum act_format act, enum format a,
                     enum format b, struct err *err)
{
    bool quantized = format_is_quantized(a) || format_is_quantized(b);
    enum act_format wanted = quantized ? ACT_Q8 : ACT_FLOAT;

    if (act == wanted)
        return 0;
    err_set(err, ERR_CONFIG, "layer %u: activations of the %s are %s, the engine uses %s", layer,
            unit, act_format_name(act), act_format_name(wanted));
    return -1;
}

static int check_acts(const struct genome *genome, struct err *err)
{
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        const struct attn_choice *a = &genome->attn[l];
        const struct ffn_choice *f = &genome->ffn[l];

        if (a->kv_groups > 0 && check_act("attention", l, a->act, a->qkv, a->o, err) != 0)
            return -1;
        if (f->width > 0 && check_act("FFN", l, f->act, f->gate_up, f->down, err) != 0)
            return -1;
    }
    return 0;
}

static int check_row(const char *where, enum format format, size_t row_len, struct err *err)
{
    if (profile_row_is_safe(format, row_len))
        return 0;
    err_set(err, ERR_CONFIG,
            "rows of %s have one block of %s only, which llama.cpp gets wrong on processors with "
            "AMX; Q5_0 or a wider unit is right",
            where, format_name(format));
    return -1;
}

static int check_rows_of_layer(const struct attn_choice *a, const struct ffn_choice *f,
                               const struct geometry *g, struct err *err)
{
    size_t o_row = (size_t)a->kv_groups * a->heads_per_group * g->head_dim;

    if (a->kv_groups > 0 && (check_row("attn_qkv", a->qkv, g->d_model, err) != 0 ||
                             check_row("attn_output", a->o, o_row, err) != 0))
        return -1;
    if (f->width > 0 && (check_row("ffn_gate_up", f->gate_up, g->d_model, err) != 0 ||
                         check_row("ffn_down", f->down, f->width, err) != 0))
        return -1;
    return 0;
}

static int check_rows(const struct genome *genome, const struct geometry *parent, struct err *err)
{
    const struct geometry own = genome_geometry(genome, parent), *g = &own;

    if (check_row("token_embd", genome->embd, g->d_model, err) != 0 ||
        check_row("output", genome->head, g->d_model, err) != 0)
        return -1;
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        if (check_rows_of_layer(&genome->attn[l], &genome->ffn[l], g, err) != 0) {
            err_prefix(err, "layer %u", l);
            return -1;
        }
    }
    return 0;
}

/* `llama` reads one width and one head count and holds every layer to them. */
static int check_equal_layers(const struct genome *genome, struct err *err)
{
    uint32_t first = first_kept(genome);
    const struct attn_choice *a0 = &genome->attn[first];
    const struct ffn_choice *f0 = &genome->ffn[first];

    for (uint32_t l = first; l < genome->n_layers; l++) {
        const struct attn_choice *a = &genome->attn[l];
        const struct ffn_choice *f = &genome->ffn[l];

        if (a->kv_groups == 0 && f->width == 0)
            continue;
        if (a->kv_groups == 0 || f->width == 0) {
            err_set(err, ERR_CONFIG,
                    "layer %u: profile gguf drops whole layers, this one lacks only its %s", l,
                    a->kv_groups == 0 ? "attention" : "FFN");
            return -1;
        }
        if (a->kv_groups != a0->kv_groups || a->heads_per_group != a0->heads_per_group) {
            err_set(err, ERR_CONFIG,
                    "layer %u: %ux%u heads, layer %u has %ux%u; profile gguf wants them equal", l,
                    a->kv_groups, a->heads_per_group, first, a0->kv_groups, a0->heads_per_group);
            return -1;
        }
        if (f->width != f0->width) {
            err_set(err, ERR_CONFIG,
                    "layer %u: FFN width %u, layer %u has %u; profile gguf wants them equal", l,
                    f->width, first, f0->width);
            return -1;
        }
    }
    return 0;
}

static int check_hetero(const struct genome *genome, const struct geometry *g, struct err *err)
{
    uint32_t first = first_kept(genome), wanted = profile_zero_ffn(PROFILE_GGUF_HETERO, g);

    if (genome->attn[first].kv_groups == 0) {
        err_set(err, ERR_CONFIG,
                "layer %u: profile gguf-hetero wants attention in the first layer that is left",
                first);
        return -1;
    }
    for (uint32_t l = first; l < genome->n_layers; l++) {
        if (genome->attn[l].kv_groups > 0 && genome->ffn[l].width == 0 &&
            genome->zero_ffn != wanted) {
            err_set(err, ERR_CONFIG,
                    "layer %u: attention without an FFN needs a zero FFN of %u columns under "
                    "profile gguf-hetero, the genome says %u",
                    l, wanted, genome->zero_ffn);
            return -1;
        }
    }
    return 0;
}

int profile_check(enum profile profile, const struct genome *genome, const struct geometry *g,
                  struct err *err)
{
    if (genome_layers_kept(genome) == 0) {
        err_set(err, ERR_CONFIG, "no layer is left, at least one must stay");
        return -1;
    }
    if (profile == PROFILE_NATIVE)
        return 0;
    if (genome->bias) {
        err_set(err, ERR_CONFIG, "biases of o and down are for profile native, not for %s",
                profile_name(profile));
        return -1;
    }
    if (check_acts(genome, err) != 0 || check_rows(genome, g, err) != 0)
        return -1;
    if (profile == PROFILE_GGUF)
        return check_equal_layers(genome, err);
    return check_hetero(genome, g, err);
}

bool profile_has_zero_ffn(enum profile profile, const struct genome *genome, uint32_t layer)
{
    return profile == PROFILE_GGUF_HETERO && genome->attn[layer].kv_groups > 0 &&
           genome->ffn[layer].width == 0;
}
