/* unpack_avx2.c - packed rows to floats, eight at a time; the same roundings as the reference:
 * (d * scale) * code - (dmin * min), each product and the difference rounded once. */
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/float_avx2.h"

/* 16 signed codes times a scale, less a base. */
INLINE void unpack_16(__m128i codes, float scale, float base, bool with_base, float *y)
{
    for (int half = 0; half < 2; half++) {
        __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
        v = _mm256_mul_ps(_mm256_set1_ps(scale), v);
        if (with_base)
            v = _mm256_sub_ps(v, _mm256_set1_ps(base));
        _mm256_storeu_ps(y + 8 * half, v);
        codes = _mm_srli_si128(codes, 8);
    }
}

INLINE void unpack_two(__m256i codes, int offset, const float scale[2], const float *base, float *y)
{
    codes = _mm256_sub_epi8(codes, _mm256_set1_epi8((char)offset));
    unpack_16(_mm256_castsi256_si128(codes), scale[0], base != NULL ? base[0] : 0, base != NULL, y);
    unpack_16(_mm256_extracti128_si256(codes, 1), scale[1], base != NULL ? base[1] : 0,
              base != NULL, y + 16);
}

/* Sixteen integers times a factor. */
INLINE void times(float out[16], __m128i bytes, float d)
{
    unpack_16(bytes, d, 0, false, out);
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
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            unpack_two(codes_q2_k(b, v), 0, scale + 2 * v, base + 2 * v, y + 32 * v);
    }
}

static void unpack_q3_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q3_k)
    {
        float scale[16];
        times(scale, scales_q3_k(b->scales), f16_load(b->d));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            unpack_two(codes_q3_k(b, v), 4, scale + 2 * v, NULL, y + 32 * v);
    }
}

static void unpack_q4_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q4_k)
    {
        float scale[16], base[16];
        __m128i packed = scales_k4(b->scales);
        times(scale, _mm_unpacklo_epi8(packed, packed), f16_load(b->d));
        times(base, minima_k4(packed), f16_load(b->dmin));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            unpack_two(codes_q4_k(b, v), 0, scale + 2 * v, base + 2 * v, y + 32 * v);
    }
}

static void unpack_q5_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q5_k)
    {
        float scale[16], base[16];
        __m128i packed = scales_k4(b->scales);
        times(scale, _mm_unpacklo_epi8(packed, packed), f16_load(b->d));
        times(base, minima_k4(packed), f16_load(b->dmin));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            unpack_two(codes_q5_k(b, v), 0, scale + 2 * v, base + 2 * v, y + 32 * v);
    }
}

static void unpack_q6_k(const void *w, size_t n, float *y)
{
    EACH_BLOCK(q6_k)
    {
        float scale[16];
        times(scale, _mm_loadu_si128((const void *)b->scales), f16_load(b->d));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            unpack_two(codes_q6_k(b, v), 32, scale + 2 * v, NULL, y + 32 * v);
    }
}

typedef __m256i codes_fn(const uint8_t *block);

INLINE void unpack_32(codes_fn *codes, size_t bytes, int offset, const void *w, size_t n, float *y)
{
    const uint8_t *p = w;
    for (size_t b = 0; b < n / BLOCK_32; b++, p += bytes, y += BLOCK_32) {
        float d = f16_load(p), scale[2] = {d, d};
        unpack_two(codes(p), offset, scale, NULL, y);
    }
}

static void unpack_q4_0(const void *w, size_t n, float *y)
{
    unpack_32(codes_q4_0, 18, 8, w, n, y);
}

static void unpack_q5_0(const void *w, size_t n, float *y)
{
    unpack_32(codes_q5_0, 22, 16, w, n, y);
}

static void unpack_q8_0(const void *w, size_t n, float *y)
{
    unpack_32(codes_q8_0, 34, 0, w, n, y);
}

static void unpack_iq4_nl(const void *w, size_t n, float *y)
{
    unpack_32(codes_iq4_nl, 18, 0, w, n, y);
}

static void unpack_f16(const void *w, size_t n, float *y)
{
    const uint16_t *p = w;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, load_f16_8(p + i, 8));
    if (i < n)
        _mm256_maskstore_ps(y + i, tail_mask(n - i), load_f16_8(p + i, n - i));
}

static void unpack_bf16(const void *w, size_t n, float *y)
{
    const uint16_t *p = w;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, load_bf16_8(p + i, 8));
    if (i < n)
        _mm256_maskstore_ps(y + i, tail_mask(n - i), load_bf16_8(p + i, n - i));
}

void unpack_avx2_fill(struct kernels *set)
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
