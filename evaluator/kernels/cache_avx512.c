/* cache_avx512.c - rows of the KV cache written with 512-bit registers. */
#include "evaluator/kernels/cache_rows.h"
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

static void store_f16(const float *x, size_t n, void *row)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m256i half =
            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, x + i), _MM_FROUND_CUR_DIRECTION);
        _mm256_mask_storeu_epi16((uint16_t *)row + i, mask, half);
    }
}

/* 32 values and the largest magnitude among them, on bit patterns. */
struct group {
    __m512 low, high;
    __m512i low_bits, high_bits; /* without the sign */
    int most;
};

INLINE struct group group_load(const float *x)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    struct group g = {.low = _mm512_loadu_ps(x), .high = _mm512_loadu_ps(x + 16)};
    g.low_bits = _mm512_and_si512(_mm512_castps_si512(g.low), magnitude);
    g.high_bits = _mm512_and_si512(_mm512_castps_si512(g.high), magnitude);
    g.most = _mm512_reduce_max_epi32(_mm512_max_epi32(g.low_bits, g.high_bits));
    return g;
}

static void store_q8_0(const float *x, size_t n, void *row)
{
    struct block_q8_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        struct cache_scale s = cache_scale_q8_0(cache_float_of((uint32_t)g.most));
        __m512 inverse = _mm512_set1_ps(s.inverse);
        __mmask16 any = s.inverse != 0 ? 0xffff : 0; /* nothing times a NaN */
        __m512i low = _mm512_maskz_cvtps_epi32(any, _mm512_mul_ps(g.low, inverse));
        __m512i high = _mm512_maskz_cvtps_epi32(any, _mm512_mul_ps(g.high, inverse));
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((void *)(b->qs + 16), _mm512_cvtepi32_epi8(high));
    }
}

/* Codes 0 to 15 of 16 values; 8 means zero. */
INLINE __m128i codes_of(__m512 x, float inverse)
{
    __m512 v = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(inverse)), _mm512_set1_ps(8.5f));
    __m512i code = inverse != 0 ? _mm512_cvttps_epi32(v) : _mm512_set1_epi32(8);
    return _mm512_cvtepi32_epi8(_mm512_min_epi32(code, _mm512_set1_epi32(15)));
}

static void store_q4_0(const float *x, size_t n, void *row)
{
    struct block_q4_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        __m512i most = _mm512_set1_epi32(g.most);
        uint32_t at = _mm512_cmpeq_epi32_mask(g.low_bits, most) |
                      (uint32_t)_mm512_cmpeq_epi32_mask(g.high_bits, most) << 16;
        struct cache_scale s = cache_scale_q4_0(x[__builtin_ctz(at)]);
        __m128i high = _mm_slli_epi16(codes_of(g.high, s.inverse), 4);
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm_or_si128(codes_of(g.low, s.inverse), high));
    }
}

void cache_avx512_fill(struct kernels *set)
{
    set->store[FORMAT_Q4_0] = store_q4_0;
    set->store[FORMAT_Q8_0] = store_q8_0;
    set->store[FORMAT_F16] = store_f16;
}
