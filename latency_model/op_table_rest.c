/* op_table_rest.c - what stands between the matmuls (norms, packing, RoPE, attention, SiLU,
 * barriers).
 *
 * It cannot be timed alone without lying about its caches and its waiting, so it is timed in place:
 * a stack of equal units runs in the forward pass, and what its matmuls, timed beside it, do not
 * explain is the time of its attention (entry OP_ATTENTION) or of its activation (OP_SILU_MUL).
 * Embedding, final norm and the rest of a pass are one entry too (OP_EMBED); OP_NORM and OP_ROPE
 * entries are 0, their time is in those. */
#include "evaluator/forward.h"
#include "latency_model/op_table_measuring.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STACK 8 /* units */
#define QUICK_PASS_NS                                                                              \
    1000000.0 /* of a stack: a pass that takes less is made in the most rounds                     \
               */

/* A stack of equal units over the working set: the same op in every layer, other bytes in each. */
static struct weights stack_weights(struct measuring *m, enum format format, uint32_t n_out,
                                    uint32_t n_in)
{
    enum format fits = format_fallback(format, n_in);
    size_t bytes = format_row_bytes(fits, n_in) * n_out;
    if (m->weights[fits] == NULL) /* not searched: any format that is will do */
        fits = format;
    size_t stride = format_stride(fits), at = (m->cursor[fits] + stride - 1) / stride * stride;
    if (at + bytes > m->table->working_set[fits])
        at = 0;
    struct weights w = {.data = m->weights[fits] + at,
                        .format = fits,
                        .act = act_format_of(fits),
                        .n_out = n_out,
                        .n_in = n_in};
    m->cursor[fits] = at + bytes;
    return w;
}

static size_t weights_bytes(const struct weights *w)
{
    return format_row_bytes(w->format, w->n_in) * w->n_out;
}

/* A unit of decoding that fits the cores' own caches stands in every layer with the same weights,
 * so that they come from there, and what is left beside its matmuls is told from small times; of
 * any other unit each layer and each pass has its own. */
static bool stack_attention(struct measuring *m, struct model *model, enum format format,
                            const struct op *op, const float *norm)
{
    const struct geometry *g = &model->geometry;
    uint32_t n_heads = op->n_out, n_groups = op->n_in;
    bool near = false;
    for (uint32_t l = 0; l < model->n_layers; l++) {
        struct attn_unit unit = {.present = true,
                                 .n_heads = n_heads,
                                 .n_groups = n_groups,
                                 .norm = norm,
                                 .q = stack_weights(m, format, n_heads * g->head_dim, g->d_model),
                                 .k = stack_weights(m, format, n_groups * g->head_dim, g->d_model),
                                 .v = stack_weights(m, format, n_groups * g->head_dim, g->d_model),
                                 .o = stack_weights(m, format, g->d_model, n_heads * g->head_dim)};
        near = measuring_is_decode(m, op) &&
               weights_bytes(&unit.q) + 2 * weights_bytes(&unit.k) + weights_bytes(&unit.o) <=
                   op_table_near_bytes(m->table);
        model->attn[l] = near && l > 0 ? model->attn[0] : unit;
    }
    return near;
}

static bool stack_ffn(struct measuring *m, struct model *model, enum format format,
                      const struct op *op, const float *norm)
{
    const struct geometry *g = &model->geometry;
    bool near = false;
    for (uint32_t l = 0; l < model->n_layers; l++) {
        struct ffn_unit unit = {.present = true,
                                .width = op->n_out,
                                .norm = norm,
                                .gate = stack_weights(m, format, op->n_out, g->d_model),
                                .up = stack_weights(m, format, op->n_out, g->d_model),
                                .down = stack_weights(m, format, g->d_model, op->n_out)};
        near = measuring_is_decode(m, op) &&
               2 * weights_bytes(&unit.gate) + weights_bytes(&unit.down) <=
                   op_table_near_bytes(m->table);
        model->ffn[l] = near && l > 0 ? model->ffn[0] : unit;
    }
    return near;
}

struct stage {
    struct model *model;
    struct forward *forward;
    float *hidden, *start; /* [n_cols][d_model] */
    float *norm;
    int32_t *tokens;
};

/* What the units of a stack are made of: the finest quantized format that the space has and that
 * fits rows of any width, because most candidates spend their time in such; a float one if need be.
 */
static enum format any_format(const struct measuring *m)
{
    enum format finest = FORMAT_NONE;
    for (int f = N_FORMATS - 1; f >= 0; f--) {
        if (m->weights[f] == NULL)
            continue;
        if (format_is_quantized((enum format)f) && format_block((enum format)f) <= 32)
            return (enum format)f;
        if (finest == FORMAT_NONE)
            finest = (enum format)f;
    }
    return finest;
}

/* The unit that an operation is the rest of, in every layer and nothing else; none for a pass. Each
 * call lays it further on in the working set. */
static bool stack_for(struct measuring *m, struct stage *stage, const struct op *op)
{
    struct model *model = stage->model;
    memset(model->attn, 0, sizeof model->attn);
    memset(model->ffn, 0, sizeof model->ffn);
    if (op->kind == OP_ATTENTION) {
        model->kv = op->format;
        return stack_attention(m, model, any_format(m), op, stage->norm);
    }
    if (op->kind == OP_SILU_MUL)
        return stack_ffn(m, model, any_format(m), op, stage->norm);
    return weights_bytes(&model->head) <= op_table_near_bytes(m->table);
}

/* The sequences that an operation's columns belong to; where it makes no difference, one. */
static uint32_t sequences_of(const struct op *op)
{
    return op->n_sequences > 1 ? op->n_sequences : 1;
}

/* One pass: the layers, or for OP_EMBED the embedding, final norm and head. */
static double time_pass(struct stage *stage, const struct op *op)
{
    size_t n = (size_t)op->n_cols * stage->model->geometry.d_model;
    uint32_t at = forward_position(stage->forward), n_each = op->n_cols / sequences_of(op);
    memcpy(stage->hidden, stage->start, n * sizeof *stage->hidden);
    int64_t start = clock_now_ns();
    if (op->kind == OP_EMBED)
        forward_tokens(stage->forward, stage->tokens, n_each, LOGITS_LAST, NULL);
    else
        forward_layers(stage->forward, stage->hidden, n_each, 0, stage->model->n_layers, false);
    double ns = (double)(clock_now_ns() - start);
    forward_rewind(stage->forward, at);
    return ns;
}

static struct op matmul_of(const struct weights *w, uint32_t n_cols)
{
    return (struct op){.kind = OP_MATMUL,
                       .format = w->format,
                       .act = w->act,
                       .n_out = w->n_out,
                       .n_in = w->n_in,
                       .n_cols = n_cols,
                       .count = 1};
}

/* Times of the matrices of a unit, `n_units` of it, one kind after another. */
static double time_matrices_of(struct measuring *m, const struct weights *const *w, size_t n,
                               uint32_t n_cols, size_t n_units, bool near)
{
    double ns = 0;
    for (size_t i = 0; i < n; i++) {
        struct op op = matmul_of(w[i], n_cols);
        ns += near ? measuring_near(m, &op, n_units) : measuring_far(m, &op, n_units);
    }
    return ns;
}

/* The matrices of a unit of the stack, or of a pass; how many. */
static size_t matrices_of(const struct model *model, const struct op *op, const struct weights **w)
{
    const struct attn_unit *attn = &model->attn[0];
    const struct ffn_unit *ffn = &model->ffn[0];
    if (op->kind == OP_ATTENTION) {
        w[0] = &attn->q, w[1] = &attn->k, w[2] = &attn->v, w[3] = &attn->o;
        return 4;
    }
    if (op->kind == OP_SILU_MUL) {
        w[0] = &ffn->gate, w[1] = &ffn->up, w[2] = &ffn->down;
        return 3;
    }
    w[0] = &model->head;
    return 1;
}

/* What a unit (or a pass) takes beside its matrices: the median over rounds of what its matrices,
 * timed in the same round, leave of its time, so that the machine's pace is the same for both. */
static double rest_of(struct measuring *m, struct stage *stage, const struct op *op)
{
    double rest[MEASURING_MAX_ROUNDS];
    const struct weights *w[4];
    bool near = stack_for(m, stage, op);
    size_t n = matrices_of(stage->model, op, w);
    uint32_t n_units = op->kind == OP_EMBED ? 1 : stage->model->n_layers;
    uint32_t n_cols = op->kind == OP_EMBED ? sequences_of(op) : op->n_cols;
    forward_set_model(stage->forward, stage->model);
    forward_begin(stage->forward, sequences_of(op));
    memcpy(stage->hidden, stage->start,
           (size_t)op->n_cols * m->table->geometry.d_model * sizeof *stage->hidden);
    /* Positions before the first column: filled one by one, as decoding does. */
    for (uint32_t p = 0; p < op->context; p++)
        forward_layers(stage->forward, stage->hidden, 1, 0, stage->model->n_layers, true);
    uint32_t n_rounds = time_pass(stage, op) < QUICK_PASS_NS ? MEASURING_MAX_ROUNDS : m->n_rounds;
    for (uint32_t r = 0; r < n_rounds; r++) {
        stack_for(m, stage, op);
        rest[r] = time_pass(stage, op) / n_units;
        rest[r] -= time_matrices_of(m, w, n, n_cols, n_units, near);
    }
    return stats_median(rest, n_rounds);
}

static int stage_open(struct measuring *m, struct stage *stage, struct err *err)
{
    const struct geometry *g = &m->table->geometry;
    uint32_t n_ctx = 1, n_batch = 1, n_sequences = 1;
    for (size_t i = 0; i < m->table->n; i++) {
        const struct op *op = &m->table->entry[i].op;
        uint32_t positions = op->context + op->n_cols / sequences_of(op);
        n_batch = op->n_cols > n_batch ? op->n_cols : n_batch;
        n_ctx = positions > n_ctx ? positions : n_ctx;
        n_sequences = sequences_of(op) > n_sequences ? sequences_of(op) : n_sequences;
    }
    struct rng rng = rng_make(2, 0);
    stage->model = calloc(1, sizeof *stage->model);
    stage->hidden = malloc((size_t)n_batch * g->d_model * sizeof(float));
    stage->start = malloc((size_t)n_batch * g->d_model * sizeof(float));
    stage->norm = malloc(g->d_model * sizeof(float));
    stage->tokens = calloc(n_batch, sizeof *stage->tokens);
    if (stage->model == NULL || stage->hidden == NULL || stage->start == NULL ||
        stage->norm == NULL || stage->tokens == NULL) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
        return -1;
    }
    for (size_t i = 0; i < (size_t)n_batch * g->d_model; i++)
        stage->start[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < g->d_model; i++)
        stage->norm[i] = 1;
    stage->model->geometry = *g;
    stage->model->kv = FORMAT_F16;
    stage->model->n_layers = g->n_layers < MAX_STACK ? g->n_layers : MAX_STACK;
    stage->model->out_norm = stage->norm;
    stage->model->embd = stage->model->head =
        stack_weights(m, any_format(m), g->n_vocab, g->d_model);
    struct forward_options options = {
        .n_ctx = n_ctx, .n_batch = n_batch, .n_sequences = n_sequences};
    stage->forward = forward_create(stage->model, m->kernels, m->team, &options, err);
    return stage->forward != NULL ? 0 : -1;
}

static void stage_close(struct stage *stage)
{
    forward_destroy(stage->forward);
    free(stage->tokens);
    free(stage->norm);
    free(stage->start);
    free(stage->hidden);
    free(stage->model);
}

/* Rests of FFNs by their width: a straight line through the widths of n_cols (Theil and Sen), for
 * what stands between the matmuls grows with the width, and noise does not. */
static void straighten(struct op_table *table, uint32_t n_cols)
{
    double x[SPACE_MAX_LEVELS + 1], y[SPACE_MAX_LEVELS + 1];
    double slope[SPACE_MAX_LEVELS * (SPACE_MAX_LEVELS + 1) / 2];
    size_t n = 0, n_slopes = 0;
    for (size_t i = 0; i < table->n && n <= SPACE_MAX_LEVELS; i++) {
        if (table->entry[i].op.kind != OP_SILU_MUL || table->entry[i].op.n_cols != n_cols)
            continue;
        x[n] = table->entry[i].op.n_out;
        y[n++] = table->entry[i].ns;
    }
    if (n < 3)
        return;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            slope[n_slopes++] = (y[i] - y[k]) / (x[i] - x[k]);
    double steep = stats_median(slope, n_slopes);
    for (size_t i = 0; i < n; i++)
        y[i] -= steep * x[i];
    double foot = stats_median(y, n);
    for (size_t i = 0; i < table->n; i++)
        if (table->entry[i].op.kind == OP_SILU_MUL && table->entry[i].op.n_cols == n_cols)
            table->entry[i].ns = foot + steep * table->entry[i].op.n_out;
}

static bool has_rest(const struct op *op)
{
    return op->kind == OP_ATTENTION || op->kind == OP_SILU_MUL || op->kind == OP_EMBED;
}

int measuring_rests(struct measuring *m, struct err *err)
{
    struct stage stage = {0};
    struct op_table *table = m->table;
    int status = stage_open(m, &stage, err);
    for (size_t i = 0; i < table->n && status == 0; i++)
        if (has_rest(&table->entry[i].op))
            table->entry[i].ns = rest_of(m, &stage, &table->entry[i].op);
    stage_close(&stage);
    for (size_t i = 0; i < table->n && status == 0; i++) {
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first = first && table->entry[k].op.n_cols != table->entry[i].op.n_cols;
        if (first)
            straighten(table, table->entry[i].op.n_cols);
    }
    for (size_t i = 0; i < table->n && status == 0; i++) {
        struct op_entry *entry = &table->entry[i];
        if (entry->op.kind == OP_MATMUL)
            continue;
        /* A difference of two measured times may fall below nothing by noise. */
        entry->ns = entry->median_ns = entry->near_ns = entry->ns > 0 ? entry->ns : 0;
        entry->n_samples = m->n_rounds;
    }
    return status;
}
