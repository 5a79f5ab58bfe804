/* train_model.c - forward and backward pass of a Llama-like decoder.
 *
 * One layer, with the names of the activations that the backward pass needs again:
 *
 *   x_in --norm--> n_att --qkv, rope--> qkv --attention--> att --attn_out--(+)--> x_mid
 *     \____________________________________________________________________/
 *   x_mid --norm--> n_ffn --gate_up--> gate_up --swiglu--> mixed --down--(+)--> x_in of the next
 *      \_________________________________________________________________/
 *
 * The stream x is float; everything that feeds a product is stored in the backend's type.  Work
 * between products goes in blocks of ROW_BLOCK rows, so that a block's activations are still in
 * the second-level cache when the next product reads them. */
#include "evaluator/reference/train_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/reference/train_backend.h"
#include "evaluator/reference/train_memory.h"
#include "evaluator/reference/train_rows.h"
#include "space/base/err.h"
#include "space/base/rng.h"

enum { ROW_BLOCK = 256 };

struct packed_layer {
    void *qkv, *attn_out, *gate_up, *down;
    float *attn_norm, *ffn_norm;
};

struct train_model {
    struct train_geometry g;
    const struct train_backend *backend;
    float *cos, *sin;   /* [context][head_size / 2] */
    float *embedding;   /* [vocab][dim], a copy for the lookup */
    float *output_norm; /* [dim] */
    void *embedding_packed;
    struct packed_layer *layers;
    void *slab;
};

struct layer_acts {
    float *x_in, *x_mid;      /* [rows][dim] */
    float *inv_att, *inv_ffn; /* [rows] */
    float *log_sum;           /* [seqs][n_heads][context] */
    void *n_att, *n_ffn;      /* stored [rows][dim] */
    void *qkv;                /* stored [rows][qkv_rows] */
    void *att;                /* stored [rows][att_width] */
    void *gate_up;            /* stored [rows][2 ffn] */
    void *mixed;              /* stored [rows][ffn] */
};

struct train_workspace {
    size_t n_seqs;
    struct layer_acts *layers;
    float *x_out, *inv_out;     /* the stream after the last layer [rows][dim], [rows] */
    void *n_out;                /* stored [rows][dim] */
    float *logits;              /* [ROW_BLOCK][vocab] */
    void *d_logits;             /* stored [rows][vocab] */
    uint16_t *inputs, *targets; /* [rows] */
    float *dx, *d_norm;         /* [rows][dim] */
    void *dx_stored;            /* stored [rows][dim] */
    void *d_gate_up;            /* stored [rows][2 ffn] */
    void *d_mixed;              /* stored [rows][ffn] */
    void *d_att;                /* stored [rows][att_width] */
    void *d_qkv;                /* stored [rows][qkv_rows] */
    void *scratch;
    void *slab;
};

/* Memory is cut from one slab in two runs of the same code: the first with base NULL counts. */
struct cutter {
    char *base;
    size_t used;
};

static void *cut(struct cutter *cutter, size_t n_bytes)
{
    void *piece = cutter->base == NULL ? NULL : cutter->base + cutter->used;
    cutter->used += (n_bytes + 63) / 64 * 64;
    return piece;
}

static struct train_heads heads_of(const struct train_geometry *g)
{
    return (struct train_heads){g->context, g->n_heads, g->n_kv_heads, g->head_size};
}

/* ---- the model ---- */

static void model_cut(struct train_model *m, struct cutter *c)
{
    const struct train_geometry *g = &m->g;
    const struct train_backend *b = m->backend;
    size_t table = g->context * (g->head_size / 2) * sizeof(float);
    m->cos = cut(c, table);
    m->sin = cut(c, table);
    m->embedding = cut(c, g->vocab * g->dim * sizeof(float));
    m->output_norm = cut(c, g->dim * sizeof(float));
    m->embedding_packed = cut(c, b->weight_bytes(g->vocab, g->dim));
    for (size_t l = 0; l < g->n_layers; l++) {
        struct packed_layer *p = &m->layers[l];
        p->attn_norm = cut(c, g->dim * sizeof(float));
        p->ffn_norm = cut(c, g->dim * sizeof(float));
        p->qkv = cut(c, b->weight_bytes(train_geometry_qkv_rows(g), g->dim));
        p->attn_out = cut(c, b->weight_bytes(g->dim, train_geometry_att_width(g)));
        p->gate_up = cut(c, b->weight_bytes(2 * g->ffn, g->dim));
        p->down = cut(c, b->weight_bytes(g->dim, g->ffn));
    }
}

static void rotations_fill(struct train_model *m)
{
    size_t half = m->g.head_size / 2;
    for (size_t t = 0; t < m->g.context; t++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)t * pow(m->g.rope_base, -(double)i / (double)half);
            m->cos[t * half + i] = (float)cos(angle);
            m->sin[t * half + i] = (float)sin(angle);
        }
    }
}

struct train_model *train_model_create(const struct train_geometry *g,
                                       const struct train_backend *backend, struct err *err)
{
    if (train_geometry_check(g, err) != 0)
        return NULL;
    struct train_model *m = calloc(1, sizeof *m);
    if (m == NULL)
        goto no_memory;
    m->g = *g;
    m->backend = backend;
    m->layers = calloc(g->n_layers, sizeof *m->layers);
    if (m->layers == NULL)
        goto no_memory;
    struct cutter count = {0};
    model_cut(m, &count);
    m->slab = train_memory_create(count.used);
    if (m->slab == NULL)
        goto no_memory;
    struct cutter cutter = {.base = m->slab};
    model_cut(m, &cutter);
    rotations_fill(m);
    return m;

no_memory:
    err_set(err, ERR_MEMORY, "out of memory for the model's packed weights");
    train_model_destroy(m);
    return NULL;
}

void train_model_destroy(struct train_model *m)
{
    if (m == NULL)
        return;
    free(m->slab);
    free(m->layers);
    free(m);
}

/* Where part `index` of the parameter vector goes: packed or, for gains, plain. */
static void part_pack(struct train_model *m, const float *params, size_t index)
{
    struct train_part part = train_geometry_part(&m->g, index);
    const float *w = params + part.offset;
    if (index == 0) {
        memcpy(m->embedding, w, part.n_out * part.n_in * sizeof(float));
        m->backend->weight_pack(part.n_out, part.n_in, w, m->embedding_packed);
        return;
    }
    if (index == train_geometry_n_parts(&m->g) - 1) {
        memcpy(m->output_norm, w, part.n_in * sizeof(float));
        return;
    }
    struct packed_layer *p = &m->layers[(index - 1) / 6];
    void *const places[6] = {p->attn_norm, p->qkv, p->attn_out, p->ffn_norm, p->gate_up, p->down};
    void *place = places[(index - 1) % 6];
    if (part.is_matrix)
        m->backend->weight_pack(part.n_out, part.n_in, w, place);
    else
        memcpy(place, w, part.n_in * sizeof(float));
}

void train_model_pack(struct train_model *m, const float *params, size_t part, size_t n_parts)
{
    for (size_t i = part; i < train_geometry_n_parts(&m->g); i += n_parts)
        part_pack(m, params, i);
}

void train_model_init_params(const struct train_geometry *g, struct rng *rng, float *params)
{
    double into_stream = 0.02 / sqrt(2.0 * (double)g->n_layers);
    for (size_t i = 0; i < train_geometry_n_parts(g); i++) {
        struct train_part part = train_geometry_part(g, i);
        /* attn_out and down are the 3rd and 6th part of a layer. */
        double spread = i > 0 && i % 3 == 0 ? into_stream : 0.02;
        for (size_t j = 0; j < part.n_out * part.n_in; j++)
            params[part.offset + j] = part.is_matrix ? (float)(spread * rng_normal(rng)) : 1.0f;
    }
}

/* ---- the workspace ---- */

static size_t scratch_bytes(const struct train_model *m)
{
    const struct train_geometry *g = &m->g;
    struct train_heads heads = heads_of(g);
    const size_t needs[] = {
        m->backend->attention_scratch(&heads),
        m->backend->linear_scratch(g->vocab, g->dim),
        m->backend->linear_scratch(train_geometry_qkv_rows(g), g->dim),
        m->backend->linear_scratch(g->dim, train_geometry_att_width(g)),
        m->backend->linear_scratch(2 * g->ffn, g->dim),
        m->backend->linear_scratch(g->dim, g->ffn),
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static void workspace_cut(const struct train_model *m, struct train_workspace *ws, struct cutter *c)
{
    const struct train_geometry *g = &m->g;
    size_t rows = ws->n_seqs * g->context, act = rows * m->backend->rows->act_bytes;
    size_t stream = rows * g->dim * sizeof(float);
    size_t qkv_rows = train_geometry_qkv_rows(g), att_width = train_geometry_att_width(g);
    for (size_t l = 0; l < g->n_layers; l++) {
        struct layer_acts *a = &ws->layers[l];
        a->x_in = cut(c, stream);
        a->x_mid = cut(c, stream);
        a->inv_att = cut(c, rows * sizeof(float));
        a->inv_ffn = cut(c, rows * sizeof(float));
        a->log_sum = cut(c, rows * g->n_heads * sizeof(float));
        a->n_att = cut(c, act * g->dim);
        a->n_ffn = cut(c, act * g->dim);
        a->qkv = cut(c, act * qkv_rows);
        a->att = cut(c, act * att_width);
        a->gate_up = cut(c, act * 2 * g->ffn);
        a->mixed = cut(c, act * g->ffn);
    }
    ws->x_out = cut(c, stream);
    ws->inv_out = cut(c, rows * sizeof(float));
    ws->n_out = cut(c, act * g->dim);
    ws->logits = cut(c, ROW_BLOCK * g->vocab * sizeof(float));
    ws->d_logits = cut(c, act * g->vocab);
    ws->inputs = cut(c, rows * sizeof *ws->inputs);
    ws->targets = cut(c, rows * sizeof *ws->targets);
    ws->dx = cut(c, stream);
    ws->d_norm = cut(c, stream);
    ws->dx_stored = cut(c, act * g->dim);
    ws->d_gate_up = cut(c, act * 2 * g->ffn);
    ws->d_mixed = cut(c, act * g->ffn);
    ws->d_att = cut(c, act * att_width);
    ws->d_qkv = cut(c, act * qkv_rows);
    ws->scratch = cut(c, scratch_bytes(m));
}

struct train_workspace *train_workspace_create(const struct train_model *m, size_t n_seqs,
                                               struct err *err)
{
    assert(n_seqs > 0);
    struct train_workspace *ws = calloc(1, sizeof *ws);
    if (ws == NULL)
        goto no_memory;
    ws->n_seqs = n_seqs;
    ws->layers = calloc(m->g.n_layers, sizeof *ws->layers);
    if (ws->layers == NULL)
        goto no_memory;
    struct cutter count = {0};
    workspace_cut(m, ws, &count);
    ws->slab = train_memory_create(count.used);
    if (ws->slab == NULL)
        goto no_memory;
    struct cutter cutter = {.base = ws->slab};
    workspace_cut(m, ws, &cutter);
    return ws;

no_memory:
    err_set(err, ERR_MEMORY, "out of memory for the activations of %zu sequences", n_seqs);
    train_workspace_destroy(ws);
    return NULL;
}

void train_workspace_destroy(struct train_workspace *ws)
{
    if (ws == NULL)
        return;
    free(ws->slab);
    free(ws->layers);
    free(ws);
}

/* ---- one pass ---- */

/* What every function below needs; `rows` is that of the whole pass. */
struct pass {
    const struct train_model *m;
    const struct train_geometry *g;
    const struct train_backend *b;
    struct train_workspace *ws;
    size_t n_seqs, rows, qkv_rows, att_width;
    float *gradient;
};

/* Element `row * width` of a stored array. */
static void *at(const struct pass *p, void *stored, size_t row, size_t width)
{
    return (char *)stored + row * width * p->b->rows->act_bytes;
}

static struct train_output to_stored(void *y, size_t ld)
{
    return (struct train_output){.y_stored = y, .ld = ld};
}

static struct train_output to_float(float *y, const float *add, size_t ld)
{
    return (struct train_output){.y_float = y, .add = add, .ld = ld};
}

/* Rotate rows [first, first + n) of a qkv array; a block may span sequences. */
static void rotate(const struct pass *p, void *qkv, size_t first, size_t n, float direction)
{
    while (n > 0) {
        size_t position = first % p->g->context;
        size_t run = p->g->context - position < n ? p->g->context - position : n;
        p->b->rows->rope(run, p->g->n_heads + p->g->n_kv_heads, p->g->head_size, p->qkv_rows,
                         position, p->m->cos, p->m->sin, direction, at(p, qkv, first, p->qkv_rows));
        first += run;
        n -= run;
    }
}

static size_t block_rows(const struct pass *p, size_t first)
{
    return p->rows - first < ROW_BLOCK ? p->rows - first : ROW_BLOCK;
}

/* n_att and rotated qkv of rows [r, r + n). */
static void project_forward(const struct pass *p, size_t layer, size_t r, size_t n)
{
    const struct packed_layer *w = &p->m->layers[layer];
    struct layer_acts *a = &p->ws->layers[layer];
    size_t dim = p->g->dim;
    void *n_att = at(p, a->n_att, r, dim), *qkv = at(p, a->qkv, r, p->qkv_rows);
    p->b->rows->norm(n, dim, p->g->norm_eps, a->x_in + r * dim, w->attn_norm, n_att,
                     a->inv_att + r);
    p->b->linear(n, p->qkv_rows, dim, n_att, dim, w->qkv, to_stored(qkv, p->qkv_rows),
                 p->ws->scratch);
    rotate(p, a->qkv, r, n, 1.0f);
}

/* attn_out, then the whole feed-forward part, of rows [r, r + n); the result goes to x_next. */
static void mix_forward(const struct pass *p, size_t layer, size_t r, size_t n, float *x_next)
{
    const struct packed_layer *w = &p->m->layers[layer];
    struct layer_acts *a = &p->ws->layers[layer];
    size_t dim = p->g->dim, ffn = p->g->ffn;
    void *n_ffn = at(p, a->n_ffn, r, dim), *gate_up = at(p, a->gate_up, r, 2 * ffn);
    void *mixed = at(p, a->mixed, r, ffn), *scratch = p->ws->scratch;
    float *x_mid = a->x_mid + r * dim;

    p->b->linear(n, dim, p->att_width, at(p, a->att, r, p->att_width), p->att_width, w->attn_out,
                 to_float(x_mid, a->x_in + r * dim, dim), scratch);
    p->b->rows->norm(n, dim, p->g->norm_eps, x_mid, w->ffn_norm, n_ffn, a->inv_ffn + r);
    p->b->linear(n, 2 * ffn, dim, n_ffn, dim, w->gate_up, to_stored(gate_up, 2 * ffn), scratch);
    p->b->rows->swiglu(n, ffn, gate_up, mixed);
    p->b->linear(n, dim, ffn, mixed, ffn, w->down, to_float(x_next + r * dim, x_mid, dim), scratch);
}

static void layer_forward(const struct pass *p, size_t layer)
{
    struct layer_acts *a = &p->ws->layers[layer];
    struct train_heads heads = heads_of(p->g);
    float *x_next = layer + 1 < p->g->n_layers ? a[1].x_in : p->ws->x_out;
    for (size_t r = 0; r < p->rows; r += ROW_BLOCK)
        project_forward(p, layer, r, block_rows(p, r));
    for (size_t s = 0; s < p->n_seqs; s++) {
        size_t r = s * p->g->context;
        p->b->attention(&heads, at(p, a->qkv, r, p->qkv_rows), at(p, a->att, r, p->att_width),
                        a->log_sum + r * p->g->n_heads, p->ws->scratch);
    }
    for (size_t r = 0; r < p->rows; r += ROW_BLOCK)
        mix_forward(p, layer, r, block_rows(p, r), x_next);
}

/* Final norm, logits block by block, loss, and with a gradient also d_norm = d(loss)/d(n_out). */
static double output_forward(const struct pass *p)
{
    struct train_workspace *ws = p->ws;
    size_t dim = p->g->dim, vocab = p->g->vocab;
    double loss = 0;
    for (size_t r = 0; r < p->rows; r += ROW_BLOCK) {
        size_t n = block_rows(p, r);
        void *n_out = at(p, ws->n_out, r, dim);
        void *d_logits = p->gradient == NULL ? NULL : at(p, ws->d_logits, r, vocab);
        p->b->rows->norm(n, dim, p->g->norm_eps, ws->x_out + r * dim, p->m->output_norm, n_out,
                         ws->inv_out + r);
        p->b->linear(n, vocab, dim, n_out, dim, p->m->embedding_packed,
                     to_float(ws->logits, NULL, vocab), ws->scratch);
        loss += p->b->rows->cross_entropy(n, vocab, ws->logits, ws->targets + r, d_logits);
        if (d_logits != NULL)
            p->b->linear_back(n, vocab, dim, d_logits, vocab, p->m->embedding_packed,
                              to_float(ws->d_norm + r * dim, NULL, dim), ws->scratch);
    }
    return loss;
}

static void output_backward(const struct pass *p)
{
    struct train_workspace *ws = p->ws;
    size_t dim = p->g->dim, vocab = p->g->vocab;
    p->b->linear_weight(p->rows, vocab, dim, ws->d_logits, vocab, ws->n_out, dim, p->gradient,
                        ws->scratch);
    memset(ws->dx, 0, p->rows * dim * sizeof(float));
    p->b->rows->norm_back(p->rows, dim, ws->x_out, ws->inv_out, p->m->output_norm, ws->d_norm,
                          ws->dx, p->gradient + train_geometry_output_norm(p->g));
}

/* dx after the layer to dx at x_mid. */
static void ffn_backward(const struct pass *p, size_t layer)
{
    const struct packed_layer *w = &p->m->layers[layer];
    struct train_layer_layout grad = train_geometry_layer(p->g, layer);
    struct train_workspace *ws = p->ws;
    struct layer_acts *a = &ws->layers[layer];
    size_t dim = p->g->dim, ffn = p->g->ffn;
    for (size_t r = 0; r < p->rows; r += ROW_BLOCK) {
        size_t n = block_rows(p, r);
        float *dx = ws->dx + r * dim, *d_norm = ws->d_norm + r * dim;
        void *dx_stored = at(p, ws->dx_stored, r, dim), *d_mixed = at(p, ws->d_mixed, r, ffn);
        void *d_gate_up = at(p, ws->d_gate_up, r, 2 * ffn);
        p->b->rows->store(n * dim, dx, dx_stored);
        p->b->linear_back(n, dim, ffn, dx_stored, dim, w->down, to_stored(d_mixed, ffn),
                          ws->scratch);
        p->b->rows->swiglu_back(n, ffn, at(p, a->gate_up, r, 2 * ffn), d_mixed, d_gate_up);
        p->b->linear_back(n, 2 * ffn, dim, d_gate_up, 2 * ffn, w->gate_up,
                          to_float(d_norm, NULL, dim), ws->scratch);
        p->b->rows->norm_back(n, dim, a->x_mid + r * dim, a->inv_ffn + r, w->ffn_norm, d_norm, dx,
                              p->gradient + grad.ffn_norm);
    }
    p->b->linear_weight(p->rows, dim, ffn, ws->dx_stored, dim, a->mixed, ffn,
                        p->gradient + grad.down, ws->scratch);
    p->b->linear_weight(p->rows, 2 * ffn, dim, ws->d_gate_up, 2 * ffn, a->n_ffn, dim,
                        p->gradient + grad.gate_up, ws->scratch);
}

/* dx at x_mid to dx at x_in. */
static void attention_backward(const struct pass *p, size_t layer)
{
    const struct packed_layer *w = &p->m->layers[layer];
    struct train_layer_layout grad = train_geometry_layer(p->g, layer);
    struct train_workspace *ws = p->ws;
    struct layer_acts *a = &ws->layers[layer];
    struct train_heads heads = heads_of(p->g);
    size_t dim = p->g->dim, width = p->att_width, qkv = p->qkv_rows;

    p->b->rows->store(p->rows * dim, ws->dx, ws->dx_stored);
    p->b->linear_back(p->rows, dim, width, ws->dx_stored, dim, w->attn_out,
                      to_stored(ws->d_att, width), ws->scratch);
    p->b->linear_weight(p->rows, dim, width, ws->dx_stored, dim, a->att, width,
                        p->gradient + grad.attn_out, ws->scratch);
    for (size_t s = 0; s < p->n_seqs; s++) {
        size_t r = s * p->g->context;
        p->b->attention_back(&heads, at(p, a->qkv, r, qkv), at(p, a->att, r, width),
                             a->log_sum + r * p->g->n_heads, at(p, ws->d_att, r, width),
                             at(p, ws->d_qkv, r, qkv), ws->scratch);
    }
    rotate(p, ws->d_qkv, 0, p->rows, -1.0f);
    p->b->linear_back(p->rows, qkv, dim, ws->d_qkv, qkv, w->qkv, to_float(ws->d_norm, NULL, dim),
                      ws->scratch);
    p->b->linear_weight(p->rows, qkv, dim, ws->d_qkv, qkv, a->n_att, dim, p->gradient + grad.qkv,
                        ws->scratch);
    p->b->rows->norm_back(p->rows, dim, a->x_in, a->inv_att, w->attn_norm, ws->d_norm, ws->dx,
                          p->gradient + grad.attn_norm);
}

static void embedding_backward(const struct pass *p)
{
    size_t dim = p->g->dim;
    for (size_t r = 0; r < p->rows; r++) {
        float *row = p->gradient + p->ws->inputs[r] * dim;
        for (size_t i = 0; i < dim; i++)
            row[i] += p->ws->dx[r * dim + i];
    }
}

double train_model_pass(const struct train_model *m, struct train_workspace *ws,
                        const uint16_t *tokens, size_t n_seqs, float *gradient)
{
    assert(n_seqs <= ws->n_seqs);
    const struct train_geometry *g = &m->g;
    struct pass p = {
        .m = m,
        .g = g,
        .b = m->backend,
        .ws = ws,
        .n_seqs = n_seqs,
        .rows = n_seqs * g->context,
        .qkv_rows = train_geometry_qkv_rows(g),
        .att_width = train_geometry_att_width(g),
        .gradient = gradient,
    };
    for (size_t s = 0; s < n_seqs; s++) {
        const uint16_t *from = tokens + s * (g->context + 1);
        memcpy(ws->inputs + s * g->context, from, g->context * sizeof *from);
        memcpy(ws->targets + s * g->context, from + 1, g->context * sizeof *from);
    }
    for (size_t r = 0; r < p.rows; r++)
        memcpy(ws->layers[0].x_in + r * g->dim, m->embedding + ws->inputs[r] * g->dim,
               g->dim * sizeof(float));
    for (size_t l = 0; l < g->n_layers; l++)
        layer_forward(&p, l);
    double loss = output_forward(&p);
    if (gradient == NULL)
        return loss;

    output_backward(&p);
    for (size_t l = g->n_layers; l-- > 0;) {
        ffn_backward(&p, l);
        attention_backward(&p, l);
    }
    embedding_backward(&p);
    return loss;
}
