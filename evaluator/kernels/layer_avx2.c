/* layer_avx2.c - the float operations of a decoder layer, eight lanes at a time.
 * The exponential: x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor polynomial of degree 7
 * (relative error below 1e-8 there), scaled by 2^n in two steps, so that results below the smallest
 * normal number fade out as they should. */
#include "evaluator/kernels/float_avx2.h"
#include "evaluator/kernels/kernel_sets.h"

#include <math.h>

/* 2^n for -126 <= n <= 127 */
static inline __m256 power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

static inline __m256 exp_8(__m256 x)
{
    /* Operand order keeps NaN: min and max return the second where one is NaN. */
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), x);
    x = _mm256_max_ps(_mm256_set1_ps(-110.0f), x);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts: the first has few bits, so that n times it is exact. */
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62ep-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.0bfbe8p-15f), r);
    static const float inverse_factorial[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
                                              0.5f,       1.0f,       1.0f};
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    for (int i = 0; i < 7; i++)
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(inverse_factorial[i]));
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, power_of_two(half));
    return _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(whole, half)));
}

/* Eight elements, or the n that are left and zeros. */
static inline void store_8(float *p, size_t n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, tail_mask(n), v);
}

static float dot_avx2(const float *x, const float *y, size_t n)
{
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 4; k++)
            sum[k] = _mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8 * k), _mm256_loadu_ps(y + i + 8 * k),
                                     sum[k]);
    for (; i < n; i += 8)
        sum[0] = _mm256_fmadd_ps(load_f32_8(x + i, n - i), load_f32_8(y + i, n - i), sum[0]);
    return lanes_sum(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

static void add_scaled_avx2(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_8(y + i, n - i,
                _mm256_fmadd_ps(_mm256_set1_ps(scale), load_f32_8(x + i, n - i),
                                load_f32_8(y + i, n - i)));
}

static void rms_norm_avx2(float *y, const float *x, const float *gain, size_t n, float eps)
{
    float mean = dot_avx2(x, x, n) / (float)n;
    __m256 inverse = _mm256_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_f32_8(x + i, n - i), inverse);
        store_8(y + i, n - i, _mm256_mul_ps(v, load_f32_8(gain + i, n - i)));
    }
}

static void silu_mul_avx2(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 g = load_f32_8(gate + i, n - i);
        __m256 e = exp_8(_mm256_sub_ps(_mm256_setzero_ps(), g));
        __m256 silu = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
        store_8(y + i, n - i, _mm256_mul_ps(silu, load_f32_8(up + i, n - i)));
    }
}

static float softmax_avx2(float *x, size_t n)
{
    float max = -INFINITY;
    __m256 most = _mm256_set1_ps(-INFINITY), sums = _mm256_setzero_ps();
    size_t whole = n / 8 * 8;
    for (size_t i = 0; i < whole; i += 8)
        most = _mm256_max_ps(most, _mm256_loadu_ps(x + i));
    float lane[8];
    _mm256_storeu_ps(lane, most);
    for (int i = 0; i < 8; i++)
        max = fmaxf(max, lane[i]);
    for (size_t i = whole; i < n; i++)
        max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i += 8) {
        __m256 e = exp_8(_mm256_sub_ps(load_f32_8(x + i, n - i), _mm256_set1_ps(max)));
        store_8(x + i, n - i, e);
        __m256 there = _mm256_castsi256_ps(tail_mask(n - i));
        sums = _mm256_add_ps(sums, _mm256_and_ps(e, there));
    }
    float sum = lanes_sum(sums);
    __m256 inverse = _mm256_set1_ps(1.0f / sum);
    for (size_t i = 0; i < n; i += 8)
        store_8(x + i, n - i, _mm256_mul_ps(load_f32_8(x + i, n - i), inverse));
    return max + logf(sum);
}

static void rope_avx2(float *x, const float *cos_sin, size_t n_pairs)
{
    for (size_t i = 0, n = 2 * n_pairs; i < n; i += 8) {
        __m256 v = load_f32_8(x + i, n - i), t = load_f32_8(cos_sin + i, n - i);
        __m256 c = _mm256_moveldup_ps(t), s = _mm256_movehdup_ps(t);
        /* even lanes: a c - b s, odd lanes: b c + a s */
        __m256 turned = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), s);
        store_8(x + i, n - i, _mm256_fmaddsub_ps(v, c, turned));
    }
}

static uint64_t read_avx2(const void *p, size_t bytes)
{
    enum { STREAMS = 4, AHEAD = 1024 };
    size_t quarter = bytes / 64 / STREAMS * 64;
    __m256i sum[STREAMS] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                            _mm256_setzero_si256()};
    for (size_t at = 0; at < quarter; at += 64) {
        for (size_t k = 0; k < STREAMS; k++) {
            const char *line = (const char *)p + k * quarter + at;
            _mm_prefetch(line + AHEAD, _MM_HINT_T0);
            sum[k] = _mm256_xor_si256(sum[k], _mm256_loadu_si256((const void *)line));
            sum[k] = _mm256_xor_si256(sum[k], _mm256_loadu_si256((const void *)(line + 32)));
        }
    }
    for (size_t at = STREAMS * quarter; at < bytes / 64 * 64; at += 32)
        sum[0] = _mm256_xor_si256(sum[0], _mm256_loadu_si256((const void *)((const char *)p + at)));
    __m256i all =
        _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    uint64_t part[4];
    _mm256_storeu_si256((void *)part, all);
    return part[0] ^ part[1] ^ part[2] ^ part[3];
}

void layer_avx2_fill(struct kernels *set)
{
    set->dot = dot_avx2;
    set->add_scaled = add_scaled_avx2;
    set->rms_norm = rms_norm_avx2;
    set->silu_mul = silu_mul_avx2;
    set->softmax = softmax_avx2;
    set->rope = rope_avx2;
    set->read = read_avx2;
}
