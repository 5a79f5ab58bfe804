#include "cluster/lease.h"
#include "tests/tap.h"

static struct work some_work(void)
{
    return (struct work){.kind = WORK_EVALUATE, .deadline_s = 60};
}

static void test_life_of_a_lease(void)
{
    struct leases *leases = leases_create(2, NULL);
    struct work work = some_work(), back;
    ok(leases_free_worker(leases) == 0, "a worker that never greeted gets nothing");
    leases_ready(leases, 2, 0);
    ok(leases_free_worker(leases) == 2, "a worker that greeted is free");
    leases_assign(leases, 2, &work, 0);
    ok(work.lease == 1, "the first lease is number 1");
    ok(leases_free_worker(leases) == 0 && leases_n_busy(leases) == 1, "a busy worker is not free");
    ok(!leases_finish(leases, 2, 99, &back, 1), "a verdict under another lease is dropped");
    ok(!leases_finish(leases, 1, 1, &back, 1), "a verdict of another worker is dropped");
    ok(leases_finish(leases, 2, 1, &back, 1) && back.deadline_s == 60, "the right one counts");
    ok(!leases_finish(leases, 2, 1, &back, 1), "and counts once");
    ok(leases_free_worker(leases) == 2, "the worker is free again");
    leases_destroy(leases);
}

static void test_silence(void)
{
    struct leases *leases = leases_create(1, NULL);
    struct work work = some_work(), lost;
    uint32_t worker = 0;
    leases_ready(leases, 1, 0);
    leases_assign(leases, 1, &work, 0);
    leases_beat(leases, 1, 10);
    ok(!leases_expire(leases, 20, &worker, &lost), "a beating worker keeps its lease");
    ok(leases_expire(leases, 10 + LEASE_LOST_S + 0.1, &worker, &lost) && worker == 1 &&
           lost.lease == work.lease,
       "a silent one loses it");
    ok(leases_n_lost(leases) == 1 && leases_n_alive(leases) == 0, "and is counted as lost");
    ok(!leases_expire(leases, 100, &worker, &lost), "once");
    ok(!leases_finish(leases, 1, work.lease, &lost, 101), "its late verdict is dropped");
    leases_ready(leases, 1, 102);
    ok(leases_free_worker(leases) == 1, "a fresh greeting brings it back");
    leases_destroy(leases);
}

static void test_deadline(void)
{
    struct leases *leases = leases_create(1, NULL);
    struct work work = some_work(), lost;
    uint32_t worker;
    leases_ready(leases, 1, 0);
    leases_assign(leases, 1, &work, 0);
    double end = 60 + LEASE_LOST_S;
    leases_beat(leases, 1, end - 1);
    ok(!leases_expire(leases, end - 0.5, &worker, &lost), "within its time a lease stands");
    leases_beat(leases, 1, end);
    ok(leases_expire(leases, end + 0.5, &worker, &lost), "past it, beats do not help");
    leases_ready(leases, 1, end + 1);
    work = some_work();
    leases_assign(leases, 1, &work, end + 1);
    leases_ready(leases, 1, end + 2);
    ok(leases_n_busy(leases) == 1, "a greeting while busy leaves the lease alone");
    leases_destroy(leases);
}

/* Whether the work may be blamed for the loss of its worker. */
static void test_begun(void)
{
    struct leases *leases = leases_create(1, NULL);
    struct work work = some_work(), lost;
    uint32_t worker;
    leases_ready(leases, 1, 0);
    leases_assign(leases, 1, &work, 0);
    leases_begun(leases, 1, work.lease + 1);
    leases_begun(leases, 1, 0);
    ok(!leases_has_begun(leases, 1), "a beat with another lease, or none, begins nothing");
    ok(leases_expire(leases, LEASE_LOST_S + 1, &worker, &lost) && !leases_has_begun(leases, 1),
       "a worker lost before its first beat had not begun");
    leases_ready(leases, 1, 20);
    leases_assign(leases, 1, &work, 20);
    leases_begun(leases, 1, work.lease);
    ok(leases_expire(leases, 21 + LEASE_LOST_S, &worker, &lost) && leases_has_begun(leases, 1),
       "one that had beaten with its lease had");
    leases_ready(leases, 1, 40);
    leases_assign(leases, 1, &work, 40);
    ok(!leases_has_begun(leases, 1), "the next lease begins anew");
    leases_destroy(leases);
}

int main(void)
{
    test_life_of_a_lease();
    test_silence();
    test_deadline();
    test_begun();
    return tap_done();
}
