/* unpack_avx512.c - packed rows to floats, sixteen at a time; the same roundings as the reference:
 * (d * scale) * code - (dmin * min), each product and the difference rounded once. */
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/float_avx512.h"

/* 16 codes less their offset, as floats. */
INLINE __m512 code_floats(__m128i codes, int offset)
{
    __m512i wide = _mm512_cvtepu8_epi32(codes);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(offset)));
}

/* The four groups of 16 in a register of codes; scale and base are those of group g onwards. */
INLINE void unpack_64(__m512i codes, int offset, const float *scale, const float *base, int step,
                      float *y)
{
    const __m128i part[4] = {
        _mm512_extracti32x4_epi32(codes, 0), _mm512_extracti32x4_epi32(codes, 1),
        _mm512_extracti32x4_epi32(codes, 2), _mm512_extracti32x4_epi32(codes, 3)};
    for (int i = 0; i < 4; i++) {
        __m512 v = _mm512_mul_ps(_mm512_set1_ps(scale[i / step]), code_floats(part[i], offset));
        if (base != NULL)
            v = _mm512_sub_ps(v, _mm512_set1_ps(base[i / step]));
        _mm512_storeu_ps(y + 16 * i, v);
    }
}

/* Sixteen integers times a factor. */
INLINE void times(float *out, __m128i bytes, float d)
{
    __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(d), v));
}

#define EACH_BLOCK(name)                                                                           \
    const struct block_##name *b = w;                                                              \
    for (size_t i = 0; i < n / BLOCK_K; i++, b++, y += BLOCK_K)

static void unpack_q2_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q2_k)
    {
        float scale[16], base[16];
        __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
        times(scale, _mm_and_si128(packed, nibble), f16_load(b->d));
        times(base, _mm_and_si128(_mm_srli_epi16(packed, 4), nibble), f16_load(b->dmin));
        for (int v = 0; v < 4; v++)
            unpack_64(codes_q2_k(b, v), 0, scale + 4 * v, base + 4 * v, 1, y + 64 * v);
    }
}

static void unpack_q3_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q3_k)
    {
        float scale[16];
        times(scale, scales_q3_k(b), f16_load(b->d));
        for (int v = 0; v < 4; v++)
            unpack_64(codes_q3_k(b, v), 4, scale + 4 * v, NULL, 1, y + 64 * v);
    }
}

static void unpack_q4_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q4_k)
    {
        float scale[16], base[16];
        __m128i packed = scales_k4(b->scales);
        times(scale, packed, f16_load(b->d));
        times(base, _mm_srli_si128(packed, 8), f16_load(b->dmin));
        for (int v = 0; v < 4; v++)
            unpack_64(codes_q4_k(b, v), 0, scale + 2 * v, base + 2 * v, 2, y + 64 * v);
    }
}

static void unpack_q5_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q5_k)
    {
        float scale[16], base[16];
        __m128i packed = scales_k4(b->scales);
        times(scale, packed, f16_load(b->d));
        times(base, _mm_srli_si128(packed, 8), f16_load(b->dmin));
        for (int v = 0; v < 4; v++)
            unpack_64(codes_q5_k(b, v), 0, scale + 2 * v, base + 2 * v, 2, y + 64 * v);
    }
}

static void unpack_q6_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q6_k)
    {
        float scale[16];
        times(scale, _mm_loadu_si128((const void *)b->scales), f16_load(b->d));
        for (int v = 0; v < 4; v++)
            unpack_64(codes_q6_k(b, v), 32, scale + 4 * v, NULL, 1, y + 64 * v);
    }
}

typedef __m512i pair_fn(const uint8_t *block, const uint8_t *next);

/* Two 32-blocks at a time; the second of the last pair may be missing. */
INLINE void unpack_32(pair_fn *pair, size_t bytes, int offset, const void *w, size_t n, float *y)
{
    const uint8_t *p = w;
    for (size_t left = n / BLOCK_32; left > 0;) {
        float last[2 * BLOCK_32];
        const uint8_t *next = left > 1 ? p + bytes : p;
        float scale[2] = {f16_load(p), f16_load(next)};
        unpack_64(pair(p, next), offset, scale, NULL, 2, left > 1 ? y : last);
        if (left == 1) {
            memcpy(y, last, BLOCK_32 * sizeof *y);
            return;
        }
        left -= 2;
        p += 2 * bytes;
        y += 2 * BLOCK_32;
    }
}

static void unpack_q4_0(const void *w, size_t n, float *y)
{
    unpack_32(pair_q4_0, 18, 8, w, n, y);
}

static void unpack_q5_0(const void *w, size_t n, float *y)
{
    unpack_32(pair_q5_0, 22, 16, w, n, y);
}

static void unpack_q8_0(const void *w, size_t n, float *y)
{
    unpack_32(pair_q8_0, 34, 128, w, n, y);
}

static void unpack_iq4_nl(const void *w, size_t n, float *y)
{
    unpack_32(pair_iq4_nl, 18, 128, w, n, y);
}

#define EACH_16                                                                                    \
    for (size_t i = 0; i < n; i += 16)                                                             \
        for (__mmask16 mask = tail_mask(n - i), once = 1; once; once = 0)

static void unpack_f16(const void *w, size_t n, float *y)
{
    const uint16_t *p = w;
    EACH_16 _mm512_mask_storeu_ps(y + i, mask, load_f16_16(p + i, mask));
}

static void unpack_bf16(const void *w, size_t n, float *y)
{
    const uint16_t *p = w;
    EACH_16 _mm512_mask_storeu_ps(y + i, mask, load_bf16_16(p + i, mask));
}

void unpack_avx512_fill(struct kernels *set)
{
    set->unpack[FORMAT_Q2_K] = unpack_q2_k;
    set->unpack[FORMAT_Q3_K] = unpack_q3_k;
    set->unpack[FORMAT_IQ4_NL] = unpack_iq4_nl;
    set->unpack[FORMAT_Q4_0] = unpack_q4_0;
    set->unpack[FORMAT_Q4_K] = unpack_q4_k;
    set->unpack[FORMAT_Q5_0] = unpack_q5_0;
    set->unpack[FORMAT_Q5_K] = unpack_q5_k;
    set->unpack[FORMAT_Q6_K] = unpack_q6_k;
    set->unpack[FORMAT_Q8_0] = unpack_q8_0;
    set->unpack[FORMAT_F16] = unpack_f16;
    set->unpack[FORMAT_BF16] = unpack_bf16;
}
