/* rng.h - counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 * A stream is named by (seed, stream) and nothing else, so that proposal i of a study draws the
 * same numbers wherever and whenever it is made.  Plain value, copy freely, no destroy. */
#ifndef KERF_RNG_H
#define KERF_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint32_t key[2];     /* the seed */
    uint32_t counter[4]; /* low 64 bits: block number; high 64 bits: stream */
    uint32_t block[4];   /* the numbers of the current block */
    unsigned used;       /* how many of them are spent, 0..4 */
};

struct rng rng_make(uint64_t seed, uint64_t stream);

uint32_t rng_u32(struct rng *rng);
uint64_t rng_u64(struct rng *rng);
/* Uniform integer in [0, n), unbiased.  n >= 1. */
uint64_t rng_below(struct rng *rng, uint64_t n);
/* Uniform in [0, 1), 53 bits. */
double rng_double(struct rng *rng);
/* Standard normal deviate (Box-Muller). */
double rng_normal(struct rng *rng);
/* Fisher-Yates permutation of `n` items of `size` bytes. */
void rng_shuffle(struct rng *rng, void *items, size_t n, size_t size);

#endif
