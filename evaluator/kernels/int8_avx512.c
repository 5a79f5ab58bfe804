/* int8_avx512.c - packing of activations, and which kernel a number of columns gets. */
#include "evaluator/kernels/int8_avx512.h"
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

/* The largest magnitude of 16 n values, on bit patterns: NaN and infinity come out on top. */
INLINE float largest(const float *x, int n)
{
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < n; i++) {
        __m512i bits = _mm512_loadu_si512(x + 16 * i);
        bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
        most = _mm512_max_epi32(most, bits);
    }
    int max = _mm512_reduce_max_epi32(most);
    float amax;
    memcpy(&amax, &max, sizeof amax);
    return amax;
}

/* Where the fields of the next group go. */
struct place {
    int8_t *q;
    float *d;
    int16_t *sums;
};

/* One group, whatever is in it. */
INLINE struct place pack_group(const float *x, int group, struct place to)
{
    float amax = largest(x, group / 16);
    bool fine = amax <= FLT_MAX && amax >= ACT_TINY;
    float inverse = fine ? 127.0f / amax : 0;
    *to.d = act_scale(amax, inverse, (size_t)group);
    for (int i = 0; i < group / 16; i++) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), _mm512_set1_ps(inverse));
        __m512i code = fine ? _mm512_cvtps_epi32(v) : _mm512_setzero_si512();
        _mm_storeu_si128((void *)(to.q + 16 * i), _mm512_cvtepi32_epi8(code));
        to.sums[i] = (int16_t)_mm512_reduce_add_epi32(code);
    }
    return (struct place){to.q + group, to.d + 1, to.sums + group / 16};
}

/* ---- 256 values at a time ---- */

/* Bit patterns without the sign, larger ones for larger magnitudes. */
INLINE __m512i magnitudes(const float *x)
{
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

INLINE __m512i folded(__m512i a, __m512i b)
{
    return _mm512_max_epi32(a, b);
}

/* The largest of each of eight groups of 32: pairs of registers are woven and folded until one
 * holds all. */
INLINE __m256i largest_of_8(const float *x)
{
    __m512i m[8];
    for (int g = 0; g < 8; g++)
        m[g] = folded(magnitudes(x + 32 * g), magnitudes(x + 32 * g + 16));
    for (int g = 0; g < 8; g += 2)
        m[g] = folded(_mm512_unpacklo_epi32(m[g], m[g + 1]), _mm512_unpackhi_epi32(m[g], m[g + 1]));
    for (int g = 0; g < 8; g += 4)
        m[g] = folded(_mm512_unpacklo_epi64(m[g], m[g + 2]), _mm512_unpackhi_epi64(m[g], m[g + 2]));
    /* Each 128 bits of m[0] have groups 0 to 3, of m[4] 4 to 7. */
    __m512i low = _mm512_shuffle_i32x4(m[0], m[4], 0x44);
    __m512i all = folded(low, _mm512_shuffle_i32x4(m[0], m[4], 0xee));
    all = folded(all, _mm512_shuffle_i32x4(all, all, 0xb1));
    return _mm512_castsi512_si256(_mm512_shuffle_i32x4(all, all, 0x88));
}

/* Codes of 64 values in order. */
INLINE __m512i codes_64(const float *x, const float inverse[4])
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i code[4];
    for (int i = 0; i < 4; i++)
        code[i] = _mm512_cvtps_epi32(
            _mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), _mm512_set1_ps(inverse[i])));
    __m512i low = _mm512_packs_epi32(code[0], code[1]);
    __m512i high = _mm512_packs_epi32(code[2], code[3]);
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
}

/* inverse[i]: of values 16 i, ...; all codes within -127 and 127. */
INLINE void pack_256(const float *x, const float inverse[16], int8_t *q, int16_t *sums)
{
    const __m512i ones = _mm512_set1_epi8(1), twice = _mm512_set1_epi16(1);
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i sum[4]; /* of each four codes */
    for (int v = 0; v < 4; v++) {
        __m512i code = codes_64(x + 64 * v, inverse + 4 * v);
        _mm512_storeu_si512(q + 64 * v, code);
        sum[v] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, code);
    }
    /* Of each eight, then of each 16; 128 bits have those of one place in all four registers. */
    __m512i first = _mm512_madd_epi16(_mm512_packs_epi32(sum[0], sum[1]), twice);
    __m512i second = _mm512_madd_epi16(_mm512_packs_epi32(sum[2], sum[3]), twice);
    __m512i all = _mm512_madd_epi16(_mm512_packs_epi32(first, second), twice);
    all = _mm512_permutexvar_epi32(order, all);
    _mm256_storeu_si256((void *)sums, _mm512_cvtepi32_epi16(all));
}

/* Eight groups of 32, or one of 256; false and nothing written where a group is zero, tiny or not
 * finite. */
INLINE bool pack_ordinary(const float *x, int group, struct place to)
{
    _Alignas(64) float inverse[16];
    if (group == BLOCK_K) {
        float amax = largest(x, BLOCK_K / 16);
        if (!(amax <= FLT_MAX && amax >= ACT_TINY))
            return false;
        *to.d = act_scale(amax, 127.0f / amax, BLOCK_K);
        _mm512_store_ps(inverse, _mm512_set1_ps(127.0f / amax));
    } else {
        __m256 amax = _mm256_castsi256_ps(largest_of_8(x)), steps = _mm256_set1_ps(127.0f);
        __mmask8 fine = _mm256_cmp_ps_mask(amax, _mm256_set1_ps(FLT_MAX), _CMP_LE_OQ) &
                        _mm256_cmp_ps_mask(amax, _mm256_set1_ps(ACT_TINY), _CMP_GE_OQ);
        if (fine != 0xff)
            return false;
        __m128i half = _mm256_cvtps_ph(_mm256_div_ps(amax, steps), _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_ps(to.d, _mm256_cvtph_ps(half));
        const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
        __m512 each = _mm512_castps256_ps512(_mm256_div_ps(steps, amax));
        _mm512_store_ps(inverse, _mm512_permutexvar_ps(twice, each));
    }
    pack_256(x, inverse, to.q, to.sums);
    return true;
}

INLINE void pack(const float *x, size_t n_in, int group, void *packed)
{
    struct act_view view = act_view(packed, n_in, (size_t)group);
    struct place to = {(int8_t *)view.q, (float *)view.d, (int16_t *)view.sums};
    size_t at = 0;
    while (at < n_in) {
        if (at + BLOCK_K <= n_in && pack_ordinary(x + at, group, to)) {
            to = (struct place){to.q + BLOCK_K, to.d + BLOCK_K / group, to.sums + BLOCK_GROUPS};
            at += BLOCK_K;
        } else {
            to = pack_group(x + at, group, to);
            at += (size_t)group;
        }
    }
    act_pack_pad(packed, n_in, (size_t)group);
}

static void pack_q8_32(const float *x, size_t n_in, void *packed)
{
    pack(x, n_in, BLOCK_32, packed);
}

static void pack_q8_k(const float *x, size_t n_in, void *packed)
{
    pack(x, n_in, BLOCK_K, packed);
}

INT8_MATMUL(avx512, Q2_K, 3)
INT8_MATMUL(avx512, Q3_K, 3)
INT8_MATMUL(avx512, IQ4_NL, 3)
INT8_MATMUL(avx512, Q4_0, 3)
INT8_MATMUL(avx512, Q4_K, 3)
INT8_MATMUL(avx512, Q5_0, 3)
INT8_MATMUL(avx512, Q5_K, 3)
INT8_MATMUL(avx512, Q6_K, 4)
INT8_MATMUL(avx512, Q8_0, 4)

void int8_avx512_fill(struct kernels *set)
{
#define ENTRY(name, pack_fn)                                                                       \
    set->pack[FORMAT_##name][ACT_Q8] = pack_fn;                                                    \
    set->matmul[FORMAT_##name][ACT_Q8] = matmul_##name;
    ENTRY(Q2_K, pack_q8_k)
    ENTRY(Q3_K, pack_q8_k)
    ENTRY(IQ4_NL, pack_q8_32)
    ENTRY(Q4_0, pack_q8_32)
    ENTRY(Q4_K, pack_q8_k)
    ENTRY(Q5_0, pack_q8_32)
    ENTRY(Q5_K, pack_q8_k)
    ENTRY(Q6_K, pack_q8_k)
    ENTRY(Q8_0, pack_q8_32)
}
