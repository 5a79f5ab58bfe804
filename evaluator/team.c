/* team.c - threads that wait for the next piece of work without giving up their core at once.
 *
 * Everything waits at a gate: a word that changes when the gate opens, and a count of those who
 * gave up spinning and sleep in a futex on that word.  Who opens a gate changes the word first and
 * looks for sleepers after; who goes to sleep counts itself first and looks at the word after (the
 * kernel looks once more, atomically).  With sequentially consistent atomics one of the two sees
 * the other, so no wake-up is lost and an opening without sleepers costs no system call. */
#include "evaluator/team.h"

#include "space/base/clock.h"
#include "space/base/err.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Longer than the gap between two operations of a forward pass, shorter than anyone would notice
 * as load. */
enum { SPIN_NS = 50000, SPINS_PER_LOOK = 64, LINE = 64 };

struct gate {
    _Alignas(LINE) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
};

struct member {
    struct team *team;
    pthread_t thread;
    unsigned index;
    int status; /* of place */
    struct err err;
};

struct team {
    struct gate start; /* opens for each piece of work */
    struct gate done;  /* opens when the last other member has finished it */
    struct gate phase; /* opens when all members are at the barrier */
    _Alignas(LINE) _Atomic uint32_t n_busy;
    _Alignas(LINE) _Atomic uint32_t n_arrived;

    /* Written by member 0 before `start` opens, read by the others after. */
    _Alignas(LINE) team_work_fn *work;
    void *arg;
    bool stop;

    team_place_fn *place;
    void *place_arg;
    unsigned n_members;
    unsigned n_started; /* threads to join: members 1..n_started */
    struct member *members;
};

static void futex_sleep(struct gate *gate, uint32_t word)
{
    syscall(SYS_futex, &gate->word, FUTEX_WAIT_PRIVATE, word, NULL, NULL, 0);
}

static void futex_wake_all(struct gate *gate)
{
    syscall(SYS_futex, &gate->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void gate_open(struct gate *gate)
{
    atomic_fetch_add(&gate->word, 1);
    if (atomic_load(&gate->sleepers) > 0)
        futex_wake_all(gate);
}

/* Return when the gate's word is no longer `seen`. */
static void gate_wait(struct gate *gate, uint32_t seen)
{
    int64_t deadline = 0;
    for (unsigned spins = 1; atomic_load_explicit(&gate->word, memory_order_acquire) == seen;
         spins++) {
        relax();
        if (spins % SPINS_PER_LOOK != 0)
            continue;
        int64_t now = clock_now_ns();
        if (deadline == 0)
            deadline = now + SPIN_NS;
        if (now < deadline)
            continue;
        atomic_fetch_add(&gate->sleepers, 1);
        while (atomic_load(&gate->word) == seen)
            futex_sleep(gate, seen); /* may return early: look again */
        atomic_fetch_sub(&gate->sleepers, 1);
    }
}

static void member_finish(struct team *team)
{
    if (atomic_fetch_sub(&team->n_busy, 1) == 1)
        gate_open(&team->done);
}

static void *member_main(void *arg)
{
    struct member *me = arg;
    struct team *team = me->team;
    uint32_t seen = 0; /* the word of `start` before the first piece of work */
    if (team->place != NULL)
        me->status = team->place(team->place_arg, me->index, &me->err);
    for (;;) {
        member_finish(team);
        gate_wait(&team->start, seen);
        seen++;
        if (team->stop)
            return NULL;
        team->work(team->arg, me->index, team->n_members);
    }
}

/* Start members 1.. and wait until each has been placed.  Signals stay with the caller's thread. */
static int team_start(struct team *team, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&team->n_busy, team->n_members - 1);
    int status = 0;
    for (unsigned i = 1; i < team->n_members && status == 0; i++) {
        team->members[i] = (struct member){.team = team, .index = i};
        status = pthread_create(&team->members[i].thread, NULL, member_main, &team->members[i]);
        if (status == 0)
            team->n_started = i;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    unsigned n_missing = team->n_members - 1 - team->n_started;
    if (n_missing > 0 && atomic_fetch_sub(&team->n_busy, n_missing) == n_missing)
        gate_open(&team->done); /* the others finished before, or there are none */
    if (team->n_members > 1)
        gate_wait(&team->done, 0);
    if (status != 0) {
        err_set(err, ERR_RESOURCE, "team: thread %u of %u cannot start (error %d)",
                team->n_started + 1, team->n_members, status);
        return -1;
    }
    return 0;
}

static int team_place(struct team *team, team_place_fn *place, void *place_arg, struct err *err)
{
    if (place != NULL && place(place_arg, 0, err) != 0)
        return -1;
    for (unsigned i = 1; i < team->n_members; i++) {
        if (team->members[i].status != 0) {
            if (err != NULL)
                *err = team->members[i].err;
            return -1;
        }
    }
    return 0;
}

struct team *team_create(unsigned n_members, team_place_fn *place, void *place_arg, struct err *err)
{
    assert(n_members >= 1);
    struct team *team = aligned_alloc(LINE, sizeof *team);
    struct member *members = calloc(n_members, sizeof *members);
    if (team == NULL || members == NULL) {
        err_set(err, ERR_MEMORY, "team: out of memory for %u threads", n_members);
        free(team);
        free(members);
        return NULL;
    }
    *team = (struct team){
        .place = place, .place_arg = place_arg, .n_members = n_members, .members = members};
    if (team_start(team, err) != 0 || team_place(team, place, place_arg, err) != 0) {
        team_destroy(team);
        return NULL;
    }
    return team;
}

void team_destroy(struct team *team)
{
    if (team == NULL)
        return;
    team->stop = true;
    gate_open(&team->start);
    for (unsigned i = 1; i <= team->n_started; i++)
        pthread_join(team->members[i].thread, NULL);
    free(team->members);
    free(team);
}

unsigned team_size(const struct team *team)
{
    return team->n_members;
}

void team_run(struct team *team, team_work_fn *work, void *arg)
{
    if (team->n_members == 1) {
        work(arg, 0, 1);
        return;
    }
    team->work = work;
    team->arg = arg;
    atomic_store(&team->n_busy, team->n_members - 1);
    uint32_t seen = atomic_load(&team->done.word);
    gate_open(&team->start);
    work(arg, 0, team->n_members);
    gate_wait(&team->done, seen);
}

void team_barrier(struct team *team, unsigned member)
{
    (void)member;
    if (team->n_members == 1)
        return;
    /* Read the phase before arriving: the last to arrive changes it. */
    uint32_t seen = atomic_load(&team->phase.word);
    if (atomic_fetch_add(&team->n_arrived, 1) + 1 == team->n_members) {
        atomic_store(&team->n_arrived, 0);
        gate_open(&team->phase);
    } else {
        gate_wait(&team->phase, seen);
    }
}

void team_share(size_t n, size_t grain, unsigned member, unsigned n_members, size_t *begin,
                size_t *end)
{
    assert(grain > 0 && member < n_members);
    size_t n_grains = n / grain + (n % grain != 0);
    /* The first `extra` members take one grain more. */
    size_t each = n_grains / n_members, extra = n_grains % n_members;
    size_t first = each * member + (member < extra ? member : extra);
    size_t last = first + each + (member < extra ? 1 : 0);
    *begin = first * grain < n ? first * grain : n;
    *end = last * grain < n ? last * grain : n;
}
