/* decode_k_avx512.c - a few columns times rows of K-quants.
 *
 * Inside a block everything is integer: vpdpbusd multiplies codes, vpdpwssd multiplies the results
 * by the group scales (they fit 16 bits: 4 * 63 * 127 < 2^15) and adds up.  What stands in the
 * heads of four blocks - scales, minima, factors - is unpacked together, row i in the 128-bit lane
 * i: one by one it would cost as much as the products.
 *
 * Codes are taken as they lie: a register has the low bits of 64 bytes, the next one their next
 * bits.  The activations are put in that order instead, once for four rows. */
#include "evaluator/kernels/decode_avx512.h"

/* A block of 256 activations. */
struct act_k {
    __m512i q[4]; /* in the order of the codes */
    __m512i sums; /* int16, of each 32 in every lane (Q4_K, Q5_K), else of each 16 in both halves */
    __m512 d;
};

/* Of four rows. */
struct sums_k {
    __m512 main[STREAMS];
    __m512 side[2]; /* lane i is row i (Q4_K, Q5_K), else half i of the pair is row i */
};

/* The f16 number in word `word` of each lane, all over its lane. */
INLINE __m512 factors(__m512i heads, int word)
{
    const int pair = word << 16 | word, lane = 8 << 16 | 8;
    __m512i index = _mm512_castsi256_si512(_mm256_set_epi32(pair + 3 * lane, pair + 3 * lane,
                                                            pair + 2 * lane, pair + 2 * lane,
                                                            pair + lane, pair + lane, pair, pair));
    __m512i halves = _mm512_permutexvar_epi16(index, heads);
    return _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
}

/* Bytes a, b, c, d of every lane, as dwords (byte, 0, 0, 0) of lanes 0, 1, 2, 3. */
INLINE __m512i spread_index(int a, int b, int c, int d)
{
    const int unused = (int)0x80808000;
    return by_lane(unused | a, unused | b, unused | c, unused | d);
}

INLINE __m512i scaled_dot(__m512i sum, __m512i codes, __m512i q, __m512i scales)
{
    __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, q);
    return _mm512_dpwssd_epi32(sum, dot, scales);
}

/* Bytes at p and at p + 32 + gap, 32 each: where the codes of a register stand in a row. */
INLINE __m512i two_parts(const int8_t *p, size_t gap)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)p)),
                              _mm256_loadu_si256((const void *)(p + BLOCK_32 + gap)), 1);
}

/* ---- codes of a block, four registers; `part` says which activations they meet ---- */

enum part { PART_32, PART_64, PART_128 }; /* weights from one half of a register to the other */

typedef void codes_fn(const uint8_t *block, __m512i code[4]);

INLINE void nibbles(const uint8_t *qs, __m512i code[4])
{
    const __m512i low = _mm512_set1_epi8(15);
    for (int h = 0; h < 2; h++) {
        __m512i q = _mm512_loadu_si512(qs + 64 * h);
        code[2 * h] = _mm512_and_si512(q, low);
        code[2 * h + 1] = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);
    }
}

INLINE void codes_of_q4_k(const uint8_t *p, __m512i code[4])
{
    nibbles(((const struct block_q4_k *)(const void *)p)->qs, code);
}

INLINE void codes_of_q5_k(const uint8_t *p, __m512i code[4])
{
    const struct block_q5_k *b = (const void *)p;
    __m512i high = load_twice(b->qh);
    nibbles(b->qs, code);
    for (int v = 0; v < 4; v++) {
        int bit = v / 2 * 4 + v % 2;
        code[v] = or_masked(code[v], bits_to(high, bit, bit + 2, 4), _mm512_set1_epi8(16));
    }
}

INLINE void two_bits(const uint8_t *qs, __m512i code[4])
{
    const __m512i low = _mm512_set1_epi8(3);
    __m512i q = _mm512_loadu_si512(qs);
    code[0] = _mm512_and_si512(q, low);
    code[1] = _mm512_and_si512(_mm512_srli_epi16(q, 2), low);
    code[2] = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);
    code[3] = _mm512_and_si512(_mm512_srli_epi16(q, 6), low);
}

INLINE void codes_of_q2_k(const uint8_t *p, __m512i code[4])
{
    two_bits(((const struct block_q2_k *)(const void *)p)->qs, code);
}

INLINE void codes_of_q3_k(const uint8_t *p, __m512i code[4])
{
    const struct block_q3_k *b = (const void *)p;
    __m512i high = load_twice(b->hmask);
    two_bits(b->qs, code);
    for (int v = 0; v < 4; v++)
        code[v] = or_masked(code[v], bits_to(high, v, v + 4, 2), _mm512_set1_epi8(4));
}

INLINE void codes_of_q6_k(const uint8_t *p, __m512i code[4])
{
    for (int v = 0; v < 4; v++)
        code[v] = codes_q6_k((const void *)p, v);
}

/* ---- scales ---- */

/* The scales of the groups that register v of the codes has. */
typedef __m512i spread_fn(__m512i scales, int v);

INLINE __m512i spread_k4(__m512i scales, int v)
{
    int g = v / 2 * 4 + v % 2;
    return _mm512_shuffle_epi8(scales, spread_index(g, g, g + 2, g + 2));
}

INLINE __m512i spread_k2(__m512i scales, int v)
{
    return _mm512_shuffle_epi8(scales, spread_index(2 * v, 2 * v + 1, 2 * v + 8, 2 * v + 9));
}

/* Signed scales, times 2^8. */
INLINE __m512i spread_high(__m512i scales, int a, int b, int c, int d)
{
    const __m512i up = _mm512_set1_epi32((int)0x80800080);
    __m512i index = _mm512_slli_epi32(by_lane(a, b, c, d), 8);
    return _mm512_shuffle_epi8(scales, _mm512_or_si512(index, up));
}

/* The codes of Q3_K are so small (4 * 7 * 127 < 2^12) that scales may stay where they are cheap to
 * put, in the upper byte of a word: sums are 2^8 times too large and still far from 2^31. */
INLINE __m512i spread_k3(__m512i scales, int v)
{
    return spread_high(scales, 2 * v, 2 * v + 1, 2 * v + 8, 2 * v + 9);
}

INLINE __m512i spread_k6(__m512i scales, int v)
{
    return _mm512_srai_epi16(spread_high(scales, 4 * v, 4 * v + 1, 4 * v + 2, 4 * v + 3), 8);
}

/* The sixteen signed scales of Q3_K blocks, from the last 16 bytes of each. */
INLINE __m512i scales_of_q3_k(__m512i tails)
{
    const __m512i low_at = _mm512_broadcast_i32x4(_mm_set1_epi64x(0x0908070605040302));
    __m512i low = _mm512_srlv_epi64(_mm512_shuffle_epi8(tails, low_at),
                                    _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0));
    __m512i high = _mm512_shuffle_epi8(tails, _mm512_set1_epi32(0x0d0c0b0a));
    /* Bits 2j, 2j+1 of dword j come to bits 4, 5. */
    high = _mm512_rorv_epi32(
        high, _mm512_set_epi32(2, 0, 30, 28, 2, 0, 30, 28, 2, 0, 30, 28, 2, 0, 30, 28));
    __m512i scale =
        or_masked(_mm512_and_si512(low, _mm512_set1_epi8(15)), high, _mm512_set1_epi8(0x30));
    return _mm512_sub_epi8(scale, _mm512_set1_epi8(32));
}

/* ---- a block of each row ---- */

/* The activations of all columns meet it. */
struct acts {
    struct act_k column[MEET_COLUMNS];
    int n;
};

/* `d`: of each row, all over its lane; so is dmin. */
INLINE void add_products(struct sums_k *s, codes_fn *codes, spread_fn *spread, const uint8_t *p,
                         size_t apart, const struct acts *a, __m512i scales, __m512 d)
{
    _Alignas(64) float factor[MEET_COLUMNS][STREAMS][4];
    const __m512i lane[STREAMS] = {
        _mm512_shuffle_i32x4(scales, scales, 0x00), _mm512_shuffle_i32x4(scales, scales, 0x55),
        _mm512_shuffle_i32x4(scales, scales, 0xaa), _mm512_shuffle_i32x4(scales, scales, 0xff)};
#pragma GCC unroll 4
    for (int c = 0; c < a->n; c++)
        _mm512_store_ps(factor[c], _mm512_mul_ps(d, a->column[c].d));
#pragma GCC unroll 4
    for (int i = 0; i < STREAMS; i++) {
        __m512i code[4];
        codes(p + (size_t)i * apart, code);
#pragma GCC unroll 4
        for (int c = 0; c < a->n; c++) {
            __m512i sum = _mm512_setzero_si512();
            for (int v = 0; v < 4; v++)
                sum = scaled_dot(sum, code[v], a->column[c].q[v], spread(lane[i], v));
            s[c].main[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factor[c][i][0]),
                                           s[c].main[i]);
        }
    }
}

/* Minima of groups of 32, in the upper half of each lane. */
INLINE void add_minima_32(struct sums_k *s, __m512i minima, const struct acts *a, __m512 dmin)
{
    const __m512i wide = _mm512_broadcast_i32x4(
        _mm_set_epi32((int)0x800f800e, (int)0x800d800c, (int)0x800b800a, (int)0x80098008));
    __m512i words = _mm512_shuffle_epi8(minima, wide);
#pragma GCC unroll 4
    for (int c = 0; c < a->n; c++) {
        __m512i total = _mm512_dpwssd_epi32(_mm512_setzero_si512(), words, a->column[c].sums);
        s[c].side[0] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(total),
                                        _mm512_mul_ps(dmin, a->column[c].d), s[c].side[0]);
    }
}

/* Sixteen signed minima a lane, of groups of 16. */
INLINE void add_minima_16(struct sums_k *s, __m512i minima, const struct acts *a, __m512 dmin)
{
    const __m256i part[2] = {_mm512_castsi512_si256(minima), _mm512_extracti64x4_epi64(minima, 1)};
    const __m512 factor[2] = {_mm512_shuffle_f32x4(dmin, dmin, 0x50),
                              _mm512_shuffle_f32x4(dmin, dmin, 0xfa)};
    for (int h = 0; h < 2; h++) {
        __m512i words = _mm512_cvtepi8_epi16(part[h]);
#pragma GCC unroll 4
        for (int c = 0; c < a->n; c++) {
            __m512i total = _mm512_madd_epi16(words, a->column[c].sums);
            s[c].side[h] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(total),
                                            _mm512_mul_ps(factor[h], a->column[c].d), s[c].side[h]);
        }
    }
}

/* s[c]: the sums of column c. */
typedef void step_fn(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a);

INLINE void step_k4(struct sums_k *s, codes_fn *codes, const uint8_t *p, size_t apart,
                    const struct acts *a)
{
    /* Dwords of a lane: d and dmin, then the twelve bytes of scales_k4_read. */
    __m512i heads = four_lanes(p, apart);
    __m512i low = _mm512_shuffle_epi32(heads, _MM_PERM_DCDB);  /* 1 3 2 3 */
    __m512i high = _mm512_shuffle_epi32(heads, _MM_PERM_CABA); /* 0 1 0 2 */
    low = _mm512_srlv_epi32(low, _mm512_broadcast_i32x4(_mm_set_epi32(4, 0, 0, 0)));
    low = _mm512_and_si512(
        low, _mm512_broadcast_i32x4(_mm_set_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f)));
    __m512i scales = or_masked(low, _mm512_srli_epi32(high, 2),
                               _mm512_broadcast_i32x4(_mm_set_epi32(0x30303030, 0, 0x30303030, 0)));
    add_products(s, codes, spread_k4, p, apart, a, scales, factors(heads, 0));
    add_minima_32(s, scales, a, factors(heads, 1));
}

INLINE void step_q4_k(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a)
{
    step_k4(s, codes_of_q4_k, p, apart, a);
}

INLINE void step_q5_k(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a)
{
    step_k4(s, codes_of_q5_k, p, apart, a);
}

INLINE void step_q2_k(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i packed = four_lanes(p, apart), tails = four_lanes(p + 84 - 16, apart);
    add_products(s, codes_of_q2_k, spread_k2, p, apart, a, _mm512_and_si512(packed, nibble),
                 factors(tails, 6));
    add_minima_16(s, _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble), a, factors(tails, 7));
}

/* Offsets are minima, too: offset * scale. */
INLINE void step_q3_k(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a)
{
    __m512i tails = four_lanes(p + 110 - 16, apart), scales = scales_of_q3_k(tails);
    __m512 d = factors(tails, 7);
    add_products(s, codes_of_q3_k, spread_k3, p, apart, a, scales,
                 _mm512_mul_ps(d, _mm512_set1_ps(0x1p-8f)));
    add_minima_16(s, scales, a, _mm512_mul_ps(d, _mm512_set1_ps(4)));
}

INLINE void step_q6_k(struct sums_k *s, const uint8_t *p, size_t apart, const struct acts *a)
{
    __m512i scales = four_lanes(p + 192, apart), tails = four_lanes(p + 210 - 16, apart);
    __m512 d = factors(tails, 7);
    add_products(s, codes_of_q6_k, spread_k6, p, apart, a, scales, d);
    add_minima_16(s, scales, a, _mm512_mul_ps(d, _mm512_set1_ps(32)));
}

/* ---- rows ---- */

INLINE struct act_k act_block(struct act_view act, size_t b, enum part part)
{
    const int8_t *q = act.q + b * BLOCK_K;
    struct act_k a = {.d = _mm512_set1_ps(act.d[b])};
    __m256i sums = _mm256_loadu_si256((const void *)(act.sums + b * BLOCK_GROUPS));
    for (int v = 0; v < 4; v++)
        a.q[v] = part == PART_32   ? _mm512_loadu_si512(q + 64 * v)
                 : part == PART_64 ? two_parts(q + 128 * (v / 2) + 32 * (v % 2), 32)
                                   : two_parts(q + 32 * v, 96);
    if (part == PART_64)
        a.sums = _mm512_broadcast_i32x4(
            _mm_hadd_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)));
    else
        a.sums = _mm512_broadcast_i64x4(sums);
    return a;
}

INLINE void store_column(const struct sums_k *s, enum part part, int n, float *out, size_t apart)
{
    struct row_sum sum[STREAMS];
    _Alignas(64) float side[2 * 16];
    _mm512_store_ps(side, s->side[0]);
    _mm512_store_ps(side + 16, s->side[1]);
    for (int i = 0; i < STREAMS; i++) {
        sum[i].main = s->main[i];
        sum[i].side = part == PART_64 ? _mm256_zextps128_ps256(_mm_load_ps(side + 4 * i))
                                      : _mm256_load_ps(side + 8 * i);
    }
    rows_store(sum, n, out, apart);
}

INLINE void rows_k(step_fn *step, int block_bytes, enum part part, const struct meeting *m)
{
    const __m512 zero = _mm512_setzero_ps();
    struct sums_k s[MEET_COLUMNS];
    const uint8_t *w = m->w;
#pragma GCC unroll 4
    for (int c = 0; c < m->n_cols; c++)
        s[c] = (struct sums_k){{zero, zero, zero, zero}, {zero, zero}};
    for (size_t b = 0; b < m->n_in / BLOCK_K; b++, w += block_bytes) {
        struct acts a = {.n = m->n_cols};
#pragma GCC unroll 4
        for (int c = 0; c < m->n_cols; c++)
            a.column[c] = act_block(act_view(m->act[c], m->n_in, BLOCK_K), b, part);
        for (int i = 0; i < STREAMS; i++)
            prefetch(w + (size_t)i * m->apart, block_bytes);
        step(s, w, m->apart, &a);
    }
#pragma GCC unroll 4
    for (int c = 0; c < m->n_cols; c++)
        store_column(&s[c], part, m->n_rows, m->out + (size_t)c * m->out_stride, m->out_apart);
}

DECODE(avx512, Q2_K, rows_k(step_q2_k, 84, PART_128, m))
DECODE(avx512, Q3_K, rows_k(step_q3_k, 110, PART_128, m))
DECODE(avx512, Q4_K, rows_k(step_q4_k, 144, PART_64, m))
DECODE(avx512, Q5_K, rows_k(step_q5_k, 176, PART_64, m))
DECODE(avx512, Q6_K, rows_k(step_q6_k, 210, PART_32, m))
