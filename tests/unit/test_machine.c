#include "latency_model/machine.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include <sched.h>
#include <stdlib.h>

/* Two packages of two L3 groups of four cores with two PUs each: 16 cores, PUs numbered in order.
 */
#define SERVER "pack:2 [numa] l3:2 core:4 pu:2"

static struct machine *load(const char *description)
{
    struct err err = {0};
    struct machine *machine = machine_load_synthetic(description, &err);
    ok(machine != NULL, "hwloc reads '%s' %s", description, err.text);
    return machine;
}

static void test_plans(void)
{
    static const int wanted[6][2] = {{0, 2}, {16, 18}, {4, 6}, {20, 22}, {8, 10}, {24, 26}};
    struct machine *machine = load(SERVER);
    struct err err = {0};
    int cpu[16];
    ok(machine_n_cores(machine) == 16, "hardware threads are not counted as cores");
    bool as_wanted = true;
    for (uint32_t w = 0; w < 6; w++)
        as_wanted &= machine_plan(machine, w, 6, 2, cpu, NULL) == 0 && cpu[0] == wanted[w][0] &&
                     cpu[1] == wanted[w][1];
    ok(as_wanted, "workers take NUMA nodes in turn, one PU of each whole core");
    ok(machine_plan(machine, 1, 2, 8, cpu, NULL) == 0 && cpu[0] == 16 && cpu[7] == 30,
       "a worker as wide as a node gets all of it");
    ok(machine_plan(machine, 0, 1, 12, cpu, NULL) == 0 && cpu[0] == 0 && cpu[11] == 22,
       "one wider than a node goes across nodes in order");
    ok(machine_plan(machine, 0, 3, 6, cpu, &err) == -1 && err.code == ERR_RESOURCE,
       "more cores than there are is refused");
    ok(machine_plan(machine, 0, 1, 0, cpu, NULL) == -1, "no threads at all is refused");
    machine_destroy(machine);
}

static void test_no_two_workers_meet(void)
{
    struct machine *machine = load(SERVER);
    for (uint32_t n_threads = 1; n_threads <= 5; n_threads++) {
        int used[32] = {0}, cpu[16];
        uint32_t n_workers = 16 / n_threads / 2 * 2; /* as many as fit on nodes */
        bool apart = true;
        while (n_workers * n_threads > 16 || (8 / n_threads) * 2 < n_workers)
            n_workers--;
        for (uint32_t w = 0; w < n_workers; w++) {
            apart &= machine_plan(machine, w, n_workers, n_threads, cpu, NULL) == 0;
            for (uint32_t i = 0; i < n_threads; i++)
                apart &= used[cpu[i]]++ == 0;
        }
        ok(apart, "%u workers of %u threads share no core", n_workers, n_threads);
    }
    machine_destroy(machine);
}

static void test_unreal_machine_does_not_bind(void)
{
    struct machine *machine = load("core:2 pu:1");
    struct err err = {0};
    ok(!machine_is_real(machine), "a synthetic topology is not this machine");
    ok(machine_bind_thread(machine, 0, &err) == -1 && err.code == ERR_RESOURCE,
       "binding to it is refused, because it would do nothing");
    machine_destroy(machine);
    ok(machine_load_synthetic("core:two", &err) == NULL && err.code == ERR_DATA,
       "nonsense is no topology");
    ok(machine_load_xml("/nonexistent.xml", &err) == NULL, "neither is a file that is not there");
}

static void test_this_machine(void)
{
    struct err err = {0};
    struct machine *machine = machine_load(&err);
    cpu_set_t before, after;
    sched_getaffinity(0, sizeof before, &before);
    ok(machine != NULL && machine_is_real(machine), "this machine can be read %s", err.text);
    int cpu;
    ok(machine_plan(machine, 0, 1, 1, &cpu, &err) == 0 &&
           machine_bind_thread(machine, cpu, &err) == 0 && sched_getcpu() == cpu,
       "a thread is bound where the plan says %s", err.text);
    ok(machine_bind_thread(machine, 60000, &err) == -1, "a PU that is not there is refused");

    /* Restricted to one core by affinity, the machine has one. */
    struct machine *narrow = machine_load(&err);
    ok(narrow != NULL && machine_n_cores(narrow) == 1, "inherited affinity is honoured");
    machine_destroy(narrow);
    machine_free_thread(machine);
    sched_getaffinity(0, sizeof after, &after);
    ok(CPU_EQUAL(&before, &after), "set free it runs where it did before");

    struct device_class one, same, other;
    machine_device_class(machine, 1, "avx2", &one);
    machine_device_class(machine, 1, "avx2", &same);
    machine_device_class(machine, 2, "avx2", &other);
    ok(strcmp(one.name, same.name) == 0 && id128_equal(one.id, same.id), "a class is stable");
    ok(strcmp(one.name, other.name) != 0 && !id128_equal(one.id, other.id),
       "another thread count is another class");
    ok(machine_private_cache(machine) <= machine_last_cache(machine),
       "the private cache is not larger than the last one");
    machine_destroy(machine);
}

int main(void)
{
    test_plans();
    test_no_two_workers_meet();
    test_unreal_machine_does_not_bind();
    test_this_machine();
    return tap_done();
}
