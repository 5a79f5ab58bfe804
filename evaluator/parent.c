/* parent.c - a file becomes a parent: keys give the geometry, and every tensor is compared with
 * what the geometry asks for.  What the file holds beyond that is refused, for it would change the
 * result without kerf knowing (biases, rope factors, norms of q and k, experts). */
#include "evaluator/parent.h"

#include "evaluator/kernels/kernels.h"
#include "space/base/err.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the keys say about one layer; 0 heads or width: the unit is not there. */
struct layer_shape {
    uint32_t n_heads, n_groups, width;
};

struct parent {
    struct gguf *gguf;
    const char *path; /* for messages: the last part of the file's path */
    char arch[16];    /* "llama" or "deci": the prefix of the keys */
    struct geometry geometry;
    struct layer_shape shape[GEOMETRY_MAX_LAYERS];
    const struct gguf_tensor *tensor[GEOMETRY_MAX_LAYERS][N_TENSOR_ROLES];
    const struct gguf_tensor *embd, *head, *out_norm;
    bool hashed;
    struct hash256 hash;
};

static const char *const role_names[N_TENSOR_ROLES] = {[TENSOR_ATTN_NORM] = "attn_norm",
                                                       [TENSOR_Q] = "attn_q",
                                                       [TENSOR_K] = "attn_k",
                                                       [TENSOR_V] = "attn_v",
                                                       [TENSOR_O] = "attn_output",
                                                       [TENSOR_FFN_NORM] = "ffn_norm",
                                                       [TENSOR_GATE] = "ffn_gate",
                                                       [TENSOR_UP] = "ffn_up",
                                                       [TENSOR_DOWN] = "ffn_down"};

const char *tensor_role_name(enum tensor_role role)
{
    return role_names[role];
}

/* ---- keys ----------------------------------------------------------------------------------- */

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

/* 1 found, 0 absent (and *value as it was), -1 with `err`. */
static int read_number(const struct parent *parent, const char *name, uint32_t *value,
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
    int found = read_number(parent, name, value, err);

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
        int found = read_number(parent, name, &value[0], err);
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
        if (read_number(parent, counts[i], &value, err) < 0)
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

    int found = read_number(parent, "attention.key_length", &g->head_dim, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        if (heads == 0 || g->d_model % heads != 0)
            return absent(parent, "attention.key_length", err);
        g->head_dim = g->d_model / heads;
    }
    for (size_t i = 0; i < 2; i++) {
        uint32_t value = g->head_dim;
        if (read_number(parent, others[i], &value, err) < 0)
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

static int read_geometry(struct parent *parent, struct err *err)
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

/* ---- tensors -------------------------------------------------------------------------------- */

static int missing(const struct parent *parent, const char *name, struct err *err)
{
    err_set(err, ERR_DATA, "%s: tensor %s is missing: not a complete %s model", parent->path, name,
            parent->arch);
    return -1;
}

/* Row length and rows as expected, in a format that kernels exist for; norms are F32. */
static int check_tensor(const struct parent *parent, const struct gguf_tensor *t, uint64_t row_len,
                        uint64_t n_rows, bool is_norm, struct err *err)
{
    int length = (int)(t->name.length < 64 ? t->name.length : 64);

    if (t->dims[0] != row_len || t->dims[1] != n_rows || t->dims[2] != 1 || t->dims[3] != 1) {
        err_set(err, ERR_DATA,
                "%s: tensor %.*s is %" PRIu64 " x %" PRIu64 ", the keys ask for %" PRIu64
                " x %" PRIu64,
                parent->path, length, t->name.data, t->dims[0], t->dims[1], row_len, n_rows);
        return -1;
    }
    if (t->format == FORMAT_NONE || (is_norm && t->format != FORMAT_F32)) {
        err_set(err, ERR_DATA, "%s: tensor %.*s has ggml type %" PRIu32 ", %s", parent->path,
                length, t->name.data, t->ggml_type,
                is_norm ? "norms must be F32" : "which kerf does not compute with");
        return -1;
    }
    return 0;
}

/* Find and check; in *place NULL when the unit is not there (then the file must not have it). */
static int find_layer_tensor(struct parent *parent, uint32_t layer, enum tensor_role role,
                             struct err *err)
{
    const struct geometry *g = &parent->geometry;
    const struct layer_shape *s = &parent->shape[layer];
    uint64_t q = (uint64_t)s->n_heads * g->head_dim, kv = (uint64_t)s->n_groups * g->head_dim;
    const struct {
        uint64_t row_len, n_rows;
    } want[N_TENSOR_ROLES] = {
        [TENSOR_ATTN_NORM] = {g->d_model, 1},   [TENSOR_Q] = {g->d_model, q},
        [TENSOR_K] = {g->d_model, kv},          [TENSOR_V] = {g->d_model, kv},
        [TENSOR_O] = {q, g->d_model},           [TENSOR_FFN_NORM] = {g->d_model, 1},
        [TENSOR_GATE] = {g->d_model, s->width}, [TENSOR_UP] = {g->d_model, s->width},
        [TENSOR_DOWN] = {s->width, g->d_model}};
    bool expected = role < TENSOR_FFN_NORM ? s->n_heads > 0 : s->width > 0;
    char name[48];

    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, role_names[role]);
    const struct gguf_tensor *t = gguf_tensor_find(parent->gguf, name);
    if (t == NULL)
        return expected ? missing(parent, name, err) : 0;
    if (!expected) {
        err_set(err, ERR_DATA, "%s: tensor %s belongs to a unit that the keys leave out",
                parent->path, name);
        return -1;
    }
    bool is_norm = role == TENSOR_ATTN_NORM || role == TENSOR_FFN_NORM;
    if (check_tensor(parent, t, want[role].row_len, want[role].n_rows, is_norm, err) != 0)
        return -1;
    parent->tensor[layer][role] = t;
    return 0;
}

static int find_global_tensors(struct parent *parent, struct err *err)
{
    struct geometry *g = &parent->geometry;
    uint32_t told = 0;

    parent->embd = gguf_tensor_find(parent->gguf, "token_embd.weight");
    parent->out_norm = gguf_tensor_find(parent->gguf, "output_norm.weight");
    parent->head = gguf_tensor_find(parent->gguf, "output.weight");
    if (parent->embd == NULL)
        return missing(parent, "token_embd.weight", err);
    if (parent->out_norm == NULL)
        return missing(parent, "output_norm.weight", err);

    /* The vocabulary is as long as the embedding; a key that says otherwise is a lie. */
    uint64_t n_vocab = parent->embd->dims[1];
    int found = read_number(parent, "vocab_size", &told, err);
    if (found < 0)
        return -1;
    if (n_vocab > INT32_MAX || (found > 0 && told != n_vocab)) {
        err_set(err, ERR_DATA,
                "%s: tensor token_embd.weight has %" PRIu64 " rows, %s.vocab_size is %u",
                parent->path, n_vocab, parent->arch, told);
        return -1;
    }
    g->n_vocab = (uint32_t)n_vocab;
    g->tied = parent->head == NULL;
    if (g->tied)
        parent->head = parent->embd;
    if (check_tensor(parent, parent->embd, g->d_model, n_vocab, false, err) != 0 ||
        check_tensor(parent, parent->head, g->d_model, n_vocab, false, err) != 0)
        return -1;
    return check_tensor(parent, parent->out_norm, g->d_model, 1, true, err);
}

/* Every tensor of the file must be one that was found above. */
static int refuse_unknown_tensors(const struct parent *parent, struct err *err)
{
    size_t n_known = parent->geometry.tied ? 2 : 3;

    for (uint32_t l = 0; l < parent->geometry.n_layers; l++)
        for (int role = 0; role < N_TENSOR_ROLES; role++)
            n_known += parent->tensor[l][role] != NULL;
    if (gguf_n_tensors(parent->gguf) == n_known)
        return 0;
    for (size_t i = 0; i < gguf_n_tensors(parent->gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(parent->gguf, i);
        bool known = t == parent->embd || t == parent->head || t == parent->out_norm;
        for (uint32_t l = 0; l < parent->geometry.n_layers && !known; l++)
            for (int role = 0; role < N_TENSOR_ROLES && !known; role++)
                known = t == parent->tensor[l][role];
        if (known)
            continue;
        err_set(err, ERR_DATA, "%s: tensor %.*s changes the result in a way kerf does not compute",
                parent->path, (int)(t->name.length < 64 ? t->name.length : 64), t->name.data);
        return -1;
    }
    return 0;
}

static int find_tensors(struct parent *parent, struct err *err)
{
    if (find_global_tensors(parent, err) != 0)
        return -1;
    for (uint32_t l = 0; l < parent->geometry.n_layers; l++)
        for (int role = 0; role < N_TENSOR_ROLES; role++)
            if (find_layer_tensor(parent, l, (enum tensor_role)role, err) != 0)
                return -1;
    return refuse_unknown_tensors(parent, err);
}

/* ---- the parent ----------------------------------------------------------------------------- */

struct parent *parent_open(const char *path, struct err *err)
{
    struct parent *parent = calloc(1, sizeof *parent);

    if (parent == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", path);
        return NULL;
    }
    parent->gguf = gguf_open(path, err);
    if (parent->gguf == NULL)
        goto undo;
    /* The end of a long path, so that a message has room for what it says. */
    size_t length = strlen(path), shown = length < 120 ? length : 120;
    parent->path = gguf_path(parent->gguf) + length - shown;
    if (read_geometry(parent, err) != 0 || find_tensors(parent, err) != 0)
        goto undo;
    if (geometry_check(&parent->geometry, err) != 0) {
        err_prefix(err, "%s", parent->path);
        goto undo;
    }
    return parent;

undo:
    parent_close(parent);
    return NULL;
}

void parent_close(struct parent *parent)
{
    if (parent == NULL)
        return;
    gguf_close(parent->gguf);
    free(parent);
}

const struct geometry *parent_geometry(const struct parent *parent)
{
    return &parent->geometry;
}

const struct gguf *parent_gguf(const struct parent *parent)
{
    return parent->gguf;
}

static int compare_names(const void *a, const void *b)
{
    const struct gguf_text *left = &(*(const struct gguf_tensor *const *)a)->name;
    const struct gguf_text *right = &(*(const struct gguf_tensor *const *)b)->name;
    size_t n = left->length < right->length ? left->length : right->length;

    int order = memcmp(left->data, right->data, n);
    return order != 0 ? order : (left->length > right->length) - (left->length < right->length);
}

struct hash256 parent_hash(struct parent *parent)
{
    const struct gguf_tensor *order[3 + GEOMETRY_MAX_LAYERS * N_TENSOR_ROLES];
    size_t n = gguf_n_tensors(parent->gguf); /* no more than that: all of them are known */
    struct sha256 sha;

    if (parent->hashed)
        return parent->hash;
    for (size_t i = 0; i < n; i++)
        order[i] = gguf_tensor_at(parent->gguf, i);
    qsort(order, n, sizeof order[0], compare_names);
    sha256_init(&sha);
    for (size_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = order[i];
        /* Lengths in front of what they measure, so that no two lists look alike. */
        uint64_t head[] = {t->name.length, t->dims[0], t->dims[1], t->ggml_type, t->n_bytes};
        sha256_update(&sha, head, sizeof head);
        sha256_update(&sha, t->name.data, t->name.length);
        sha256_update(&sha, t->data, t->n_bytes);
    }
    parent->hash = sha256_final(&sha);
    parent->hashed = true;
    return parent->hash;
}

/* A unit has one format for matrices that a file may keep in several: the finer one stands. */
static enum format finer(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    return a->format > b->format ? a->format : b->format;
}

void parent_genome(const struct parent *parent, struct genome *genome)
{
    const struct geometry *g = &parent->geometry;

    memset(genome, 0, sizeof *genome);
    genome->n_layers = g->n_layers;
    genome->embd = parent->embd->format;
    genome->head = parent->head->format;
    genome->kv = FORMAT_F16;
    for (uint32_t l = 0; l < g->n_layers; l++) {
        const struct gguf_tensor *const *t = parent->tensor[l];
        const struct layer_shape *s = &parent->shape[l];
        if (s->n_groups > 0) {
            enum format qk = finer(t[TENSOR_Q], t[TENSOR_K]), v = t[TENSOR_V]->format;
            genome->attn[l] = (struct attn_choice){s->n_groups, s->n_heads / s->n_groups,
                                                   qk > v ? qk : v, t[TENSOR_O]->format, ACT_Q8};
        }
        if (s->width > 0)
            genome->ffn[l] = (struct ffn_choice){s->width, finer(t[TENSOR_GATE], t[TENSOR_UP]),
                                                 t[TENSOR_DOWN]->format, ACT_Q8};
    }
    /* Cannot fail: all widths lie within the geometry, which is their maximum. */
    genome_canonicalize(genome, g, NULL);
}

const struct gguf_tensor *parent_tensor(const struct parent *parent, uint32_t layer,
                                        enum tensor_role role)
{
    return parent->tensor[layer][role];
}

const struct gguf_tensor *parent_embd(const struct parent *parent)
{
    return parent->embd;
}

const struct gguf_tensor *parent_head(const struct parent *parent)
{
    return parent->head;
}

const struct gguf_tensor *parent_out_norm(const struct parent *parent)
{
    return parent->out_norm;
}

void parent_unpack(const struct gguf_tensor *tensor, size_t row0, size_t n_rows, float *out)
{
    size_t row_len = (size_t)tensor->dims[0];
    size_t row_bytes = format_row_bytes(tensor->format, row_len);
    const char *rows = tensor->data;

    for (size_t r = 0; r < n_rows; r++)
        kernels_reference()->unpack[tensor->format](rows + (row0 + r) * row_bytes, row_len,
                                                    out + r * row_len);
}
