/* account.h - parameters, bytes and operations of a genome, without a model in memory.
 * A candidate's work is a list of operations: each distinct (kind, format, shape) with how often it
 * happens in one pass.  The latency model times these; their bytes and flops are summed here. */
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
    enum format format;  /* of the weights; of the KV cache for attention; FORMAT_NONE else */
    enum act_format act;
    uint32_t n_out, n_in;
    uint32_t n_cols;     /* tokens at once: 1 in decode, the prompt length in prefill */
    uint32_t context;    /* attention: positions before the first column */
    uint32_t count;      /* how often in one pass */
};

#define ACCOUNT_MAX_OPS (GEOMETRY_MAX_LAYERS * 16 + 8)

/* The distinct operations of one pass of `workload`: the whole prompt for prefill (logits of the
 * last position only), one token at the middle of the generated stretch for decode.  Equal ones
 * are merged, order is stable.  Returns their number; `ops` holds ACCOUNT_MAX_OPS. */
size_t account_ops(const struct genome *genome, const struct geometry *geometry,
                   const struct workload *workload, struct op *ops);
bool account_op_equal(const struct op *a, const struct op *b); /* count aside */
const char *op_kind_name(enum op_kind kind);                   /* "matmul" */

uint64_t account_params(const struct genome *genome, const struct geometry *geometry);
/* Bytes of all weights that stay in memory, norms included (what a GGUF's tensors take). */
uint64_t account_weight_bytes(const struct genome *genome, const struct geometry *geometry);
/* Bytes of weights read for one decoded token: all but the unused rows of the embedding. */
uint64_t account_bytes_per_token(const struct genome *genome, const struct geometry *geometry);
uint64_t account_kv_bytes_per_token(const struct genome *genome, const struct geometry *geometry);
/* Mean bits per weight over all matrices. */
double account_bits(const struct genome *genome, const struct geometry *geometry);
/* Multiply-add counted as 2. */
double account_flops(const struct genome *genome, const struct geometry *geometry,
                     const struct workload *workload);

#endif
