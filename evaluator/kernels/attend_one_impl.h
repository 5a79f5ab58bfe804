/* attend_one_impl.h - attention of one position, for the file of an instruction set to include.
 *
 * A bunch of queries, up to MOST_HEADS, reads each key and each value once.  LANES keys are turned
 * over in registers, so that a register holds one dimension of all of them and is multiplied with
 * one number of each query: the scores of a query lie side by side and nothing is added across
 * lanes.  (One query alone does not repay that: it has a register of partial sums for each key, and
 * they are added up crosswise.)  Values lie as they are, a weight in every lane.
 *
 *   query        [heads][head_dim] times log2(e): exponentials are powers of two; of a cache in
 *                blocks, codes that meet those of keys in integers (struct query_block)
 *   weights      [heads][chunk] scores, then 2^(score - most)
 *   sum          [heads][head_dim] of weights times values so far
 *   most, total  [heads] largest score so far, sum of weights so far
 *
 * Positions are taken ATTEND_CHUNK at a time, which stay near while the bunches go by.  Where a
 * chunk raises the largest score, what there is so far is scaled down, as in attend_impl.h.
 *
 * The file that includes this has included vec_<isa>.h and defines
 *   MOST_HEADS                  4 or 8
 *   MIX_SUMS                    registers that sums of values may take, at least 2 a head
 *   row_F32, row_F16            LANES values of a row from `at` on, of which `left` are left, or
 *                               none: zeros behind
 *   row_Q8_0, row_Q4_0          the same of blocks: codes, without their factor
 *   score_Q8_0, score_Q4_0      products of the codes of a block of LANES keys and of queries
 *                               [heads][32], as floats; too large by
 *   LIFT_Q8_0, LIFT_Q4_0        so many times the sum of the query's codes
 *   vec_factors(row, at)        lane k: the f16 at byte `at` of row[k] */
#ifndef KERF_ATTEND_ONE_IMPL_H
#define KERF_ATTEND_ONE_IMPL_H

#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/kernel_sets.h"

enum { PIECE = 2 * LANES };
_Static_assert(BLOCK_32 % PIECE == 0, "a piece of values lies in one block");

typedef vec row_fn(const char *row, size_t at, size_t left);
typedef void score_block_fn(const char *const *row, size_t block, const int8_t *codes, int heads,
                            vec score[MOST_HEADS]);

struct rows_kind {
    enum format format;
    row_fn *load;
    score_block_fn *score; /* NULL: rows of floats */
    int lift;
};

/* 32 values of the queries of a bunch; smaller than as many floats. */
struct query_block {
    _Alignas(64) int8_t codes[MOST_HEADS * BLOCK_32];
    float lift[MOST_HEADS], factor[MOST_HEADS];
};

struct bunch {
    size_t n;  /* queries */
    int heads; /* the same, or more: a number that there is code for */
    float *query, *sum;
    float most[MOST_HEADS], total[MOST_HEADS];
};

/* ---- queries ---- */

static void take_floats(const float *query, size_t n, size_t head_dim, float *to)
{
    size_t padded = attend_pieces(head_dim);
    for (size_t h = 0; h < n; h++, query += head_dim, to += padded)
        for (size_t d = 0; d < padded; d += LANES)
            vec_store(to + d, d < head_dim
                                  ? vec_mul(vec_load_part(query + d, head_dim - d), vec_all(LOG2_E))
                                  : vec_all(0));
}

static void take_blocks(const float *query, size_t n, size_t head_dim, int lift,
                        kernel_pack_fn *pack, void *room, struct query_block *to)
{
    for (size_t h = 0; h < n; h++, query += head_dim) {
        pack(query, head_dim, room);
        struct act_view v = act_view(room, head_dim, BLOCK_32);
        for (size_t i = 0; i < head_dim / BLOCK_32; i++) {
            memcpy(to[i].codes + h * BLOCK_32, v.q + i * BLOCK_32, BLOCK_32);
            to[i].lift[h] = (float)(lift * (v.sums[2 * i] + v.sums[2 * i + 1]));
            to[i].factor[h] = v.d[i] * LOG2_E;
        }
    }
}

/* ---- scores ---- */

/* Dimensions d, ... of LANES keys.  Two sums a query, or each would wait for itself. */
INLINE void add_products(row_fn *load, const char *const *row, size_t d, size_t left,
                         const float *query, size_t padded, int heads, vec even[MOST_HEADS],
                         vec odd[MOST_HEADS])
{
    vec m[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        m[i] = load(row[i], d, left);
    vec_transpose(m);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 2) {
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) {
            const float *q = query + (size_t)h * padded + d + i;
            even[h] = vec_fma(m[i], vec_all(q[0]), even[h]);
            odd[h] = vec_fma(m[i + 1], vec_all(q[1]), odd[h]);
        }
    }
}

/* Of one query. */
INLINE void score_crosswise(row_fn *load, const char *const *row, const float *query,
                            size_t head_dim, vec *score)
{
    size_t d = 0;
    vec part[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        part[i] = vec_all(0);
    for (; d + LANES <= head_dim; d += LANES)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            part[i] = vec_fma(load(row[i], d, LANES), vec_load(query + d), part[i]);
    if (d < head_dim)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            part[i] = vec_fma(load(row[i], d, head_dim - d), vec_load(query + d), part[i]);
    *score = vec_sums(part);
}

INLINE void score_floats(row_fn *load, const char *const *row, const float *query, size_t head_dim,
                         int heads, vec score[MOST_HEADS])
{
    size_t padded = attend_pieces(head_dim), d = 0;
    vec odd[MOST_HEADS];
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        score[h] = odd[h] = vec_all(0);
    for (; d + LANES <= head_dim; d += LANES)
        add_products(load, row, d, LANES, query, padded, heads, score, odd);
    if (d < head_dim)
        add_products(load, row, d, head_dim - d, query, padded, heads, score, odd);
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        score[h] = vec_add(score[h], odd[h]);
}

INLINE void score_blocks(score_block_fn *products, size_t block_bytes, const char *const *row,
                         const struct query_block *query, size_t head_dim, int heads,
                         vec score[MOST_HEADS])
{
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        score[h] = vec_all(0);
    for (size_t i = 0; i < head_dim / BLOCK_32; i++) {
        vec factor = vec_factors(row, i * block_bytes), codes[MOST_HEADS];
        products(row, i, query[i].codes, heads, codes);
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++)
            score[h] = vec_fma(vec_sub(codes[h], vec_all(query[i].lift[h])),
                               vec_mul(factor, vec_all(query[i].factor[h])), score[h]);
    }
}

/* x, and -infinity in the lanes from n on. */
INLINE vec first_lanes(vec x, size_t n)
{
    _Alignas(64) float there[LANES];
    for (size_t i = 0; i < LANES; i++)
        there[i] = i < n ? 1.0f : 0.0f;
    return vec_seen(vec_load(there), 0.0f, x);
}

/* ---- values ---- */

/* sum[h][] of two registers: what is there scaled, n positions added, some of which run side by
 * side, or each sum would wait for itself. */
INLINE void mix_rows(row_fn *load, const char *values, size_t row_bytes, size_t n, size_t at,
                     size_t left, const float *weights, const float *scale, int heads, float *sum,
                     size_t padded)
{
    const int side = MIX_SUMS / (2 * heads) < 4 ? MIX_SUMS / (2 * heads) : 4;
    size_t left_high = left > LANES ? left - LANES : 0, p = 0;
    vec low[4][MOST_HEADS], high[4][MOST_HEADS];
#pragma GCC unroll 8
    for (int s = 0; s < side; s++) {
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) {
            const float *begin = sum + (size_t)h * padded;
            low[s][h] = s == 0 ? vec_mul(vec_load(begin), vec_all(scale[h])) : vec_all(0);
            high[s][h] = s == 0 ? vec_mul(vec_load(begin + LANES), vec_all(scale[h])) : vec_all(0);
        }
    }
    for (; p + (size_t)side <= n; p += (size_t)side) {
#pragma GCC unroll 8
        for (int s = 0; s < side; s++) {
            const char *row = values + (p + (size_t)s) * row_bytes;
            vec a = load(row, at, left), b = load(row, at + LANES, left_high);
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) {
                vec weight = vec_all(weights[(size_t)h * ATTEND_CHUNK + p + (size_t)s]);
                low[s][h] = vec_fma(a, weight, low[s][h]);
                high[s][h] = vec_fma(b, weight, high[s][h]);
            }
        }
    }
    for (; p < n; p++) {
        const char *row = values + p * row_bytes;
        vec a = load(row, at, left), b = load(row, at + LANES, left_high);
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) {
            vec weight = vec_all(weights[(size_t)h * ATTEND_CHUNK + p]);
            low[0][h] = vec_fma(a, weight, low[0][h]);
            high[0][h] = vec_fma(b, weight, high[0][h]);
        }
    }
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) {
#pragma GCC unroll 8
        for (int s = 1; s < side; s++) {
            low[0][h] = vec_add(low[0][h], low[s][h]);
            high[0][h] = vec_add(high[0][h], high[s][h]);
        }
        vec_store(sum + (size_t)h * padded, low[0][h]);
        vec_store(sum + (size_t)h * padded + LANES, high[0][h]);
    }
}

/* ---- a bunch meets a chunk ---- */

/* Rows k, ... of n; behind the last one it stands again. */
INLINE void rows_at(const char *rows, size_t row_bytes, size_t k, size_t n, const char *row[LANES])
{
    rows += k * row_bytes;
#pragma GCC unroll 16
    for (size_t i = 0; i < LANES; i++)
        row[i] = rows + i * row_bytes;
    for (size_t i = n - k; i < LANES; i++)
        row[i] = row[n - k - 1];
}

/* Scores of n keys; the largest goes to b->most, what that scales so far to scale[]. */
INLINE void bunch_score(struct rows_kind kind, int heads, struct bunch *b, const char *keys,
                        size_t head_dim, size_t n, float *weights, float *scale)
{
    size_t row_bytes = format_row_bytes(kind.format, head_dim);
    vec most[MOST_HEADS];
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        most[h] = vec_all(b->most[h]);
    for (size_t k = 0; k < n; k += LANES) {
        const char *row[LANES];
        vec score[MOST_HEADS];
        rows_at(keys, row_bytes, k, n, row);
        if (kind.score == NULL && heads == 1)
            score_crosswise(kind.load, row, b->query, head_dim, score);
        else if (kind.score == NULL)
            score_floats(kind.load, row, b->query, head_dim, heads, score);
        else
            score_blocks(kind.score, format_block_bytes(kind.format), row, (const void *)b->query,
                         head_dim, heads, score);
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) {
            vec s = k + LANES > n ? first_lanes(score[h], n - k) : score[h];
            most[h] = vec_max(s, most[h]);
            vec_store(weights + (size_t)h * ATTEND_CHUNK + k, s);
        }
    }
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) {
        vec all = vec_most(most[h]), factor = vec_exp2(vec_sub(vec_all(b->most[h]), all));
        vec_store_part(scale + h, 1, factor);
        vec_store_part(b->most + h, 1, all);
    }
}

/* Scores to weights, and their sum to b->total. */
INLINE void bunch_weigh(int heads, struct bunch *b, size_t n, float *weights, const float *scale)
{
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++, weights += ATTEND_CHUNK) {
        vec most = vec_all(b->most[h]), total = vec_all(0);
        for (size_t k = 0; k < n; k += LANES) {
            vec e = vec_exp2(vec_sub(vec_load(weights + k), most));
            vec_store(weights + k, e);
            total = vec_add(total, e);
        }
        total = vec_fma(vec_all(b->total[h]), vec_all(scale[h]), vec_total(total));
        vec_store_part(b->total + h, 1, total);
    }
}

/* weights times the factor at byte `at` of each value. */
INLINE void scale_weights(const char *values, size_t row_bytes, size_t n, size_t at,
                          const float *weights, int heads, float *scaled)
{
    for (size_t k = 0; k < n; k += LANES) {
        const char *row[LANES];
        rows_at(values, row_bytes, k, n, row);
        vec factor = vec_factors(row, at);
#pragma GCC unroll 8
        for (size_t h = 0; h < (size_t)heads; h++)
            vec_store(scaled + h * ATTEND_CHUNK + k,
                      vec_mul(vec_load(weights + h * ATTEND_CHUNK + k), factor));
    }
}

INLINE void bunch_take(struct rows_kind kind, int heads, struct bunch *b, const struct attention *a,
                       size_t begin, size_t n, float *weights)
{
    size_t head_dim = a->head_dim, padded = attend_pieces(head_dim);
    size_t row_bytes = format_row_bytes(kind.format, head_dim);
    const char *values = (const char *)a->values + begin * row_bytes;
    float *scaled = weights + MOST_HEADS * ATTEND_CHUNK, scale[MOST_HEADS];

    bunch_score(kind, heads, b, (const char *)a->keys + begin * row_bytes, head_dim, n, weights,
                scale);
    bunch_weigh(heads, b, n, weights, scale);
    for (size_t d = 0; d < head_dim; d += PIECE) {
        const float *weight = kind.score != NULL ? scaled : weights;
        if (kind.score != NULL && d % BLOCK_32 == 0)
            scale_weights(values, row_bytes, n, d / BLOCK_32 * format_block_bytes(kind.format),
                          weights, heads, scaled);
        if (head_dim - d >= PIECE) /* the compiler sees that nothing is missing */
            mix_rows(kind.load, values, row_bytes, n, d, PIECE, weight, scale, heads, b->sum + d,
                     padded);
        else
            mix_rows(kind.load, values, row_bytes, n, d, head_dim - d, weight, scale, heads,
                     b->sum + d, padded);
    }
}

/* ---- all of them ---- */

/* Heads that the next bunch has code for, some of which may be missing. */
INLINE int heads_of(size_t left)
{
    return MOST_HEADS == 8 && left >= 6 ? 8 : left >= 3 ? 4 : (int)left;
}

static void bunch_begin(struct bunch *b, struct rows_kind kind, const struct attention *a,
                        size_t first, kernel_pack_fn *pack, void *room)
{
    const float *query = a->queries + first * a->head_dim;
    size_t heads = (size_t)b->heads, padded = attend_pieces(a->head_dim);
    b->n = a->n_heads - first < heads ? a->n_heads - first : heads;
    memset(b->query, 0, (MOST_HEADS + heads) * padded * sizeof *b->query);
    b->sum = b->query + MOST_HEADS * padded;
    if (kind.score == NULL)
        take_floats(query, b->n, a->head_dim, b->query);
    else
        take_blocks(query, b->n, a->head_dim, kind.lift, pack, room, (void *)b->query);
    for (size_t h = 0; h < heads; h++) {
        b->most[h] = -INFINITY;
        b->total[h] = 0;
    }
}

static void bunch_end(const struct bunch *b, const struct attention *a, size_t first)
{
    for (size_t h = 0; h < b->n; h++) {
        const float *sum = b->sum + h * attend_pieces(a->head_dim);
        float *out = a->out + (first + h) * a->head_dim;
        vec inverse = vec_all(1 / b->total[h]);
        for (size_t d = 0; d < a->head_dim; d += LANES)
            vec_store_part(out + d, a->head_dim - d, vec_mul(vec_load(sum + d), inverse));
        if (a->log_sums != NULL)
            a->log_sums[first + h] = b->most[h] / LOG2_E + logf(b->total[h]);
    }
}

INLINE void attend_one(struct rows_kind kind, kernel_pack_fn *pack, const struct attention *a,
                       void *room)
{
    struct bunch bunch[ATTEND_COLUMNS / MOST_HEADS + 2];
    size_t padded = attend_pieces(a->head_dim), n_bunches = 0;
    float *weights = room, *at = weights + 2 * MOST_HEADS * ATTEND_CHUNK;

    for (size_t first = 0; first < a->n_heads; first += bunch[n_bunches++].n) {
        struct bunch *b = &bunch[n_bunches];
        b->heads = heads_of(a->n_heads - first);
        b->query = at;
        bunch_begin(b, kind, a, first, pack, weights);
        at = b->sum + (size_t)b->heads * padded;
    }
    for (size_t begin = 0; begin < a->see; begin += ATTEND_CHUNK) {
        size_t n = a->see - begin < ATTEND_CHUNK ? a->see - begin : ATTEND_CHUNK;
        for (size_t i = 0; i < n_bunches; i++) {
            if (bunch[i].heads == 8)
                bunch_take(kind, MOST_HEADS, &bunch[i], a, begin, n, weights);
            else if (bunch[i].heads == 4)
                bunch_take(kind, 4, &bunch[i], a, begin, n, weights);
            else if (bunch[i].heads == 2)
                bunch_take(kind, 2, &bunch[i], a, begin, n, weights);
            else
                bunch_take(kind, 1, &bunch[i], a, begin, n, weights);
        }
    }
    for (size_t i = 0, first = 0; i < n_bunches; first += bunch[i++].n)
        bunch_end(&bunch[i], a, first);
}

#endif
