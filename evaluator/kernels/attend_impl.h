/* attend_impl.h - attention in tiles, for the file of an instruction set to include.
 *
 * A column is one query of one head.  QUERIES columns, a group, lie across the lanes of REGISTERS
 * registers, so that the largest score, the sum of weights and everything else of a column is one
 * lane and nothing is ever added across lanes:
 *
 *   queries      [head_dim][QUERIES]  turned over, times log2(e): exponentials are powers of two
 *   sum          [head_dim][QUERIES]  of weights times values so far
 *   most, total  [QUERIES]            largest score so far, sum of weights so far
 *   keys, values [tile][head_dim]     of the positions at hand, as floats
 *   weights      [tile][QUERIES]      their scores, then 2^(score - most)
 *
 * Keys and values are taken a tile of positions at a time, which stays in the first cache while the
 * groups go by.  Where a tile raises the largest score of a column, what the column has so far is
 * scaled down (Milakov and Gimelshein, online softmax; Dao et al., FlashAttention).  The room hangs
 * on head_dim alone, not on positions.
 *
 * The file that includes this defines
 *   LANES, KEYS, VALUES         floats of a register; keys and values taken at a time, whose sums
 *                               stay in registers
 *   vec                         the register
 *   vec_load, vec_store         aligned; vec_all: one float in every lane
 *   vec_fma(a, b, c)            a b + c; vec_add, vec_sub, vec_mul, vec_div
 *   vec_max(a, b)               b where one is NaN
 *   vec_seen(limit, at, x)      x in lanes whose limit is above `at`, -infinity in the others
 *   vec_exp2(x)                 2^x for x <= 0; what lies far below becomes 2^-126
 *   vec_load_part, vec_store_part   the first n <= LANES floats, the rest zero or left alone
 *   vec_transpose(m)            m[LANES] turned over */
#ifndef KERF_ATTEND_IMPL_H
#define KERF_ATTEND_IMPL_H

#include "evaluator/kernels/attend_one_impl.h"

enum { REGISTERS = 2, QUERIES = REGISTERS * LANES };
_Static_assert(ATTEND_COLUMNS % QUERIES == 0 && ATTEND_TILE_MIN % LANES == 0 &&
                   ATTEND_TILE_MIN % KEYS == 0,
               "groups and tiles fill the room that there is");

struct group {
    float *queries, *sum, *most, *total;
    float *limit; /* [QUERIES]: a column sees the positions below */
    size_t n_columns, n_keys;
    size_t all_see; /* positions that every column sees */
};

struct tile {
    float *keys, *values, *weights;
    size_t head_dim;
};

/* Where column c has its vector, in rows of heads `stride` floats apart. */
INLINE size_t column_at(const struct attention *a, size_t c, size_t stride)
{
    return c % a->n_positions * stride + c / a->n_positions * a->head_dim;
}

/* ---- queries in, sums out ---- */

static void turn_in(const float *const row[LANES], size_t n, size_t head_dim, float *to)
{
    const vec log2_e = vec_all(LOG2_E);
    for (size_t d = 0; d < head_dim; d += LANES) {
        size_t left = head_dim - d < LANES ? head_dim - d : LANES;
        vec m[LANES];
        for (size_t i = 0; i < LANES; i++)
            m[i] = i < n ? vec_mul(vec_load_part(row[i] + d, left), log2_e) : vec_all(0);
        vec_transpose(m);
        for (size_t i = 0; i < left; i++)
            vec_store(to + (d + i) * QUERIES, m[i]);
    }
}

static void turn_out(const float *sum, const float *total, size_t head_dim, size_t n,
                     float *const row[LANES])
{
    vec inverse = vec_div(vec_all(1), vec_load(total));
    for (size_t d = 0; d < head_dim; d += LANES) {
        size_t left = head_dim - d < LANES ? head_dim - d : LANES;
        vec m[LANES];
        for (size_t i = 0; i < LANES; i++)
            m[i] = i < left ? vec_mul(vec_load(sum + (d + i) * QUERIES), inverse) : vec_all(0);
        vec_transpose(m);
        for (size_t i = 0; i < n; i++)
            vec_store_part(row[i] + d, left, m[i]);
    }
}

/* What 8-bit activations make of a query. */
static void round_query(kernel_pack_fn *pack, const float *q, size_t n, void *packed, float *to)
{
    pack(q, n, packed);
    struct act_view v = act_view(packed, n, BLOCK_32);
    for (size_t i = 0; i < n; i++)
        to[i] = v.d[i / BLOCK_32] * (float)v.q[i];
}

/* Columns `first`, ... of the block; the tile is free yet and serves to round the queries. */
static void group_begin(struct group *g, const struct attention *a, size_t first,
                        kernel_pack_fn *pack, const struct tile *t)
{
    size_t n = a->n_heads * a->n_positions - first;
    g->n_columns = n < QUERIES ? n : QUERIES;
    g->n_keys = 0;
    g->all_see = SIZE_MAX;
    for (size_t c = 0; c < QUERIES; c++) {
        /* Lanes without a column see what the last one sees. */
        size_t column = first + (c < g->n_columns ? c : g->n_columns - 1);
        size_t see = a->see + column % a->n_positions;
        g->limit[c] = (float)see;
        g->n_keys = see > g->n_keys ? see : g->n_keys;
        g->all_see = see < g->all_see ? see : g->all_see;
        g->most[c] = -INFINITY;
        g->total[c] = 0;
    }
    memset(g->sum, 0, attend_padded(a->head_dim) * QUERIES * sizeof *g->sum);
    for (size_t r = 0; r < QUERIES; r += LANES) {
        const float *row[LANES];
        n = g->n_columns > r ? g->n_columns - r : 0;
        n = n < LANES ? n : LANES;
        for (size_t i = 0; i < n; i++) {
            row[i] = a->queries + column_at(a, first + r + i, a->queries_stride);
            if (pack == NULL)
                continue;
            round_query(pack, row[i], a->head_dim, t->keys, t->values + i * a->head_dim);
            row[i] = t->values + i * a->head_dim;
        }
        turn_in(row, n, a->head_dim, g->queries + r);
    }
}

static void group_end(const struct group *g, const struct attention *a, size_t first)
{
    for (size_t r = 0; r < g->n_columns; r += LANES) {
        float *row[LANES];
        size_t n = g->n_columns - r < LANES ? g->n_columns - r : LANES;
        for (size_t i = 0; i < n; i++)
            row[i] = a->out + column_at(a, first + r + i, a->out_stride);
        turn_out(g->sum + r, g->total + r, a->head_dim, n, row);
    }
}

/* ---- a tile meets a group ---- */

/* Scores of KEYS keys, of positions `at` and on, and the largest of each column. */
INLINE void score_keys(const struct group *g, const float *key, size_t head_dim, size_t at,
                       bool all_seen, float *scores, vec most[REGISTERS])
{
    vec s[KEYS][REGISTERS];
#pragma GCC unroll 8
    for (size_t k = 0; k < KEYS; k++)
        for (size_t r = 0; r < REGISTERS; r++)
            s[k][r] = vec_all(0);
    for (size_t d = 0; d < head_dim; d++) {
        vec q[REGISTERS];
        for (size_t r = 0; r < REGISTERS; r++)
            q[r] = vec_load(g->queries + d * QUERIES + r * LANES);
#pragma GCC unroll 8
        for (size_t k = 0; k < KEYS; k++) {
            vec x = vec_all(key[k * head_dim + d]);
            for (size_t r = 0; r < REGISTERS; r++)
                s[k][r] = vec_fma(q[r], x, s[k][r]);
        }
    }
#pragma GCC unroll 8
    for (size_t k = 0; k < KEYS; k++) {
        for (size_t r = 0; r < REGISTERS; r++) {
            if (!all_seen)
                s[k][r] = vec_seen(vec_load(g->limit + r * LANES), (float)(at + k), s[k][r]);
            most[r] = vec_max(s[k][r], most[r]);
            vec_store(scores + k * QUERIES + r * LANES, s[k][r]);
        }
    }
}

/* sum[d][] for VALUES values from d on: what is there scaled, and n_keys positions added. */
INLINE void mix_values(const struct tile *t, size_t n_keys, size_t d, const vec scale[REGISTERS],
                       float *sum)
{
    vec s[VALUES][REGISTERS];
#pragma GCC unroll 8
    for (size_t i = 0; i < VALUES; i++)
        for (size_t r = 0; r < REGISTERS; r++)
            s[i][r] = vec_mul(vec_load(sum + (d + i) * QUERIES + r * LANES), scale[r]);
    for (size_t k = 0; k < n_keys; k++) {
        vec w[REGISTERS];
        for (size_t r = 0; r < REGISTERS; r++)
            w[r] = vec_load(t->weights + k * QUERIES + r * LANES);
#pragma GCC unroll 8
        for (size_t i = 0; i < VALUES; i++) {
            vec x = vec_all(t->values[k * t->head_dim + d + i]);
            for (size_t r = 0; r < REGISTERS; r++)
                s[i][r] = vec_fma(w[r], x, s[i][r]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < VALUES; i++)
        for (size_t r = 0; r < REGISTERS; r++)
            vec_store(sum + (d + i) * QUERIES + r * LANES, s[i][r]);
}

/* The first n_keys positions of the tile, which begins at position `begin`. */
static void group_take(const struct group *g, const struct tile *t, size_t begin, size_t n_keys)
{
    vec most[REGISTERS], scale[REGISTERS], total[REGISTERS];

    for (size_t r = 0; r < REGISTERS; r++)
        most[r] = vec_load(g->most + r * LANES);
    for (size_t k = 0; k < n_keys; k += KEYS) {
        /* The last keys may lie behind n_keys: nobody sees them, whatever they are. */
        bool all_seen = begin + k + KEYS <= g->all_see;
        score_keys(g, t->keys + k * t->head_dim, t->head_dim, begin + k, all_seen,
                   t->weights + k * QUERIES, most);
    }
    for (size_t r = 0; r < REGISTERS; r++) {
        scale[r] = vec_exp2(vec_sub(vec_load(g->most + r * LANES), most[r]));
        total[r] = vec_mul(vec_load(g->total + r * LANES), scale[r]);
        vec_store(g->most + r * LANES, most[r]);
    }
    for (size_t k = 0; k < n_keys; k++) {
        for (size_t r = 0; r < REGISTERS; r++) {
            float *weight = t->weights + k * QUERIES + r * LANES;
            vec e = vec_exp2(vec_sub(vec_load(weight), most[r]));
            total[r] = vec_add(total[r], e);
            vec_store(weight, e);
        }
    }
    for (size_t r = 0; r < REGISTERS; r++)
        vec_store(g->total + r * LANES, total[r]);
    for (size_t d = 0; d < t->head_dim; d += VALUES)
        mix_values(t, n_keys, d, scale, g->sum);
}

/* ---- the whole block ---- */

INLINE float *take(float **at, size_t n)
{
    float *p = *at;
    *at += n;
    return p;
}

/* `pack` where queries have 8 bits, else NULL. */
INLINE void attend(enum format format, kernel_unpack_fn *unpack, kernel_pack_fn *pack,
                   const struct attention *a, void *room)
{
    size_t row_bytes = format_row_bytes(format, a->head_dim), padded = attend_padded(a->head_dim);
    size_t n_columns = a->n_heads * a->n_positions, n_tile = attend_tile(a->head_dim);
    size_t n_keys = a->see + a->n_positions - 1, n_groups = 0;
    struct group group[ATTEND_COLUMNS / QUERIES];
    float *at = room;
    struct tile t = {.keys = take(&at, n_tile * padded),
                     .values = take(&at, (n_tile + 1) * padded),
                     .weights = take(&at, n_tile * QUERIES),
                     .head_dim = a->head_dim};

    for (size_t first = 0; first < n_columns; first += QUERIES) {
        struct group *g = &group[n_groups++];
        *g = (struct group){.queries = take(&at, padded * QUERIES),
                            .sum = take(&at, padded * QUERIES),
                            .most = take(&at, QUERIES),
                            .total = take(&at, QUERIES),
                            .limit = take(&at, QUERIES)};
        group_begin(g, a, first, pack, &t);
    }
    for (size_t begin = 0; begin < n_keys; begin += n_tile) {
        size_t n = n_keys - begin < n_tile ? n_keys - begin : n_tile;
        unpack((const char *)a->keys + begin * row_bytes, n * a->head_dim, t.keys);
        unpack((const char *)a->values + begin * row_bytes, n * a->head_dim, t.values);
        for (size_t i = 0; i < n_groups; i++)
            if (begin < group[i].n_keys)
                group_take(&group[i], &t, begin,
                           group[i].n_keys - begin < n ? group[i].n_keys - begin : n);
    }
    for (size_t i = 0; i < n_groups; i++)
        group_end(&group[i], a, i * QUERIES);
}

#define ROWS_Q4_0 ((struct rows_kind){FORMAT_Q4_0, row_Q4_0, score_Q4_0, LIFT_Q4_0})
#define ROWS_Q8_0 ((struct rows_kind){FORMAT_Q8_0, row_Q8_0, score_Q8_0, LIFT_Q8_0})
#define ROWS_F16  ((struct rows_kind){FORMAT_F16, row_F16, NULL, 0})
#define ROWS_F32  ((struct rows_kind){FORMAT_F32, row_F32, NULL, 0})

#define ATTEND(name)                                                                               \
    static kernel_unpack_fn *unpack_##name;                                                        \
    static kernel_pack_fn *pack_##name;                                                            \
    static void attend_##name(const struct attention *a, void *room)                               \
    {                                                                                              \
        if (a->n_positions == 1)                                                                   \
            attend_one(ROWS_##name, pack_##name, a, room);                                         \
        else                                                                                       \
            attend(FORMAT_##name, unpack_##name, pack_##name, a, room);                            \
    }
ATTEND(Q4_0)
ATTEND(Q8_0)
ATTEND(F16)
ATTEND(F32)
#undef ATTEND

/* After the unpacking and packing of the set are there. */
static void attend_fill(struct kernels *set)
{
#define ENTRY(name)                                                                                \
    unpack_##name = set->unpack[FORMAT_##name];                                                    \
    pack_##name = format_is_quantized(FORMAT_##name) ? set->pack[FORMAT_##name][ACT_Q8] : NULL;    \
    set->attend[FORMAT_##name] = attend_##name;
    ENTRY(Q4_0)
    ENTRY(Q8_0)
    ENTRY(F16)
    ENTRY(F32)
#undef ENTRY
}

#endif
