/* int8_avx512.c - packing of activations, and which kernel a number of columns gets. */
#include "evaluator/kernels/int8_avx512.h"
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

/* Unpacking a tile costs about as much as reading the weights this many times. */
enum { FEW_COLUMNS = 2 };

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

INLINE void pack(const float *x, size_t n_in, int group, void *packed)
{
    struct act_view view = act_view(packed, n_in, (size_t)group);
    int8_t *q = (int8_t *)view.q;
    float *d = (float *)view.d;
    int16_t *sums = (int16_t *)view.sums;
    for (size_t g = 0; g < n_in / (size_t)group; g++, x += group, q += group) {
        float amax = largest(x, group / 16);
        bool fine = amax <= FLT_MAX && amax >= ACT_TINY;
        float inverse = fine ? 127.0f / amax : 0;
        d[g] = act_scale(amax, inverse, (size_t)group);
        for (int i = 0; i < group / 16; i++) {
            __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), _mm512_set1_ps(inverse));
            __m512i code = fine ? _mm512_cvtps_epi32(v) : _mm512_setzero_si512();
            _mm_storeu_si128((void *)(q + 16 * i), _mm512_cvtepi32_epi8(code));
            *sums++ = (int16_t)_mm512_reduce_add_epi32(code);
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

#define MATMUL(name)                                                                               \
    static void matmul_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        if (n_cols > FEW_COLUMNS) {                                                                \
            tile_##name##_avx512(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,          \
                                 out_stride);                                                      \
            return;                                                                                \
        }                                                                                          \
        for (size_t c = 0; c < n_cols; c++)                                                        \
            decode_##name##_avx512(w, row_bytes, n_rows, n_in, (const char *)act + c * act_bytes,  \
                                   out + c * out_stride);                                          \
    }
MATMUL(Q2_K)
MATMUL(Q3_K)
MATMUL(IQ4_NL)
MATMUL(Q4_0)
MATMUL(Q4_K)
MATMUL(Q5_0)
MATMUL(Q5_K)
MATMUL(Q6_K)
MATMUL(Q8_0)

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
