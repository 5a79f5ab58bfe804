/* vec_avx2.h - a register of eight floats, by the names that the _impl.h files use. */
#ifndef KERF_VEC_AVX2_H
#define KERF_VEC_AVX2_H

#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/float_avx2.h"

#include <math.h>

enum { LANES = 8 };

typedef __m256 vec;

INLINE vec vec_load(const float *p)
{
    return _mm256_load_ps(p);
}

INLINE void vec_store(float *p, vec x)
{
    _mm256_store_ps(p, x);
}

INLINE vec vec_all(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

INLINE vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

INLINE vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

INLINE vec vec_seen(vec limit, float at, vec x)
{
    vec seen = _mm256_cmp_ps(limit, _mm256_set1_ps(at), _CMP_GT_OQ);
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, seen);
}

INLINE vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

INLINE vec vec_round(vec x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for -126 <= n <= 127 */
INLINE vec power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

INLINE vec vec_power(vec x)
{
    return power_of_two(_mm256_castps_si256(x)); /* what stands above the exponent is shifted out */
}

/* In two steps, so that results below the smallest normal number fade out as they should. */
INLINE vec vec_scale(vec x, vec n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    x = _mm256_mul_ps(x, power_of_two(half));
    return _mm256_mul_ps(x, power_of_two(_mm256_sub_epi32(whole, half)));
}

INLINE float vec_lane(vec x)
{
    return _mm256_cvtss_f32(x);
}

INLINE vec vec_load_or(const float *p, size_t n, vec x)
{
    vec there = _mm256_castsi256_ps(tail_mask(n));
    return n >= LANES ? _mm256_loadu_ps(p) : _mm256_blendv_ps(x, load_f32_8(p, n), there);
}

INLINE vec vec_load_part(const float *p, size_t n)
{
    return load_f32_8(p, n);
}

INLINE void vec_store_part(float *p, size_t n, vec x)
{
    if (n >= LANES)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, tail_mask(n), x);
}

INLINE void vec_transpose(vec m[LANES])
{
    vec t[LANES];
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        m[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        m[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        m[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        m[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x31);
    }
    for (int i = 0; i < LANES; i++)
        m[i] = t[i];
}

/* Lane i: all lanes of m[i] added up. */
INLINE vec vec_sums(const vec m[LANES])
{
    vec a[4], b[2];
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_hadd_ps(m[2 * i], m[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        b[i] = _mm256_hadd_ps(a[2 * i], a[2 * i + 1]);
    return vec_add(_mm256_permute2f128_ps(b[0], b[1], 0x20),
                   _mm256_permute2f128_ps(b[0], b[1], 0x31));
}

/* Lane i: lane i ^ step, for a step of 1, 2 or 4. */
INLINE vec vec_swap(vec x, int step)
{
    switch (step) {
    case 1:
        return _mm256_permute_ps(x, 0xb1);
    case 2:
        return _mm256_permute_ps(x, 0x4e);
    default:
        return _mm256_permute2f128_ps(x, x, 0x01);
    }
}

#include "evaluator/kernels/vec_impl.h"

#endif
