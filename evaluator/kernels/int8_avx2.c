/* int8_avx2.c - packing of activations, and which kernel a number of columns gets. */
#include "evaluator/kernels/int8_avx2.h"
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/kernel_sets.h"

/* The largest magnitude of 8 n values, on bit patterns: NaN and infinity come out on top. */
INLINE float largest(const float *x, int n)
{
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < n; i++) {
        __m256i bits = _mm256_and_si256(load_32(x + 8 * i), _mm256_set1_epi32(0x7fffffff));
        most = _mm256_max_epi32(most, bits);
    }
    int32_t lane[8], max = 0;
    _mm256_storeu_si256((void *)lane, most);
    for (int i = 0; i < 8; i++)
        max = lane[i] > max ? lane[i] : max;
    float amax;
    memcpy(&amax, &max, sizeof amax);
    return amax;
}

/* Sixteen codes and their sum. */
INLINE int16_t pack_16(const float *x, float inverse, int8_t *q)
{
    __m256 scale = _mm256_set1_ps(inverse);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), scale));
    __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), scale));
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
    _mm_storeu_si128((void *)q, _mm_packs_epi16(low, high));
    __m128i sum = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return (int16_t)(_mm_cvtsi128_si32(sum) + _mm_extract_epi32(sum, 1));
}

INLINE void pack(const float *x, size_t n_in, int group, void *packed)
{
    struct act_view view = act_view(packed, n_in, (size_t)group);
    int8_t *q = (int8_t *)view.q;
    float *d = (float *)view.d;
    int16_t *sums = (int16_t *)view.sums;
    for (size_t g = 0; g < n_in / (size_t)group; g++, x += group, q += group, sums += group / 16) {
        float amax = largest(x, group / 8);
        bool fine = amax <= FLT_MAX && amax >= ACT_TINY;
        float inverse = fine ? 127.0f / amax : 0;
        d[g] = act_scale(amax, inverse, (size_t)group);
        if (!fine) {
            memset(q, 0, (size_t)group);
            memset(sums, 0, (size_t)group / 16 * sizeof *sums);
            continue;
        }
        for (int i = 0; i < group / 16; i++)
            sums[i] = pack_16(x + 16 * i, inverse, q + 16 * i);
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

INT8_MATMUL(avx2, Q2_K, 8)
INT8_MATMUL(avx2, Q3_K, 8)
INT8_MATMUL(avx2, IQ4_NL, 8)
INT8_MATMUL(avx2, Q4_0, 4)
INT8_MATMUL(avx2, Q4_K, 8)
INT8_MATMUL(avx2, Q5_0, 4)
INT8_MATMUL(avx2, Q5_K, 8)
INT8_MATMUL(avx2, Q6_K, 8)
INT8_MATMUL(avx2, Q8_0, 8)

void int8_avx2_fill(struct kernels *set)
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
