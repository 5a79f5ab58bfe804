/* test_train.c - the trainer of the reference model: gradients, tile products, learning. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "evaluator/formats/gguf.h"
#include "evaluator/reference/train_backend.h"
#include "evaluator/reference/train_checkpoint.h"
#include "evaluator/reference/train_export.h"
#include "evaluator/reference/train_model.h"
#include "evaluator/reference/train_optimizer.h"
#include "evaluator/reference/train_options.h"
#include "evaluator/reference/train_pool.h"
#include "evaluator/reference/train_rows.h"
#include "evaluator/reference/train_run.h"
#include "evaluator/reference/train_tokens.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"
#include "tests/tap.h"

/* ---- the oracle: the same model in double, written as plainly as possible ---- */

static void oracle_norm(const struct train_geometry *g, const double *x, const double *gain,
                        double *y)
{
    double squares = 0;
    for (size_t i = 0; i < g->dim; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < g->dim; i++)
        y[i] = x[i] / sqrt(squares / (double)g->dim + g->norm_eps) * gain[i];
}

static void oracle_linear(size_t n_out, size_t n_in, const double *w, const double *x, double *y)
{
    for (size_t o = 0; o < n_out; o++) {
        y[o] = 0;
        for (size_t i = 0; i < n_in; i++)
            y[o] += w[o * n_in + i] * x[i];
    }
}

static void oracle_rotate(const struct train_geometry *g, size_t position, size_t n_heads,
                          double *x)
{
    for (size_t j = 0; j < n_heads * g->head_size; j += 2) {
        double i = (double)(j % g->head_size) / 2, half = (double)g->head_size / 2;
        double angle = (double)position * pow(g->rope_base, -i / half), a = x[j], b = x[j + 1];
        x[j] = a * cos(angle) - b * sin(angle);
        x[j + 1] = a * sin(angle) + b * cos(angle);
    }
}

/* Attention of one token over all tokens up to it; qkv[context][qkv_rows] already rotated. */
static void oracle_attend(const struct train_geometry *g, const double *qkv, size_t t, double *out)
{
    size_t ld = train_geometry_qkv_rows(g), size = g->head_size;
    double *p = malloc((t + 1) * sizeof *p);
    for (size_t h = 0; h < g->n_heads; h++) {
        size_t kv = h / (g->n_heads / g->n_kv_heads);
        const double *q = qkv + t * ld + h * size;
        const double *k = qkv + (g->n_heads + kv) * size;
        const double *v = k + g->n_kv_heads * size;
        double sum = 0;
        for (size_t s = 0; s <= t; s++) {
            double dot = 0;
            for (size_t i = 0; i < size; i++)
                dot += q[i] * k[s * ld + i];
            sum += p[s] = exp(dot / sqrt((double)size));
        }
        for (size_t i = 0; i < size; i++) {
            out[h * size + i] = 0;
            for (size_t s = 0; s <= t; s++)
                out[h * size + i] += p[s] / sum * v[s * ld + i];
        }
    }
    free(p);
}

static void oracle_layer(const struct train_geometry *g, const double *w, size_t layer, double *x)
{
    struct train_layer_layout at = train_geometry_layer(g, layer);
    size_t ld = train_geometry_qkv_rows(g), width = train_geometry_att_width(g);
    double *qkv = malloc(g->context * ld * sizeof *qkv), *n = malloc(g->dim * sizeof *n);
    double *att = malloc(width * sizeof *att), *y = malloc(g->dim * sizeof *y);
    double *gate_up = malloc(2 * g->ffn * sizeof *gate_up);
    for (size_t t = 0; t < g->context; t++) {
        oracle_norm(g, x + t * g->dim, w + at.attn_norm, n);
        oracle_linear(ld, g->dim, w + at.qkv, n, qkv + t * ld);
        oracle_rotate(g, t, g->n_heads + g->n_kv_heads, qkv + t * ld);
    }
    for (size_t t = 0; t < g->context; t++) {
        double *row = x + t * g->dim;
        oracle_attend(g, qkv, t, att);
        oracle_linear(g->dim, width, w + at.attn_out, att, y);
        for (size_t i = 0; i < g->dim; i++)
            row[i] += y[i];
        oracle_norm(g, row, w + at.ffn_norm, n);
        oracle_linear(2 * g->ffn, g->dim, w + at.gate_up, n, gate_up);
        for (size_t i = 0; i < g->ffn; i++)
            gate_up[i] = gate_up[i] / (1 + exp(-gate_up[i])) * gate_up[g->ffn + i];
        oracle_linear(g->dim, g->ffn, w + at.down, gate_up, y);
        for (size_t i = 0; i < g->dim; i++)
            row[i] += y[i];
    }
    free(qkv), free(n), free(att), free(y), free(gate_up);
}

/* Summed loss in nats of one sequence of context + 1 tokens. */
static double oracle_loss(const struct train_geometry *g, const double *w, const uint16_t *tokens)
{
    double *x = malloc(g->context * g->dim * sizeof *x), *n = malloc(g->dim * sizeof *n);
    double *logits = malloc(g->vocab * sizeof *logits), loss = 0;
    for (size_t t = 0; t < g->context; t++)
        memcpy(x + t * g->dim, w + tokens[t] * g->dim, g->dim * sizeof *x);
    for (size_t l = 0; l < g->n_layers; l++)
        oracle_layer(g, w, l, x);
    for (size_t t = 0; t < g->context; t++) {
        oracle_norm(g, x + t * g->dim, w + train_geometry_output_norm(g), n);
        oracle_linear(g->vocab, g->dim, w, n, logits);
        double sum = 0;
        for (size_t v = 0; v < g->vocab; v++)
            sum += exp(logits[v]);
        loss += log(sum) - logits[tokens[t + 1]];
    }
    free(x), free(n), free(logits);
    return loss;
}

/* ---- helpers ---- */

struct bench {
    struct train_geometry g;
    struct train_model *model;
    struct train_workspace *ws;
    float *params, *gradient;
    uint16_t *tokens;
    size_t n_seqs;
};

static struct bench bench_create(struct train_geometry g, const struct train_backend *backend,
                                 size_t n_seqs, uint64_t seed, float spread)
{
    struct err err = {0};
    struct rng rng = rng_make(seed, 1);
    size_t n = train_geometry_n_params(&g);
    struct bench b = {.g = g, .n_seqs = n_seqs};
    b.model = train_model_create(&g, backend, &err);
    b.ws = train_workspace_create(b.model, n_seqs, &err);
    b.params = malloc(n * sizeof *b.params);
    b.gradient = calloc(n, sizeof *b.gradient);
    b.tokens = malloc(n_seqs * (g.context + 1) * sizeof *b.tokens);
    train_model_init_params(&g, &rng, b.params);
    /* Larger than the usual start, so that softmaxes and gates are far from flat; gains vary. */
    for (size_t i = 0; i < n; i++)
        b.params[i] =
            b.params[i] == 1.0f ? 1.0f + 0.2f * (float)rng_normal(&rng) : spread * b.params[i];
    for (size_t i = 0; i < n_seqs * (g.context + 1); i++)
        b.tokens[i] = (uint16_t)rng_below(&rng, g.vocab);
    train_model_pack(b.model, b.params, 0, 1);
    return b;
}

static void bench_destroy(struct bench *b)
{
    train_model_destroy(b->model);
    train_workspace_destroy(b->ws);
    free(b->params);
    free(b->gradient);
    free(b->tokens);
}

static double norm2(size_t n, const float *x)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    return sqrt(squares);
}

/* |a - b| / |b| */
static double distance(size_t n, const float *a, const float *b)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(squares) / norm2(n, b);
}

/* ---- the reference backend ---- */

static void test_gradient(void)
{
    struct train_geometry g = {.vocab = 13,
                               .dim = 12,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_size = 4,
                               .ffn = 10,
                               .context = 7,
                               .norm_eps = 1e-5f,
                               .rope_base = 100.0f};
    struct bench b = bench_create(g, &train_backend_f32, 2, 7, 10.0f);
    size_t n = train_geometry_n_params(&g);
    double *w = malloc(n * sizeof *w);
    float *by_difference = malloc(n * sizeof *by_difference);
    for (size_t i = 0; i < n; i++)
        w[i] = b.params[i];

    double want = oracle_loss(&g, w, b.tokens) + oracle_loss(&g, w, b.tokens + g.context + 1);
    double got = train_model_pass(b.model, b.ws, b.tokens, 2, b.gradient);
    near(got, want, 1e-5 * want, "the loss is that of the model written plainly in double");
    near(train_model_pass(b.model, b.ws, b.tokens, 2, NULL), got, 0,
         "the loss without a gradient is the same");

    const double h = 1e-5; /* central difference: error h^2 in double, far below float's */
    for (size_t i = 0; i < n; i++) {
        double keep = w[i], up, down;
        w[i] = keep + h;
        up = oracle_loss(&g, w, b.tokens) + oracle_loss(&g, w, b.tokens + g.context + 1);
        w[i] = keep - h;
        down = oracle_loss(&g, w, b.tokens) + oracle_loss(&g, w, b.tokens + g.context + 1);
        w[i] = keep;
        by_difference[i] = (float)((up - down) / (2 * h));
    }
    /* Float activations carry about 1e-7 each; 1e-5 leaves room for their sums. */
    for (size_t i = 0; i < train_geometry_n_parts(&g); i++) {
        struct train_part part = train_geometry_part(&g, i);
        double off =
            distance(part.n_out * part.n_in, b.gradient + part.offset, by_difference + part.offset);
        ok(off < 1e-5, "the gradient of part %zu is that of finite differences (off by %.1e)", i,
           off);
    }

    memcpy(by_difference, b.gradient, n * sizeof *by_difference);
    train_model_pass(b.model, b.ws, b.tokens, 2, b.gradient);
    for (size_t i = 0; i < n; i++)
        by_difference[i] *= 2;
    ok(distance(n, b.gradient, by_difference) < 1e-6, "a second pass adds to the gradient");
    free(w);
    free(by_difference);
    bench_destroy(&b);
}

/* ---- the tile backend ---- */

static double unstored(const struct train_backend *b, const void *x, size_t i)
{
    if (b->rows->act_bytes == sizeof(float))
        return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* A fresh random stored matrix. */
static void *stored_random(const struct train_backend *b, struct rng *rng, size_t n)
{
    float *x = malloc(n * sizeof *x);
    void *stored = malloc(n * b->rows->act_bytes);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(rng);
    b->rows->store(n, x, stored);
    free(x);
    return stored;
}

/* The three products of one linear map against double; operands are compared as stored, so that
 * only the accumulation in float is judged: 2^-24 a term, sums of up to n terms of size 1. */
static void check_products(const struct train_backend *b, size_t rows, size_t n_out, size_t n_in,
                           struct rng *rng)
{
    void *x = stored_random(b, rng, rows * n_in), *dy = stored_random(b, rng, rows * n_out);
    void *w_stored = stored_random(b, rng, n_out * n_in);
    float *w = malloc(n_out * n_in * sizeof *w), *y = malloc(rows * n_out * sizeof *y);
    float *dx = malloc(rows * n_in * sizeof *dx), *dw = malloc(n_out * n_in * sizeof *dw);
    size_t scratch_bytes = (b->linear_scratch(n_out, n_in) + 63) / 64 * 64;
    size_t packed_bytes = (b->weight_bytes(n_out, n_in) + 63) / 64 * 64;
    void *scratch = aligned_alloc(64, scratch_bytes), *packed = aligned_alloc(64, packed_bytes);
    for (size_t i = 0; i < n_out * n_in; i++) {
        w[i] = (float)unstored(b, w_stored, i);
        dw[i] = 1.0f;
    }
    for (size_t i = 0; i < rows * n_in; i++)
        dx[i] = 2.0f;
    b->weight_pack(n_out, n_in, w, packed);
    b->linear(rows, n_out, n_in, x, n_in, packed, (struct train_output){.y_float = y, .ld = n_out},
              scratch);
    b->linear_back(rows, n_out, n_in, dy, n_out, packed,
                   (struct train_output){.y_float = dx, .add = dx, .ld = n_in}, scratch);
    b->linear_weight(rows, n_out, n_in, dy, n_out, x, n_in, dw, scratch);

    double worst_y = 0, worst_dx = 0, worst_dw = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < n_out; o++) {
            double sum = 0;
            for (size_t i = 0; i < n_in; i++)
                sum += unstored(b, x, r * n_in + i) * (double)w[o * n_in + i];
            worst_y = fmax(worst_y, fabs(sum - (double)y[r * n_out + o]));
        }
        for (size_t i = 0; i < n_in; i++) {
            double sum = 2;
            for (size_t o = 0; o < n_out; o++)
                sum += unstored(b, dy, r * n_out + o) * (double)w[o * n_in + i];
            worst_dx = fmax(worst_dx, fabs(sum - (double)dx[r * n_in + i]));
        }
    }
    for (size_t o = 0; o < n_out; o++) {
        for (size_t i = 0; i < n_in; i++) {
            double sum = 1;
            for (size_t r = 0; r < rows; r++)
                sum += unstored(b, dy, r * n_out + o) * unstored(b, x, r * n_in + i);
            worst_dw = fmax(worst_dw, fabs(sum - (double)dw[o * n_in + i]));
        }
    }
    double n = (double)(rows > n_out ? rows : n_out), bound = 1e-6 * fmax(n, (double)n_in) + 1e-6;
    ok(worst_y < bound && worst_dx < bound && worst_dw < bound,
       "%s: %zu rows through [%zu][%zu] and back agree with double (off by %.1e %.1e %.1e)",
       b->name, rows, n_out, n_in, worst_y, worst_dx, worst_dw);
    free(x), free(dy), free(w_stored), free(w), free(y), free(dx), free(dw), free(scratch);
    free(packed);
}

static void test_products(const struct train_backend *b)
{
    struct rng rng = rng_make(20240817, 3);
    const size_t sizes[][3] = {{1, 1, 1},     {32, 32, 32},  {33, 31, 65},  {7, 100, 3},
                               {64, 96, 256}, {300, 40, 72}, {555, 65, 33}, {129, 300, 290}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_products(b, sizes[i][0], sizes[i][1], sizes[i][2], &rng);
}

/* Attention alone, both directions, on inputs that are exact in bf16: only the rounding of
 * probabilities, their gradients and the results (2^-9 each) tells the backends apart. */
static void test_attention(const struct train_backend *blocks)
{
    const struct train_backend *const backends[2] = {&train_backend_f32, blocks};
    const struct train_heads heads = {160, 4, 2, 32};
    size_t n = heads.context, ld = 8 * 32, width = 4 * 32;
    float *out[2], *d_qkv[2], *log_sum[2];
    for (int i = 0; i < 2; i++) {
        const struct train_backend *b = backends[i];
        struct rng rng = rng_make(5, 5);
        void *rounded = stored_random(blocks, &rng, n * ld), *d_rounded = NULL;
        d_rounded = stored_random(blocks, &rng, n * width);
        float *x = malloc(n * ld * sizeof *x);
        void *qkv = malloc(n * ld * 4), *d_out = malloc(n * width * 4);
        void *y = malloc(n * width * 4), *dx = malloc(n * ld * 4);
        void *scratch = aligned_alloc(64, (b->attention_scratch(&heads) + 63) / 64 * 64);
        out[i] = malloc(n * width * sizeof(float));
        d_qkv[i] = malloc(n * ld * sizeof(float));
        log_sum[i] = malloc(n * heads.n_heads * sizeof(float));
        for (size_t j = 0; j < n * ld; j++)
            x[j] = (float)unstored(blocks, rounded, j);
        b->rows->store(n * ld, x, qkv);
        for (size_t j = 0; j < n * width; j++)
            x[j] = (float)unstored(blocks, d_rounded, j);
        b->rows->store(n * width, x, d_out);
        b->attention(&heads, qkv, y, log_sum[i], scratch);
        b->attention_back(&heads, qkv, y, log_sum[i], d_out, dx, scratch);
        for (size_t j = 0; j < n * width; j++)
            out[i][j] = (float)unstored(b, y, j);
        for (size_t j = 0; j < n * ld; j++)
            d_qkv[i][j] = (float)unstored(b, dx, j);
        free(rounded), free(d_rounded), free(x), free(qkv), free(d_out), free(y), free(dx);
        free(scratch);
    }
    double off = distance(n * width, out[1], out[0]);
    double off_back = distance(n * ld, d_qkv[1], d_qkv[0]);
    double off_sum = distance(n * heads.n_heads, log_sum[1], log_sum[0]);
    ok(off_sum < 1e-5, "%s: the softmax sums are the reference's (off by %.1e)", blocks->name,
       off_sum);
    ok(off < 6e-3, "%s: attention is the reference's (off by %.1e)", blocks->name, off);
    ok(off_back < 6e-3, "%s: so is its gradient (off by %.1e)", blocks->name, off_back);
    for (int i = 0; i < 2; i++)
        free(out[i]), free(d_qkv[i]), free(log_sum[i]);
}

/* The tile backend against the reference one on a model with every part of the real one. */
static void test_backends_agree(const struct train_backend *blocks)
{
    struct train_geometry g = {.vocab = 100,
                               .dim = 64,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_size = 32,
                               .ffn = 96,
                               .context = 96,
                               .norm_eps = 1e-5f,
                               .rope_base = 10000.0f};
    struct bench slow = bench_create(g, &train_backend_f32, 3, 11, 3.0f);
    struct bench fast = bench_create(g, blocks, 3, 11, 3.0f);
    double want = train_model_pass(slow.model, slow.ws, slow.tokens, 3, slow.gradient);
    double got = train_model_pass(fast.model, fast.ws, fast.tokens, 3, fast.gradient);
    near(got, want, 2e-3 * want, "blocks: the loss is the reference's within bf16's precision");
    /* bf16 keeps 8 bits, 0.2 % a rounding, and some ten of them lie one after another under a
     * gradient. */
    for (size_t i = 0; i < train_geometry_n_parts(&g); i++) {
        struct train_part part = train_geometry_part(&g, i);
        double off = distance(part.n_out * part.n_in, fast.gradient + part.offset,
                              slow.gradient + part.offset);
        ok(off < 0.015, "%s: the gradient of part %zu is the reference's (off by %.1e)",
           blocks->name, i, off);
    }
    bench_destroy(&slow);
    bench_destroy(&fast);
}

/* ---- learning ---- */

static const struct train_geometry small = {.vocab = 24,
                                            .dim = 32,
                                            .n_layers = 2,
                                            .n_heads = 2,
                                            .n_kv_heads = 1,
                                            .head_size = 32,
                                            .ffn = 64,
                                            .context = 32,
                                            .norm_eps = 1e-5f,
                                            .rope_base = 10000.0f};

/* A pattern of 7 in which every token occurs twice, so that the last one does not decide. */
static uint16_t pattern(size_t i)
{
    static const uint16_t tokens[] = {3, 5, 3, 9, 17, 5, 9};
    return i % 7 == 6 && i / 7 % 2 == 1 ? 17 : tokens[i % 7];
}

static void test_learning(const struct train_backend *backend)
{
    struct bench b = bench_create(small, backend, 2, 3, 1.0f);
    struct train_pool *pool = train_pool_create(2, NULL);
    struct train_optimizer opt;
    train_optimizer_init(&opt, train_geometry_n_params(&small), NULL);
    memcpy(opt.weights, b.params, opt.n_params * sizeof(float));
    const struct train_rates rates = {.lr = 3e-3,
                                      .beta1 = 0.9,
                                      .beta2 = 0.95,
                                      .eps = 1e-8,
                                      .decay = 0.1,
                                      .clip = 1.0,
                                      .average = 0.9};
    double first = 0, last = 0, kept;
    for (size_t step = 0; step < 300; step++) {
        for (size_t i = 0; i < 66; i++)
            b.tokens[i] = pattern(i % 33 + i / 33 * 7);
        last = train_model_pass(b.model, b.ws, b.tokens, 2, b.gradient) / 64;
        first = step == 0 ? last : first;
        train_optimizer_step(&opt, &small, pool, &b.gradient, 1, 1.0 / 64, &rates);
        train_model_pack(b.model, opt.weights, 0, 1);
    }
    ok(first > 2.5, "%s: an untrained model is near the uniform guess (%.2f nats)", backend->name,
       first);
    /* Only which of the two 7s it is stays open at first: ln 2 in 64 tokens. */
    ok(last < 0.03, "%s: 300 steps on a repeating pattern bring the loss near 0 (%.3f nats)",
       backend->name, last);
    train_model_pack(b.model, opt.average, 0, 1);
    kept = train_model_pass(b.model, b.ws, b.tokens, 2, NULL) / 64;
    near(kept, last, 0.05, "%s: so does the moving average of the weights", backend->name);
    train_optimizer_fini(&opt);
    train_pool_destroy(pool);
    bench_destroy(&b);
}

static void test_optimizer(void)
{
    /* One step of AdamW by hand: moments start at zero, so the first step is lr * sign(g) plus the
     * decay of matrices; the gradient is split over two vectors and clipped to norm 1. */
    struct train_geometry g = {.vocab = 2,
                               .dim = 2,
                               .n_layers = 1,
                               .n_heads = 1,
                               .n_kv_heads = 1,
                               .head_size = 2,
                               .ffn = 1,
                               .context = 1,
                               .norm_eps = 1e-5f,
                               .rope_base = 10000.0f};
    size_t n = train_geometry_n_params(&g);
    struct train_pool *pool = train_pool_create(3, NULL);
    struct train_optimizer opt;
    train_optimizer_init(&opt, n, NULL);
    float *gradients[2] = {calloc(n, sizeof(float)), calloc(n, sizeof(float))};
    for (size_t i = 0; i < n; i++)
        opt.weights[i] = 1.0f;
    gradients[0][0] = 6.0f;
    gradients[1][n - 1] = -8.0f; /* the last part is a gain */
    const struct train_rates rates = {.lr = 0.01,
                                      .beta1 = 0.9,
                                      .beta2 = 0.95,
                                      .eps = 1e-8,
                                      .decay = 0.1,
                                      .clip = 1.0,
                                      .average = 0.0};
    double norm = train_optimizer_step(&opt, &g, pool, gradients, 2, 0.5, &rates);
    near(norm, 5.0, 1e-6, "the norm is that of the sum of all threads' gradients, scaled");
    near((double)opt.moment1[0], 0.1 * 0.6, 1e-7, "the gradient is clipped to norm 1");
    near((double)opt.weights[0], 1 - 0.01 * (1 + 0.1), 1e-6, "a matrix moves and decays");
    near((double)opt.weights[n - 1], 1.01, 1e-6, "a gain moves and does not decay");
    near((double)opt.weights[1], 1 - 0.001, 1e-6, "a matrix decays without a gradient");
    ok(gradients[0][0] == 0 && gradients[1][n - 1] == 0, "the gradients are zero afterwards");

    float before = opt.weights[0];
    gradients[1][3] = NAN;
    norm = train_optimizer_step(&opt, &g, pool, gradients, 2, 0.5, &rates);
    ok(!isfinite(norm) && opt.weights[0] == before && opt.n_steps == 1,
       "a gradient that is not finite moves nothing");
    free(gradients[0]), free(gradients[1]);
    train_optimizer_fini(&opt);
    train_pool_destroy(pool);
}

/* ---- files ---- */

static void write_tokens(const char *path, size_t n)
{
    uint16_t *tokens = malloc(n * sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        tokens[i] = i % 50 == 0 ? 1 : pattern(i);
    file_replace(path, tokens, n * sizeof *tokens, NULL);
    free(tokens);
}

static void test_tokens(const char *path)
{
    struct err err = {0};
    write_tokens(path, 1000);
    struct train_tokens *t = train_tokens_open(&path, 1, 33, 24, 1, &err);
    ok(t != NULL && train_tokens_count(t) == 1000, "a file of tokens opens");
    uint16_t window[33], again[33];
    size_t n_begin = 0, n_other = 0;
    for (uint64_t i = 0; i < 200; i++) {
        train_tokens_draw(t, 4, i, window);
        n_begin += i % 2 == 0 && window[0] == 1;
        n_other += i % 2 == 1 && window[0] == 1;
    }
    ok(n_begin >= 98, "every second window begins with a document (%zu of 100)", n_begin);
    ok(n_other < 20, "the others begin anywhere (%zu of 100 with a document)", n_other);
    train_tokens_draw(t, 4, 199, again);
    ok(memcmp(window, again, sizeof window) == 0, "a window is drawn again by its number");
    train_tokens_close(t);

    t = train_tokens_open(&path, 1, 33, 17, 1, &err);
    ok(t == NULL && err.code == ERR_DATA, "a token beyond the vocabulary is refused: %s", err.text);
    t = train_tokens_open(&path, 1, 1001, 24, 1, &err);
    ok(t == NULL && err.code == ERR_DATA, "a file shorter than a window is refused");
}

static void test_checkpoint(const char *path)
{
    struct err err = {0};
    struct train_optimizer a, b;
    size_t n = train_geometry_n_params(&small);
    train_optimizer_init(&a, n, NULL);
    train_optimizer_init(&b, n, NULL);
    for (size_t i = 0; i < n; i++) {
        a.weights[i] = (float)i;
        a.average[i] = (float)i + 0.25f;
        a.moment1[i] = (float)i + 0.5f;
        a.moment2[i] = (float)i + 0.75f;
    }
    a.n_steps = 77;
    struct train_progress at = {.seed = 5, .n_windows = 1232, .seconds = 12.5}, got = {0};
    ok(train_checkpoint_save(path, &small, &a, &at, &err) == 0, "a checkpoint is saved");
    ok(train_checkpoint_load(path, &small, &b, &got, &err) == 0 && b.n_steps == 77 &&
           memcmp(&at, &got, sizeof at) == 0 && memcmp(a.weights, b.weights, n * 4) == 0 &&
           memcmp(a.average, b.average, n * 4) == 0 && memcmp(a.moment1, b.moment1, n * 4) == 0 &&
           memcmp(a.moment2, b.moment2, n * 4) == 0,
       "and comes back bit for bit");

    struct train_geometry other = small;
    other.rope_base = 500.0f;
    ok(train_checkpoint_load(path, &other, &b, &got, &err) == -1 && err.code == ERR_DATA,
       "a checkpoint of another geometry is refused");
    if (truncate(path, (off_t)(n * 16)) != 0)
        ok(0, "the checkpoint could be cut");
    ok(train_checkpoint_load(path, &small, &b, &got, &err) == -1 && err.code == ERR_DATA,
       "a checkpoint that was cut short is refused: %s", err.text);
    train_optimizer_fini(&a);
    train_optimizer_fini(&b);
}

/* Put tensor `name` of the file at w + offset, as numbers; how many there were. */
static size_t tensor_read(const struct gguf *gguf, const char *name, double *w)
{
    const struct gguf_tensor *t = gguf_tensor_find(gguf, name);
    if (t == NULL)
        return 0;
    size_t n = t->dims[0] * t->dims[1];
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        float value;
        if (t->format == FORMAT_BF16)
            bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
        else
            memcpy(&bits, (const char *)t->data + 4 * i, sizeof bits);
        memcpy(&value, &bits, sizeof value);
        w[i] = (double)value;
    }
    return n;
}

/* The loss of the model in the file, its tensors taken by the names that engines use, must be that
 * of the weights it was made from, up to the rounding to BF16. */
static void check_exported_loss(const struct gguf *gguf, const float *weights)
{
    static const char *const names[] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                        "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    size_t n = train_geometry_n_params(&small);
    double *w = calloc(n, sizeof *w), *original = calloc(n, sizeof *original);
    uint16_t tokens[33];
    for (size_t i = 0; i < 33; i++)
        tokens[i] = pattern(i);
    size_t at = tensor_read(gguf, "token_embd.weight", w);
    for (size_t l = 0; l < small.n_layers; l++) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%zu.%s.weight", l, names[i]);
            at += tensor_read(gguf, name, w + at);
        }
    }
    at += tensor_read(gguf, "output_norm.weight", w + at);
    for (size_t i = 0; i < n; i++)
        original[i] = (double)weights[i];
    double want = oracle_loss(&small, original, tokens);
    ok(at == n, "the tensors of the file are all parameters");
    near(oracle_loss(&small, w, tokens), want, 1e-3 * want, "and have the model's loss");
    free(w), free(original);
}

static void test_export(const char *path)
{
    struct err err = {0};
    struct rng rng = rng_make(9, 9);
    struct train_layer_layout at = train_geometry_layer(&small, 1);
    float *w = malloc(train_geometry_n_params(&small) * sizeof *w);
    train_model_init_params(&small, &rng, w);
    /* Large enough that every matrix in a wrong place shows in the loss. */
    for (size_t i = 0; i < train_geometry_n_params(&small); i++)
        w[i] = w[i] == 1.0f ? 1.0f : 6.0f * w[i];
    w[at.gate_up + small.ffn * small.dim + 3] = 1.00390625f; /* a tie: to the even 1.0 */
    ok(train_export(path, &small, w, NULL, &err) == 0, "a model is exported");
    struct gguf *gguf = gguf_open(path, &err);
    ok(gguf != NULL && gguf_n_tensors(gguf) == 2 + 9 * small.n_layers,
       "the file opens and has all tensors");
    uint64_t value = 0;
    gguf_get_uint(gguf, "llama.attention.head_count_kv", &value, &err);
    ok(value == small.n_kv_heads, "its geometry is the model's");
    const struct gguf_tensor *up = gguf_tensor_find(gguf, "blk.1.ffn_up.weight");
    ok(up != NULL && up->format == FORMAT_BF16 && up->dims[0] == small.dim &&
           up->dims[1] == small.ffn && ((const uint16_t *)up->data)[3] == 0x3f80,
       "the up matrix is the lower half of gate_up, rounded to even");
    const struct gguf_tensor *gain = gguf_tensor_find(gguf, "blk.1.attn_norm.weight");
    ok(gain != NULL && gain->format == FORMAT_F32 && *(const float *)gain->data == 1.0f,
       "norms are floats");
    check_exported_loss(gguf, w);
    gguf_close(gguf);
    free(w);
}

static void test_run(const char *tokens, const char *checkpoint, const char *model)
{
    struct err err = {0};
    volatile sig_atomic_t stop = 0;
    struct train_options o;
    /* clang-format off */
    const char *argv[] = {"kerf_train", "--tokens", tokens, "--held-out", tokens, "--dim", "32",
        "--layers", "1", "--heads", "2", "--kv-heads", "1", "--head-size", "32", "--ffn", "32",
        "--context", "32", "--vocab-size=24", "--batch", "4", "--warmup", "5", "--steps", "20",
        "--held-out-every", "10", "--checkpoint", checkpoint, "--out", model, NULL};
    /* clang-format on */
    int argc = sizeof argv / sizeof argv[0] - 1;
    unlink(checkpoint);
    ok(train_options_parse(&o, argc, argv, &err) == 0 && o.g.dim == 32 && o.steps == 20,
       "the command line is understood");
    ok(train_run(&o, &stop, &err) == 0 && file_exists(model), "a short training ends with a model");

    struct train_optimizer opt;
    struct train_progress at = {0};
    train_optimizer_init(&opt, train_geometry_n_params(&o.g), NULL);
    o.resume = true;
    o.steps = 30;
    ok(train_run(&o, &stop, &err) == 0 &&
           train_checkpoint_load(checkpoint, &o.g, &opt, &at, &err) == 0 && opt.n_steps == 30 &&
           at.n_windows == 120,
       "with a longer schedule it goes on where it ended");
    stop = 1;
    o.steps = 40;
    ok(train_run(&o, &stop, &err) == -1 && err.code == ERR_STOPPED, "a stop is told apart: %s",
       err.text);
    train_optimizer_fini(&opt);

    argv[1] = "--tokns";
    ok(train_options_parse(&o, argc, argv, &err) == -1 && err.code == ERR_USAGE, "refused: %s",
       err.text);
    argv[1] = "--tokens";
    argv[6] = "-3";
    ok(train_options_parse(&o, argc, argv, &err) == -1 && err.code == ERR_USAGE, "refused: %s",
       err.text);
}

static void test_files(void)
{
    char folder[] = "/tmp/kerf-train-XXXXXX", tokens[64], checkpoint[64], model[64];
    if (mkdtemp(folder) == NULL) {
        ok(0, "a folder for the tests could be made");
        return;
    }
    snprintf(tokens, sizeof tokens, "%s/tokens", folder);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", folder);
    snprintf(model, sizeof model, "%s/model", folder);
    test_tokens(tokens);
    test_checkpoint(checkpoint);
    test_export(model);
    test_run(tokens, checkpoint, model);
    unlink(tokens), unlink(checkpoint), unlink(model);
    rmdir(folder);
}

/* A backend on bf16 blocks, where this processor has it. */
static void test_blocks(const char *name)
{
    const char *why;
    const struct train_backend *b = train_backend_find(name, &why);
    if (b == NULL) {
        ok(1, "no %s backend here # SKIP %s", name, why);
        return;
    }
    test_products(b);
    test_attention(b);
    test_backends_agree(b);
    test_learning(b);
}

int main(void)
{
    test_gradient();
    test_products(&train_backend_f32);
    test_blocks("amx");
    test_blocks("dot");
    test_learning(&train_backend_f32);
    test_optimizer();
    test_files();
    return tap_done();
}
