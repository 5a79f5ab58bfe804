/* The team: every member runs, barriers hold, shares tile, failures leave nothing behind. */
#include "evaluator/team.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "tests/tap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { MAX_MEMBERS = 9, ROUNDS = 300 };

struct shared {
    struct team *team;
    _Atomic unsigned runs[MAX_MEMBERS];
    unsigned n_seen[MAX_MEMBERS];
    size_t stage[MAX_MEMBERS];
    _Atomic unsigned n_late;
};

static void count_run(void *arg, unsigned member, unsigned n_members)
{
    struct shared *s = arg;
    atomic_fetch_add(&s->runs[member], 1);
    s->n_seen[member] = n_members;
}

static void test_runs(unsigned n)
{
    struct err err = {0};
    struct shared s = {0};
    struct team *team = team_create(n, NULL, NULL, &err);
    if (!ok(team != NULL, "a team of %u is made", n))
        return;
    ok(team_size(team) == n, "it has %u members", n);
    for (int i = 0; i < ROUNDS; i++)
        team_run(team, count_run, &s);
    bool all = true, told = true;
    for (unsigned m = 0; m < MAX_MEMBERS; m++) {
        all = all && s.runs[m] == (m < n ? ROUNDS : 0u);
        told = told && (m >= n || s.n_seen[m] == n);
    }
    ok(all, "each of %u members ran every piece of work once", n);
    ok(told, "each was told the size of the team");
    /* Longer than members spin: they now sleep and must be woken. */
    clock_nap_ns(2000000);
    team_run(team, count_run, &s);
    ok(s.runs[n - 1] == ROUNDS + 1, "a team of %u that fell asleep works again", n);
    team_destroy(team);
}

/* In each round a member writes its place and reads its neighbour's, which must be as far. */
static void step_together(void *arg, unsigned member, unsigned n_members)
{
    struct shared *s = arg;
    for (size_t round = 1; round <= ROUNDS; round++) {
        s->stage[member] = round;
        team_barrier(s->team, member);
        if (s->stage[(member + 1) % n_members] != round)
            atomic_fetch_add(&s->n_late, 1);
        team_barrier(s->team, member);
    }
}

/* One member dawdles, so that the others leave spinning and sleep at the barrier. */
static void dawdle(void *arg, unsigned member, unsigned n_members)
{
    struct shared *s = arg;
    (void)n_members;
    for (size_t round = 0; round < 10; round++) {
        if (member == round % 2)
            clock_nap_ns(300000);
        team_barrier(s->team, member);
        atomic_fetch_add(&s->runs[member], 1);
    }
}

static void test_barrier(unsigned n)
{
    struct shared s = {.team = team_create(n, NULL, NULL, NULL)};
    team_run(s.team, step_together, &s);
    team_run(s.team, step_together, &s);
    ok(s.n_late == 0, "no member of %u passes the barrier before the others' writes", n);
    team_run(s.team, dawdle, &s);
    bool all = true;
    for (unsigned m = 0; m < n; m++)
        all = all && s.runs[m] == 10;
    ok(all, "%u members that slept at the barrier all leave it", n);
    team_destroy(s.team);
}

struct places {
    _Atomic unsigned n;
    pthread_t thread[MAX_MEMBERS];
    int refuse; /* member that cannot be placed, -1 for none */
};

static int note_place(void *arg, unsigned member, struct err *err)
{
    struct places *p = arg;
    p->thread[member] = pthread_self();
    atomic_fetch_add(&p->n, 1);
    if ((int)member != p->refuse)
        return 0;
    err_set(err, ERR_RESOURCE, "core %u is taken", member);
    return -1;
}

static void test_place(void)
{
    struct places p = {.refuse = -1};
    struct team *team = team_create(3, note_place, &p, NULL);
    ok(team != NULL && p.n == 3, "every member is placed once, before team_create returns");
    ok(pthread_equal(p.thread[0], pthread_self()) && !pthread_equal(p.thread[1], p.thread[0]),
       "each on its own thread, the caller being member 0");
    team_destroy(team);
    for (int refuse = 0; refuse < 3; refuse += 2) {
        struct err err = {0};
        struct places q = {.refuse = refuse};
        char want[32];
        snprintf(want, sizeof want, "core %d is taken", refuse);
        ok(team_create(3, note_place, &q, &err) == NULL && err.code == ERR_RESOURCE,
           "no team when member %d cannot be placed", refuse);
        is_text(err.text, want, "its reason reaches the caller");
    }
    ok(team_create(2, note_place, &(struct places){.refuse = 1}, NULL) == NULL,
       "the reason may be unwanted");
    team_destroy(NULL);
}

static void test_share(void)
{
    bool tiles = true, aligned = true, even = true;
    for (size_t n = 0; n < 200; n += 7)
        for (size_t grain = 1; grain <= 16; grain *= 4)
            for (unsigned members = 1; members <= MAX_MEMBERS; members++) {
                size_t at = 0, least = SIZE_MAX, most = 0;
                for (unsigned m = 0; m < members; m++) {
                    size_t begin, end;
                    team_share(n, grain, m, members, &begin, &end);
                    tiles = tiles && begin == at && end >= begin;
                    aligned = aligned && (begin % grain == 0 || begin == n);
                    size_t grains = (end - begin + grain - 1) / grain;
                    least = grains < least ? grains : least;
                    most = grains > most ? grains : most;
                    at = end;
                }
                tiles = tiles && at == n;
                even = even && most - least <= 1;
            }
    ok(tiles, "shares follow each other and cover everything");
    ok(aligned, "shares begin at multiples of the grain");
    ok(even, "shares differ by one grain at most");
}

int main(void)
{
    test_runs(1);
    test_runs(2);
    test_runs(MAX_MEMBERS); /* more than this machine may have cores */
    test_barrier(1);
    test_barrier(2);
    test_barrier(5);
    test_place();
    test_share();
    return tap_done();
}
