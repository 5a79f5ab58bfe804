/* account.h - parameters, bytes and operations of a genome, without a model in memory.
 * A candidate's work is a list of operations: each distinct (kind, format, shape) with how often it
 * happens in one pass.  The latency model times these; their bytes and flops are summed here.
 * Genomes must be canonical (genome_canonicalize) for the geometry that is passed with them, which
 * is the parent's; a narrower residual stream is the genome's own (genome_geometry). */
#ifndef KERF_ACCOUNT_H
#define KERF_ACCOUNT_H

#include "space/genome.h"
#include "space/workload.h"

enum op_kind {
    OP_MATMUL,    /* out[n_cols][n_out] = x[n_cols][n_in] * W' */
    OP_ATTENTION, /* n_out = query heads, n_in = KV groups, over `context` cached positions */
    OP_NORM,      /* RMS norm of n_out values, n_cols times */
    OP_ROPE,      /* n_out values rotated, n_cols times */
    OP_SILU_MUL,  /* n_out values, n_cols times */
    OP_EMBED,     /* one row of n_out weights, n_cols times */
    N_OP_KINDS
};

struct op {
    enum op_kind kind;
    enum format format;   /* of the weights; of the KV cache for attention; FORMAT_NONE else */
    enum act_format act;  /* of a matmul; ACT_FLOAT else */
    uint32_t n_out, n_in; /* n_in is 0 where it has no meaning */
    uint32_t n_cols;      /* tokens at once, of all sequences (workload_columns) */
    uint32_t n_sequences; /* attention, embed: that have these columns, as many each; 0 else */
    uint32_t context;     /* attention: positions of each before its first column; 0 else */
    uint32_t count;       /* how often in one pass */
};

#define ACCOUNT_MAX_OPS (GEOMETRY_MAX_LAYERS * 16 + 8)

/* The distinct operations of one pass of `workload`, in the order in which the forward pass first
 * does them: embed; per layer norm, q, k, v (one matmul each), rope on q and on k, attention, o;
 * norm, gate, up, silu_mul, down; final norm and head.  The sums into the residual stream, biases
 * included, are part of o and down.  Prefill takes the whole prompts at once, final norm and head
 * their last positions only; decode is one token of each sequence at the middle of the generated
 * stretch.  A zero FFN is work like any other.  Equal ones are merged.  Returns their number; `ops`
 * holds ACCOUNT_MAX_OPS. */
size_t account_ops(const struct genome *genome, const struct geometry *geometry,
                   const struct workload *workload, struct op *ops);
bool account_op_equal(const struct op *a, const struct op *b); /* count aside */
const char *op_kind_name(enum op_kind kind);                   /* "matmul" */

/* Bytes of weights that one operation reads (the KV caches for attention), `count` aside. */
uint64_t account_op_bytes(const struct op *op, const struct geometry *geometry);
/* Its arithmetic, `count` aside; a multiply-add is 2.  Per value: norm 4, rope 3, silu_mul 4. */
double account_op_flops(const struct op *op, const struct geometry *geometry);

/* Weights that stay in memory, norms, biases and zero FFNs included, a tied matrix once.  With
 * genome.bias every unit has d_model of them, dropped or not. */
uint64_t account_params(const struct genome *genome, const struct geometry *geometry);
/* Their bytes: what a GGUF's tensors take, padding aside.  Norms are F32. */
uint64_t account_weight_bytes(const struct genome *genome, const struct geometry *geometry);
/* Bytes of weights read for one decoded token, alone in its pass: all but the unused rows of the
 * embedding. */
uint64_t account_bytes_per_token(const struct genome *genome, const struct geometry *geometry);
/* What one more position takes in the KV cache of a sequence. */
uint64_t account_kv_bytes_per_token(const struct genome *genome, const struct geometry *geometry);
/* Mean bits per weight over all matrices, norms aside. */
double account_bits(const struct genome *genome, const struct geometry *geometry);
/* Sum of account_op_flops over one pass of the workload, and one for each value that a bias is
 * added to; NAN without memory. */
double account_flops(const struct genome *genome, const struct geometry *geometry,
                     const struct workload *workload);

/* Two genomes whose difference, in anything that sums over operations, is what `unit` adds to
 * `genome`: attention of layer l is unit 2l, its FFN (or the zero FFN in its place) 2l + 1, and
 * unit 2 * n_layers is what remains: embedding, final norm, head.  False for that last one: then
 * there is nothing to take away, and *without is to be left out. */
bool account_unit_pair(const struct genome *genome, uint32_t unit, struct genome *with,
                       struct genome *without);

#endif
