/* layer_avx2.c - the float operations of a decoder layer, eight lanes at a time; reading. */
#include "evaluator/kernels/vec_avx2.h"

/* Even lanes: a c - b s, odd lanes: b c + a s. */
INLINE vec vec_turn(vec x, vec cos_sin)
{
    vec c = _mm256_moveldup_ps(cos_sin), s = _mm256_movehdup_ps(cos_sin);
    return _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), s));
}

#include "evaluator/kernels/layer_impl.h"

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
    layer_fill(set);
    set->read = read_avx2;
}
