/* rng.c - Philox4x32-10 and the distributions on top.
 * Philox: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011.  A block of four words is a keyed bijection of a 128-bit counter: ten rounds,
 * each two 32x32 -> 64 bit products, with the key stepped by two Weyl constants between rounds. */
#include "space/base/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define RNG_ROUNDS 10
#define RNG_MUL_0  0xD2511F53u
#define RNG_MUL_1  0xCD9E8D57u
#define RNG_WEYL_0 0x9E3779B9u /* golden ratio */
#define RNG_WEYL_1 0xBB67AE85u /* sqrt(3) - 1 */

static void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < RNG_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)RNG_MUL_0 * c0;
        uint64_t p1 = (uint64_t)RNG_MUL_1 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += RNG_WEYL_0;
        k1 += RNG_WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct rng rng_make(uint64_t seed, uint64_t stream)
{
    struct rng rng = {
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, 0, (uint32_t)stream, (uint32_t)(stream >> 32)},
        .used = 4,
    };

    return rng;
}

uint32_t rng_u32(struct rng *rng)
{
    if (rng->used >= 4) {
        rng_philox(rng->counter, rng->key, rng->block);
        /* 2^64 blocks a stream: the carry stops before the words that name the stream. */
        if (++rng->counter[0] == 0)
            rng->counter[1]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

uint64_t rng_u64(struct rng *rng)
{
    uint64_t low = rng_u32(rng);

    return low | (uint64_t)rng_u32(rng) << 32;
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
    assert(n >= 1);
    /* The first 2^64 mod n values are refused; the rest fall evenly on the n residues. */
    uint64_t n_refused = (0 - n) % n;
    uint64_t x;

    do
        x = rng_u64(rng);
    while (x < n_refused);
    return x % n;
}

double rng_double(struct rng *rng)
{
    return (double)(rng_u64(rng) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *rng)
{
    const double two_pi = 6.283185307179586476925287;
    /* 1 - u lies in (0, 1], so that the logarithm is finite.  The sine twin is thrown away: a
     * state without a spare can be copied and compared as plain numbers. */
    double radius = sqrt(-2.0 * log(1.0 - rng_double(rng)));

    return radius * cos(two_pi * rng_double(rng));
}

static void rng_swap(unsigned char *a, unsigned char *b, size_t size)
{
    unsigned char part[64];

    while (size > 0) {
        size_t n = size < sizeof part ? size : sizeof part;
        memcpy(part, a, n);
        memcpy(a, b, n);
        memcpy(b, part, n);
        a += n;
        b += n;
        size -= n;
    }
}

void rng_shuffle(struct rng *rng, void *items, size_t n, size_t size)
{
    unsigned char *bytes = items;

    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(rng, i);
        if (j != i - 1)
            rng_swap(bytes + (i - 1) * size, bytes + j * size, size);
    }
}
