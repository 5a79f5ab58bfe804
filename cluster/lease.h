/* lease.h - who works on what, and for how long it may be silent: pure state, the clock is an
 * argument.  A worker is unseen, ready, busy (holds one lease) or lost (silent for LEASE_LOST_S, or
 * past its lease's end).  A lease ends by its verdict, by its deadline, or with its worker; a lost
 * worker comes back with a fresh READY, its old lease stays dead. */
#ifndef KERF_LEASE_H
#define KERF_LEASE_H

#include "cluster/message.h"
#include <stdbool.h>

#define LEASE_LOST_S 15.0

struct err;
struct leases;

struct leases *leases_create(uint32_t n_workers, struct err *err);
void leases_destroy(struct leases *leases);

/* A sign of life. READY makes a worker free (a LOST one comes back). */
void leases_beat(struct leases *leases, uint32_t worker, double now_s);
void leases_ready(struct leases *leases, uint32_t worker, double now_s);

/* A free worker, or 0 when there is none. */
uint32_t leases_free_worker(const struct leases *leases);
/* Assign: sets work->lease.  The deadline is work->deadline_s + LEASE_LOST_S from now. */
void leases_assign(struct leases *leases, uint32_t worker, struct work *work, double now_s);
/* The work under a lease, when that lease is still the worker's: true and *work copied, worker
 * free again.  False: an old or unknown lease, to be dropped. */
bool leases_finish(struct leases *leases, uint32_t worker, uint64_t lease, struct work *work,
                   double now_s);
/* The next lease that ran out or whose worker is gone: true and *work, *worker set (worker LOST).
 */
bool leases_expire(struct leases *leases, double now_s, uint32_t *worker, struct work *work);

/* The worker beats with this lease: it has begun.  A worker that dies before that did not die of the
 * work. */
void leases_begun(struct leases *leases, uint32_t worker, uint64_t lease);
/* Whether the worker had begun the lease it holds, or held last. */
bool leases_has_begun(const struct leases *leases, uint32_t worker);

bool leases_is_lost(const struct leases *leases, uint32_t worker);
uint32_t leases_n_busy(const struct leases *leases);
uint32_t leases_n_alive(const struct leases *leases); /* ever seen and not LOST */
uint32_t leases_n_lost(const struct leases *leases);

#endif
