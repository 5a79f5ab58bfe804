/* team.h - a persistent team of threads that runs one function on all members at once.
 * The caller is member 0.  Members wait by spinning for a while, then in a futex, so that short
 * operations follow each other without a system call and an idle team costs nothing.  Where a
 * member runs is the caller's affair: `place` is called once on each member's own thread (the
 * evaluator does not know hwloc). */
#ifndef KERF_TEAM_H
#define KERF_TEAM_H

#include <stddef.h>

struct err;
struct team;

typedef void team_work_fn(void *arg, unsigned member, unsigned n_members);
/* Bind the calling thread as member `member`.  0, or -1 with `err` filled: team_create fails. */
typedef int team_place_fn(void *arg, unsigned member, struct err *err);

/* A team of `n_members` >= 1; `place` may be NULL.  NULL with `err` filled on failure. */
struct team *team_create(unsigned n_members, team_place_fn *place, void *place_arg,
                         struct err *err);
void team_destroy(struct team *team); /* NULL is fine */
unsigned team_size(const struct team *team);

/* Run `work` on every member, return when all have. */
void team_run(struct team *team, team_work_fn *work, void *arg);
/* Inside `work`: wait until every member is here.  Memory written before is visible after. */
void team_barrier(struct team *team, unsigned member);

/* The part [*begin, *end) of `n` items that `member` of `n_members` works on, cut at multiples of
 * `grain` so that neighbours do not share a cache line or a block. */
void team_share(size_t n, size_t grain, unsigned member, unsigned n_members, size_t *begin,
                size_t *end);

#endif
