/* float_avx2.h - ends of vectors and half floats, for the AVX2 float kernels. */
#ifndef KERF_FLOAT_AVX2_H
#define KERF_FLOAT_AVX2_H

#include "evaluator/kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

/* All ones in the lanes that are left of n elements. */
static inline __m256i tail_mask(size_t n)
{
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), lane);
}

static inline float lanes_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Eight halves, or the n that are left and zeros. */
static inline __m128i load_halves(const void *p, size_t n)
{
    if (n >= 8)
        return _mm_loadu_si128(p);
    uint16_t part[8] = {0};
    memcpy(part, p, n * sizeof *part);
    return _mm_loadu_si128((const void *)part);
}

static inline __m256 load_f16_8(const void *p, size_t n)
{
    return _mm256_cvtph_ps(load_halves(p, n));
}

static inline __m256 load_bf16_8(const void *p, size_t n)
{
    __m256i wide = _mm256_cvtepu16_epi32(load_halves(p, n));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline __m256 load_f32_8(const void *p, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, tail_mask(n));
}

/* So many columns do not repay the filling of a tile: of quantized rows, of float ones. */
enum { FEW_COLUMNS = 5, FEW_FLOAT = 12 };

/* A few columns of float rows (float_avx2.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_float_F16_avx2, decode_float_BF16_avx2, decode_float_F32_avx2;

/* At most FEW_COLUMNS of quantized rows (decode_float_avx2.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_float_Q2_K_avx2, decode_float_Q3_K_avx2, decode_float_Q4_K_avx2,
    decode_float_Q5_K_avx2, decode_float_Q6_K_avx2, decode_float_IQ4_NL_avx2,
    decode_float_Q4_0_avx2, decode_float_Q5_0_avx2, decode_float_Q8_0_avx2;

/* The unpacking functions of the set (unpack_avx2.c). */
void unpack_avx2_fill(struct kernels *set);

#endif
