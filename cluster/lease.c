#include "cluster/lease.h"
#include "space/base/err.h"
#include <stdlib.h>

enum worker_state { WORKER_UNSEEN, WORKER_READY, WORKER_BUSY, WORKER_LOST };

struct worker {
    enum worker_state state;
    double beat_s; /* last sign of life */
    double ends_s; /* of the lease it holds */
    bool begun;    /* it has beaten with that lease */
    struct work work;
};

struct leases {
    uint32_t n_workers;
    uint64_t next_lease;
    struct worker worker[]; /* [n_workers + 1], entry 0 unused */
};

struct leases *leases_create(uint32_t n_workers, struct err *err)
{
    struct leases *leases =
        calloc(1, sizeof *leases + ((size_t)n_workers + 1) * sizeof leases->worker[0]);
    if (leases == NULL) {
        err_set(err, ERR_MEMORY, "leases: out of memory");
        return NULL;
    }
    leases->n_workers = n_workers;
    leases->next_lease = 1;
    return leases;
}

void leases_destroy(struct leases *leases)
{
    free(leases);
}

void leases_beat(struct leases *leases, uint32_t worker, double now_s)
{
    leases->worker[worker].beat_s = now_s;
}

void leases_ready(struct leases *leases, uint32_t worker, double now_s)
{
    struct worker *w = &leases->worker[worker];
    w->beat_s = now_s;
    /* A READY while it holds a lease is a late greeting: the lease stands. */
    if (w->state != WORKER_BUSY)
        w->state = WORKER_READY;
}

uint32_t leases_free_worker(const struct leases *leases)
{
    for (uint32_t i = 1; i <= leases->n_workers; i++)
        if (leases->worker[i].state == WORKER_READY)
            return i;
    return 0;
}

void leases_assign(struct leases *leases, uint32_t worker, struct work *work, double now_s)
{
    struct worker *w = &leases->worker[worker];
    work->lease = leases->next_lease++;
    w->state = WORKER_BUSY;
    w->begun = false;
    w->work = *work;
    w->beat_s = now_s;
    w->ends_s = now_s + work->deadline_s + LEASE_LOST_S;
}

bool leases_finish(struct leases *leases, uint32_t worker, uint64_t lease, struct work *work,
                   double now_s)
{
    struct worker *w = &leases->worker[worker];
    w->beat_s = now_s;
    if (w->state != WORKER_BUSY || w->work.lease != lease)
        return false;
    *work = w->work;
    w->state = WORKER_READY;
    return true;
}

bool leases_expire(struct leases *leases, double now_s, uint32_t *worker, struct work *work)
{
    for (uint32_t i = 1; i <= leases->n_workers; i++) {
        struct worker *w = &leases->worker[i];
        bool silent = now_s - w->beat_s > LEASE_LOST_S;
        if (w->state == WORKER_READY && silent)
            w->state = WORKER_LOST;
        if (w->state == WORKER_BUSY && (silent || now_s > w->ends_s)) {
            w->state = WORKER_LOST;
            *worker = i;
            *work = w->work;
            return true;
        }
    }
    return false;
}

void leases_begun(struct leases *leases, uint32_t worker, uint64_t lease)
{
    struct worker *w = &leases->worker[worker];
    w->begun |= w->state == WORKER_BUSY && w->work.lease == lease;
}

bool leases_has_begun(const struct leases *leases, uint32_t worker)
{
    return leases->worker[worker].begun;
}

bool leases_is_lost(const struct leases *leases, uint32_t worker)
{
    return leases->worker[worker].state == WORKER_LOST;
}

static uint32_t count(const struct leases *leases, enum worker_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i <= leases->n_workers; i++)
        n += leases->worker[i].state == state;
    return n;
}

uint32_t leases_n_busy(const struct leases *leases)
{
    return count(leases, WORKER_BUSY);
}

uint32_t leases_n_alive(const struct leases *leases)
{
    return count(leases, WORKER_BUSY) + count(leases, WORKER_READY);
}

uint32_t leases_n_lost(const struct leases *leases)
{
    return count(leases, WORKER_LOST);
}
