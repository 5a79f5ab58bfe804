#include "space/account.h"

#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

static struct op ops[ACCOUNT_MAX_OPS];

static const struct op *find(size_t n, enum op_kind kind, uint32_t n_out, uint32_t n_in)
{
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == kind && ops[i].n_out == n_out && ops[i].n_in == n_in)
            return &ops[i];
    return NULL;
}

/* How often an op of that kind and shape happens; 0 when it is not in the list. */
static uint32_t count(size_t n, enum op_kind kind, uint32_t n_out, uint32_t n_in)
{
    const struct op *op = find(n, kind, n_out, n_in);

    return op == NULL ? 0 : op->count;
}

static void test_bytes(void)
{
    /* Matrices of the wide geometry: embedding 1536 * 256; in each of 8 layers q and o 512 * 256,
     * k and v 128 * 256, three of 1024 * 256.  17 norms of 256. */
    const uint64_t weights = 393216 + 8 * (2 * 131072 + 2 * 32768 + 3 * 262144), norms = 17 * 256;
    struct geometry g = fixture_wide();
    struct genome a;

    genome_uniform(&a, &g, FORMAT_F16);
    ok(account_params(&a, &g) == weights + norms, "the parameters of the dense parent are counted");
    ok(account_weight_bytes(&a, &g) == 2 * weights + 4 * norms, "F16 takes 2 bytes, norms 4");
    ok(account_bytes_per_token(&a, &g) == account_weight_bytes(&a, &g),
       "a tied embedding is read whole for every token");
    ok(account_kv_bytes_per_token(&a, &g) == 8 * 2 * 4 * 32 * 2,
       "the cache grows by keys and values of 8 layers");
    near(account_bits(&a, &g), 16.0, 1e-12, "F16 has 16 bits a weight");
    genome_uniform(&a, &g, FORMAT_Q4_K);
    near(account_bits(&a, &g), 4.5, 1e-12, "Q4_K has 4.5 bits a weight");
    ok(account_weight_bytes(&a, &g) == weights / 256 * 144 + 4 * norms, "Q4_K takes its blocks");

    g.tied = false;
    genome_uniform(&a, &g, FORMAT_F16);
    ok(account_params(&a, &g) == weights + 393216 + norms, "a head of its own is counted");
    ok(account_weight_bytes(&a, &g) - account_bytes_per_token(&a, &g) == 1535 * 256 * 2,
       "one row of an untied embedding is read for a token");

    /* A narrower residual stream: every matrix has it on one side, and the head is its own. */
    g = fixture_wide();
    genome_uniform(&a, &g, FORMAT_F16);
    a.hidden = 224;
    genome_canonicalize(&a, &g, NULL);
    ok(account_params(&a, &g) == (weights + 393216 + norms) / 256 * 224 &&
           account_weight_bytes(&a, &g) == (2 * (weights + 393216) + 4 * norms) / 256 * 224,
       "a stream of 224 of 256 leaves 7/8 of everything, and a head of its own");

    /* Units that go take their norm with them. */
    g = fixture_wide();
    genome_uniform(&a, &g, FORMAT_F16);
    a.attn[3].kv_groups = 0;
    genome_canonicalize(&a, &g, NULL);
    ok(account_params(&a, &g) == weights + norms - (2 * 131072 + 2 * 32768) - 256,
       "dropped attention takes its matrices and its norm along");
    ok(account_kv_bytes_per_token(&a, &g) == 7 * 2 * 4 * 32 * 2, "and its cache");
    genome_uniform(&a, &g, FORMAT_F16);
    a.ffn[3].width = 0;
    genome_canonicalize(&a, &g, NULL);
    ok(account_params(&a, &g) == weights + norms - 3 * 262144 - 256, "so does a dropped FFN");
    a.zero_ffn = 32;
    ok(account_params(&a, &g) == weights + norms - 3 * 262144 + 3 * 32 * 256,
       "a zero FFN counts, with its norm");
    ok(account_weight_bytes(&a, &g) == 2 * (weights - 3 * 262144) + 4 * norms + 3 * 32 * 256 * 2,
       "its bytes are F16");
    uint64_t bytes = account_weight_bytes(&a, &g);
    struct workload tg = {WORKLOAD_DECODE, 128, 0, 1};
    double flops = account_flops(&a, &g, &tg);
    a.bias = true;
    ok(account_weight_bytes(&a, &g) == bytes + 16 * 256 * 4 &&
           account_flops(&a, &g, &tg) == flops + 16 * 256,
       "every unit has a bias, the dropped one too");
    a.bias = false;
    a.attn[5].kv_groups = 2;
    genome_canonicalize(&a, &g, NULL);
    ok(account_kv_bytes_per_token(&a, &g) == (7 * 4 + 2) * 2 * 32 * 2,
       "half the groups make half the cache of a layer");
    a.kv = FORMAT_Q8_0;
    ok(account_kv_bytes_per_token(&a, &g) == (7 * 4 + 2) * 2 * 34,
       "in Q8_0 a row of 32 is a block");
    a.kv = FORMAT_Q4_0;
    ok(account_kv_bytes_per_token(&a, &g) == (7 * 4 + 2) * 2 * 18, "so it is in Q4_0");
}

static void test_decode_ops(void)
{
    struct geometry g = fixture_wide();
    struct workload tg = {WORKLOAD_DECODE, 128, 0, 1};
    struct genome a;
    const struct op *op;
    size_t n;

    genome_uniform(&a, &g, FORMAT_Q4_K);
    n = account_ops(&a, &g, &tg, ops);
    ok(n == 12, "a uniform model has 12 distinct operations, got %zu", n);
    ok(ops[0].kind == OP_EMBED && ops[0].n_out == 256 && ops[0].count == 1, "embed comes first");
    ok(count(n, OP_NORM, 256, 0) == 17, "17 norms of one column");
    ok(count(n, OP_MATMUL, 512, 256) == 8 && count(n, OP_MATMUL, 128, 256) == 16 &&
           count(n, OP_MATMUL, 256, 512) == 8,
       "q and o in 8 layers, k and v are two each");
    ok(count(n, OP_MATMUL, 1024, 256) == 16 && count(n, OP_MATMUL, 256, 1024) == 8,
       "gate and up are two each, down is one");
    ok(count(n, OP_ROPE, 512, 0) == 8 && count(n, OP_ROPE, 128, 0) == 8, "q and k are rotated");
    ok(count(n, OP_SILU_MUL, 1024, 0) == 8, "one silu_mul a layer");
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && op->count == 8 && op->context == 64 && op->format == FORMAT_F16,
       "attention is timed at the middle of the generated stretch");
    ok(account_op_bytes(op, &g) == 65 * 4 * 2 * 64, "and reads every key and value so far");
    a.kv = FORMAT_Q8_0;
    a.ffn[2].act = ACT_FLOAT;
    n = account_ops(&a, &g, &tg, ops);
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && op->count == 8 && op->format == FORMAT_Q8_0 &&
           account_op_bytes(op, &g) == 65 * 4 * 2 * 34,
       "a KV cache in Q8_0 is another operation, with fewer bytes");
    uint32_t n_float = 0;
    for (size_t i = 0; i < n; i++)
        n_float += ops[i].kind == OP_MATMUL && ops[i].act == ACT_FLOAT ? ops[i].count : 0;
    ok(n == 14 && n_float == 3, "so are the products of a unit with float activations");
    genome_uniform(&a, &g, FORMAT_Q4_K);
    n = account_ops(&a, &g, &tg, ops);
    op = find(n, OP_MATMUL, 1536, 256);
    ok(op != NULL && op->count == 1 && op->act == ACT_Q8 && op->format == FORMAT_Q4_K,
       "the head closes the pass");
    ok(ops[n - 1].n_out == 1536, "and comes last");
    near(account_flops(&a, &g, &tg),
         2.0 * (double)(393216 + 8 * (2 * 131072 + 2 * 32768 + 3 * 262144)) +
             8.0 * 4 * 16 * 32 * 65 + 17.0 * 4 * 256 + 8.0 * 3 * (512 + 128) + 8.0 * 4 * 1024,
         0.5, "the flops of one token add up");
    {
        uint64_t bytes = 0;

        for (size_t i = 0; i < n; i++)
            if (ops[i].kind == OP_MATMUL || ops[i].kind == OP_NORM)
                bytes += ops[i].count * account_op_bytes(&ops[i], &g);
        ok(bytes == account_bytes_per_token(&a, &g),
           "the matmuls and norms of one token read bytes_per_token");
    }

    tg.context = 100;
    n = account_ops(&a, &g, &tg, ops);
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && op->context == 164, "a context that is given adds to it");
    ok(account_op_bytes(op, &g) == 165 * 2 * 4 * 32 * 2, "attention reads its cache");
}

/* The same work for each of several sequences, but for the weights, which are read once. */
static void test_batch(void)
{
    struct geometry g = fixture_wide();
    struct workload tg = {WORKLOAD_DECODE, 128, 100, 8}, pp = {WORKLOAD_PREFILL, 100, 20, 4};
    struct genome a;
    const struct op *op;
    double flops;
    size_t n;

    genome_uniform(&a, &g, FORMAT_Q4_K);
    n = account_ops(&a, &g, &tg, ops);
    ok(ops[0].kind == OP_EMBED && ops[0].n_cols == 8 && ops[0].n_sequences == 8,
       "8 tokens are looked up");
    op = find(n, OP_MATMUL, 512, 256);
    ok(op != NULL && op->n_cols == 8 && op->n_sequences == 0 &&
           account_op_bytes(op, &g) == 512 * 144,
       "products have a column of each sequence and read their weights once");
    op = find(n, OP_MATMUL, 1536, 256);
    ok(op != NULL && op->n_cols == 8, "the head, too");
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && op->n_cols == 8 && op->n_sequences == 8 && op->context == 164 &&
           account_op_bytes(op, &g) == 8 * 165 * 2 * 4 * 32 * 2,
       "attention reads the cache of each");
    near(account_op_flops(op, &g), 8 * 4.0 * 16 * 32 * 165, 0.5, "and looks at no other's");
    flops = account_flops(&a, &g, &tg);
    tg.batch = 1;
    near(account_flops(&a, &g, &tg), flops / 8, 0.5, "an eighth of the flops is for each");

    n = account_ops(&a, &g, &pp, ops);
    op = find(n, OP_MATMUL, 512, 256);
    ok(op != NULL && op->n_cols == 400, "prompts are read in one pass");
    op = find(n, OP_MATMUL, 1536, 256);
    ok(op != NULL && op->n_cols == 4, "which ends with the logits of each");
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && account_op_bytes(op, &g) == 4 * 120 * 2 * 4 * 32 * 2,
       "each into a cache of its own");
    near(account_op_flops(op, &g), 4 * 4.0 * 16 * 32 * (5050 + 100 * 20), 0.5,
         "behind a context of its own");
    flops = account_flops(&a, &g, &pp);
    pp.batch = 1;
    near(account_flops(&a, &g, &pp), flops / 4, 0.5, "a quarter of the flops is for each");
}

static void test_other_ops(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories();
    struct workload pp = {WORKLOAD_PREFILL, 100, 0, 1}, tg = {WORKLOAD_DECODE, 32, 0, 1};
    struct genome a;
    const struct op *op;
    size_t n;

    genome_uniform(&a, &g, FORMAT_Q8_0);
    n = account_ops(&a, &g, &pp, ops);
    op = find(n, OP_MATMUL, 512, 256);
    ok(op != NULL && op->n_cols == 100, "prefill multiplies the whole prompt at once");
    op = find(n, OP_MATMUL, 1536, 256);
    ok(op != NULL && op->n_cols == 1, "but needs the logits of its last position only");
    op = find(n, OP_ATTENTION, 16, 4);
    ok(op != NULL && op->n_cols == 100 && op->context == 0, "its attention starts empty");
    near(account_op_flops(op, &g), 4.0 * 16 * 32 * 5050, 0.5,
         "column c attends to c + 1 positions");
    ok(n == 13, "the norm of the last position is not that of the prompt");

    genome_uniform(&a, &s, FORMAT_Q4_K);
    n = account_ops(&a, &s, &tg, ops);
    op = find(n, OP_MATMUL, 64, 172);
    ok(op != NULL && op->format == FORMAT_F16 && op->act == ACT_FLOAT,
       "a matrix that fell back to F16 takes float activations");
    op = find(n, OP_MATMUL, 172, 64);
    ok(op != NULL && op->format == FORMAT_Q4_0 && op->act == ACT_Q8, "its neighbours do not");

    genome_uniform(&a, &g, FORMAT_Q8_0);
    for (uint32_t l = 0; l < g.n_layers; l++)
        a.ffn[l].width = 0;
    a.attn[7].kv_groups = 0;
    a.zero_ffn = 32;
    genome_canonicalize(&a, &g, NULL);
    n = account_ops(&a, &g, &tg, ops);
    op = find(n, OP_MATMUL, 32, 256);
    ok(op != NULL && op->count == 14 && op->format == FORMAT_F16 && op->act == ACT_FLOAT &&
           count(n, OP_MATMUL, 256, 32) == 7 && count(n, OP_SILU_MUL, 32, 0) == 7,
       "a zero FFN works in each layer that kept attention alone");
    a.zero_ffn = 0;
    n = account_ops(&a, &g, &tg, ops);
    ok(count(n, OP_MATMUL, 32, 256) == 0 && count(n, OP_NORM, 256, 0) == 8,
       "and nowhere when the model leaves it out");
}

/* The longest list there can be: every layer unlike every other. */
static void test_longest(void)
{
    struct geometry g = fixture_wide();
    struct workload tg = {WORKLOAD_DECODE, 32, 0, 1};
    struct genome a;
    uint32_t total = 0;
    size_t n;

    g.n_layers = GEOMETRY_MAX_LAYERS;
    g.n_heads = g.n_kv_heads = 256;
    genome_uniform(&a, &g, FORMAT_F16);
    for (uint32_t l = 0; l < g.n_layers; l++) {
        a.attn[l].kv_groups = l + 1;
        a.ffn[l].width = 4 * (l + 1) - 1;
    }
    ok(genome_canonicalize(&a, &g, NULL) == 0, "256 layers of different shapes are fine");
    n = account_ops(&a, &g, &tg, ops);
    for (size_t i = 0; i < n; i++)
        total += ops[i].count;
    ok(n <= ACCOUNT_MAX_OPS && total == 256 * 13 + 3, "their %zu operations fit the list", n);
    is_text(op_kind_name(OP_SILU_MUL), "silu_mul", "kinds have names");
}

int main(void)
{
    test_bytes();
    test_decode_ops();
    test_batch();
    test_other_ops();
    test_longest();
    return tap_done();
}
