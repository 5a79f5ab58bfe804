/* decode_avx512.c - a few columns times rows of 32-blocks, eight blocks of each row at a time.
 * Codes of half a byte are taken as they lie, four blocks in the lanes of a register: first their
 * low nibbles, which are first halves, then their high ones. */
#include "evaluator/kernels/decode_avx512.h"

typedef __m512i pair_fn(const uint8_t *block, const uint8_t *next);

/* Eight blocks of activations. */
struct act_32 {
    __m512i q[4]; /* in the order of the codes */
    __m256 d;
    __m256 offset; /* -offset * sum of q, of each block */
};

/* The factors of eight blocks, which begin them: of two or four loads of 64 bytes the words that
 * are wanted are put side by side, for eight single loads would take as long as the products. */
INLINE __m256 factors_8(const uint8_t *p, int bytes)
{
    const int half = bytes / 2, last = (bytes * 7 - 62) / 2; /* words; where the last load begins */
    short low[32] = {0}, high[32] = {0};
    __m512i first = _mm512_loadu_si512(p), second = _mm512_loadu_si512(p + 64);
    for (int k = 0; k < 8; k++)
        low[k] = (short)(k * half % 64);
    __m512i all = _mm512_permutex2var_epi16(first, _mm512_loadu_si512(low), second);
    if (7 * half >= 64) {
        /* Eight blocks of Q5_0 end within the third 64 bytes, and nothing behind them is read. */
        __m512i third = 8 * bytes >= 192
                            ? _mm512_loadu_si512(p + 128)
                            : _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)(p + 128)));
        __m512i fourth = _mm512_loadu_si512(p + 2 * last);
        __mmask32 mask = 0;
        for (int k = 0; k < 8; k++) {
            if (k * half >= 64)
                mask |= 1u << k;
            high[k] = (short)(k * half < 96 ? (k * half - 64) & 63 : 32 + k * half - last);
        }
        all = _mm512_mask_mov_epi16(
            all, mask, _mm512_permutex2var_epi16(third, _mm512_loadu_si512(high), fourth));
    }
    return _mm256_cvtph_ps(_mm512_castsi512_si128(all));
}

/* Codes of four blocks, block k in lane k: first halves, second halves. */
typedef void codes_fn(const uint8_t *p, __m512i code[2]);

INLINE void nibbles(__m512i q, __m512i code[2])
{
    const __m512i low = _mm512_set1_epi8(15);
    code[0] = _mm512_and_si512(q, low);
    code[1] = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);
}

INLINE void codes_of_q4_0(const uint8_t *p, __m512i code[2])
{
    nibbles(four_lanes(p + 2, 18), code);
}

INLINE void codes_of_iq4_nl(const uint8_t *p, __m512i code[2])
{
    const __m512i levels = _mm512_broadcast_i32x4(
        _mm_xor_si128(_mm_loadu_si128((const void *)iq4_nl_values), _mm_set1_epi8((char)0x80)));
    nibbles(four_lanes(p + 2, 18), code);
    code[0] = _mm512_shuffle_epi8(levels, code[0]);
    code[1] = _mm512_shuffle_epi8(levels, code[1]);
}

INLINE void codes_of_q5_0(const uint8_t *p, __m512i code[2])
{
    const __m512i high = _mm512_set1_epi8(16);
    nibbles(four_lanes(p + 6, 22), code);
    for (int h = 0; h < 2; h++) {
        uint64_t bits = 0;
        for (int k = 0; k < 4; k++)
            bits |= (uint64_t)load_u16(p + 22 * k + 2 + 2 * h) << 16 * k;
        code[h] = _mm512_mask_add_epi8(code[h], bits, code[h], high);
    }
}

/* Eight blocks of a row, of each column. */
typedef void step_fn(const uint8_t *p, const struct act_32 *a, int n_cols, struct row_sum *r);

/* d of the blocks times d of the activations, and what the offset adds. */
INLINE void add_offsets(__m256 blocks, const struct act_32 *a, int n_cols, __m256 d[MEET_COLUMNS],
                        struct row_sum *r)
{
#pragma GCC unroll 4
    for (int c = 0; c < n_cols; c++) {
        d[c] = _mm256_mul_ps(blocks, a[c].d);
        r[c].side = _mm256_fmadd_ps(a[c].offset, d[c], r[c].side);
    }
}

/* Products of the blocks whose numbers stand in `block`, one for each of the 16 sums. */
INLINE void add_blocks(struct row_sum *r, __m512i dot, __m256 d, __m512i block)
{
    __m512 factor = _mm512_permutexvar_ps(block, _mm512_castps256_ps512(d));
    r->main = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, r->main);
}

INLINE void step_nibbles(codes_fn *codes, int bytes, const uint8_t *p, const struct act_32 *a,
                         int n_cols, struct row_sum *r)
{
    __m512i block = by_lane(0, 1, 2, 3);
    __m256 d[MEET_COLUMNS];
    add_offsets(factors_8(p, bytes), a, n_cols, d, r);
    for (int h = 0; h < 2; h++) {
        __m512i code[2];
        codes(p + 4 * h * bytes, code);
#pragma GCC unroll 4
        for (int c = 0; c < n_cols; c++) {
            __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code[0], a[c].q[2 * h]);
            dot = _mm512_dpbusd_epi32(dot, code[1], a[c].q[2 * h + 1]);
            add_blocks(&r[c], dot, d[c], _mm512_add_epi32(block, _mm512_set1_epi32(4 * h)));
        }
    }
}

INLINE void step_q4_0(const uint8_t *p, const struct act_32 *a, int n_cols, struct row_sum *r)
{
    step_nibbles(codes_of_q4_0, 18, p, a, n_cols, r);
}

INLINE void step_iq4_nl(const uint8_t *p, const struct act_32 *a, int n_cols, struct row_sum *r)
{
    step_nibbles(codes_of_iq4_nl, 18, p, a, n_cols, r);
}

INLINE void step_q5_0(const uint8_t *p, const struct act_32 *a, int n_cols, struct row_sum *r)
{
    step_nibbles(codes_of_q5_0, 22, p, a, n_cols, r);
}

INLINE void step_q8_0(const uint8_t *p, const struct act_32 *a, int n_cols, struct row_sum *r)
{
    enum { BYTES = 34 };
    __m512i block = halves(0, 1LL << 32 | 1);
    __m256 d[MEET_COLUMNS];
    add_offsets(factors_8(p, BYTES), a, n_cols, d, r);
    for (int v = 0; v < 4; v++, p += 2 * BYTES) {
        __m512i codes = pair_q8_0(p, p + BYTES);
#pragma GCC unroll 4
        for (int c = 0; c < n_cols; c++) {
            __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, a[c].q[v]);
            add_blocks(&r[c], dot, d[c], _mm512_add_epi32(block, _mm512_set1_epi32(2 * v)));
        }
    }
}

/* One block alone, at the end of rows whose length is no multiple of 256. */
INLINE void step_single(pair_fn *pair, const uint8_t *p, const int8_t *q, const int16_t *sums,
                        float d, int offset, struct row_sum *r)
{
    __m256i codes = _mm512_castsi512_si256(pair(p, p));
    __m256i start = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-offset * (sums[0] + sums[1])));
    __m256i dot = _mm256_dpbusd_epi32(start, codes, _mm256_loadu_si256((const void *)q));
    r->side = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(f16_load(p) * d), r->side);
}

/* ---- rows ---- */

struct kind {
    int block_bytes, offset;
    step_fn *step;
    pair_fn *pair;     /* for what is left over */
    bool halves_apart; /* codes have first halves of blocks in one register, second in the next */
};

INLINE struct act_32 act_eight(struct act_view act, size_t b, struct kind kind)
{
    struct act_32 a = {.d = _mm256_loadu_ps(act.d + b)};
    __m256i sums = _mm256_loadu_si256((const void *)(act.sums + 2 * b));
    sums = _mm256_madd_epi16(sums, _mm256_set1_epi16((short)-kind.offset));
    a.offset = _mm256_cvtepi32_ps(sums);
    for (int v = 0; v < 4; v += 2) {
        const int8_t *q = act.q + b * BLOCK_32 + (size_t)v * 64;
        __m512i first = _mm512_loadu_si512(q), second = _mm512_loadu_si512(q + 64);
        a.q[v] = kind.halves_apart ? _mm512_shuffle_i32x4(first, second, 0x88) : first;
        a.q[v + 1] = kind.halves_apart ? _mm512_shuffle_i32x4(first, second, 0xdd) : second;
    }
    return a;
}

INLINE void rows_32(struct kind kind, const struct meeting *m)
{
    struct row_sum sum[STREAMS][MEET_COLUMNS];
    size_t n_blocks = m->n_in / BLOCK_32, bytes = (size_t)kind.block_bytes, b = 0;
#pragma GCC unroll 4
    for (int i = 0; i < STREAMS; i++)
        for (int c = 0; c < m->n_cols; c++)
            sum[i][c] = (struct row_sum){_mm512_setzero_ps(), _mm256_setzero_ps()};
    for (; b + 8 <= n_blocks; b += 8) {
        struct act_32 a[MEET_COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < m->n_cols; c++)
            a[c] = act_eight(act_view(m->act[c], m->n_in, BLOCK_32), b, kind);
#pragma GCC unroll 4
        for (int i = 0; i < STREAMS; i++) {
            const uint8_t *p = m->w + (size_t)i * m->apart + b * bytes;
            prefetch(p, 8 * kind.block_bytes);
            kind.step(p, a, m->n_cols, sum[i]);
        }
    }
    for (; b < n_blocks; b++)
        for (int i = 0; i < STREAMS; i++)
            for (int c = 0; c < m->n_cols; c++) {
                struct act_view act = act_view(m->act[c], m->n_in, BLOCK_32);
                step_single(kind.pair, m->w + (size_t)i * m->apart + b * bytes,
                            act.q + b * BLOCK_32, act.sums + 2 * b, act.d[b], kind.offset,
                            &sum[i][c]);
            }
#pragma GCC unroll 4
    for (int c = 0; c < m->n_cols; c++) {
        const struct row_sum column[STREAMS] = {sum[0][c], sum[1][c], sum[2][c], sum[3][c]};
        rows_store(column, m->n_rows, m->out + (size_t)c * m->out_stride, m->out_apart);
    }
}

DECODE(avx512, IQ4_NL, rows_32((struct kind){18, 128, step_iq4_nl, pair_iq4_nl, true}, m))
DECODE(avx512, Q4_0, rows_32((struct kind){18, 8, step_q4_0, pair_q4_0, true}, m))
DECODE(avx512, Q5_0, rows_32((struct kind){22, 16, step_q5_0, pair_q5_0, true}, m))
DECODE(avx512, Q8_0, rows_32((struct kind){34, 128, step_q8_0, pair_q8_0, false}, m))
