/* cache_avx2.c - rows of the KV cache written with 256-bit registers. */
#include "evaluator/kernels/cache_rows.h"
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/float_avx2.h"
#include "evaluator/kernels/kernel_sets.h"

static void store_f16(const float *x, size_t n, void *row)
{
    uint16_t *out = row;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_CUR_DIRECTION));
    if (i < n) {
        uint16_t part[8];
        _mm_storeu_si128((void *)part,
                         _mm256_cvtps_ph(load_f32_8(x + i, n - i), _MM_FROUND_CUR_DIRECTION));
        memcpy(out + i, part, (n - i) * sizeof *part);
    }
}

/* 32 values and the largest magnitude among them, on bit patterns. */
struct group {
    __m256 x[4];
    __m256i bits[4]; /* without the sign */
    int most;
};

INLINE struct group group_load(const float *x)
{
    struct group g;
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        g.x[i] = _mm256_loadu_ps(x + 8 * i);
        g.bits[i] = _mm256_and_si256(_mm256_castps_si256(g.x[i]), _mm256_set1_epi32(0x7fffffff));
        most = _mm256_max_epi32(most, g.bits[i]);
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    g.most = _mm_cvtsi128_si32(m);
    return g;
}

/* Four registers of 32-bit integers as 32 signed bytes in order. */
INLINE __m256i narrowed(const __m256i v[4])
{
    __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1),
                                       _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
}

static void store_q8_0(const float *x, size_t n, void *row)
{
    struct block_q8_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        struct cache_scale s = cache_scale_q8_0(cache_float_of((uint32_t)g.most));
        __m256i code[4];
        for (int k = 0; k < 4; k++)
            code[k] = s.inverse != 0
                          ? _mm256_cvtps_epi32(_mm256_mul_ps(g.x[k], _mm256_set1_ps(s.inverse)))
                          : _mm256_setzero_si256();
        cache_put_factor(b->d, s.d);
        _mm256_storeu_si256((void *)b->qs, narrowed(code));
    }
}

static void store_q4_0(const float *x, size_t n, void *row)
{
    struct block_q4_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        uint32_t at = 0;
        __m256i code[4];
        for (int k = 0; k < 4; k++) {
            __m256i same = _mm256_cmpeq_epi32(g.bits[k], _mm256_set1_epi32(g.most));
            at |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same)) << 8 * k;
        }
        struct cache_scale s = cache_scale_q4_0(x[__builtin_ctz(at)]);
        for (int k = 0; k < 4; k++) {
            __m256 v = _mm256_mul_ps(g.x[k], _mm256_set1_ps(s.inverse));
            v = _mm256_add_ps(v, _mm256_set1_ps(8.5f));
            code[k] = s.inverse != 0 ? _mm256_cvttps_epi32(v) : _mm256_set1_epi32(8);
            code[k] = _mm256_min_epi32(code[k], _mm256_set1_epi32(15));
        }
        __m256i bytes = narrowed(code);
        __m128i high = _mm_slli_epi16(_mm256_extracti128_si256(bytes, 1), 4);
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm_or_si128(_mm256_castsi256_si128(bytes), high));
    }
}

void cache_avx2_fill(struct kernels *set)
{
    set->store[FORMAT_Q4_0] = store_q4_0;
    set->store[FORMAT_Q8_0] = store_q8_0;
    set->store[FORMAT_F16] = store_f16;
}
