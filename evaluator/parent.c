/* parent.c - a file becomes a parent: keys give the geometry, and every tensor is compared with
 * what the geometry asks for.  What the file holds beyond that is refused, for it would change the
 * result without kerf knowing (most biases, rope factors, norms of q and k, experts). */
#include "evaluator/parent.h"

#include "evaluator/kernels/kernels.h"
#include "evaluator/parent_parts.h"
#include "space/base/err.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[N_TENSOR_ROLES] = {[TENSOR_ATTN_NORM] = "attn_norm.weight",
                                                       [TENSOR_Q] = "attn_q.weight",
                                                       [TENSOR_K] = "attn_k.weight",
                                                       [TENSOR_V] = "attn_v.weight",
                                                       [TENSOR_O] = "attn_output.weight",
                                                       [TENSOR_FFN_NORM] = "ffn_norm.weight",
                                                       [TENSOR_GATE] = "ffn_gate.weight",
                                                       [TENSOR_UP] = "ffn_up.weight",
                                                       [TENSOR_DOWN] = "ffn_down.weight",
                                                       [TENSOR_O_BIAS] = "attn_output.bias",
                                                       [TENSOR_DOWN_BIAS] = "ffn_down.bias"};

const char *tensor_role_name(enum tensor_role role)
{
    return role_names[role];
}

/* ---- tensors -------------------------------------------------------------------------------- */

static int missing(const struct parent *parent, const char *name, struct err *err)
{
    err_set(err, ERR_DATA, "%s: tensor %s is missing: not a complete %s model", parent->path, name,
            parent->arch);
    return -1;
}

/* Row length and rows as expected, in a format that kernels exist for; norms and biases are F32. */
static int check_tensor(const struct parent *parent, const struct gguf_tensor *t, uint64_t row_len,
                        uint64_t n_rows, bool is_vector, struct err *err)
{
    int length = (int)(t->name.length < 64 ? t->name.length : 64);

    if (t->dims[0] != row_len || t->dims[1] != n_rows || t->dims[2] != 1 || t->dims[3] != 1) {
        err_set(err, ERR_DATA,
                "%s: tensor %.*s is %" PRIu64 " x %" PRIu64 ", the keys ask for %" PRIu64
                " x %" PRIu64,
                parent->path, length, t->name.data, t->dims[0], t->dims[1], row_len, n_rows);
        return -1;
    }
    if (t->format == FORMAT_NONE || (is_vector && t->format != FORMAT_F32)) {
        err_set(err, ERR_DATA, "%s: tensor %.*s has ggml type %" PRIu32 ", %s", parent->path,
                length, t->name.data, t->ggml_type,
                is_vector ? "norms and biases must be F32" : "which kerf does not compute with");
        return -1;
    }
    return 0;
}

/* A norm is used as it is; a bias that is not finite would spoil every position. */
static int check_bias(const struct parent *parent, const struct gguf_tensor *t, struct err *err)
{
    const float *bias = t->data;

    for (uint64_t i = 0; i < t->dims[0]; i++) {
        if (isfinite(bias[i]))
            continue;
        err_set(err, ERR_DATA, "%s: tensor %.*s: value %" PRIu64 " is not a finite number",
                parent->path, (int)(t->name.length < 64 ? t->name.length : 64), t->name.data, i);
        return -1;
    }
    return 0;
}

static bool is_bias(enum tensor_role role)
{
    return role == TENSOR_O_BIAS || role == TENSOR_DOWN_BIAS;
}

/* Find and check.  NULL where the unit is not there (then the file must not have the tensor) or the
 * writer has no bias. */
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
        [TENSOR_DOWN] = {s->width, g->d_model}, [TENSOR_O_BIAS] = {g->d_model, 1},
        [TENSOR_DOWN_BIAS] = {g->d_model, 1}};
    bool expected = role < TENSOR_FFN_NORM ? s->n_heads > 0 : s->width > 0;
    char name[48];

    snprintf(name, sizeof name, "blk.%u.%s", layer, role_names[role]);
    const struct gguf_tensor *t = gguf_tensor_find(parent->gguf, name);
    if (t == NULL)
        return expected && !is_bias(role) ? missing(parent, name, err) : 0;
    if (!expected && !is_bias(role)) {
        err_set(err, ERR_DATA, "%s: tensor %s belongs to a unit that the keys leave out",
                parent->path, name);
        return -1;
    }
    bool is_vector = role == TENSOR_ATTN_NORM || role == TENSOR_FFN_NORM || is_bias(role);
    if (check_tensor(parent, t, want[role].row_len, want[role].n_rows, is_vector, err) != 0 ||
        (is_bias(role) && check_bias(parent, t, err) != 0))
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
    int found = parent_read_number(parent, "vocab_size", &told, err);
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
    if (parent_read_geometry(parent, err) != 0 || find_tensors(parent, err) != 0 ||
        parent_read_choices(parent, err) != 0)
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
    genome->bias = parent_has_bias(parent);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        const struct gguf_tensor *const *t = parent->tensor[l];
        const struct layer_shape *s = &parent->shape[l];
        if (s->n_groups > 0) {
            enum format qk = finer(t[TENSOR_Q], t[TENSOR_K]), v = t[TENSOR_V]->format;
            genome->attn[l] =
                (struct attn_choice){s->n_groups, s->n_heads / s->n_groups, qk > v ? qk : v,
                                     t[TENSOR_O]->format, parent->act[l][0]};
        }
        if (s->width > 0)
            genome->ffn[l] = (struct ffn_choice){s->width, finer(t[TENSOR_GATE], t[TENSOR_UP]),
                                                 t[TENSOR_DOWN]->format, parent->act[l][1]};
    }
    /* Cannot fail: all widths lie within the geometry, which is their maximum. */
    genome_canonicalize(genome, g, NULL);
}

enum act_format parent_act(const struct parent *parent, uint32_t layer, bool ffn)
{
    return parent->act[layer][ffn];
}

enum format parent_kv_cache(const struct parent *parent)
{
    return parent->kv;
}

const struct gguf_tensor *parent_tensor(const struct parent *parent, uint32_t layer,
                                        enum tensor_role role)
{
    return parent->tensor[layer][role];
}

bool parent_has_bias(const struct parent *parent)
{
    for (uint32_t l = 0; l < parent->geometry.n_layers; l++)
        if (parent->tensor[l][TENSOR_O_BIAS] != NULL || parent->tensor[l][TENSOR_DOWN_BIAS] != NULL)
            return true;
    return false;
}

int parent_check_profile(const struct parent *parent, enum profile profile, struct err *err)
{
    if (!parent_has_bias(parent) || profile_has_bias(profile))
        return 0;
    err_set(err, ERR_CONFIG,
            "%s: attn_output or ffn_down has biases, for which profile %s has no room; native has",
            parent->path, profile_name(profile));
    return -1;
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
