/* model.c - the parent as a model: every tensor as it lies in the file. */
#include "evaluator/model.h"

#include "evaluator/parent.h"
#include "space/base/err.h"

#include <stdlib.h>

static struct weights weights_of(const struct gguf_tensor *tensor, enum act_format act)
{
    return (struct weights){.data = tensor->data,
                            .format = tensor->format,
                            .act = genome_matrix_act(act, tensor->format),
                            .n_out = (uint32_t)tensor->dims[1],
                            .n_in = (uint32_t)tensor->dims[0]};
}

static const float *bias_of(const struct parent *parent, uint32_t layer, enum tensor_role role)
{
    const struct gguf_tensor *tensor = parent_tensor(parent, layer, role);

    return tensor != NULL ? tensor->data : NULL;
}

static void take_attn(struct attn_unit *unit, const struct parent *parent, uint32_t layer)
{
    const struct gguf_tensor *norm = parent_tensor(parent, layer, TENSOR_ATTN_NORM);
    enum act_format act = parent_act(parent, layer, false);
    uint32_t head_dim = parent_geometry(parent)->head_dim;

    unit->bias = bias_of(parent, layer, TENSOR_O_BIAS);
    if (norm == NULL)
        return;
    unit->present = true;
    unit->norm = norm->data;
    unit->q = weights_of(parent_tensor(parent, layer, TENSOR_Q), act);
    unit->k = weights_of(parent_tensor(parent, layer, TENSOR_K), act);
    unit->v = weights_of(parent_tensor(parent, layer, TENSOR_V), act);
    unit->o = weights_of(parent_tensor(parent, layer, TENSOR_O), act);
    unit->n_heads = unit->q.n_out / head_dim;
    unit->n_groups = unit->k.n_out / head_dim;
}

static void take_ffn(struct ffn_unit *unit, const struct parent *parent, uint32_t layer)
{
    const struct gguf_tensor *norm = parent_tensor(parent, layer, TENSOR_FFN_NORM);
    enum act_format act = parent_act(parent, layer, true);

    unit->bias = bias_of(parent, layer, TENSOR_DOWN_BIAS);
    if (norm == NULL)
        return;
    unit->present = true;
    unit->norm = norm->data;
    unit->gate = weights_of(parent_tensor(parent, layer, TENSOR_GATE), act);
    unit->up = weights_of(parent_tensor(parent, layer, TENSOR_UP), act);
    unit->down = weights_of(parent_tensor(parent, layer, TENSOR_DOWN), act);
    unit->width = unit->gate.n_out;
}

struct model *model_of_parent(const struct parent *parent, struct err *err)
{
    struct model *model = calloc(1, sizeof *model);

    if (model == NULL) {
        err_set(err, ERR_MEMORY, "model: out of memory");
        return NULL;
    }
    model->geometry = *parent_geometry(parent);
    model->kv = FORMAT_F16;
    model->n_layers = model->geometry.n_layers;
    model->embd = weights_of(parent_embd(parent), ACT_Q8);
    model->head = weights_of(parent_head(parent), ACT_Q8);
    model->out_norm = parent_out_norm(parent)->data;
    for (uint32_t l = 0; l < model->n_layers; l++) {
        take_attn(&model->attn[l], parent, l);
        take_ffn(&model->ffn[l], parent, l);
    }
    return model;
}

void model_destroy(struct model *model)
{
    free(model);
}

static uint64_t matrix_bytes(const struct weights *w)
{
    return (uint64_t)w->n_out * format_row_bytes(w->format, w->n_in);
}

uint64_t model_weight_bytes(const struct model *model)
{
    uint64_t norm = (uint64_t)model->geometry.d_model * sizeof(float);
    uint64_t bytes = matrix_bytes(&model->embd) + norm;

    /* A tied matrix is kept once. */
    if (model->head.data != model->embd.data)
        bytes += matrix_bytes(&model->head);
    for (uint32_t l = 0; l < model->n_layers; l++) {
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        bytes += (a->bias != NULL ? norm : 0) + (f->bias != NULL ? norm : 0);
        if (a->present)
            bytes += matrix_bytes(&a->q) + matrix_bytes(&a->k) + matrix_bytes(&a->v) +
                     matrix_bytes(&a->o) + norm;
        if (f->present)
            bytes += matrix_bytes(&f->gate) + matrix_bytes(&f->up) + matrix_bytes(&f->down) + norm;
    }
    return bytes;
}
