/* keep_order.c - one greedy run a unit (two for attention), once per parent and calibration. */
#include "evaluator/compression/keep_order.h"

#include "evaluator/compression/obs.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <stdlib.h>
#include <string.h>

/* Two ways to order. */
struct how {
    bool repair, centred;
};

/* A tensor of the parent with the Hessian of its input. */
struct subject {
    const struct gguf_tensor *tensor;
    uint32_t layer;
    double asked, damping; /* at first, and so far */
    struct obs_layer obs;
    double *hessian;
    float *weights;
};

static void subject_fini(struct subject *s)
{
    free(s->hessian);
    free(s->weights);
}

static int subject_init(struct subject *s, const struct gguf_tensor *tensor, uint32_t layer,
                        struct how how, enum linear_site site,
                        const struct calibration *calibration, struct err *err)
{
    size_t n_in = tensor->dims[0], n_out = tensor->dims[1];
    double damping = how.repair ? obs_damping(n_in, calibration_n_tokens(calibration)) : OBS_PLAIN;

    *s = (struct subject){.tensor = tensor, .layer = layer, .asked = damping, .damping = damping};
    s->hessian = malloc(n_in * n_in * sizeof *s->hessian);
    s->weights = malloc(n_in * n_out * sizeof *s->weights);
    if (s->hessian == NULL || s->weights == NULL) {
        err_set(err, ERR_MEMORY, "keep order: no memory for %zu x %zu moments", n_in, n_in);
        goto undo;
    }
    if ((how.centred ? calibration_covariance : calibration_hessian)(calibration, layer, site, n_in,
                                                                     s->hessian, err) != 0)
        goto undo;
    parent_unpack(tensor, 0, n_out, s->weights);
    s->obs = (struct obs_layer){n_in, n_out, s->hessian, s->weights};
    return 0;

undo:
    subject_fini(s);
    return -1;
}

/* order[] of the subject's items, yours to free; NULL on failure. */
static uint32_t *subject_order(struct subject *s, const struct obs_items *items, struct err *err)
{
    uint32_t *order = malloc(items->n_classes * items->per_class * sizeof *order);

    if (order == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        return NULL;
    }
    if (obs_order(&s->obs, items, order, NULL, &s->damping, err) != 0) {
        err_prefix(err, "tensor %.*s", (int)s->tensor->name.length, s->tensor->name.data);
        free(order);
        return NULL;
    }
    return order;
}

/* Say where the first damping did not do. */
static void tell_damping(const struct subject *s)
{
    if (s->damping == s->asked)
        return;
    if (s->damping == OBS_PLAIN)
        log_warn("keep_order",
                 "layer %u, %.*s: its inputs allow no repair; cut by importance, weights as they "
                 "are",
                 s->layer, (int)s->tensor->name.length, s->tensor->name.data);
    else
        log_warn("keep_order", "layer %u, %.*s: damping raised to %g of the mean second moment",
                 s->layer, (int)s->tensor->name.length, s->tensor->name.data, s->damping);
}

static int order_ffn(struct keep_order *order, const struct parent *parent, uint32_t layer,
                     struct how how, const struct calibration *calibration, struct err *err)
{
    const struct gguf_tensor *down = parent_tensor(parent, layer, TENSOR_DOWN);
    struct subject s;

    if (down == NULL)
        return 0;
    if (subject_init(&s, down, layer, how, SITE_DOWN, calibration, err) != 0)
        return -1;
    struct obs_items channels = {1, s.obs.n_in, 1};
    order->n_channels[layer] = (uint32_t)s.obs.n_in;
    order->channel[layer] = subject_order(&s, &channels, err);
    order->damping[2 * layer + 1] = s.damping;
    tell_damping(&s);
    subject_fini(&s);
    return order->channel[layer] != NULL ? 0 : -1;
}

/* Columns of W_o come as [group][head of the group][head_dim]. */
static int order_attn(struct keep_order *order, const struct parent *parent, uint32_t layer,
                      struct how how, const struct calibration *calibration, struct err *err)
{
    const struct gguf_tensor *o = parent_tensor(parent, layer, TENSOR_O);
    const struct gguf_tensor *k = parent_tensor(parent, layer, TENSOR_K);
    struct subject s;

    if (o == NULL || k == NULL)
        return 0;
    if (subject_init(&s, o, layer, how, SITE_O, calibration, err) != 0)
        return -1;
    size_t head_dim = parent_geometry(parent)->head_dim;
    size_t n_heads = s.obs.n_in / head_dim, n_groups = k->dims[1] / head_dim;
    struct obs_items groups = {1, n_groups, s.obs.n_in / n_groups};
    struct obs_items heads = {n_groups, n_heads / n_groups, head_dim};
    order->n_groups[layer] = (uint32_t)n_groups;
    order->n_heads[layer] = (uint32_t)n_heads;
    order->group[layer] = subject_order(&s, &groups, err);
    if (order->group[layer] != NULL)
        order->head[layer] = subject_order(&s, &heads, err);
    order->damping[2 * layer] = s.damping;
    tell_damping(&s);
    subject_fini(&s);
    return order->head[layer] != NULL ? 0 : -1;
}

static int order_all(struct keep_order *order, const struct parent *parent, struct how how,
                     const struct calibration *calibration, struct err *err)
{
    struct keep_order *fresh = calloc(1, sizeof *fresh);

    if (fresh == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        return -1;
    }
    fresh->centred = how.centred;
    fresh->n_layers = parent_geometry(parent)->n_layers;
    for (uint32_t l = 0; l < fresh->n_layers; l++) {
        if (order_attn(fresh, parent, l, how, calibration, err) != 0 ||
            order_ffn(fresh, parent, l, how, calibration, err) != 0) {
            keep_order_fini(fresh);
            free(fresh);
            return -1;
        }
    }
    *order = *fresh;
    free(fresh);
    return 0;
}

static int order_repaired(struct keep_order *order, const struct parent *parent, bool centred,
                          const struct calibration *calibration, struct err *err)
{
    /* Without cross terms there is nothing to repair with. */
    struct how how = {!calibration_is_diagonal(calibration), centred};

    return order_all(order, parent, how, calibration, err);
}

int keep_order_init(struct keep_order *order, const struct parent *parent,
                    const struct calibration *calibration, struct err *err)
{
    return order_repaired(order, parent, false, calibration, err);
}

int keep_order_init_centred(struct keep_order *order, const struct parent *parent,
                            const struct calibration *calibration, struct err *err)
{
    return order_repaired(order, parent, true, calibration, err);
}

int keep_order_init_plain(struct keep_order *order, const struct parent *parent,
                          const struct calibration *calibration, struct err *err)
{
    return order_all(order, parent, (struct how){false, false}, calibration, err);
}

void keep_order_fini(struct keep_order *order)
{
    for (uint32_t l = 0; l < GEOMETRY_MAX_LAYERS; l++) {
        free(order->channel[l]);
        free(order->group[l]);
        free(order->head[l]);
    }
    memset(order, 0, sizeof *order);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

void keep_order_take(const uint32_t *order, uint32_t n, uint32_t *kept)
{
    memcpy(kept, order, n * sizeof *kept);
    qsort(kept, n, sizeof *kept, compare_u32);
}
