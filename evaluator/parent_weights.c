/* parent_weights.c - a look at every weight of the parent. */
#include "evaluator/parent.h"

#include "space/base/err.h"

#include <math.h>
#include <stdlib.h>

static int check_tensor(const struct gguf_tensor *tensor, struct err *err)
{
    size_t row_len = tensor->dims[0], i = 0;
    float *row = malloc(row_len * sizeof *row);

    if (row == NULL) {
        err_set(err, ERR_MEMORY, "tensor %.*s: out of memory", (int)tensor->name.length,
                tensor->name.data);
        return -1;
    }
    for (size_t r = 0; r < tensor->dims[1]; r++) {
        parent_unpack(tensor, r, 1, row);
        for (i = 0; i < row_len && isfinite(row[i]); i++)
            ;
        if (i == row_len)
            continue;
        err_set(err, ERR_DATA, "tensor %.*s: row %zu, column %zu is not a finite number",
                (int)tensor->name.length, tensor->name.data, r, i);
        break;
    }
    free(row);
    return i == row_len ? 0 : -1;
}

int parent_check_weights(const struct parent *parent, struct err *err)
{
    if (check_tensor(parent_embd(parent), err) != 0)
        return -1;
    for (uint32_t l = 0; l < parent_geometry(parent)->n_layers; l++)
        for (int role = 0; role < N_TENSOR_ROLES; role++) {
            const struct gguf_tensor *tensor = parent_tensor(parent, l, (enum tensor_role)role);
            if (tensor != NULL && check_tensor(tensor, err) != 0)
                return -1;
        }
    if (check_tensor(parent_out_norm(parent), err) != 0)
        return -1;
    return check_tensor(parent_head(parent), err);
}
