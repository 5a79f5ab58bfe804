/* variant.c - names and layouts of variants, and which rows and columns each is cut to. */
#include "evaluator/compression/variant.h"

#include "evaluator/compression/obs.h"
#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Another way to compress is another version: 1 cut by importance and repaired nothing, 3
 * rounded the head as if its inputs were all alike. */
enum { VARIANT_VERSION = 4, VARIANT_ALIGN = 64 };

static const char *const part_names[N_PARTS] = {"qkv", "o", "gate_up", "down", "embd", "head"};

const char *part_name(enum part part)
{
    assert((int)part >= 0 && part < N_PARTS);
    return part_names[part];
}

uint32_t variant_version(void)
{
    return VARIANT_VERSION;
}

void variant_source_init(struct variant_source *source, const struct parent *parent,
                         const struct calibration *calibration, const struct keep_order *order)
{
    struct hash256 name = calibration_hash(calibration),
                   figures = calibration_values_hash(calibration), kept = keep_order_hash(order);
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, name.bytes, sizeof name.bytes);
    sha256_update(&sha, figures.bytes, sizeof figures.bytes);
    sha256_update(&sha, kept.bytes, sizeof kept.bytes);
    *source = (struct variant_source){.parent = parent,
                                      .calibration = calibration,
                                      .order = order,
                                      .identity = sha256_final(&sha)};
}

struct id128 variant_id(const struct variant_source *source, const struct variant_key *key)
{
    /* The ggml type, not our own enum, which may be renumbered. */
    uint32_t words[] = {VARIANT_VERSION,
                        (uint32_t)source->compress_order,
                        (uint32_t)key->part,
                        key->layer,
                        key->kept,
                        key->heads_per_group,
                        format_to_ggml(key->format)};
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, source->identity.bytes, sizeof source->identity.bytes);
    sha256_update(&sha, words, sizeof words);
    return id128_of(sha256_final(&sha));
}

/* --- layout ----------------------------------------------------------------------------------- */

static void add_matrix(struct variant *layout, enum format format, size_t n_out, size_t n_in)
{
    uint32_t m = layout->n_matrices++;
    size_t offset = (layout->n_bytes + VARIANT_ALIGN - 1) / VARIANT_ALIGN * VARIANT_ALIGN;

    layout->matrix[m].offset = offset;
    layout->matrix[m].n_bytes = n_out * format_row_bytes(format, n_in);
    layout->matrix[m].n_out = (uint32_t)n_out;
    layout->matrix[m].n_in = (uint32_t)n_in;
    layout->n_bytes = offset + layout->matrix[m].n_bytes;
}

/* Whether variants of this part have a bias. */
static bool part_is_biased(const struct variant_source *source, enum part part)
{
    return source->order->centred && (part == PART_O || part == PART_DOWN);
}

/* Nothing is kept but the mean output. */
static bool is_mean_output(const struct variant_source *source, const struct variant_key *key)
{
    return key->kept == 0 && part_is_biased(source, key->part);
}

static void add_bias(struct variant *layout, size_t n)
{
    layout->biased = true;
    layout->bias_offset = (layout->n_bytes + VARIANT_ALIGN - 1) / VARIANT_ALIGN * VARIANT_ALIGN;
    layout->n_bytes = layout->bias_offset + n * sizeof(float);
}

const float *variant_bias(const struct variant *variant)
{
    /* Aligned in the file's page, and in memory with it. */
    return variant->biased ? (const float *)(const void *)(variant->data + variant->bias_offset)
                           : NULL;
}

static void add_matrices(const struct geometry *g, const struct variant_key *key,
                         struct variant *layout)
{
    size_t kv_rows = (size_t)key->kept * g->head_dim;
    size_t q_rows = kv_rows * key->heads_per_group;

    switch (key->part) {
    case PART_QKV:
        add_matrix(layout, key->format, q_rows, g->d_model);
        add_matrix(layout, key->format, kv_rows, g->d_model);
        add_matrix(layout, key->format, kv_rows, g->d_model);
        break;
    case PART_O:
        add_matrix(layout, key->format, g->d_model, q_rows);
        break;
    case PART_GATE_UP:
        add_matrix(layout, key->format, key->kept, g->d_model);
        add_matrix(layout, key->format, key->kept, g->d_model);
        break;
    case PART_DOWN:
        add_matrix(layout, key->format, g->d_model, key->kept);
        break;
    default:
        add_matrix(layout, key->format, g->n_vocab, g->d_model);
    }
}

void variant_layout(const struct variant_source *source, const struct variant_key *key,
                    struct variant *layout)
{
    const struct geometry *g = parent_geometry(source->parent);

    memset(layout, 0, sizeof *layout);
    layout->error = NAN;
    if (!is_mean_output(source, key))
        add_matrices(g, key, layout);
    if (part_is_biased(source, key->part))
        add_bias(layout, g->d_model);
}

/* --- what stays ------------------------------------------------------------------------------- */

/* Each kept item becomes `size` positions in a row. */
static int spread(const uint32_t *items, uint32_t n, uint32_t size, struct kept *kept,
                  struct err *err)
{
    kept->n = n * size;
    kept->at = malloc((size_t)kept->n * sizeof *kept->at);
    if (kept->at == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < size; j++)
            kept->at[(size_t)i * size + j] = items[i] * size + j;
    return 0;
}

static int refuse_missing(const struct variant_key *key, struct err *err)
{
    err_set(err, ERR_MISSING, "layer %u of the parent has no %s with %u kept%s", key->layer,
            part_name(key->part), key->kept,
            key->heads_per_group > 0 ? " groups of that many heads" : " channels");
    return -1;
}

/* The first `n` of `order[]`, as the source wants them to stand. */
static void take(const struct variant_source *source, const uint32_t *order, uint32_t n,
                 uint32_t *kept)
{
    if (source->compress_order == COMPRESS_QUANTIZE_PRUNE)
        memcpy(kept, order, n * sizeof *kept);
    else
        keep_order_take(order, n, kept);
}

/* Kept groups and query heads of an attention part, as positions among the parent's heads. */
static int keep_heads(const struct variant_source *source, const struct variant_key *key,
                      struct kept *q_rows, struct kept *kv_rows, struct err *err)
{
    const struct gguf_tensor *q = parent_tensor(source->parent, key->layer, TENSOR_Q);
    const struct gguf_tensor *k = parent_tensor(source->parent, key->layer, TENSOR_K);
    uint32_t head_dim = parent_geometry(source->parent)->head_dim;
    int status = -1;

    if (q == NULL || k == NULL)
        return refuse_missing(key, err);
    uint32_t n_groups = (uint32_t)(k->dims[1] / head_dim);
    uint32_t per_group = (uint32_t)(q->dims[1] / k->dims[1]);
    if (key->kept == 0 || key->kept > n_groups || key->heads_per_group == 0 ||
        key->heads_per_group > per_group)
        return refuse_missing(key, err);

    uint32_t *groups = malloc(key->kept * sizeof *groups);
    uint32_t *heads = malloc((size_t)key->kept * key->heads_per_group * sizeof *heads);
    if (groups == NULL || heads == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        goto done;
    }
    take(source, source->order->group[key->layer], key->kept, groups);
    for (uint32_t g = 0; g < key->kept; g++) {
        uint32_t *own = heads + (size_t)g * key->heads_per_group;
        take(source, source->order->head[key->layer] + (size_t)groups[g] * per_group,
             key->heads_per_group, own);
        for (uint32_t h = 0; h < key->heads_per_group; h++)
            own[h] += groups[g] * per_group;
    }
    if (spread(heads, key->kept * key->heads_per_group, head_dim, q_rows, err) == 0 &&
        spread(groups, key->kept, head_dim, kv_rows, err) == 0)
        status = 0;
done:
    free(heads);
    free(groups);
    return status;
}

static int keep_channels(const struct variant_source *source, const struct variant_key *key,
                         struct kept *channels, struct err *err)
{
    const struct gguf_tensor *down = parent_tensor(source->parent, key->layer, TENSOR_DOWN);

    if (down == NULL || key->kept == 0 || key->kept > down->dims[0])
        return refuse_missing(key, err);
    channels->at = malloc(key->kept * sizeof *channels->at);
    if (channels->at == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        return -1;
    }
    channels->n = key->kept;
    take(source, source->order->channel[key->layer], key->kept, channels->at);
    return 0;
}

bool variant_is_shortened(const struct variant_source *source, const struct variant_key *key,
                          struct variant_key *whole)
{
    bool is_down = key->part == PART_DOWN;
    const struct gguf_tensor *tensor =
        parent_tensor(source->parent, key->layer, is_down ? TENSOR_DOWN : TENSOR_K);
    uint32_t head_dim = parent_geometry(source->parent)->head_dim;

    *whole = *key;
    if (source->compress_order != COMPRESS_QUANTIZE_PRUNE || (!is_down && key->part != PART_O) ||
        tensor == NULL || is_mean_output(source, key))
        return false;
    uint32_t size = is_down ? 1 : key->heads_per_group * head_dim; /* columns of one item */
    uint32_t n = (uint32_t)(is_down ? tensor->dims[0] : tensor->dims[1] / head_dim);
    while (n > key->kept && !format_fits(key->format, (size_t)n * size))
        n--;
    whole->kept = n > key->kept ? n : key->kept;
    return whole->kept > key->kept;
}

/* --- one part --------------------------------------------------------------------------------- */

/* What stays of the unit that the part belongs to: query and KV heads, or channels. */
static int choose_kept(const struct variant_source *source, const struct variant_key *key,
                       struct kept kept[2], struct err *err)
{
    switch (key->part) {
    case PART_QKV:
    case PART_O:
        return keep_heads(source, key, &kept[0], &kept[1], err);
    case PART_GATE_UP:
    case PART_DOWN:
        return keep_channels(source, key, &kept[0], err);
    default:
        return 0;
    }
}

/* A matrix of a layer, whole. */
static struct cut cut_of(const struct variant_source *source, uint32_t layer, enum tensor_role role,
                         enum linear_site site)
{
    bool is_ffn = site == SITE_GATE_UP || site == SITE_DOWN;

    return (struct cut){.tensor = parent_tensor(source->parent, layer, role),
                        .calibration = source->calibration,
                        .layer = layer,
                        .site = site,
                        .damping = source->order->damping[2 * layer + is_ffn]};
}

/* The output matrix, whole. */
static struct cut head_cut(const struct variant_source *source)
{
    return (struct cut){
        .tensor = parent_head(source->parent), .calibration = source->calibration, .is_head = true};
}

/* The columns of o and down: solved anew when they are fewer, or packed in their order and then cut
 * to what the key keeps. */
static void choose_columns(const struct variant_source *source, const struct variant_key *key,
                           uint32_t n_packed, const struct kept *columns, struct cut *cut)
{
    cut->centred = source->order->centred;
    if (source->compress_order == COMPRESS_QUANTIZE_PRUNE) {
        cut->cols = *columns;
        cut->damping = OBS_PLAIN;
        cut->n_left = columns->n / n_packed * key->kept;
    } else if (columns->n < cut->tensor->dims[0]) {
        /* A list that keeps everything is no list: whole rows need no look at their columns. */
        cut->cols = *columns;
    }
}

int variant_cuts_init(struct variant_cuts *cuts, const struct variant_source *source,
                      const struct variant_key *key, struct err *err)
{
    struct cut *cut = cuts->cut;
    struct variant_key packed = *key; /* what is packed, to be cut short if it is more */
    uint32_t l = key->layer;

    memset(cuts, 0, sizeof *cuts);
    variant_is_shortened(source, key, &packed);
    if (choose_kept(source, &packed, cuts->list, err) != 0) {
        variant_cuts_fini(cuts);
        return -1;
    }
    const struct kept *q = &cuts->list[0], *kv = &cuts->list[1];
    cuts->n = 1;
    switch (key->part) {
    case PART_QKV:
        cuts->n = 3;
        cut[0] = cut_of(source, l, TENSOR_Q, SITE_QKV);
        cut[1] = cut_of(source, l, TENSOR_K, SITE_QKV);
        cut[2] = cut_of(source, l, TENSOR_V, SITE_QKV);
        cut[0].rows = *q;
        cut[1].rows = cut[2].rows = *kv;
        break;
    case PART_O:
        cut[0] = cut_of(source, l, TENSOR_O, SITE_O);
        choose_columns(source, key, packed.kept, q, &cut[0]);
        break;
    case PART_GATE_UP:
        cuts->n = 2;
        cut[0] = cut_of(source, l, TENSOR_GATE, SITE_GATE_UP);
        cut[1] = cut_of(source, l, TENSOR_UP, SITE_GATE_UP);
        cut[0].rows = cut[1].rows = *q;
        break;
    case PART_DOWN:
        cut[0] = cut_of(source, l, TENSOR_DOWN, SITE_DOWN);
        choose_columns(source, key, packed.kept, q, &cut[0]);
        break;
    case PART_EMBD:
        /* Tied, it is the head too, and that is where its errors are heard. */
        cut[0] = (struct cut){.tensor = parent_embd(source->parent)};
        if (parent_geometry(source->parent)->tied)
            cut[0] = head_cut(source);
        break;
    default:
        cut[0] = head_cut(source);
    }
    return 0;
}

void variant_cuts_fini(struct variant_cuts *cuts)
{
    free(cuts->list[0].at);
    free(cuts->list[1].at);
    memset(cuts, 0, sizeof *cuts);
}

/* `wider` NULL: from the parent alone. */
static int build_matrices(const struct variant_source *source, const struct variant_key *key,
                          const struct variant *wider, const struct variant *layout, uint8_t *out,
                          float *bias, struct cut_loss *loss, struct err *err)
{
    struct variant_cuts cuts;
    int status = 0;

    if (variant_cuts_init(&cuts, source, key, err) != 0)
        return -1;
    for (uint32_t m = 0; m < cuts.n && status == 0; m++) {
        if (wider != NULL)
            cuts.cut[m].packed = wider->data + wider->matrix[m].offset;
        status = cut_build(&cuts.cut[m], key->format, out + layout->matrix[m].offset, bias, loss,
                           err);
    }
    variant_cuts_fini(&cuts);
    return status;
}

/* The mean output of a whole o or down; zeros where the parent does not have it either. */
static int build_mean_output(const struct variant_source *source, const struct variant_key *key,
                             float *bias, struct cut_loss *loss, struct err *err)
{
    bool is_o = key->part == PART_O;
    struct cut cut =
        cut_of(source, key->layer, is_o ? TENSOR_O : TENSOR_DOWN, is_o ? SITE_O : SITE_DOWN);

    cut.centred = true;
    return cut.tensor != NULL ? cut_mean_output(&cut, bias, loss, err) : 0;
}

/* The parent's own bias stays. */
static void add_parents_bias(const struct variant_source *source, const struct variant_key *key,
                             float *bias)
{
    const struct gguf_tensor *own = parent_tensor(
        source->parent, key->layer, key->part == PART_O ? TENSOR_O_BIAS : TENSOR_DOWN_BIAS);

    for (uint64_t i = 0; own != NULL && i < own->dims[0]; i++)
        bias[i] += ((const float *)own->data)[i];
}

/* `wider` NULL: from the parent alone. */
static int build(const struct variant_source *source, const struct variant_key *key,
                 const struct variant *wider, struct variant *layout, uint8_t *out, struct err *err)
{
    float *bias = layout->biased ? (float *)(void *)(out + layout->bias_offset) : NULL;
    struct cut_loss loss = {0};
    int status;

    memset(out, 0, layout->n_bytes);
    if (is_mean_output(source, key))
        status = build_mean_output(source, key, bias, &loss, err);
    else
        status = build_matrices(source, key, wider, layout, out, bias, &loss, err);
    if (status != 0)
        return -1;
    if (bias != NULL)
        add_parents_bias(source, key, bias);
    layout->error = loss.whole > 0 ? loss.error / loss.whole : 0.0;
    layout->fallback = loss.fallback;
    return 0;
}

int variant_build(const struct variant_source *source, const struct variant_key *key,
                  struct variant *layout, uint8_t *out, struct err *err)
{
    return build(source, key, NULL, layout, out, err);
}

int variant_shorten(const struct variant_source *source, const struct variant_key *key,
                    const struct variant *whole, struct variant *layout, uint8_t *out,
                    struct err *err)
{
    return build(source, key, whole, layout, out, err);
}
