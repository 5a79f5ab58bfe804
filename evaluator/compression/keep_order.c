/* keep_order.c - scores of channels, heads and groups, sorted once per parent and calibration. */
#include "evaluator/compression/keep_order.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct scored {
    double score;
    uint32_t index;
};

/* Best first; the lower index on a tie, so that an order is the same everywhere. */
static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* order[n] = indices of score[n], best first. */
static int sort_scores(const double *score, uint32_t n, uint32_t *order, struct err *err)
{
    struct scored *items = malloc(n * sizeof *items);
    if (items == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        items[i] = (struct scored){score[i], i};
    qsort(items, n, sizeof *items, compare_scored);
    for (uint32_t i = 0; i < n; i++)
        order[i] = items[i].index;
    free(items);
    return 0;
}

/* energy[n_in] = mean square of each input times the squared norm of its column.  Yours to free. */
static double *column_energy(const struct gguf_tensor *tensor, const float *mean_square,
                             struct err *err)
{
    size_t n_in = tensor->dims[0], n_out = tensor->dims[1];
    double *energy = calloc(n_in, sizeof *energy);
    float *row = malloc(n_in * sizeof *row);

    if (energy == NULL || row == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        goto undo;
    }
    for (size_t r = 0; r < n_out; r++) {
        parent_unpack(tensor, r, 1, row);
        for (size_t i = 0; i < n_in; i++)
            energy[i] += (double)row[i] * row[i];
    }
    for (size_t i = 0; i < n_in; i++) {
        energy[i] *= mean_square[i];
        if (!isfinite(energy[i])) {
            err_set(err, ERR_DATA, "tensor %.*s: column %zu holds a NaN or an infinity",
                    (int)tensor->name.length, tensor->name.data, i);
            goto undo;
        }
    }
    free(row);
    return energy;

undo:
    free(row);
    free(energy);
    return NULL;
}

static int order_ffn(struct keep_order *order, const struct parent *parent, uint32_t layer,
                     const struct calibration *calibration, struct err *err)
{
    const struct gguf_tensor *down = parent_tensor(parent, layer, TENSOR_DOWN);
    if (down == NULL)
        return 0;

    uint32_t n = (uint32_t)down->dims[0];
    double *energy =
        column_energy(down, calibration_mean_square(calibration, layer, SITE_DOWN), err);
    if (energy == NULL)
        return -1;
    order->channel[layer] = malloc(n * sizeof(uint32_t));
    int status = order->channel[layer] != NULL
                     ? sort_scores(energy, n, order->channel[layer], err)
                     : (err_set(err, ERR_MEMORY, "keep order: out of memory"), -1);
    free(energy);
    return status;
}

/* Columns of W_o come as [group][head of the group][head_dim]; the energies of heads and groups
 * are sums over theirs. */
static int order_attn(struct keep_order *order, const struct parent *parent, uint32_t layer,
                      const struct calibration *calibration, struct err *err)
{
    const struct gguf_tensor *o = parent_tensor(parent, layer, TENSOR_O);
    const struct gguf_tensor *k = parent_tensor(parent, layer, TENSOR_K);
    if (o == NULL || k == NULL)
        return 0;

    uint32_t head_dim = parent_geometry(parent)->head_dim;
    uint32_t n_heads = (uint32_t)(o->dims[0] / head_dim);
    uint32_t n_groups = (uint32_t)(k->dims[1] / head_dim);
    uint32_t per_group = n_heads / n_groups;
    int status = -1;

    double *energy = column_energy(o, calibration_mean_square(calibration, layer, SITE_O), err);
    if (energy == NULL)
        return -1;
    double *sums = calloc((size_t)n_heads + n_groups, sizeof *sums);
    order->group[layer] = malloc(n_groups * sizeof(uint32_t));
    order->head[layer] = malloc(n_heads * sizeof(uint32_t));
    if (sums == NULL || order->group[layer] == NULL || order->head[layer] == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        goto done;
    }
    double *head = sums, *group = sums + n_heads;
    for (uint32_t h = 0; h < n_heads; h++) {
        for (uint32_t i = 0; i < head_dim; i++)
            head[h] += energy[(size_t)h * head_dim + i];
        group[h / per_group] += head[h];
    }
    if (sort_scores(group, n_groups, order->group[layer], err) != 0)
        goto done;
    for (uint32_t g = 0; g < n_groups; g++)
        if (sort_scores(head + g * per_group, per_group, order->head[layer] + g * per_group, err) !=
            0)
            goto done;
    status = 0;
done:
    free(sums);
    free(energy);
    return status;
}

int keep_order_init(struct keep_order *order, const struct parent *parent,
                    const struct calibration *calibration, struct err *err)
{
    struct keep_order fresh;

    memset(&fresh, 0, sizeof fresh);
    for (uint32_t l = 0; l < parent_geometry(parent)->n_layers; l++) {
        if (order_attn(&fresh, parent, l, calibration, err) != 0 ||
            order_ffn(&fresh, parent, l, calibration, err) != 0) {
            keep_order_fini(&fresh);
            return -1;
        }
    }
    *order = fresh;
    return 0;
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

void keep_order_take(const uint32_t *order, uint32_t n, uint32_t *kept)
{
    memcpy(kept, order, n * sizeof *kept);
    qsort(kept, n, sizeof *kept, compare_u32);
}
