/* genome.c - canonical form, text and identity of a candidate. */
#include "space/genome.h"

#include "space/base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* genome_equal compares bytes, so there must be none that belong to no field. */
_Static_assert(sizeof(struct attn_choice) == 5 * sizeof(uint32_t), "no padding");
_Static_assert(sizeof(struct ffn_choice) == 4 * sizeof(uint32_t), "no padding");

static const struct attn_choice no_attn = {0, 0, FORMAT_NONE, FORMAT_NONE, ACT_FLOAT};
static const struct ffn_choice no_ffn = {0, FORMAT_NONE, FORMAT_NONE, ACT_FLOAT};

/* ---- the basis of the residual stream ------------------------------------------------------- */

static const char *const rotation_names[N_ROTATIONS] = {
    [ROTATION_NONE] = "none",
    [ROTATION_HADAMARD] = "hadamard",
};

const char *rotation_name(enum rotation rotation)
{
    return (unsigned)rotation < N_ROTATIONS ? rotation_names[rotation] : "unknown";
}

enum rotation rotation_parse(const char *name)
{
    for (int r = 0; r < N_ROTATIONS; r++)
        if (strcmp(rotation_names[r], name) == 0)
            return (enum rotation)r;
    return N_ROTATIONS;
}

bool genome_is_turned(const struct genome *genome)
{
    return genome->hidden > 0 || genome->rotation != ROTATION_NONE;
}

struct geometry genome_geometry(const struct genome *genome, const struct geometry *parent)
{
    struct geometry own = *parent;

    if (genome->hidden > 0)
        own.d_model = genome->hidden;
    if (genome_is_turned(genome))
        own.tied = false;
    return own;
}

/* ---- canonical form ------------------------------------------------------------------------- */

static bool is_format(enum format format)
{
    return (int)format >= 0 && (int)format < N_FORMATS;
}

/* The act of a unit whose matrices are all float has no effect and is put at its first value. */
static enum act_format unit_act(enum act_format act, enum format a, enum format b)
{
    return format_is_quantized(a) || format_is_quantized(b) ? act : ACT_FLOAT;
}

static int check_attn(const struct attn_choice *c, const struct geometry *g, uint32_t layer,
                      struct err *err)
{
    uint32_t most = g->n_heads / g->n_kv_heads;

    if (c->kv_groups > g->n_kv_heads) {
        err_set(err, ERR_CONFIG, "layer %u: %u KV groups, the parent has %u", layer, c->kv_groups,
                g->n_kv_heads);
        return -1;
    }
    if (c->kv_groups == 0)
        return 0;
    if (c->heads_per_group < 1 || c->heads_per_group > most) {
        err_set(err, ERR_CONFIG, "layer %u: %u query heads in a group, expected 1 to %u", layer,
                c->heads_per_group, most);
        return -1;
    }
    if (!is_format(c->qkv) || !is_format(c->o) || (unsigned)c->act >= N_ACT_FORMATS) {
        err_set(err, ERR_CONFIG, "layer %u: attention is kept but has no format", layer);
        return -1;
    }
    return 0;
}

static int check_ffn(const struct ffn_choice *c, const struct geometry *g, uint32_t layer,
                     struct err *err)
{
    if (c->width > g->d_ff) {
        err_set(err, ERR_CONFIG, "layer %u: FFN width %u, the parent has %u", layer, c->width,
                g->d_ff);
        return -1;
    }
    if (c->width > 0 &&
        (!is_format(c->gate_up) || !is_format(c->down) || (unsigned)c->act >= N_ACT_FORMATS)) {
        err_set(err, ERR_CONFIG, "layer %u: the FFN is kept but has no format", layer);
        return -1;
    }
    return 0;
}

static int check_global(const struct genome *genome, const struct geometry *g, struct err *err)
{
    if (genome->n_layers != g->n_layers) {
        err_set(err, ERR_CONFIG, "genome of %u layers, the parent has %u", genome->n_layers,
                g->n_layers);
        return -1;
    }
    if (genome->hidden > g->d_model) {
        err_set(err, ERR_CONFIG, "hidden width %u, the parent has %u", genome->hidden, g->d_model);
        return -1;
    }
    if ((unsigned)genome->rotation >= N_ROTATIONS) {
        err_set(err, ERR_CONFIG, "no such rotation");
        return -1;
    }
    if (!is_format(genome->embd) ||
        (!genome_geometry(genome, g).tied && !is_format(genome->head))) {
        err_set(err, ERR_CONFIG, "embedding or head without a format");
        return -1;
    }
    if (!format_is_cache(genome->kv)) {
        err_set(err, ERR_CONFIG, "KV cache format %s, expected F16, F32, Q8_0 or Q4_0",
                format_name(genome->kv));
        return -1;
    }
    if (genome->zero_ffn > g->d_ff) {
        err_set(err, ERR_CONFIG, "zero FFN of %u columns, the parent's FFN has %u",
                genome->zero_ffn, g->d_ff);
        return -1;
    }
    return 0;
}

static void settle_attn(struct attn_choice *c, const struct geometry *g)
{
    if (c->kv_groups == 0) {
        *c = no_attn;
        return;
    }
    c->qkv = format_fallback(c->qkv, g->d_model);
    c->o = format_fallback(c->o, (size_t)c->kv_groups * c->heads_per_group * g->head_dim);
    c->act = unit_act(c->act, c->qkv, c->o);
}

static void settle_ffn(struct ffn_choice *c, const struct geometry *g)
{
    if (c->width == 0) {
        *c = no_ffn;
        return;
    }
    c->gate_up = format_fallback(c->gate_up, g->d_model);
    c->down = format_fallback(c->down, c->width);
    c->act = unit_act(c->act, c->gate_up, c->down);
}

int genome_canonicalize(struct genome *genome, const struct geometry *parent, struct err *err)
{
    bool zero_used = false, cache_used = false;

    /* Look at everything first: a refused genome stays as it was. */
    if (check_global(genome, parent, err) != 0)
        return -1;
    for (uint32_t l = 0; l < parent->n_layers; l++)
        if (check_attn(&genome->attn[l], parent, l, err) != 0 ||
            check_ffn(&genome->ffn[l], parent, l, err) != 0)
            return -1;

    if (genome->hidden == parent->d_model)
        genome->hidden = 0;
    const struct geometry own = genome_geometry(genome, parent), *g = &own;
    genome->embd = format_fallback(genome->embd, g->d_model);
    genome->head = g->tied ? genome->embd : format_fallback(genome->head, g->d_model);
    genome->kv = format_fallback(genome->kv, g->head_dim);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        settle_attn(&genome->attn[l], g);
        settle_ffn(&genome->ffn[l], g);
        zero_used = zero_used || genome_has_zero_ffn(genome, l);
        cache_used = cache_used || genome->attn[l].kv_groups > 0;
    }
    if (!cache_used)
        genome->kv = FORMAT_F16;
    if (!zero_used)
        genome->zero_ffn = 0;
    return 0;
}

void genome_uniform(struct genome *genome, const struct geometry *g, enum format format)
{
    int status;

    memset(genome, 0, sizeof *genome);
    genome->n_layers = g->n_layers;
    genome->embd = genome->head = format;
    genome->kv = FORMAT_F16;
    for (uint32_t l = 0; l < g->n_layers; l++) {
        genome->attn[l] =
            (struct attn_choice){g->n_kv_heads, g->n_heads / g->n_kv_heads, format, format, ACT_Q8};
        genome->ffn[l] = (struct ffn_choice){g->d_ff, format, format, ACT_Q8};
    }
    status = genome_canonicalize(genome, g, NULL);
    assert(status == 0);
    (void)status;
}

/* ---- text ----------------------------------------------------------------------------------- */

/* A cursor over the text being written; the room was computed for the longest possible line. */
struct writer {
    char *text;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(w->text + w->used, GENOME_TEXT_MAX - w->used, fmt, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < GENOME_TEXT_MAX - w->used);
    w->used += (size_t)n;
}

size_t genome_format(const struct genome *genome, char *text)
{
    struct writer w = {text, 0};

    put(&w, "k1");
    if (genome->hidden > 0)
        put(&w, " hidden=%u", genome->hidden);
    if (genome->rotation != ROTATION_NONE)
        put(&w, " rotation=%s", rotation_name(genome->rotation));
    put(&w, " embd=%s head=%s kv=%s", format_name(genome->embd), format_name(genome->head),
        format_name(genome->kv));
    if (genome->zero_ffn > 0)
        put(&w, " zero=%u", genome->zero_ffn);
    if (genome->bias)
        put(&w, " bias");
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        const struct attn_choice *a = &genome->attn[l];
        const struct ffn_choice *f = &genome->ffn[l];

        put(&w, " | ");
        if (a->kv_groups > 0)
            put(&w, "%ux%u %s %s %s", a->kv_groups, a->heads_per_group, format_name(a->qkv),
                format_name(a->o), act_format_name(a->act));
        else
            put(&w, "-");
        put(&w, " / ");
        if (f->width > 0)
            put(&w, "%u %s %s %s", f->width, format_name(f->gate_up), format_name(f->down),
                act_format_name(f->act));
        else
            put(&w, "-");
    }
    return w.used;
}

/* A cursor over untrusted text.  After the first flaw `wanted` is set and nothing advances. */
struct reader {
    const char *text, *at;
    const char *wanted; /* what should have stood at `at`; NULL while all is well */
};

static bool flaw(struct reader *r, const char *wanted)
{
    if (r->wanted == NULL)
        r->wanted = wanted;
    return false;
}

static bool looking_at(const struct reader *r, const char *word)
{
    return strncmp(r->at, word, strlen(word)) == 0;
}

static bool take(struct reader *r, const char *word)
{
    if (r->wanted != NULL || !looking_at(r, word))
        return flaw(r, word);
    r->at += strlen(word);
    return true;
}

/* A positive decimal number in its only spelling. */
static bool take_number(struct reader *r, uint32_t *value)
{
    const char *at = r->at;
    uint64_t number = 0;

    if (r->wanted != NULL || *at < '1' || *at > '9')
        return flaw(r, "a number from 1");
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
        if (number > UINT32_MAX)
            return flaw(r, "a smaller number");
    }
    r->at = at;
    *value = (uint32_t)number;
    return true;
}

/* The letters, digits and underscores from here on, at most 15 of them. */
static bool take_name(struct reader *r, char name[16], const char *wanted)
{
    size_t n = strspn(r->at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

    if (r->wanted != NULL || n == 0 || n > 15)
        return flaw(r, wanted);
    memcpy(name, r->at, n);
    name[n] = '\0';
    return true;
}

static bool take_format(struct reader *r, enum format *format)
{
    char name[16];

    if (!take_name(r, name, "a format"))
        return false;
    *format = format_parse(name);
    if (*format == FORMAT_NONE)
        return flaw(r, "a format");
    r->at += strlen(name);
    return true;
}

static bool take_act(struct reader *r, enum act_format *act)
{
    char name[16];
    bool known = false;

    if (!take_name(r, name, "a8 or a16"))
        return false;
    *act = act_format_parse(name, &known);
    if (!known)
        return flaw(r, "a8 or a16");
    r->at += strlen(name);
    return true;
}

static bool take_attn(struct reader *r, struct attn_choice *c)
{
    *c = no_attn;
    if (looking_at(r, "-"))
        return take(r, "-");
    return take_number(r, &c->kv_groups) && take(r, "x") && take_number(r, &c->heads_per_group) &&
           take(r, " ") && take_format(r, &c->qkv) && take(r, " ") && take_format(r, &c->o) &&
           take(r, " ") && take_act(r, &c->act);
}

static bool take_ffn(struct reader *r, struct ffn_choice *c)
{
    *c = no_ffn;
    if (looking_at(r, "-"))
        return take(r, "-");
    return take_number(r, &c->width) && take(r, " ") && take_format(r, &c->gate_up) &&
           take(r, " ") && take_format(r, &c->down) && take(r, " ") && take_act(r, &c->act);
}

static bool take_basis(struct reader *r, struct genome *genome)
{
    if (looking_at(r, " hidden=") && !(take(r, " hidden=") && take_number(r, &genome->hidden)))
        return false;
    /* Only what is not the usual is told. */
    if (looking_at(r, " rotation=")) {
        genome->rotation = ROTATION_HADAMARD;
        return take(r, " rotation=") && take(r, rotation_name(genome->rotation));
    }
    return true;
}

static bool take_genome(struct reader *r, struct genome *genome)
{
    if (!(take(r, "k1") && take_basis(r, genome) && take(r, " embd=") &&
          take_format(r, &genome->embd) && take(r, " head=") && take_format(r, &genome->head) &&
          take(r, " kv=") && take_format(r, &genome->kv)))
        return false;
    if (looking_at(r, " zero=") && !(take(r, " zero=") && take_number(r, &genome->zero_ffn)))
        return false;
    if (looking_at(r, " bias"))
        genome->bias = take(r, " bias");
    do {
        uint32_t l = genome->n_layers;

        if (l == GEOMETRY_MAX_LAYERS)
            return flaw(r, "the end (at most 256 layers)");
        if (!(take(r, " | ") && take_attn(r, &genome->attn[l]) && take(r, " / ") &&
              take_ffn(r, &genome->ffn[l])))
            return false;
        genome->n_layers++;
    } while (*r->at != '\0');
    return true;
}

int genome_parse(const char *text, struct genome *genome, struct err *err)
{
    struct reader r = {text, text, NULL};
    struct genome read;

    memset(&read, 0, sizeof read);
    if (!take_genome(&r, &read)) {
        err_set(err, ERR_DATA, "genome text: expected \"%s\" at character %zu", r.wanted,
                (size_t)(r.at - text) + 1);
        return -1;
    }
    *genome = read;
    return 0;
}

/* ---- identity and small questions ----------------------------------------------------------- */

bool genome_equal(const struct genome *a, const struct genome *b)
{
    return a->n_layers == b->n_layers && a->hidden == b->hidden && a->rotation == b->rotation &&
           a->embd == b->embd && a->head == b->head && a->kv == b->kv &&
           a->zero_ffn == b->zero_ffn && a->bias == b->bias &&
           memcmp(a->attn, b->attn, a->n_layers * sizeof a->attn[0]) == 0 &&
           memcmp(a->ffn, b->ffn, a->n_layers * sizeof a->ffn[0]) == 0;
}

struct id128 genome_id(const struct genome *genome, const struct hash256 *parent)
{
    char text[GENOME_TEXT_MAX];
    size_t len = genome_format(genome, text);
    struct sha256 sha;

    /* The NUL between the two keeps text and hash apart. */
    sha256_init(&sha);
    sha256_update(&sha, text, len + 1);
    sha256_update(&sha, parent->bytes, sizeof parent->bytes);
    return id128_of(sha256_final(&sha));
}

uint32_t genome_layers_kept(const struct genome *genome)
{
    uint32_t kept = 0;

    for (uint32_t l = 0; l < genome->n_layers; l++)
        kept += genome->attn[l].kv_groups > 0 || genome->ffn[l].width > 0;
    return kept;
}

enum act_format genome_matrix_act(enum act_format act, enum format weights)
{
    return format_is_quantized(weights) ? act : ACT_FLOAT;
}

bool genome_has_zero_ffn(const struct genome *genome, uint32_t layer)
{
    return genome->zero_ffn > 0 && genome->attn[layer].kv_groups > 0 &&
           genome->ffn[layer].width == 0;
}
