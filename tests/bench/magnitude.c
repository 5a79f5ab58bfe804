#include "tests/bench/magnitude.h"

#include "evaluator/compression/obs.h"
#include "space/base/err.h"

#include <stdlib.h>
#include <string.h>

struct ranked {
    double norm;
    uint32_t at;
};

static int compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->norm != y->norm)
        return x->norm < y->norm ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at);
}

/* norm[n_in] of the columns of a matrix, squared; yours to free. */
static double *column_norms(const struct gguf_tensor *tensor, struct err *err)
{
    size_t n_in = tensor->dims[0], n_out = tensor->dims[1];
    double *norm = calloc(n_in, sizeof *norm);
    float *row = malloc(n_in * sizeof *row);

    if (norm == NULL || row == NULL) {
        err_set(err, ERR_MEMORY, "magnitude: out of memory");
        free(norm);
        norm = NULL;
    }
    for (size_t r = 0; r < n_out && norm != NULL; r++) {
        parent_unpack(tensor, r, 1, row);
        for (size_t i = 0; i < n_in; i++)
            norm[i] += (double)row[i] * (double)row[i];
    }
    free(row);
    return norm;
}

/* order[n] of items that are `size` columns each. */
static int rank_items(const double *norm, uint32_t n, size_t size, uint32_t *order, struct err *err)
{
    struct ranked *item = calloc(n, sizeof *item);

    if (item == NULL) {
        err_set(err, ERR_MEMORY, "magnitude: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        item[i].at = i;
        for (size_t c = 0; c < size; c++)
            item[i].norm += norm[i * size + c];
    }
    qsort(item, n, sizeof *item, compare);
    for (uint32_t i = 0; i < n; i++)
        order[i] = item[i].at;
    free(item);
    return 0;
}

static int rank_attn(struct keep_order *keep, const struct gguf_tensor *o, uint32_t layer,
                     struct err *err)
{
    uint32_t n_groups = keep->n_groups[layer], per_group = keep->n_heads[layer] / n_groups;
    size_t group_size = o->dims[0] / n_groups;
    double *norm = column_norms(o, err);
    int status =
        norm != NULL ? rank_items(norm, n_groups, group_size, keep->group[layer], err) : -1;

    for (uint32_t g = 0; g < n_groups && status == 0; g++)
        status = rank_items(norm + g * group_size, per_group, group_size / per_group,
                            keep->head[layer] + (size_t)g * per_group, err);
    free(norm);
    return status;
}

int magnitude_order(struct keep_order *keep, const struct parent *parent, struct err *err)
{
    for (uint32_t l = 0; l < keep->n_layers; l++) {
        const struct gguf_tensor *down = parent_tensor(parent, l, TENSOR_DOWN);
        const struct gguf_tensor *o = parent_tensor(parent, l, TENSOR_O);
        double *norm = keep->n_channels[l] > 0 ? column_norms(down, err) : NULL;
        int status = norm != NULL ? rank_items(norm, keep->n_channels[l], 1, keep->channel[l], err)
                                  : (keep->n_channels[l] > 0 ? -1 : 0);
        free(norm);
        if (status != 0 || (keep->n_groups[l] > 0 && rank_attn(keep, o, l, err) != 0))
            return -1;
        keep->damping[2 * l] = keep->damping[2 * l + 1] = OBS_PLAIN;
    }
    return 0;
}
