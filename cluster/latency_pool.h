/* latency_pool.h - candidates that are worth timing before a search has begun: some that stretch
 * the space along each of its axes, and many that look like members of a front.
 *
 * The latter are the seeds that a search would open with (search.h), made of losses that are only
 * supposed: what a level costs by its bits or by what it cuts away, times a random factor for each
 * unit, drawn anew for every batch.  They decide which candidates are timed and nothing else. */
#ifndef KERF_LATENCY_POOL_H
#define KERF_LATENCY_POOL_H

#include "latency_model/op_table.h"
#include "space/study.h"

struct err;

/* The first ones of a pool: the dense model at its finest; all at the coarsest; then the finest but
 * for one axis at its coarsest: formats, widths, depth, and the stream with its caches. */
#define LATENCY_POOL_FIXED 6

struct latency_pool {
    struct genome *genome; /* [n], canonical, no two alike */
    size_t n;
    size_t n_fixed; /* the first of them; fewer where the space lacks an axis */
};

/* About `n_wanted` genomes of `space`, whose operations `ops` has all; of `study` only the
 * workloads and the geometry are used.  Small spaces have fewer. */
int latency_pool_make(struct latency_pool *pool, const struct study *study,
                      const struct space *space, const struct op_table *ops, size_t n_wanted,
                      uint64_t seed, struct err *err);
/* One more at the end, copied, where there is none like it yet.  ERR_MEMORY. */
int latency_pool_add(struct latency_pool *pool, const struct genome *genome, struct err *err);
void latency_pool_fini(struct latency_pool *pool); /* a zeroed struct is fine */

#endif
