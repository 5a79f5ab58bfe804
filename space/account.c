/* account.c - one walk over the matrices of a genome for its bytes, one for its operations. */
#include "space/account.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---- bytes ---------------------------------------------------------------------------------- */

struct tally {
    uint64_t weights; /* in matrices */
    uint64_t bytes;   /* of matrices */
    uint64_t norms;   /* values of norms and biases, F32 */
};

static void add_matrix(struct tally *t, enum format format, uint64_t n_out, uint64_t n_in)
{
    t->weights += n_out * n_in;
    t->bytes += n_out * format_row_bytes(format, n_in);
}

static void add_ffn(struct tally *t, enum format gate_up, enum format down, uint32_t width,
                    uint32_t d_model)
{
    add_matrix(t, gate_up, 2 * (uint64_t)width, d_model);
    add_matrix(t, down, d_model, width);
    t->norms += d_model;
}

static struct tally tally_genome(const struct genome *genome, const struct geometry *parent)
{
    const struct geometry own = genome_geometry(genome, parent), *g = &own;
    struct tally t = {0, 0, g->d_model}; /* the final norm */

    add_matrix(&t, genome->embd, g->n_vocab, g->d_model);
    if (!g->tied)
        add_matrix(&t, genome->head, g->n_vocab, g->d_model);
    if (genome->bias)
        t.norms += 2 * (uint64_t)genome->n_layers * g->d_model;
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        const struct attn_choice *a = &genome->attn[l];
        const struct ffn_choice *f = &genome->ffn[l];

        if (a->kv_groups > 0) {
            uint32_t kv = a->kv_groups * g->head_dim;
            uint32_t q = kv * a->heads_per_group;

            add_matrix(&t, a->qkv, (uint64_t)q + 2 * (uint64_t)kv, g->d_model);
            add_matrix(&t, a->o, g->d_model, q);
            t.norms += g->d_model;
        }
        if (f->width > 0)
            add_ffn(&t, f->gate_up, f->down, f->width, g->d_model);
        else if (genome_has_zero_ffn(genome, l))
            add_ffn(&t, GENOME_ZERO_FORMAT, GENOME_ZERO_FORMAT, genome->zero_ffn, g->d_model);
    }
    return t;
}

uint64_t account_params(const struct genome *genome, const struct geometry *g)
{
    struct tally t = tally_genome(genome, g);

    return t.weights + t.norms;
}

uint64_t account_weight_bytes(const struct genome *genome, const struct geometry *g)
{
    struct tally t = tally_genome(genome, g);

    return t.bytes + t.norms * sizeof(float);
}

uint64_t account_bytes_per_token(const struct genome *genome, const struct geometry *parent)
{
    const struct geometry g = genome_geometry(genome, parent);
    uint64_t bytes = account_weight_bytes(genome, parent);

    /* A tied matrix is read whole by the head; the row looked up is one of its rows. */
    if (!g.tied)
        bytes -= (uint64_t)(g.n_vocab - 1) * format_row_bytes(genome->embd, g.d_model);
    return bytes;
}

uint64_t account_kv_bytes_per_token(const struct genome *genome, const struct geometry *g)
{
    uint64_t groups = 0;

    for (uint32_t l = 0; l < genome->n_layers; l++)
        groups += genome->attn[l].kv_groups;
    return 2 * groups * format_row_bytes(genome->kv, g->head_dim);
}

double account_bits(const struct genome *genome, const struct geometry *g)
{
    struct tally t = tally_genome(genome, g);

    return 8.0 * (double)t.bytes / (double)t.weights;
}

/* ---- operations ----------------------------------------------------------------------------- */

/* The list being built, and what all its entries share. */
struct ops {
    struct op *op;
    size_t n;
    const struct geometry *geometry;
    uint32_t n_cols, n_sequences;
    uint32_t context;
};

static void add_op(struct ops *ops, struct op op)
{
    op.count = 1;
    for (size_t i = 0; i < ops->n; i++) {
        if (account_op_equal(&ops->op[i], &op)) {
            ops->op[i].count++;
            return;
        }
    }
    assert(ops->n < ACCOUNT_MAX_OPS);
    ops->op[ops->n++] = op;
}

static void add_matmul(struct ops *ops, enum format format, enum act_format act, uint32_t n_out,
                       uint32_t n_in, uint32_t n_cols)
{
    add_op(ops, (struct op){.kind = OP_MATMUL,
                            .format = format,
                            .act = genome_matrix_act(act, format),
                            .n_out = n_out,
                            .n_in = n_in,
                            .n_cols = n_cols});
}

/* One of the kinds that work on values, not on weights. */
static void add_values(struct ops *ops, enum op_kind kind, uint32_t n_out, uint32_t n_cols)
{
    add_op(ops, (struct op){.kind = kind, .format = FORMAT_NONE, .n_out = n_out, .n_cols = n_cols});
}

static void add_attn_ops(struct ops *ops, const struct attn_choice *c, enum format kv_format)
{
    uint32_t d_model = ops->geometry->d_model;
    uint32_t kv = c->kv_groups * ops->geometry->head_dim;
    uint32_t q = kv * c->heads_per_group;

    add_values(ops, OP_NORM, d_model, ops->n_cols);
    add_matmul(ops, c->qkv, c->act, q, d_model, ops->n_cols);
    add_matmul(ops, c->qkv, c->act, kv, d_model, ops->n_cols);
    add_matmul(ops, c->qkv, c->act, kv, d_model, ops->n_cols);
    add_values(ops, OP_ROPE, q, ops->n_cols);
    add_values(ops, OP_ROPE, kv, ops->n_cols);
    add_op(ops, (struct op){.kind = OP_ATTENTION,
                            .format = kv_format,
                            .n_out = c->kv_groups * c->heads_per_group,
                            .n_in = c->kv_groups,
                            .n_cols = ops->n_cols,
                            .n_sequences = ops->n_sequences,
                            .context = ops->context});
    add_matmul(ops, c->o, c->act, d_model, q, ops->n_cols);
}

static void add_ffn_ops(struct ops *ops, const struct ffn_choice *c)
{
    uint32_t d_model = ops->geometry->d_model;

    add_values(ops, OP_NORM, d_model, ops->n_cols);
    add_matmul(ops, c->gate_up, c->act, c->width, d_model, ops->n_cols);
    add_matmul(ops, c->gate_up, c->act, c->width, d_model, ops->n_cols);
    add_values(ops, OP_SILU_MUL, c->width, ops->n_cols);
    add_matmul(ops, c->down, c->act, d_model, c->width, ops->n_cols);
}

size_t account_ops(const struct genome *genome, const struct geometry *parent,
                   const struct workload *workload, struct op *op)
{
    const struct geometry own = genome_geometry(genome, parent), *g = &own;
    bool decode = workload->kind == WORKLOAD_DECODE;
    struct ops ops = {.op = op,
                      .geometry = g,
                      .n_cols = workload_columns(workload),
                      .n_sequences = workload->batch,
                      .context = workload->context + (decode ? workload->n_tokens / 2 : 0)};
    const struct ffn_choice zero = {genome->zero_ffn, GENOME_ZERO_FORMAT, GENOME_ZERO_FORMAT,
                                    ACT_FLOAT};

    add_op(&ops, (struct op){.kind = OP_EMBED,
                             .format = genome->embd,
                             .n_out = g->d_model,
                             .n_cols = ops.n_cols,
                             .n_sequences = ops.n_sequences});
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        if (genome->attn[l].kv_groups > 0)
            add_attn_ops(&ops, &genome->attn[l], genome->kv);
        if (genome->ffn[l].width > 0)
            add_ffn_ops(&ops, &genome->ffn[l]);
        else if (genome_has_zero_ffn(genome, l))
            add_ffn_ops(&ops, &zero);
    }
    add_values(&ops, OP_NORM, g->d_model, ops.n_sequences);
    add_matmul(&ops, genome->head, act_format_of(genome->head), g->n_vocab, g->d_model,
               ops.n_sequences);
    return ops.n;
}

bool account_op_equal(const struct op *a, const struct op *b)
{
    return a->kind == b->kind && a->format == b->format && a->act == b->act &&
           a->n_out == b->n_out && a->n_in == b->n_in && a->n_cols == b->n_cols &&
           a->n_sequences == b->n_sequences && a->context == b->context;
}

const char *op_kind_name(enum op_kind kind)
{
    static const char *const names[N_OP_KINDS] = {
        [OP_MATMUL] = "matmul", [OP_ATTENTION] = "attention", [OP_NORM] = "norm",
        [OP_ROPE] = "rope",     [OP_SILU_MUL] = "silu_mul",   [OP_EMBED] = "embed",
    };

    return (unsigned)kind < N_OP_KINDS ? names[kind] : "unknown";
}

uint64_t account_op_bytes(const struct op *op, const struct geometry *g)
{
    switch (op->kind) {
    case OP_MATMUL:
        return (uint64_t)op->n_out * format_row_bytes(op->format, op->n_in);
    case OP_ATTENTION: /* keys and values of every position, the new ones included */
        return 2 * (uint64_t)op->n_in * format_row_bytes(op->format, g->head_dim) *
               ((uint64_t)op->n_sequences * op->context + op->n_cols);
    case OP_NORM:
        return (uint64_t)op->n_out * sizeof(float);
    case OP_EMBED:
        return (uint64_t)op->n_cols * format_row_bytes(op->format, op->n_out);
    default:
        return 0;
    }
}

double account_op_flops(const struct op *op, const struct geometry *g)
{
    double values = (double)op->n_out * op->n_cols;

    switch (op->kind) {
    case OP_MATMUL:
        return 2.0 * values * op->n_in;
    case OP_ATTENTION: {
        /* Column c of a sequence sees context + c + 1 positions, once for its scores and once for
         * its values. */
        double each = (double)op->n_cols / op->n_sequences;
        double positions = each * op->context + 0.5 * each * (each + 1.0);
        return 4.0 * op->n_out * g->head_dim * positions * op->n_sequences;
    }
    case OP_NORM:
    case OP_SILU_MUL:
        return 4.0 * values;
    case OP_ROPE:
        return 3.0 * values;
    default:
        return 0.0;
    }
}

double account_flops(const struct genome *genome, const struct geometry *g,
                     const struct workload *workload)
{
    struct op *ops = malloc(ACCOUNT_MAX_OPS * sizeof *ops);
    double flops = 0.0;
    size_t n;

    if (ops == NULL)
        return NAN;
    n = account_ops(genome, g, workload, ops);
    for (size_t i = 0; i < n; i++)
        flops += ops[i].count * account_op_flops(&ops[i], g);
    free(ops);
    if (genome->bias)
        flops += 2.0 * genome->n_layers * genome_geometry(genome, g).d_model *
                 workload_columns(workload);
    return flops;
}

/* The genome with every unit dropped. */
static void strip(const struct genome *genome, struct genome *bare)
{
    *bare = *genome;
    bare->zero_ffn = 0;
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        bare->attn[l] = (struct attn_choice){.qkv = FORMAT_NONE, .o = FORMAT_NONE};
        bare->ffn[l] = (struct ffn_choice){.gate_up = FORMAT_NONE, .down = FORMAT_NONE};
    }
}

bool account_unit_pair(const struct genome *genome, uint32_t unit, struct genome *with,
                       struct genome *without)
{
    uint32_t layer = unit / 2;
    strip(genome, without);
    *with = *without;
    if (unit >= 2 * genome->n_layers)
        return false;
    if (unit % 2 == 0) {
        with->attn[layer] = genome->attn[layer];
    } else if (genome->ffn[layer].width > 0) {
        with->ffn[layer] = genome->ffn[layer];
    } else if (genome->attn[layer].kv_groups > 0) {
        /* The zero FFN only exists beside the attention that it protects. */
        with->attn[layer] = without->attn[layer] = genome->attn[layer];
        with->zero_ffn = genome->zero_ffn;
    }
    return true;
}
