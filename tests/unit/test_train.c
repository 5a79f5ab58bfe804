/* test_train.c - the trainer of the reference model: gradients, tile products, learning. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/reference/train_backend.h"
#include "evaluator/reference/train_model.h"
#include "evaluator/reference/train_rows.h"
#include "space/base/err.h"
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
static void test_attention(const struct train_backend *amx)
{
    const struct train_backend *const backends[2] = {&train_backend_f32, amx};
    const struct train_heads heads = {160, 4, 2, 32};
    size_t n = heads.context, ld = 8 * 32, width = 4 * 32;
    float *out[2], *d_qkv[2], *log_sum[2];
    for (int i = 0; i < 2; i++) {
        const struct train_backend *b = backends[i];
        struct rng rng = rng_make(5, 5);
        void *rounded = stored_random(amx, &rng, n * ld), *d_rounded = NULL;
        d_rounded = stored_random(amx, &rng, n * width);
        float *x = malloc(n * ld * sizeof *x);
        void *qkv = malloc(n * ld * 4), *d_out = malloc(n * width * 4);
        void *y = malloc(n * width * 4), *dx = malloc(n * ld * 4);
        void *scratch = aligned_alloc(64, (b->attention_scratch(&heads) + 63) / 64 * 64);
        out[i] = malloc(n * width * sizeof(float));
        d_qkv[i] = malloc(n * ld * sizeof(float));
        log_sum[i] = malloc(n * heads.n_heads * sizeof(float));
        for (size_t j = 0; j < n * ld; j++)
            x[j] = (float)unstored(amx, rounded, j);
        b->rows->store(n * ld, x, qkv);
        for (size_t j = 0; j < n * width; j++)
            x[j] = (float)unstored(amx, d_rounded, j);
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
    ok(off_sum < 1e-5, "amx: the softmax sums are the reference's (off by %.1e)", off_sum);
    ok(off < 6e-3, "amx: attention is the reference's (off by %.1e)", off);
    ok(off_back < 6e-3, "amx: so is its gradient (off by %.1e)", off_back);
    for (int i = 0; i < 2; i++)
        free(out[i]), free(d_qkv[i]), free(log_sum[i]);
}

/* The tile backend against the reference one on a model with every part of the real one. */
static void test_backends_agree(const struct train_backend *amx)
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
    struct bench fast = bench_create(g, amx, 3, 11, 3.0f);
    double want = train_model_pass(slow.model, slow.ws, slow.tokens, 3, slow.gradient);
    double got = train_model_pass(fast.model, fast.ws, fast.tokens, 3, fast.gradient);
    near(got, want, 2e-3 * want, "amx: the loss is the reference's within bf16's precision");
    /* bf16 keeps 8 bits, 0.2 % a rounding, and some ten of them lie one after another under a
     * gradient. */
    for (size_t i = 0; i < train_geometry_n_parts(&g); i++) {
        struct train_part part = train_geometry_part(&g, i);
        double off = distance(part.n_out * part.n_in, fast.gradient + part.offset,
                              slow.gradient + part.offset);
        ok(off < 0.015, "amx: the gradient of part %zu is the reference's (off by %.1e)", i, off);
    }
    bench_destroy(&slow);
    bench_destroy(&fast);
}

int main(void)
{
    test_gradient();
    test_products(&train_backend_f32);
    const char *why;
    const struct train_backend *amx = train_backend_amx(&why);
    if (amx == NULL) {
        ok(1, "the tile backend is absent here # SKIP %s", why);
    } else {
        test_products(amx);
        test_attention(amx);
        test_backends_agree(amx);
    }
    return tap_done();
}
