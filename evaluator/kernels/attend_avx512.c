/* attend_avx512.c - attention in tiles, sixteen columns a register. */
#include "evaluator/kernels/exp_avx512.h"
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/transpose_avx512.h"

#include <math.h>

enum { LANES = 16, KEYS = 8, VALUES = 8 };

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

INLINE vec vec_exp2(vec x)
{
    return exp2_16(x);
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

#include "evaluator/kernels/attend_impl.h"

void attend_avx512_fill(struct kernels *set)
{
    attend_fill(set);
}
