/* stitch.c - look each part up in the store and point at it. */
#include "evaluator/compression/stitch.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static struct weights weights_at(const struct variant *variant, uint32_t matrix, enum format format,
                                 enum act_format act)
{
    return (struct weights){.data = variant->data + variant->matrix[matrix].offset,
                            .format = format,
                            .act = genome_matrix_act(act, format),
                            .n_out = variant->matrix[matrix].n_out,
                            .n_in = variant->matrix[matrix].n_in};
}

/* Of a dropped unit, the part that has its mean output. */
static bool leaves_mean(const struct genome *genome, enum part part, uint32_t layer)
{
    return genome->bias && ((part == PART_O && genome->attn[layer].kv_groups == 0) ||
                            (part == PART_DOWN && genome->ffn[layer].width == 0));
}

bool stitch_key(const struct genome *genome, enum part part, uint32_t layer,
                struct variant_key *key)
{
    const struct attn_choice *attn = &genome->attn[layer];
    const struct ffn_choice *ffn = &genome->ffn[layer];

    *key = (struct variant_key){.part = part, .layer = layer, .format = FORMAT_F32};
    if (leaves_mean(genome, part, layer))
        return true;
    switch (part) {
    case PART_QKV:
    case PART_O:
        key->kept = attn->kv_groups;
        key->heads_per_group = attn->heads_per_group;
        key->format = part == PART_O ? attn->o : attn->qkv;
        return key->kept > 0;
    case PART_GATE_UP:
    case PART_DOWN:
        key->kept = ffn->width;
        key->format = part == PART_DOWN ? ffn->down : ffn->gate_up;
        return key->kept > 0;
    default:
        key->format = part == PART_HEAD ? genome->head : genome->embd;
        return layer == 0;
    }
}

/* A part that the genome has. */
static int get_part(const struct variant_source *source, struct store *store,
                    const struct genome *genome, enum part part, uint32_t layer,
                    struct variant *variant, struct err *err)
{
    struct variant_key key;
    bool there = stitch_key(genome, part, layer, &key);

    assert(there);
    (void)there;
    return store_get(store, source, &key, variant, err);
}

static int refuse_unit(uint32_t layer, const char *unit, struct err *err)
{
    err_set(err, ERR_MISSING, "the genome keeps the %s of layer %u, which the parent does not have",
            unit, layer);
    return -1;
}

static int stitch_attn(struct attn_unit *unit, const struct variant_source *source,
                       struct store *store, const struct genome *genome, uint32_t layer,
                       struct err *err)
{
    const struct attn_choice *choice = &genome->attn[layer];
    const struct gguf_tensor *norm = parent_tensor(source->parent, layer, TENSOR_ATTN_NORM);
    struct variant qkv, o;

    if (norm == NULL)
        return refuse_unit(layer, "attention", err);
    if (get_part(source, store, genome, PART_QKV, layer, &qkv, err) != 0 ||
        get_part(source, store, genome, PART_O, layer, &o, err) != 0)
        return -1;
    *unit = (struct attn_unit){.present = true,
                               .bias = genome->bias ? variant_bias(&o) : NULL,
                               .n_heads = choice->kv_groups * choice->heads_per_group,
                               .n_groups = choice->kv_groups,
                               .norm = norm->data,
                               .q = weights_at(&qkv, 0, choice->qkv, choice->act),
                               .k = weights_at(&qkv, 1, choice->qkv, choice->act),
                               .v = weights_at(&qkv, 2, choice->qkv, choice->act),
                               .o = weights_at(&o, 0, choice->o, choice->act)};
    return 0;
}

static int stitch_ffn(struct ffn_unit *unit, const struct variant_source *source,
                      struct store *store, const struct genome *genome, uint32_t layer,
                      struct err *err)
{
    const struct ffn_choice *choice = &genome->ffn[layer];
    const struct gguf_tensor *norm = parent_tensor(source->parent, layer, TENSOR_FFN_NORM);
    struct variant gate_up, down;

    if (norm == NULL)
        return refuse_unit(layer, "FFN", err);
    if (get_part(source, store, genome, PART_GATE_UP, layer, &gate_up, err) != 0 ||
        get_part(source, store, genome, PART_DOWN, layer, &down, err) != 0)
        return -1;
    *unit = (struct ffn_unit){.present = true,
                              .bias = genome->bias ? variant_bias(&down) : NULL,
                              .width = choice->width,
                              .norm = norm->data,
                              .gate = weights_at(&gate_up, 0, choice->gate_up, choice->act),
                              .up = weights_at(&gate_up, 1, choice->gate_up, choice->act),
                              .down = weights_at(&down, 0, choice->down, choice->act)};
    return 0;
}

/* An FFN that adds nothing, for loaders that lose the attention of a layer without one.  Its norm
 * is the parent's FFN norm, or the attention's where the parent has no FFN there: any will do. */
static int stitch_zero_ffn(struct ffn_unit *unit, const struct variant_source *source,
                           struct store *store, uint32_t width, uint32_t layer, struct err *err)
{
    const struct gguf_tensor *norm = parent_tensor(source->parent, layer, TENSOR_FFN_NORM);
    uint32_t d_model = parent_geometry(source->parent)->d_model;
    size_t matrix_bytes = (size_t)width * format_row_bytes(GENOME_ZERO_FORMAT, d_model);

    if (norm == NULL)
        norm = parent_tensor(source->parent, layer, TENSOR_ATTN_NORM);
    const uint8_t *zeros = store_zeros(store, layer, 3 * matrix_bytes, err);
    if (zeros == NULL)
        return -1;
    struct weights w = {.data = zeros,
                        .format = GENOME_ZERO_FORMAT,
                        .act = ACT_FLOAT,
                        .n_out = width,
                        .n_in = d_model};
    *unit = (struct ffn_unit){
        .present = true, .width = width, .norm = norm->data, .gate = w, .up = w, .down = w};
    unit->up.data = zeros + matrix_bytes;
    unit->down.data = zeros + 2 * matrix_bytes;
    unit->down.n_out = d_model;
    unit->down.n_in = width;
    return 0;
}

/* The mean output of a unit that is dropped; *bias stays where the parent has nothing there. */
static int stitch_mean_output(const float **bias, const struct variant_source *source,
                              struct store *store, const struct genome *genome, enum part part,
                              uint32_t layer, struct err *err)
{
    bool attn = part == PART_O;
    struct variant variant;

    if (!leaves_mean(genome, part, layer) ||
        (parent_tensor(source->parent, layer, attn ? TENSOR_O : TENSOR_DOWN) == NULL &&
         parent_tensor(source->parent, layer, attn ? TENSOR_O_BIAS : TENSOR_DOWN_BIAS) == NULL))
        return 0;
    if (get_part(source, store, genome, part, layer, &variant, err) != 0)
        return -1;
    *bias = variant_bias(&variant);
    return 0;
}

static int stitch_layer(struct model *model, const struct variant_source *source,
                        struct store *store, const struct genome *genome, uint32_t l,
                        struct err *err)
{
    if (genome->attn[l].kv_groups > 0 &&
        stitch_attn(&model->attn[l], source, store, genome, l, err) != 0)
        return -1;
    if (stitch_mean_output(&model->attn[l].bias, source, store, genome, PART_O, l, err) != 0 ||
        stitch_mean_output(&model->ffn[l].bias, source, store, genome, PART_DOWN, l, err) != 0)
        return -1;
    if (genome->ffn[l].width > 0)
        return stitch_ffn(&model->ffn[l], source, store, genome, l, err);
    if (genome_has_zero_ffn(genome, l))
        return stitch_zero_ffn(&model->ffn[l], source, store, genome->zero_ffn, l, err);
    return 0;
}

static int stitch_ends(struct model *model, const struct variant_source *source,
                       struct store *store, const struct genome *genome, struct err *err)
{
    struct variant embd, head;

    if (get_part(source, store, genome, PART_EMBD, 0, &embd, err) != 0)
        return -1;
    /* Rows of the embedding are looked up; as a head it is multiplied. */
    model->embd = weights_at(&embd, 0, genome->embd, act_format_of(genome->embd));
    model->head = model->embd;
    if (!model->geometry.tied) {
        if (get_part(source, store, genome, PART_HEAD, 0, &head, err) != 0)
            return -1;
        model->head = weights_at(&head, 0, genome->head, act_format_of(genome->head));
    }
    model->out_norm = parent_out_norm(source->parent)->data;
    return 0;
}

static int check_biases(const struct variant_source *source, const struct genome *genome,
                        struct err *err)
{
    if (genome->bias && !source->order->centred)
        err_set(err, ERR_CONFIG, "a genome with biases wants weights that were solved beside them");
    else if (!genome->bias && parent_has_bias(source->parent))
        err_set(err, ERR_CONFIG,
                "the parent has biases of attn_output or ffn_down, which profile native alone "
                "carries");
    else
        return 0;
    return -1;
}

struct model *stitch_model(const struct variant_source *source, struct store *store,
                           const struct genome *genome, struct err *err)
{
    const struct geometry *geometry = parent_geometry(source->parent);

    if (check_biases(source, genome, err) != 0)
        return NULL;
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        err_set(err, ERR_MEMORY, "stitch: out of memory");
        return NULL;
    }
    assert(genome->n_layers == geometry->n_layers);
    assert(!geometry->tied || genome->head == genome->embd);
    model->geometry = *geometry;
    model->kv = genome->kv;
    model->n_layers = geometry->n_layers;
    if (stitch_ends(model, source, store, genome, err) != 0)
        goto undo;
    for (uint32_t l = 0; l < model->n_layers; l++)
        if (stitch_layer(model, source, store, genome, l, err) != 0)
            goto undo;
    return model;

undo:
    model_destroy(model);
    return NULL;
}

static int part_error(const struct variant_source *source, struct store *store,
                      const struct genome *base, const struct genome *genome, enum part part,
                      uint32_t layer, double *error, struct err *err)
{
    struct variant_key was, is;
    struct variant variant;

    if (!stitch_key(base, part, layer, &was))
        return 0;
    if (!stitch_key(genome, part, layer, &is)) {
        /* With biases the loss is told by the part that has the mean output. */
        if (!genome->bias)
            *error = fmax(*error, 1);
        return 0;
    }
    if (id128_equal(variant_id(source, &was), variant_id(source, &is)))
        return 0;
    if (store_get(store, source, &is, &variant, err) != 0)
        return -1;
    *error = fmax(*error, variant.error); /* NAN gives way to a number */
    return 0;
}

int stitch_error(const struct variant_source *source, struct store *store,
                 const struct genome *base, const struct genome *genome, double *error,
                 struct err *err)
{
    bool tied = parent_geometry(source->parent)->tied;

    *error = NAN;
    for (uint32_t layer = 0; layer < base->n_layers; layer++)
        for (int part = 0; part < N_PARTS; part++)
            if ((part != PART_HEAD || !tied) &&
                part_error(source, store, base, genome, (enum part)part, layer, error, err) != 0)
                return -1;
    return 0;
}

/* --- the record --- */

struct record {
    const struct variant_source *source;
    struct store *store;
    const struct genome *genome;
    struct sha256 sum;
    stitch_fallback_fn *fallback;
    void *arg;
};

static int record_part(struct record *r, enum part part, uint32_t layer, struct err *err)
{
    struct variant_key key;
    struct variant variant;

    if (!stitch_key(r->genome, part, layer, &key))
        return 0;
    if (store_get(r->store, r->source, &key, &variant, err) != 0)
        return -1;
    sha256_update(&r->sum, variant.payload.bytes, sizeof variant.payload.bytes);
    if (variant.fallback > 0 && r->fallback != NULL)
        r->fallback(r->arg, part, layer, variant.fallback);
    return 0;
}

int stitch_record(const struct variant_source *source, struct store *store,
                  const struct genome *genome, struct hash256 *weights,
                  stitch_fallback_fn *fallback, void *arg, struct err *err)
{
    struct record r = {
        .source = source, .store = store, .genome = genome, .fallback = fallback, .arg = arg};
    bool tied = parent_geometry(source->parent)->tied;

    sha256_init(&r.sum);
    for (uint32_t l = 0; l < genome->n_layers; l++)
        for (int part = PART_QKV; part <= PART_DOWN; part++)
            if (record_part(&r, (enum part)part, l, err) != 0)
                return -1;
    if (record_part(&r, PART_EMBD, 0, err) != 0 ||
        (!tied && record_part(&r, PART_HEAD, 0, err) != 0))
        return -1;
    *weights = sha256_final(&r.sum);
    return 0;
}
