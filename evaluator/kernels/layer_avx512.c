/* layer_avx512.c - the float operations of a decoder layer, sixteen lanes at a time; reading. */
#include "evaluator/kernels/vec_avx512.h"

/* Even lanes: a c - b s, odd lanes: b c + a s. */
INLINE vec vec_turn(vec x, vec cos_sin)
{
    vec c = _mm512_moveldup_ps(cos_sin), s = _mm512_movehdup_ps(cos_sin);
    return _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), s));
}

#include "evaluator/kernels/layer_impl.h"

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
    layer_fill(set);
    set->read = read_avx512;
}
