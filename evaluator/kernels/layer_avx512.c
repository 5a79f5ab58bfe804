/* layer_avx512.c - the float operations of a decoder layer, sixteen lanes at a time.
 * The exponential: x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor polynomial of degree 7
 * (relative error below 1e-8 there), scaled by 2^n; results below the smallest subnormal are 0. */
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

#include <math.h>

static inline __m512 exp_16(__m512 x)
{
    /* Operand order keeps NaN: min and max return the second where one is NaN. */
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), x);
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts: the first has few bits, so that n times it is exact. */
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62ep-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.0bfbe8p-15f), r);
    static const float inverse_factorial[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
                                              0.5f,       1.0f,       1.0f};
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    for (int i = 0; i < 7; i++)
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(inverse_factorial[i]));
    return _mm512_scalef_ps(p, n);
}

static float dot_avx512(const float *x, const float *y, size_t n)
{
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (size_t k = 0; k < 4; k++)
            sum[k] = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 16 * k),
                                     _mm512_loadu_ps(y + i + 16 * k), sum[k]);
    for (; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        sum[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, x + i),
                                 _mm512_maskz_loadu_ps(mask, y + i), sum[0]);
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

static void add_scaled_avx512(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(scale), _mm512_maskz_loadu_ps(mask, x + i),
                                     _mm512_maskz_loadu_ps(mask, y + i));
        _mm512_mask_storeu_ps(y + i, mask, sum);
    }
}

static void rms_norm_avx512(float *y, const float *x, const float *gain, size_t n, float eps)
{
    float mean = dot_avx512(x, x, n) / (float)n;
    __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
        _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, gain + i)));
    }
}

static void silu_mul_avx512(float *y, const float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512 g = _mm512_maskz_loadu_ps(mask, gate + i);
        __m512 e = exp_16(_mm512_sub_ps(_mm512_setzero_ps(), g));
        __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(y + i, mask,
                              _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
    }
}

static float softmax_avx512(float *x, size_t n)
{
    __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        most = _mm512_mask_max_ps(most, mask, most, _mm512_maskz_loadu_ps(mask, x + i));
    }
    float max = _mm512_reduce_max_ps(most);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        __m512 e = exp_16(_mm512_sub_ps(v, _mm512_set1_ps(max)));
        _mm512_mask_storeu_ps(x + i, mask, e);
        sums = _mm512_mask_add_ps(sums, mask, sums, e);
    }
    float sum = _mm512_reduce_add_ps(sums);
    __m512 inverse = _mm512_set1_ps(1.0f / sum);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
        _mm512_mask_storeu_ps(x + i, mask, v);
    }
    return max + logf(sum);
}

static void rope_avx512(float *x, const float *cos_sin, size_t n_pairs)
{
    for (size_t i = 0; i < 2 * n_pairs; i += 16) {
        __mmask16 mask = tail_mask(2 * n_pairs - i);
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        __m512 t = _mm512_maskz_loadu_ps(mask, cos_sin + i);
        __m512 c = _mm512_moveldup_ps(t), s = _mm512_movehdup_ps(t);
        /* even lanes: a c - b s, odd lanes: b c + a s */
        __m512 turned = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), s);
        _mm512_mask_storeu_ps(x + i, mask, _mm512_fmaddsub_ps(v, c, turned));
    }
}

static uint64_t read_avx512(const void *p, size_t bytes)
{
    enum { STREAMS = 4, AHEAD = 1536 };
    size_t quarter = bytes / 64 / STREAMS * 64;
    __m512i sum[STREAMS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                            _mm512_setzero_si512()};
    for (size_t at = 0; at < quarter; at += 64) {
        for (size_t k = 0; k < STREAMS; k++) {
            const char *line = (const char *)p + k * quarter + at;
            _mm_prefetch(line + AHEAD, _MM_HINT_T0);
            sum[k] = _mm512_xor_si512(sum[k], _mm512_loadu_si512(line));
        }
    }
    for (size_t at = STREAMS * quarter; at + 64 <= bytes; at += 64)
        sum[0] = _mm512_xor_si512(sum[0], _mm512_loadu_si512((const char *)p + at));
    __m512i all =
        _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
    uint64_t part[8], fold = 0;
    _mm512_storeu_si512(part, all);
    for (int i = 0; i < 8; i++)
        fold ^= part[i];
    return fold;
}

void layer_avx512_fill(struct kernels *set)
{
    set->dot = dot_avx512;
    set->add_scaled = add_scaled_avx512;
    set->rms_norm = rms_norm_avx512;
    set->silu_mul = silu_mul_avx512;
    set->softmax = softmax_avx512;
    set->rope = rope_avx512;
    set->read = read_avx512;
}
