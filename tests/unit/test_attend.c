/* Attention in tiles: every kernel set and format of the KV cache against sums in double, for
 * ragged heads, blocks and contexts; how exact its exponentials are; what a NaN does. */
#include "evaluator/kernels/act_pack.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { GAP = 5, MOST_KEYS = 300, MOST_DIM = 256 };

static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q8_0, FORMAT_Q4_0};

/* A block of queries with a cache for them; everything exactly as large as it must be, so that the
 * address sanitizer sees a step beyond. */
struct problem {
    const struct kernels *set;
    enum format format;
    struct attention a;
    size_t n_keys;
    char *keys, *values;
    float *queries, *out, *key, *value; /* key, value: as floats, [n_keys][head_dim] */
    float log_sums[ATTEND_COLUMNS];
    void *room;
};

static void *get(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p == NULL)
        exit(1);
    return p;
}

/* Rows in the format, and what they then are. */
static void fill_rows(const struct problem *p, char *rows, float *floats, double size,
                      struct rng *rng)
{
    size_t n = p->a.head_dim, row_bytes = format_row_bytes(p->format, n);

    for (size_t k = 0; k < p->n_keys; k++) {
        float x[MOST_DIM];
        for (size_t i = 0; i < n; i++)
            x[i] = (float)(size * rng_normal(rng));
        kernels_reference()->store[p->format](x, n, rows + k * row_bytes);
        kernels_reference()->unpack[p->format](rows + k * row_bytes, n, floats + k * n);
    }
}

/* Scores with a spread of `spread`. */
static void problem_init(struct problem *p, double spread, struct rng *rng)
{
    struct attention *a = &p->a;
    size_t row_bytes = format_row_bytes(p->format, a->head_dim);

    p->n_keys = a->see + a->n_positions - 1;
    a->queries_stride = a->n_heads * a->head_dim + 3;
    a->out_stride = a->n_heads * a->head_dim + GAP;
    p->keys = malloc(p->n_keys * row_bytes);
    p->values = malloc(p->n_keys * row_bytes);
    p->key = get(p->n_keys * a->head_dim * sizeof(float));
    p->value = get(p->n_keys * a->head_dim * sizeof(float));
    p->queries = get(a->n_positions * a->queries_stride * sizeof(float));
    p->out = get(a->n_positions * a->out_stride * sizeof(float));
    p->room = get(kernels_attend_bytes(a->head_dim));
    fill_rows(p, p->keys, p->key, 1, rng);
    fill_rows(p, p->values, p->value, 1, rng);
    for (size_t i = 0; i < a->n_positions * a->queries_stride; i++)
        p->queries[i] = (float)(spread / sqrt((double)a->head_dim) * rng_normal(rng));
    /* What the room holds must not matter. */
    memset(p->room, 0xff, kernels_attend_bytes(a->head_dim));
    for (size_t i = 0; i < a->n_positions * a->out_stride; i++)
        p->out[i] = NAN;
    a->keys = p->keys;
    a->values = p->values;
    a->queries = p->queries;
    a->out = p->out;
    a->log_sums = a->n_positions == 1 ? p->log_sums : NULL;
}

static void problem_fini(struct problem *p)
{
    free(p->keys), free(p->values), free(p->key), free(p->value);
    free(p->queries), free(p->out), free(p->room);
}

/* out[head_dim] of one query in double, and the logarithm of its sum of exponentials; *size is the
 * largest sum of magnitudes behind a score. */
static double exact(const struct problem *p, size_t t, size_t h, double *out, double *size)
{
    const struct attention *a = &p->a;
    const float *q = p->queries + t * a->queries_stride + h * a->head_dim;
    size_t n = a->head_dim, n_keys = a->see + t;
    double query[MOST_DIM], weight[MOST_KEYS], most = -INFINITY, total = 0;

    for (size_t i = 0; i < n; i++)
        query[i] = (double)q[i];
    if (format_is_quantized(p->format)) {
        char packed[2 * MOST_DIM];
        kernels_reference()->pack[p->format][ACT_Q8](q, n, packed);
        struct act_view v = act_view(packed, n, BLOCK_32);
        for (size_t i = 0; i < n; i++)
            query[i] = (double)v.d[i / BLOCK_32] * v.q[i];
    }
    *size = 0;
    for (size_t k = 0; k < n_keys; k++) {
        double sum = 0, magnitude = 0;
        for (size_t i = 0; i < n; i++) {
            double term = query[i] * (double)p->key[k * n + i];
            sum += term;
            magnitude += fabs(term);
        }
        weight[k] = sum;
        most = fmax(most, sum);
        *size = fmax(*size, magnitude);
    }
    for (size_t k = 0; k < n_keys; k++) {
        weight[k] = exp(weight[k] - most);
        total += weight[k];
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = 0;
        for (size_t k = 0; k < n_keys; k++)
            out[i] += weight[k] / total * (double)p->value[k * n + i];
    }
    return most + log(total);
}

/* Float sums: a score of magnitude m is off by a few 2^-24 m, a weight by that share, and the
 * output by that of the largest value that it mixes, here below 6. */
static bool attends_right(const struct problem *p, double *worst)
{
    const struct attention *a = &p->a;
    bool right = true;

    p->set->attend[p->format](a, p->room);
    for (size_t t = 0; t < a->n_positions; t++) {
        const float *out = p->out + t * a->out_stride;
        for (size_t h = 0; h < a->n_heads; h++) {
            double want[MOST_DIM], size;
            double log_sum = exact(p, t, h, want, &size);
            if (a->log_sums != NULL)
                right = right && fabs((double)a->log_sums[h] - log_sum) <= 1e-6 * (1 + size);
            for (size_t i = 0; i < a->head_dim; i++) {
                double gap = fabs((double)out[h * a->head_dim + i] - want[i]) / (1 + size);
                right = right && gap <= 1e-6;
                *worst = fmax(*worst, gap);
            }
        }
        for (size_t i = a->n_heads * a->head_dim; i < a->out_stride; i++)
            right = right && isnan(out[i]);
    }
    return right;
}

static void test_shapes(const struct kernels *set, enum format format)
{
    static const size_t dims[] = {32, 64, 96, 128, 256}, float_dims[] = {1, 7, 20, 32, 33, 48, 128};
    static const size_t positions[] = {1, 2, 3, 7, 8, 9, 16, 17, 31, 32};
    static const size_t sees[] = {1, 2, 7, 8, 15, 16, 33, 63, 64, 65, 127, 200, 260};
    struct rng rng = rng_make(51, (uint64_t)format);
    bool right = true;
    double worst = 0;

    for (size_t k = 0; k < 60; k++) {
        struct problem p = {.set = set, .format = format};
        size_t heads = 1 + rng_below(&rng, 9);
        p.a.n_positions = positions[k % 10];
        p.a.head_dim = format_is_quantized(format) ? dims[k % 5] : float_dims[k % 7];
        p.a.see = sees[rng_below(&rng, 13)];
        while (heads * p.a.n_positions > ATTEND_COLUMNS)
            heads--;
        p.a.n_heads = heads;
        problem_init(&p, k % 3 == 0 ? 8 : 1.5, &rng);
        if (!attends_right(&p, &worst)) {
            printf("# %zu heads of %zu, %zu positions, %zu seen\n", heads, p.a.head_dim,
                   p.a.n_positions, p.a.see);
            right = false;
        }
        problem_fini(&p);
    }
    ok(right, "%s: attention over %s is right in every shape (off by %.1e), and writes no more",
       set->name, format_name(format), worst);
}

/* With two keys whose scores are 0 and s < 0, the weight of the second comes out as it is.  The
 * score times log2(e) is rounded, to 2^-24 of itself; the exponential adds some units in the last
 * place. */
static void test_exponentials(const struct kernels *set)
{
    float keys[2] = {0, 1}, values[2] = {0, 1}, query, out;
    void *room = get(kernels_attend_bytes(1));
    double worst = 0, last = 1;
    bool falling = true;

    for (int i = 1; i <= 8000; i++) {
        double s = -0.01 * i, want;
        struct attention a = {.keys = keys,
                              .values = values,
                              .queries = &query,
                              .out = &out,
                              .head_dim = 1,
                              .n_heads = 1,
                              .n_positions = 1,
                              .see = 2,
                              .queries_stride = 1,
                              .out_stride = 1};
        query = (float)s;
        set->attend[FORMAT_F32](&a, room);
        want = exp((double)query) / (1 + exp((double)query));
        worst = fmax(worst, fabs((double)out / want - 1) / (3e-7 + 1.2e-7 * fabs((double)query)));
        falling = falling && (double)out < last;
        last = (double)out;
    }
    ok(worst <= 1, "%s: weights down to e^-80 are exact to 3e-7 and the rounding of their score",
       set->name);
    ok(falling, "%s: and fall with it", set->name);
    free(room);
}

/* Scores so far apart that all weights but one vanish, first and last, and a sharp rise from tile
 * to tile. */
static void test_extremes(const struct kernels *set)
{
    enum { N = 200 };
    float keys[N], values[N], query = 100, out;
    void *room = get(kernels_attend_bytes(1));
    struct attention a = {.keys = keys,
                          .values = values,
                          .queries = &query,
                          .out = &out,
                          .head_dim = 1,
                          .n_heads = 1,
                          .n_positions = 1,
                          .see = N,
                          .queries_stride = 1,
                          .out_stride = 1};

    for (size_t k = 0; k < N; k++) {
        keys[k] = (float)k;
        values[k] = (float)(k % 7);
    }
    set->attend[FORMAT_F32](&a, room);
    ok(fabsf(out - values[N - 1]) < 1e-6f, "%s: the last of ever larger scores takes all",
       set->name);
    query = -100;
    set->attend[FORMAT_F32](&a, room);
    ok(fabsf(out - values[0]) < 1e-6f, "%s: so does the first of ever smaller ones", set->name);

    static const float bad[] = {NAN, INFINITY, -INFINITY};
    bool found = true;
    query = 1;
    for (int b = 0; b < 3; b++) {
        keys[77] = bad[b];
        set->attend[FORMAT_F32](&a, room);
        /* A weight of nothing is what minus infinity asks for. */
        found = found && (b == 2 ? isfinite(out) : isnan(out));
        keys[77] = 77;
        values[77] = bad[b];
        set->attend[FORMAT_F32](&a, room);
        found = found && !isfinite(out);
        values[77] = 0;
    }
    ok(found, "%s: what is not finite shows", set->name);
    free(room);
}

int main(void)
{
    for (int isa = 0; isa < N_ISAS; isa++) {
        const struct kernels *set = kernels_for((enum isa)isa, NULL);
        if (set == NULL)
            continue;
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
            test_shapes(set, formats[i]);
        test_exponentials(set);
        test_extremes(set);
    }
    return tap_done();
}
