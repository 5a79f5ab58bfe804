/* vec_avx512.h - a register of sixteen floats, by the names that the _impl.h files use. */
#ifndef KERF_VEC_AVX512_H
#define KERF_VEC_AVX512_H

#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/transpose_avx512.h"

#include <math.h>

enum { LANES = 16 };

typedef __m512 vec;

INLINE vec vec_load(const float *p)
{
    return _mm512_load_ps(p);
}

INLINE void vec_store(float *p, vec x)
{
    _mm512_store_ps(p, x);
}

INLINE vec vec_all(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

INLINE vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

INLINE vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

INLINE vec vec_seen(vec limit, float at, vec x)
{
    __mmask16 seen = _mm512_cmp_ps_mask(limit, _mm512_set1_ps(at), _CMP_GT_OQ);
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, x);
}

INLINE vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

INLINE vec vec_round(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vec vec_power(vec x)
{
    /* What stands above the exponent is shifted out. */
    __m512i power = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(power, 23));
}

INLINE vec vec_scale(vec x, vec n)
{
    return _mm512_scalef_ps(x, n);
}

INLINE float vec_lane(vec x)
{
    return _mm512_cvtss_f32(x);
}

INLINE vec vec_load_or(const float *p, size_t n, vec x)
{
    return _mm512_mask_loadu_ps(x, tail_mask(n), p);
}

INLINE vec vec_load_part(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(tail_mask(n), p);
}

INLINE void vec_store_part(float *p, size_t n, vec x)
{
    _mm512_mask_storeu_ps(p, tail_mask(n), x);
}

INLINE void vec_transpose(vec m[LANES])
{
    __m512i rows[LANES];
    for (int i = 0; i < LANES; i++)
        rows[i] = _mm512_castps_si512(m[i]);
    transpose(rows);
    for (int i = 0; i < LANES; i++)
        m[i] = _mm512_castsi512_ps(rows[i]);
}

/* Lane i: all lanes of m[i] added up. */
INLINE vec vec_sums(const vec m[LANES])
{
    vec a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = vec_add(_mm512_unpacklo_ps(m[2 * i], m[2 * i + 1]),
                       _mm512_unpackhi_ps(m[2 * i], m[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(a[2 * i]), y = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = vec_add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    for (int i = 0; i < 2; i++)
        c[i] = vec_add(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                       _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return vec_add(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}

/* Lane i: lane i ^ step, for a step of 1, 2, 4 or 8. */
INLINE vec vec_swap(vec x, int step)
{
    switch (step) {
    case 1:
        return _mm512_permute_ps(x, 0xb1);
    case 2:
        return _mm512_permute_ps(x, 0x4e);
    case 4:
        return _mm512_shuffle_f32x4(x, x, 0xb1);
    default:
        return _mm512_shuffle_f32x4(x, x, 0x4e);
    }
}

#include "evaluator/kernels/vec_impl.h"

#endif
