/* float_avx512.c - weights of any format times float activations.
 *
 * A few columns: as meeting.h says; of quantized rows in decode_float_avx512.c.  Many columns: 32
 * rows are unpacked to floats, 256 weights at a time, and laid out so that one weight of sixteen
 * rows is a register; two such registers times twelve broadcast activations keep 24 sums in
 * registers with 14 loads for 24 multiply-adds.  With 128 columns that is 80 to 90 % of what
 * multiply-adds do in registers (bench_kernels); filling tiles is most of the rest.  vdpbf16ps
 * would not help: it does twice the products of a multiply-add, but an activation needs two bf16
 * halves to keep 16 bits of it. */
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"
#include "evaluator/kernels/meeting.h"
#include "evaluator/kernels/transpose_avx512.h"

#include <stdbool.h>
#include <string.h>

enum { AHEAD = 1536, CHUNK = 256, ROWS = 32, MOST_COLUMNS = 12 };

/* ---- a few columns, float formats ---- */

typedef __m512 load_fn(const void *p, __mmask16 mask);

/* Sixteen weights of each row, from i on, times those of each column. */
INLINE void add_products(load_fn *load, size_t element, const struct meeting *m, size_t i,
                         __mmask16 mask, bool fetch, __m512 sum[MEET_COLUMNS][STREAMS])
{
    __m512 w[STREAMS];
#pragma GCC unroll 4
    for (int r = 0; r < STREAMS; r++) {
        const uint8_t *p = m->w + (size_t)r * m->apart + i * element;
        if (fetch)
            _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
        w[r] = load(p, mask);
    }
#pragma GCC unroll 4
    for (int c = 0; c < m->n_cols; c++) {
        __m512 x = load_f32_16(m->act[c] + i * sizeof(float), mask);
#pragma GCC unroll 4
        for (int r = 0; r < STREAMS; r++)
            sum[c][r] = _mm512_fmadd_ps(w[r], x, sum[c][r]);
    }
}

/* One column waits for memory alone, and gets a fifth less of it without masks and with a prefetch
 * a line only (bench_kernels, Zen 5); of several, these cost more than the products. */
INLINE void rows_floats(load_fn *load, size_t element, const struct meeting *m)
{
    __m512 sum[MEET_COLUMNS][STREAMS];
    size_t i = 0;
#pragma GCC unroll 4
    for (int c = 0; c < m->n_cols; c++)
#pragma GCC unroll 4
        for (int r = 0; r < STREAMS; r++)
            sum[c][r] = _mm512_setzero_ps();
    for (; m->n_cols > 1 && i + 32 <= m->n_in; i += 32) {
        add_products(load, element, m, i, 0xffff, true, sum);
        add_products(load, element, m, i + 16, 0xffff, element > 2, sum);
    }
    for (; i < m->n_in; i += 16)
        add_products(load, element, m, i, tail_mask(m->n_in - i), true, sum);
    for (int c = 0; c < m->n_cols; c++)
        for (int r = 0; r < m->n_rows; r++)
            m->out[(size_t)c * m->out_stride + (size_t)r * m->out_apart] =
                _mm512_reduce_add_ps(sum[c][r]);
}

DECODE(avx512, float_F16, rows_floats(load_f16_16, 2, m))
DECODE(avx512, float_BF16, rows_floats(load_bf16_16, 2, m))
DECODE(avx512, float_F32, rows_floats(load_f32_16, 4, m))

/* ---- many columns ---- */

/* Weights of 32 rows: one weight of all rows side by side, or as BF16 two neighbours of each row.
 */
union tile {
    _Alignas(64) float w[CHUNK][ROWS];
    uint32_t pair[CHUNK / 2][ROWS];
};

/* ---- filling a tile ---- */

/* Sixteen rows of n floats to one half of the tile's columns; a ragged end is filled with zeros. */
static void weave(const char *const rows[16], size_t n, union tile *t, size_t half)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512i m[16];
        for (int r = 0; r < 16; r++)
            m[r] = _mm512_maskz_loadu_epi32(mask, rows[r] + i * sizeof(float));
        transpose(m);
        for (size_t k = 0; k < 16; k++)
            _mm512_store_si512(&t->w[i + k][16 * half], m[k]);
    }
}

/* A tile from the n weights that each row has from its byte `at` on. */
typedef void fill_fn(union tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS],
                     size_t at, size_t n);

static void fill_floats(union tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS],
                        size_t at, size_t n)
{
    const char *from[ROWS];
    (void)unpack;
    for (size_t r = 0; r < ROWS; r++)
        from[r] = rows[r] + at;
    weave(from, n, t, 0);
    weave(from + 16, n, t, 1);
}

static void fill_unpacked(union tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS],
                          size_t at, size_t n)
{
    for (size_t half = 0; half < 2; half++) {
        float y[16][CHUNK];
        const char *from[16];
        for (size_t r = 0; r < 16; r++) {
            unpack(rows[16 * half + r] + at, n, y[r]);
            from[r] = (const char *)y[r];
        }
        weave(from, n, t, half);
    }
}

/* BF16 stays what it is: half the bytes, and a shift or a mask makes floats of it. */
static void fill_pairs(union tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS],
                       size_t at, size_t n)
{
    (void)unpack;
    for (size_t half = 0; half < 2; half++)
        for (size_t i = 0; i < n; i += 32) {
            __mmask32 mask = n - i >= 32 ? 0xffffffff : (1u << (n - i)) - 1;
            __m512i m[16];
            for (size_t r = 0; r < 16; r++)
                m[r] = _mm512_maskz_loadu_epi16(mask, rows[16 * half + r] + at + 2 * i);
            transpose(m);
            for (size_t k = 0; k < 16; k++)
                _mm512_store_si512(&t->pair[i / 2 + k][16 * half], m[k]);
        }
}

/* ---- multiplying a tile ---- */

/* Float columns, `apart` bytes from each other, from the tile's first weight on. */
struct columns {
    const char *x;
    size_t apart;
};

/* One weight of 32 rows times the activations i of n columns. */
INLINE void multiply_add(__m512 a, __m512 b, const struct columns *x, size_t i, int n,
                         __m512 sum[MOST_COLUMNS][2])
{
#pragma GCC unroll 12
    for (int c = 0; c < n; c++) {
        const float *column = (const void *)(x->x + (size_t)c * x->apart);
        __m512 xi = _mm512_set1_ps(column[i]);
        sum[c][0] = _mm512_fmadd_ps(a, xi, sum[c][0]);
        sum[c][1] = _mm512_fmadd_ps(b, xi, sum[c][1]);
    }
}

INLINE void first_of_pair(const union tile *t, size_t i, const struct columns *x, int n,
                          __m512 sum[MOST_COLUMNS][2])
{
    __m512i a = _mm512_slli_epi32(_mm512_load_si512(t->pair[i / 2]), 16);
    __m512i b = _mm512_slli_epi32(_mm512_load_si512(t->pair[i / 2] + 16), 16);
    multiply_add(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), x, i, n, sum);
}

INLINE void second_of_pair(const union tile *t, size_t i, const struct columns *x, int n,
                           __m512 sum[MOST_COLUMNS][2])
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
    __m512i a = _mm512_and_si512(_mm512_load_si512(t->pair[i / 2]), upper);
    __m512i b = _mm512_and_si512(_mm512_load_si512(t->pair[i / 2] + 16), upper);
    multiply_add(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), x, i, n, sum);
}

/* `n` columns, added to out unless this is the first chunk. */
INLINE void multiply(bool pairs, int n, const union tile *t, size_t n_weights, struct columns x,
                     bool first, __mmask32 mask, float *out, size_t out_stride)
{
    __m512 sum[MOST_COLUMNS][2];
    __mmask16 low = (__mmask16)mask, high = (__mmask16)(mask >> 16);
#pragma GCC unroll 12
    for (int c = 0; c < n; c++) {
        const float *o = out + (size_t)c * out_stride;
        sum[c][0] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(low, o);
        sum[c][1] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(high, o + 16);
    }
    if (pairs) {
        size_t i = 0;
        for (; i + 2 <= n_weights; i += 2) {
            first_of_pair(t, i, &x, n, sum);
            second_of_pair(t, i + 1, &x, n, sum);
        }
        if (i < n_weights)
            first_of_pair(t, i, &x, n, sum);
    } else {
        for (size_t i = 0; i < n_weights; i++)
            multiply_add(_mm512_load_ps(t->w[i]), _mm512_load_ps(t->w[i] + 16), &x, i, n, sum);
    }
#pragma GCC unroll 12
    for (int c = 0; c < n; c++) {
        float *o = out + (size_t)c * out_stride;
        _mm512_mask_storeu_ps(o, low, sum[c][0]);
        if (high != 0)
            _mm512_mask_storeu_ps(o + 16, high, sum[c][1]);
    }
}

typedef void multiply_fn(const union tile *t, size_t n_weights, struct columns x, bool first,
                         __mmask32 mask, float *out, size_t out_stride);

/* Functions of their own: inlined together they would not keep their sums in registers. */
#define MULTIPLY(kind, pairs, n)                                                                   \
    static __attribute__((noinline)) void multiply_##kind##_##n(                                   \
        const union tile *t, size_t n_weights, struct columns x, bool first, __mmask32 mask,       \
        float *out, size_t out_stride)                                                             \
    {                                                                                              \
        multiply(pairs, n, t, n_weights, x, first, mask, out, out_stride);                         \
    }
#define MULTIPLY_ALL(kind, pairs)                                                                  \
    MULTIPLY(kind, pairs, 1)                                                                       \
    MULTIPLY(kind, pairs, 2)                                                                       \
    MULTIPLY(kind, pairs, 4)                                                                       \
    MULTIPLY(kind, pairs, 8)                                                                       \
    MULTIPLY(kind, pairs, 12)
MULTIPLY_ALL(float, false)
MULTIPLY_ALL(pair, true)

/* What the next tile is made of: `bytes` of each of n_rows rows, asked for row by row while this
 * one is multiplied.  Pieces of rows are too short for the processor to foresee. */
struct ahead {
    const char *row;
    size_t apart, n_rows, bytes;
};

INLINE void ask(struct ahead *a, size_t n_rows)
{
    for (; n_rows > 0 && a->n_rows > 0; n_rows--, a->n_rows--, a->row += a->apart)
        for (size_t i = 0; i < a->bytes; i += 64)
            _mm_prefetch(a->row + i, _MM_HINT_T0);
}

INLINE void multiply_all(bool pairs, const union tile *t, size_t n_weights, struct columns x,
                         size_t n_cols, struct ahead next, bool first, __mmask32 mask, float *out,
                         size_t out_stride)
{
    size_t some = next.n_rows * MOST_COLUMNS / n_cols + 1;
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        ask(&next, some);                                                                          \
        (pairs ? multiply_pair_##n : multiply_float_##n)(t, n_weights, x, first, mask, out,        \
                                                         out_stride);                              \
        x.x += (n)*x.apart;                                                                        \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(12)
    TAKE(8)
    TAKE(4)
    TAKE(2)
    TAKE(1)
#undef TAKE
}

INLINE void tile_float(fill_fn *fill, kernel_unpack_fn *unpack, size_t block, size_t block_bytes,
                       const char *w, size_t row_bytes, size_t n_rows, size_t n_in, const char *act,
                       size_t act_bytes, size_t n_cols, float *out, size_t out_stride)
{
    union tile t;
    for (size_t r = 0; r < n_rows; r += ROWS) {
        const char *rows[ROWS];
        size_t n = n_rows - r < ROWS ? n_rows - r : ROWS;
        for (size_t i = 0; i < ROWS; i++)
            rows[i] = w + (r + (i < n ? i : n - 1)) * row_bytes;
        for (size_t begin = 0; begin < n_in; begin += CHUNK) {
            size_t n_weights = n_in - begin < CHUNK ? n_in - begin : CHUNK;
            size_t end = (begin + n_weights) / block * block_bytes;
            struct ahead next = {.row = rows[0] + end, .apart = row_bytes, .n_rows = n};
            if (begin + n_weights == n_in) {
                next.row = w + (r + n) * row_bytes;
                next.n_rows = n_rows - r - n < ROWS ? n_rows - r - n : ROWS;
            }
            next.bytes = CHUNK / block * block_bytes;
            fill(&t, unpack, rows, begin / block * block_bytes, n_weights);
            multiply_all(fill == fill_pairs, &t, n_weights,
                         (struct columns){act + begin * sizeof(float), act_bytes}, n_cols, next,
                         begin == 0, (__mmask32)(0xffffffffu >> (ROWS - n)), out + r, out_stride);
        }
    }
}

/* ---- one function a format ---- */

static kernel_unpack_fn *unpack_of[N_FORMATS];

INLINE fill_fn *fill_of(enum format format)
{
    return format == FORMAT_BF16 ? fill_pairs : format == FORMAT_F32 ? fill_floats : fill_unpacked;
}

#define MATMUL(name, ggml_type, block, bytes)                                                      \
    static void matmul_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        if (n_cols > ((block) > 1 ? FEW_COLUMNS : FEW_FLOAT))                                      \
            tile_float(fill_of(FORMAT_##name), unpack_of[FORMAT_##name], block, bytes, w,          \
                       row_bytes, n_rows, n_in, act, act_bytes, n_cols, out, out_stride);          \
        else                                                                                       \
            decode_float_##name##_avx512(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,  \
                                         out_stride);                                              \
    }
FORMATS(MATMUL)

void float_avx512_fill(struct kernels *set)
{
    unpack_avx512_fill(set);
#define ENTRY(name, ggml_type, block, bytes)                                                       \
    unpack_of[FORMAT_##name] = set->unpack[FORMAT_##name];                                         \
    set->matmul[FORMAT_##name][ACT_FLOAT] = matmul_##name;
    FORMATS(ENTRY)
}
