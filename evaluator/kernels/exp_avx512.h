/* exp_avx512.h - exponentials, sixteen at a time. */
#ifndef KERF_EXP_AVX512_H
#define KERF_EXP_AVX512_H

#include <immintrin.h>

/* 2^r for |r| <= 1/2, to 3e-9 and the rounding of six additions; 1 for 0. */
static inline __m512 exp2_fraction_16(__m512 r)
{
    static const float c[] = {0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f,
                              0x1.ebfbe2p-3f,  0x1.62e432p-1f, 1.0f};
    __m512 p = _mm512_set1_ps(0x1.470b4ap-13f);
    for (int i = 0; i < 6; i++)
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c[i]));
    return p;
}

/* 2^x for x <= 0; what lies below 2^-126 becomes that.  NaN stays. */
static inline __m512 exp2_16(__m512 x)
{
    /* Operand order keeps NaN: max returns the second where one is NaN. */
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    /* Adding 1.5 * 2^23 leaves the nearest integer in the low bits. */
    const __m512 shift = _mm512_set1_ps(0x1.8p23f);
    __m512 shifted = _mm512_add_ps(x, shift);
    __m512 r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shift));
    __m512i power = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    power = _mm512_add_epi32(power, _mm512_set1_epi32(127 << 23));
    return _mm512_mul_ps(exp2_fraction_16(r), _mm512_castsi512_ps(power));
}

#endif
