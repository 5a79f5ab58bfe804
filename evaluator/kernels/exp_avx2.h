/* exp_avx2.h - exponentials, eight at a time. */
#ifndef KERF_EXP_AVX2_H
#define KERF_EXP_AVX2_H

#include <immintrin.h>

/* 2^r for |r| <= 1/2, to 3e-9 and the rounding of six additions; 1 for 0. */
static inline __m256 exp2_fraction_8(__m256 r)
{
    static const float c[] = {0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f,
                              0x1.ebfbe2p-3f,  0x1.62e432p-1f, 1.0f};
    __m256 p = _mm256_set1_ps(0x1.470b4ap-13f);
    for (int i = 0; i < 6; i++)
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c[i]));
    return p;
}

/* 2^x for x <= 0; what lies below 2^-126 becomes that.  NaN stays. */
static inline __m256 exp2_8(__m256 x)
{
    /* Operand order keeps NaN: max returns the second where one is NaN. */
    x = _mm256_max_ps(_mm256_set1_ps(-126.0f), x);
    /* Adding 1.5 * 2^23 leaves the nearest integer in the low bits. */
    const __m256 shift = _mm256_set1_ps(0x1.8p23f);
    __m256 shifted = _mm256_add_ps(x, shift);
    __m256 r = _mm256_sub_ps(x, _mm256_sub_ps(shifted, shift));
    __m256i power = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    power = _mm256_add_epi32(power, _mm256_set1_epi32(127 << 23));
    return _mm256_mul_ps(exp2_fraction_8(r), _mm256_castsi256_ps(power));
}

#endif
