#include "tests/bench/rounding.h"

#include "evaluator/compression/quantize.h"
#include "evaluator/parent.h"
#include "space/base/err.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Most matrices: seven a layer, embedding and head. */
enum { MAX_TASKS = 7 * GEOMETRY_MAX_LAYERS + 2 };

/* A matrix to be packed. */
struct task {
    const struct gguf_tensor *tensor;
    const float *importance; /* [n_in] or NULL */
    struct weights *weights; /* where it goes */
};

struct rounded {
    struct model model;
    enum rounding rounding;
    enum format format;
    enum act_format act;
    void *data[MAX_TASKS];
    struct task task[MAX_TASKS];
    uint32_t n_tasks;
    atomic_uint next;
    struct err err[MAX_TASKS];
};

const char *rounding_name(enum rounding rounding)
{
    static const char *const names[N_ROUNDINGS] = {"plain", "search", "importance"};

    return names[rounding];
}

static void add_task(struct rounded *r, const struct gguf_tensor *tensor, const float *importance,
                     struct weights *weights)
{
    r->task[r->n_tasks++] =
        (struct task){tensor, r->rounding == ROUNDING_IMPORTANCE ? importance : NULL, weights};
}

static void add_layer(struct rounded *r, const struct bench_model *b, uint32_t l)
{
    struct attn_unit *attn = &r->model.attn[l];
    struct ffn_unit *ffn = &r->model.ffn[l];
    const struct {
        bool there;
        enum tensor_role role;
        enum linear_site site;
        struct weights *weights;
    } part[] = {{attn->present, TENSOR_Q, SITE_QKV, &attn->q},
                {attn->present, TENSOR_K, SITE_QKV, &attn->k},
                {attn->present, TENSOR_V, SITE_QKV, &attn->v},
                {attn->present, TENSOR_O, SITE_O, &attn->o},
                {ffn->present, TENSOR_GATE, SITE_GATE_UP, &ffn->gate},
                {ffn->present, TENSOR_UP, SITE_GATE_UP, &ffn->up},
                {ffn->present, TENSOR_DOWN, SITE_DOWN, &ffn->down}};

    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        if (part[i].there)
            add_task(r, parent_tensor(b->parent, l, part[i].role),
                     calibration_mean_square(b->calibration, l, part[i].site), part[i].weights);
}

static int pack(struct rounded *r, uint32_t i)
{
    const struct task *task = &r->task[i];
    size_t n_in = task->tensor->dims[0], n_out = task->tensor->dims[1];
    enum format format = format_fallback(r->format, n_in);
    float *rows = malloc(n_out * n_in * sizeof *rows);
    int status = -1;

    r->data[i] = aligned_alloc(64, (n_out * format_row_bytes(format, n_in) + 63) / 64 * 64);
    if (rows == NULL || r->data[i] == NULL) {
        err_set(&r->err[i], ERR_MEMORY, "rounding: out of memory");
        goto done;
    }
    parent_unpack(task->tensor, 0, n_out, rows);
    status =
        r->rounding == ROUNDING_PLAIN
            ? quantize_rows_plain(format, rows, n_out, n_in, r->data[i], &r->err[i])
            : quantize_rows(format, rows, n_out, n_in, task->importance, r->data[i], &r->err[i]);
    *task->weights = (struct weights){.data = r->data[i],
                                      .format = format,
                                      .act = genome_matrix_act(r->act, format),
                                      .n_out = (uint32_t)n_out,
                                      .n_in = (uint32_t)n_in};
done:
    free(rows);
    return status;
}

static void pack_tasks(void *arg, unsigned member, unsigned n_members)
{
    struct rounded *r = arg;
    uint32_t i;

    (void)member, (void)n_members;
    while ((i = atomic_fetch_add(&r->next, 1)) < r->n_tasks)
        pack(r, i);
}

struct rounded *rounded_create(const struct bench_model *b, enum rounding rounding,
                               enum format format, enum act_format act, bool ends, struct err *err)
{
    struct rounded *r = calloc(1, sizeof *r);

    if (r == NULL) {
        err_set(err, ERR_MEMORY, "rounding: out of memory");
        return NULL;
    }
    r->model = *b->model;
    r->rounding = rounding;
    r->format = format;
    r->act = act;
    if (ends)
        add_task(r, parent_embd(b->parent), NULL, &r->model.embd);
    if (ends && !r->model.geometry.tied)
        add_task(r, parent_head(b->parent), NULL, &r->model.head);
    for (uint32_t l = 0; l < r->model.n_layers; l++)
        add_layer(r, b, l);
    team_run(b->team, pack_tasks, r);
    if (ends && r->model.geometry.tied)
        r->model.head = r->model.embd;
    for (uint32_t i = 0; i < r->n_tasks; i++) {
        if (r->err[i].code == ERR_NONE)
            continue;
        *err = r->err[i];
        rounded_destroy(r);
        return NULL;
    }
    return r;
}

void rounded_destroy(struct rounded *r)
{
    for (uint32_t i = 0; r != NULL && i < r->n_tasks; i++)
        free(r->data[i]);
    free(r);
}

const struct model *rounded_model(const struct rounded *r)
{
    return &r->model;
}
