/* float_avx512.h - loading half floats, and the pieces of the AVX-512 float kernels. */
#ifndef KERF_FLOAT_AVX512_H
#define KERF_FLOAT_AVX512_H

#include "evaluator/kernels/kernels.h"

#include <immintrin.h>

/* The lanes that are left of n elements. */
static inline __mmask16 tail_mask(size_t n)
{
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

static inline __m512 load_f16_16(const void *p, __mmask16 mask)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
}

static inline __m512 load_bf16_16(const void *p, __mmask16 mask)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline __m512 load_f32_16(const void *p, __mmask16 mask)
{
    return _mm512_maskz_loadu_ps(mask, p);
}

/* So many columns do not repay the filling of a tile: of quantized rows, of float ones. */
enum { FEW_COLUMNS = 7, FEW_FLOAT = 12 };

/* A few columns of float rows (float_avx512.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_float_F16_avx512, decode_float_BF16_avx512, decode_float_F32_avx512;

/* At most FEW_COLUMNS of quantized rows (decode_float_avx512.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_float_Q2_K_avx512, decode_float_Q3_K_avx512, decode_float_Q4_K_avx512,
    decode_float_Q5_K_avx512, decode_float_Q6_K_avx512, decode_float_IQ4_NL_avx512,
    decode_float_Q4_0_avx512, decode_float_Q5_0_avx512, decode_float_Q8_0_avx512;

/* The unpacking functions of the set (unpack_avx512.c). */
void unpack_avx512_fill(struct kernels *set);

#endif
