/* model_fixture.h - small random models for tests, and the same forward pass once more: written
 * plainly in double, one token after another, from nothing but the definition.  It is the oracle of
 * the real one. */
#ifndef KERF_MODEL_FIXTURE_H
#define KERF_MODEL_FIXTURE_H

#include "evaluator/compression/quantize.h"
#include "evaluator/kernels/kernels.h"
#include "evaluator/model.h"
#include "space/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_MAX_BLOCKS 4096

struct fixture {
    struct model model;
    struct rng rng;
    void *block[FIXTURE_MAX_BLOCKS]; /* everything to free */
    size_t n_blocks;
};

/* 24 channels, 6 heads of 8 in 3 groups, FFNs of 40: nothing that blocks of 32 divide. */
__attribute__((unused)) static struct geometry fixture_odd_geometry(uint32_t n_layers)
{
    return (struct geometry){.n_layers = n_layers,
                             .d_model = 24,
                             .n_heads = 6,
                             .n_kv_heads = 3,
                             .head_dim = 8,
                             .d_ff = 40,
                             .n_vocab = 270,
                             .n_ctx = 256,
                             .rms_eps = 1e-5F,
                             .rope_base = 10000.0F};
}

__attribute__((unused)) static void *fixture_keep(struct fixture *f, void *block)
{
    if (block == NULL || f->n_blocks == FIXTURE_MAX_BLOCKS)
        abort();
    return f->block[f->n_blocks++] = block;
}

/* Normal weights of deviation 1 / sqrt(n_in), kept in `format`. */
__attribute__((unused)) static struct weights fixture_weights(struct fixture *f, uint32_t n_out,
                                                              uint32_t n_in, enum format format)
{
    size_t n = (size_t)n_out * n_in;
    float *values = malloc(n * sizeof *values);
    void *data = fixture_keep(f, malloc(n_out * format_row_bytes(format, n_in)));

    for (size_t i = 0; i < n; i++)
        values[i] = (float)(rng_normal(&f->rng) / sqrt(n_in));
    if (quantize_rows_plain(format, values, n_out, n_in, data, NULL) != 0)
        abort();
    free(values);
    return (struct weights){data, format, act_format_of(format), n_out, n_in};
}

__attribute__((unused)) static const float *fixture_norm(struct fixture *f, uint32_t n)
{
    float *gain = fixture_keep(f, malloc(n * sizeof *gain));

    for (uint32_t i = 0; i < n; i++)
        gain[i] = (float)(1.0 + 0.2 * rng_normal(&f->rng));
    return gain;
}

__attribute__((unused)) static void fixture_attn(struct fixture *f, uint32_t layer,
                                                 uint32_t n_groups, uint32_t ratio,
                                                 enum format format)
{
    const struct geometry *g = &f->model.geometry;
    uint32_t kv = n_groups * g->head_dim, q = kv * ratio;

    f->model.attn[layer] =
        (struct attn_unit){.present = true,
                           .n_heads = n_groups * ratio,
                           .n_groups = n_groups,
                           .norm = fixture_norm(f, g->d_model),
                           .q = fixture_weights(f, q, g->d_model, format),
                           .k = fixture_weights(f, kv, g->d_model, format),
                           .v = fixture_weights(f, kv, g->d_model, format),
                           .o = fixture_weights(f, g->d_model, q, format_fallback(format, q))};
}

__attribute__((unused)) static void fixture_ffn(struct fixture *f, uint32_t layer, uint32_t width,
                                                enum format format)
{
    const struct geometry *g = &f->model.geometry;

    f->model.ffn[layer] = (struct ffn_unit){
        .present = true,
        .width = width,
        .norm = fixture_norm(f, g->d_model),
        .gate = fixture_weights(f, width, g->d_model, format),
        .up = fixture_weights(f, width, g->d_model, format),
        .down = fixture_weights(f, g->d_model, width, format_fallback(format, width))};
}

/* Embedding, head and final norm; no units yet.  The fixture is as large as the arrays in it. */
__attribute__((unused)) static struct fixture *
fixture_create(const struct geometry *g, enum format format, enum format kv, uint64_t seed)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->rng = rng_make(seed, 0);
    f->model.geometry = *g;
    f->model.kv = kv;
    f->model.n_layers = g->n_layers;
    f->model.embd = fixture_weights(f, g->n_vocab, g->d_model, format);
    f->model.head = g->tied ? f->model.embd : fixture_weights(f, g->n_vocab, g->d_model, format);
    f->model.out_norm = fixture_norm(f, g->d_model);
    return f;
}

/* Every unit whole. */
__attribute__((unused)) static struct fixture *fixture_dense(const struct geometry *g,
                                                             enum format format, uint64_t seed)
{
    struct fixture *f = fixture_create(g, format, FORMAT_F16, seed);

    for (uint32_t l = 0; l < g->n_layers; l++) {
        fixture_attn(f, l, g->n_kv_heads, g->n_heads / g->n_kv_heads, format);
        fixture_ffn(f, l, g->d_ff, format);
    }
    return f;
}

/* A bias for every unit, present or not. */
__attribute__((unused)) static void fixture_biases(struct fixture *f)
{
    uint32_t n = f->model.geometry.d_model;

    for (uint32_t u = 0; u < 2 * f->model.n_layers; u++) {
        float *bias = fixture_keep(f, malloc(n * sizeof *bias));
        for (uint32_t i = 0; i < n; i++)
            bias[i] = (float)(0.5 * rng_normal(&f->rng));
        *(u % 2 == 0 ? &f->model.attn[u / 2].bias : &f->model.ffn[u / 2].bias) = bias;
    }
}

__attribute__((unused)) static void fixture_destroy(struct fixture *f)
{
    for (size_t i = 0; i < f->n_blocks; i++)
        free(f->block[i]);
    free(f);
}

/* ---- the oracle ----------------------------------------------------------------------------- */

static void oracle_product(const struct weights *w, const double *x, double *y)
{
    size_t row_bytes = format_row_bytes(w->format, w->n_in);
    float *row = malloc(w->n_in * sizeof *row);

    for (uint32_t r = 0; r < w->n_out; r++) {
        kernels_reference()->unpack[w->format]((const char *)w->data + r * row_bytes, w->n_in, row);
        y[r] = 0;
        for (uint32_t i = 0; i < w->n_in; i++)
            y[r] += (double)row[i] * x[i];
    }
    free(row);
}

static void oracle_norm(const struct geometry *g, const float *gain, const double *x, double *y)
{
    double sum = 0;

    for (uint32_t i = 0; i < g->d_model; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < g->d_model; i++)
        y[i] = x[i] / sqrt(sum / g->d_model + (double)g->rms_eps) * (double)gain[i];
}

static void oracle_turn(const struct geometry *g, double *x, uint32_t n_heads, uint32_t position)
{
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t i = 0; i < g->head_dim / 2; i++) {
            double angle = position * pow((double)g->rope_base, -2.0 * i / g->head_dim);
            double *pair = x + h * g->head_dim + 2 * i, a = pair[0], b = pair[1];
            pair[0] = a * cos(angle) - b * sin(angle);
            pair[1] = a * sin(angle) + b * cos(angle);
        }
}

/* h[n][d_model] += attention of all n tokens. */
static void oracle_attn(const struct geometry *g, const struct attn_unit *u, double *h, uint32_t n)
{
    uint32_t d = g->head_dim, nq = u->q.n_out, nkv = u->k.n_out;
    double *x = malloc(g->d_model * sizeof *x), *q = malloc(n * nq * sizeof *q);
    double *k = malloc(n * nkv * sizeof *k), *v = malloc(n * nkv * sizeof *v);
    double *mix = malloc(nq * sizeof *mix), *p = malloc(n * sizeof *p);

    for (uint32_t t = 0; t < n; t++) {
        oracle_norm(g, u->norm, h + t * g->d_model, x);
        oracle_product(&u->q, x, q + t * nq);
        oracle_product(&u->k, x, k + t * nkv);
        oracle_product(&u->v, x, v + t * nkv);
        oracle_turn(g, q + t * nq, u->n_heads, t);
        oracle_turn(g, k + t * nkv, u->n_groups, t);
    }
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t head = 0; head < u->n_heads; head++) {
            uint32_t group = head / (u->n_heads / u->n_groups);
            double sum = 0;
            for (uint32_t s = 0; s <= t; s++) {
                p[s] = 0;
                for (uint32_t i = 0; i < d; i++)
                    p[s] += q[t * nq + head * d + i] * k[s * nkv + group * d + i];
                p[s] = exp(p[s] / sqrt(d));
                sum += p[s];
            }
            for (uint32_t i = 0; i < d; i++) {
                mix[head * d + i] = 0;
                for (uint32_t s = 0; s <= t; s++)
                    mix[head * d + i] += p[s] / sum * v[s * nkv + group * d + i];
            }
        }
        oracle_product(&u->o, mix, x);
        for (uint32_t i = 0; i < g->d_model; i++)
            h[t * g->d_model + i] += x[i];
    }
    free(x), free(q), free(k), free(v), free(mix), free(p);
}

static void oracle_ffn(const struct geometry *g, const struct ffn_unit *u, double *h, uint32_t n)
{
    double *x = malloc(g->d_model * sizeof *x), *gate = malloc(u->width * sizeof *gate);
    double *up = malloc(u->width * sizeof *up);

    for (uint32_t t = 0; t < n; t++) {
        oracle_norm(g, u->norm, h + t * g->d_model, x);
        oracle_product(&u->gate, x, gate);
        oracle_product(&u->up, x, up);
        for (uint32_t i = 0; i < u->width; i++)
            gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        oracle_product(&u->down, gate, x);
        for (uint32_t i = 0; i < g->d_model; i++)
            h[t * g->d_model + i] += x[i];
    }
    free(x), free(gate), free(up);
}

static void oracle_bias(const struct geometry *g, const float *bias, double *h, uint32_t n)
{
    for (uint32_t i = 0; bias != NULL && i < n * g->d_model; i++)
        h[i] += (double)bias[i % g->d_model];
}

/* logits[n][n_vocab] of n tokens. */
__attribute__((unused)) static void oracle_logits(const struct model *m, const int32_t *tokens,
                                                  uint32_t n, double *logits)
{
    const struct geometry *g = &m->geometry;
    double *h = malloc(n * g->d_model * sizeof *h), *x = malloc(g->d_model * sizeof *x);
    float *row = malloc(g->d_model * sizeof *row);

    for (uint32_t t = 0; t < n; t++) {
        size_t row_bytes = format_row_bytes(m->embd.format, g->d_model);
        kernels_reference()->unpack[m->embd.format](
            (const char *)m->embd.data + (size_t)tokens[t] * row_bytes, g->d_model, row);
        for (uint32_t i = 0; i < g->d_model; i++)
            h[t * g->d_model + i] = (double)row[i];
    }
    for (uint32_t l = 0; l < m->n_layers; l++) {
        if (m->attn[l].present)
            oracle_attn(g, &m->attn[l], h, n);
        oracle_bias(g, m->attn[l].bias, h, n);
        if (m->ffn[l].present)
            oracle_ffn(g, &m->ffn[l], h, n);
        oracle_bias(g, m->ffn[l].bias, h, n);
    }
    for (uint32_t t = 0; t < n; t++) {
        oracle_norm(g, m->out_norm, h + t * g->d_model, x);
        oracle_product(&m->head, x, logits + t * g->n_vocab);
    }
    free(h), free(x), free(row);
}

#endif
