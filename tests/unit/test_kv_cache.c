/* The KV cache in every format: its rows written by every kernel set, and attention over
 * it against plain doubles that round keys and values by another quantizer, or not at all. */
#include "evaluator/kernels/blocks.h"
#include "tests/forward_fixture.h"
#include "tests/tap.h"

static const enum format cache_formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q8_0, FORMAT_Q4_0};

enum { N_CACHE_FORMATS = 4 };

/* Two groups of three heads of 64: two blocks a row, and no even division among two members' heads
 * and three. */
static const struct geometry small = {.n_layers = 2,
                                      .d_model = 64,
                                      .n_heads = 6,
                                      .n_kv_heads = 2,
                                      .head_dim = 64,
                                      .d_ff = 96,
                                      .n_vocab = 48,
                                      .n_ctx = 128,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};

static void draw(float *x, size_t n, double size, struct rng *rng)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * rng_normal(rng));
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void test_store(const struct kernels *set, enum format format)
{
    enum { N = 96 };
    const size_t bytes = format_row_bytes(format, N);
    struct rng rng = rng_make(31, (uint64_t)format);
    uint8_t got[N * 4 + 1], want[N * 4];
    bool plain = true, same = true, guarded = true, poisoned = true;
    float x[N], y[N];

    for (int round = -30; round < 30; round++) {
        draw(x, N, ldexp(1.0, round), &rng);
        memset(got, 0x5a, sizeof got);
        set->store[format](x, N, got);
        guarded = guarded && got[bytes] == 0x5a;
        kernels_reference()->store[format](x, N, want);
        same = same && memcmp(got, want, bytes) == 0;
        /* Where factors are ordinary f16 the quantizer of weights makes the same bytes. */
        if (round < -6 || round > 10)
            continue;
        quantize_rows_plain(format, x, 1, N, want, NULL);
        plain = plain && memcmp(got, want, bytes) == 0;
    }
    ok(plain, "%s: rows in %s are ggml's bytes", set->name, format_name(format));
    ok(same && guarded, "%s: and the reference's at every scale", set->name);

    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 3; b++) {
        draw(x, N, 1, &rng);
        x[35] = bad[b];
        set->store[format](x, N, got);
        set->unpack[format](got, N, y);
        poisoned = poisoned && !isfinite(y[35]) && isfinite(y[31]) && isfinite(y[64]);
        if (format_is_quantized(format))
            poisoned = poisoned && isnan(y[32]) && isnan(y[63]);
    }
    memset(x, 0, sizeof x);
    set->store[format](x, N, got);
    set->unpack[format](got, N, y);
    for (int i = 0; i < N; i++)
        poisoned = poisoned && y[i] == 0;
    ok(poisoned, "%s: what is not finite poisons its block of %s and no other, zeros stay zero",
       set->name, format_name(format));
}

/* ---- attention ------------------------------------------------------------------------------ */

/* What one layer's attention was given and what it made. */
struct heard {
    float *x, *out; /* [N_TOKENS][d_model], [N_TOKENS][heads * head_dim] */
};

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct heard *heard = arg;
    float *to = site == SITE_QKV ? heard->x : site == SITE_O ? heard->out : NULL;

    if (layer == 0 && to != NULL)
        memcpy(to, x, (size_t)n_tokens * n_in * sizeof *x);
}

/* How far rounding moves an element of a block whose largest magnitude is `most`: half a step, a
 * whole one at the end of Q4_0 that has no code of its own, and the step's own rounding to f16. */
static double rounding(enum format format, double most)
{
    double factor = ldexp(most, -11);

    switch (format) {
    case FORMAT_Q4_0:
        return most / 8 + factor;
    case FORMAT_Q8_0:
        return most / 254 + factor;
    default:
        return format == FORMAT_F16 ? factor : 0;
    }
}

/* err[i] = what `format` may do to x[i]; rounded in place where `round` is set. */
static void round_row(enum format format, double *x, size_t n, double *err, bool round)
{
    float *narrow = calloc(n, sizeof *narrow);
    uint8_t *row = malloc(n * sizeof *narrow);

    for (size_t i = 0; i < n; i++) {
        double most = 0;
        for (size_t k = i / 32 * 32; k < i / 32 * 32 + 32; k++)
            most = fmax(most, fabs(x[k]));
        err[i] = rounding(format, most);
    }
    for (size_t i = 0; i < n; i++)
        narrow[i] = (float)x[i];
    quantize_rows_plain(format, narrow, 1, n, row, NULL);
    kernels_reference()->unpack[format](row, n, narrow);
    for (size_t i = 0; i < n && round; i++)
        x[i] = (double)narrow[i];
    free(row);
    free(narrow);
}

/* Attention of one layer over x[N_TOKENS][d_model] in double, keys and values rounded to `format`
 * (queries to Q8_0 where it is quantized) or exact; bound[] is how far rounding may move out[].
 *
 * A score moves by at most e = sum |q| dk + sum (|k| + dk) dq, so a weight p by a factor within
 * exp(+-2e), and the sum over p v by (exp(2e) - 1) sum p |v| + max dv. */
static void attend(const struct attn_unit *u, const float *x, enum format format, bool round,
                   double *out, double *bound)
{
    const uint32_t d = small.head_dim, nq = u->q.n_out, nkv = u->k.n_out;
    enum format queries = format_is_quantized(format) ? FORMAT_Q8_0 : FORMAT_F32;
    double *wide = malloc(small.d_model * sizeof *wide), *p = malloc(N_TOKENS * sizeof *p);
    double *q = malloc(2 * N_TOKENS * nq * sizeof *q), *dq = q + N_TOKENS * nq;
    double *k = malloc(2 * N_TOKENS * nkv * sizeof *k), *dk = k + N_TOKENS * nkv;
    double *v = malloc(2 * N_TOKENS * nkv * sizeof *v), *dv = v + N_TOKENS * nkv;

    for (uint32_t t = 0; t < N_TOKENS; t++) {
        for (uint32_t i = 0; i < small.d_model; i++)
            wide[i] = (double)x[t * small.d_model + i];
        oracle_product(&u->q, wide, q + t * nq);
        oracle_product(&u->k, wide, k + t * nkv);
        oracle_product(&u->v, wide, v + t * nkv);
        oracle_turn(&small, q + t * nq, u->n_heads, t);
        oracle_turn(&small, k + t * nkv, u->n_groups, t);
        round_row(queries, q + t * nq, nq, dq + t * nq, round);
        round_row(format, k + t * nkv, nkv, dk + t * nkv, round);
        round_row(format, v + t * nkv, nkv, dv + t * nkv, round);
    }
    for (uint32_t t = 0; t < N_TOKENS; t++) {
        for (uint32_t h = 0; h < u->n_heads; h++) {
            uint32_t group = h / (u->n_heads / u->n_groups);
            double sum = 0, move = 0, most_dv = 0;
            for (uint32_t s = 0; s <= t; s++) {
                double score = 0, moved = 0;
                for (uint32_t i = 0; i < d; i++) {
                    uint32_t a = t * nq + h * d + i, b = s * nkv + group * d + i;
                    score += q[a] * k[b];
                    moved += fabs(q[a]) * dk[b] + (fabs(k[b]) + dk[b]) * dq[a];
                    most_dv = fmax(most_dv, dv[b]);
                }
                p[s] = exp(score / sqrt(d));
                sum += p[s];
                move = fmax(move, moved / sqrt(d));
            }
            for (uint32_t i = 0; i < d; i++) {
                double mixed = 0, size = 0;
                for (uint32_t s = 0; s <= t; s++) {
                    mixed += p[s] / sum * v[s * nkv + group * d + i];
                    size += p[s] / sum * fabs(v[s * nkv + group * d + i]);
                }
                out[t * nq + h * d + i] = mixed;
                if (bound != NULL)
                    bound[t * nq + h * d + i] = expm1(2 * move) * size + most_dv;
            }
        }
    }
    free(wide), free(p), free(q), free(k), free(v);
}

static double test_attention(const struct kernels *set, enum format format)
{
    struct fixture *fixture = fixture_dense(&small, FORMAT_F32, 5);
    const struct attn_unit *unit = &fixture->model.attn[0];
    size_t n = (size_t)N_TOKENS * unit->q.n_out;
    struct heard heard = {malloc(N_TOKENS * small.d_model * sizeof(float)),
                          malloc(n * sizeof(float))};
    double *exact = malloc(n * sizeof *exact), *bound = malloc(n * sizeof *bound);
    double *rounded = malloc(n * sizeof *rounded), gap = 0, moved = 0;
    int32_t tokens[N_TOKENS];
    bool within = true;

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    fixture->model.kv = format;
    struct forward *f = make(&fixture->model, set, 1);
    forward_listen(f, hear, &heard);
    free(run(f, tokens, N_TOKENS));
    attend(unit, heard.x, format, false, exact, bound);
    attend(unit, heard.x, format, true, rounded, NULL);
    for (size_t i = 0; i < n; i++) {
        double got = (double)heard.out[i];
        /* The last term: float sums of some hundred terms of order 1. */
        within = within && fabs(got - exact[i]) <= bound[i] + 1e-5;
        moved += fabs(got - exact[i]) / (double)n;
        gap += fabs(got - rounded[i]) / (double)n;
    }
    ok(within, "%s, cache in %s: attention is as far from exact as rounding allows (mean %.1e)",
       set->name, format_name(format), moved);
    /* A value between two codes may round the other way; it is alone among thousands. */
    ok(gap < 0.02 * moved + 1e-6,
       "%s, cache in %s: and that of keys and values rounded beforehand (%.1e)", set->name,
       format_name(format), gap);
    free(exact), free(rounded), free(bound), free(heard.x), free(heard.out);
    forward_destroy(f);
    fixture_destroy(fixture);
    return moved;
}

/* ---- the pass ------------------------------------------------------------------------------- */

/* In one piece, token by token, and prefilled then decoded; logits are of order 1.  Where a sum
 * differs in its last bit, a code may flip: the bound is a part of what the format costs anyway. */
static void test_cuts(const struct kernels *set, enum format format)
{
    static const uint32_t cuts[] = {1, 33, 7, 64};
    struct fixture *fixture = fixture_dense(&small, FORMAT_F32, 6);
    size_t n = (size_t)N_TOKENS * small.n_vocab;
    double worst = 0, cost;
    int32_t tokens[N_TOKENS];
    struct err err = {0};

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    struct forward *f = make(&fixture->model, set, 1);
    float *in_f16 = run(f, tokens, N_TOKENS);
    fixture->model.kv = format;
    forward_set_model(f, &fixture->model);
    float *want = run(f, tokens, N_TOKENS);
    cost = largest_gap(want, in_f16, n);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct forward *g = make(&fixture->model, set, threads);
        for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
            float *got = run(g, tokens, cuts[c]);
            worst = fmax(worst, largest_gap(got, want, n));
            free(got);
        }
        /* A prompt, then tokens one by one. */
        forward_reset(g);
        forward_tokens(g, tokens, 40, LOGITS_NONE, &err);
        for (uint32_t t = 40; t < N_TOKENS; t++) {
            forward_tokens(g, tokens + t, 1, LOGITS_LAST, &err);
            worst = fmax(worst,
                         largest_gap(forward_logits(g), want + t * small.n_vocab, small.n_vocab));
        }
        float *first = run(g, tokens, 20), *again = run(g, tokens, 20);
        ok(memcmp(first, again, n * sizeof *first) == 0,
           "%s, cache in %s, %u threads: the same bits every time", set->name, format_name(format),
           threads);
        free(first), free(again);
        forward_destroy(g);
    }
    ok(worst <= 0.5 * cost,
       "%s, cache in %s: the same in any batches, with 1 to 3 threads (%.1e; F16 is %.1e off)",
       set->name, format_name(format), worst, cost);
    free(in_f16), free(want);
    forward_destroy(f);
    fixture_destroy(fixture);
}

static void test_changes(void)
{
    static const enum format order[] = {FORMAT_Q4_0, FORMAT_F16, FORMAT_Q8_0, FORMAT_Q4_0};
    struct fixture *fixture = fixture_dense(&small, FORMAT_Q8_0, 8);
    size_t bytes = (size_t)N_TOKENS * small.n_vocab * sizeof(float);
    int32_t tokens[N_TOKENS];
    bool same = true;

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    struct forward *f = make(&fixture->model, kernels_select(), 2);
    for (size_t i = 0; i < 4; i++) {
        struct model model = fixture->model;
        model.kv = order[i];
        struct forward *own = make(&model, kernels_select(), 2);
        forward_set_model(f, &model);
        float *got = run(f, tokens, 11), *want = run(own, tokens, 11);
        same = same && memcmp(got, want, bytes) == 0;
        free(got), free(want);
        forward_set_model(f, &fixture->model);
        forward_destroy(own);
    }
    ok(same, "a forward changes between models of other KV formats and keeps nothing of the last");
    forward_destroy(f);
    fixture_destroy(fixture);
}

static void test_unsound(enum format format)
{
    const int32_t tokens[] = {5, 6, 7, 8, 3, 9};

    for (int values = 0; values < 2; values++) {
        struct fixture *fixture = fixture_dense(&small, FORMAT_F32, 9);
        const struct weights *w = values ? &fixture->model.attn[1].v : &fixture->model.attn[1].k;
        struct err err = {0};
        ((float *)(void *)(uintptr_t)w->data)[3 * w->n_in + 1] = NAN;
        fixture->model.kv = format;
        struct forward *f = make(&fixture->model, kernels_select(), 2);
        ok(forward_tokens(f, tokens, 6, LOGITS_ALL, &err) == -1 && err.code == ERR_DATA &&
               forward_position(f) == 0,
           "a NaN among the %s is found behind a cache in %s", values ? "values" : "keys",
           format_name(format));
        is_text(err.text, "position 0 (token 5): not a finite number after layer 1",
                "and where it came up is said");
        forward_destroy(f);
        fixture_destroy(fixture);
    }
}

int main(void)
{
    create_teams();
    for (int isa = 0; isa < N_ISAS; isa++) {
        const struct kernels *set = kernels_for((enum isa)isa, NULL);
        double moved[N_CACHE_FORMATS];
        if (set == NULL)
            continue;
        for (int i = 0; i < N_CACHE_FORMATS; i++) {
            test_store(set, cache_formats[i]);
            moved[i] = test_attention(set, cache_formats[i]);
        }
        ok(moved[1] > 0 && moved[2] > 3 * moved[1] && moved[3] > 3 * moved[2],
           "%s: fewer bits cost more", set->name);
        if (set != kernels_reference())
            for (int i = 2; i < N_CACHE_FORMATS; i++)
                test_cuts(set, cache_formats[i]);
    }
    test_changes();
    for (int i = 1; i < N_CACHE_FORMATS; i++)
        test_unsound(cache_formats[i]);
    destroy_teams();
    return tap_done();
}
