/* What a probe does with samples.  Nothing here judges how fast anything is. */
#include "latency_model/machine.h"
#include "latency_model/probe.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fake {
    int n_prepared, n_run, n_unprepared, fail_at;
    bool prepared, restless; /* every third run of a restless one takes much longer */
    unsigned spin;
};

static int prepare(void *arg, struct err *err)
{
    struct fake *fake = arg;
    (void)err;
    fake->n_prepared++;
    fake->prepared = true;
    return 0;
}

static int run(void *arg, struct err *err)
{
    struct fake *fake = arg;
    fake->n_run++;
    fake->n_unprepared += !fake->prepared;
    fake->prepared = false;
    unsigned spin = fake->restless && fake->n_run % 3 == 0 ? 40 * fake->spin : fake->spin;
    for (volatile unsigned i = 0; i < spin; i++)
        ;
    if (fake->n_run != fake->fail_at)
        return 0;
    err_set(err, ERR_DATA, "item broke");
    return -1;
}

static struct probe_item item(struct fake *fake)
{
    return (struct probe_item){.prepare = prepare, .run = run, .arg = fake, .n_units = 4};
}

static struct probe_result results[3];

static void test_good_run(int cpu)
{
    struct sample_place place = {.cpu = cpu};
    struct fake fake[3] = {{.spin = 20000}, {.spin = 20000}, {.spin = 400000}};
    struct probe_item items[3] = {item(&fake[0]), item(&fake[1]), item(&fake[2])};
    struct probe_plan plan = {.warmup_max = 4, .rounds_min = 40, .rounds_max = 40, .ci = 0.01};
    struct rng rng = rng_make(1, 1);
    struct err err = {0};
    if (probe_run(items, 3, &plan, &place, &rng, results, &err) != 0) {
        /* A machine too busy to measure must say so, with the causes. */
        ok(err.code == ERR_RESOURCE && strstr(err.text, "switched out") != NULL,
           "a busy machine is refused in words: %s", err.text);
        return;
    }
    uint32_t n_rounds = 40 + results[0].n_warmup;
    ok(fake[0].n_run >= (int)n_rounds && fake[2].n_run == fake[0].n_run,
       "every item runs once a round");
    ok(fake[0].n_unprepared + fake[1].n_unprepared + fake[2].n_unprepared == 0,
       "and is prepared before each run");
    bool ones = true, sorted = true;
    for (uint32_t i = 0; i < results[0].n_accepted; i++)
        ones &= results[0].ratio[i] == 1;
    ok(ones && results[0].ratio_mid == 1, "the reference's ratio to itself is 1");
    for (int i = 0; i < 3; i++) {
        const struct probe_result *r = &results[i];
        sorted &= r->min_ns <= r->p10_ns && r->p10_ns <= r->median_ns &&
                  r->median_ns <= r->p90_ns && r->median_lo_ns <= r->median_ns &&
                  r->median_ns <= r->median_hi_ns && r->ratio_lo <= r->ratio_mid &&
                  r->ratio_mid <= r->ratio_hi;
        uint32_t n = r->n_accepted;
        for (int cause = ACCEPTED + 1; cause < N_REJECTIONS; cause++)
            n += r->rejected[cause];
        /* What had to be counted in after all is counted twice. */
        ok((r->noisy ? r->n_accepted : n) <= (uint32_t)fake[i].n_run,
           "accepted and rejected samples are at most the runs");
    }
    ok(sorted, "quantiles and intervals are in order");
    ok(results[2].ratio_mid > 3, "twenty times the work takes longer (ratio %.1f)",
       results[2].ratio_mid);
}

static void test_wrong_core(int cpu)
{
    struct fake fake = {.spin = 1000};
    struct sample_place place = {.cpu = cpu + 1};
    struct probe_item items[1] = {item(&fake)};
    struct probe_plan plan = {.warmup_max = 1, .rounds_min = 8, .rounds_max = 8, .ci = 0.01};
    struct rng rng = rng_make(1, 2);
    struct err err = {0};
    ok(probe_run(items, 1, &plan, &place, &rng, results, &err) == -1 && err.code == ERR_RESOURCE &&
           strstr(err.text, "8 migrated") != NULL,
       "samples taken on another core do not count: %s", err.text);
}

static void test_failing_item(int cpu)
{
    struct fake fake[2] = {{.spin = 100}, {.spin = 100, .fail_at = 7}};
    struct sample_place place = {.cpu = cpu};
    struct probe_item items[2] = {item(&fake[0]), item(&fake[1])};
    struct probe_plan plan = {.warmup_max = 2, .rounds_min = 20, .rounds_max = 20, .ci = 0.01};
    struct rng rng = rng_make(1, 3);
    struct err err = {0};
    ok(probe_run(items, 2, &plan, &place, &rng, results, &err) == -1 && err.code == ERR_DATA &&
           strcmp(err.text, "item broke") == 0,
       "an item's failure ends the probe in its own words");
}

static void test_vague(int cpu)
{
    struct fake fake[2] = {{.spin = 4000}, {.spin = 4000, .restless = true}};
    struct sample_place place = {.cpu = cpu};
    struct probe_item items[2] = {item(&fake[0]), item(&fake[1])};
    struct probe_plan plan = {.warmup_max = 2, .rounds_min = 20, .rounds_max = 20, .ci = 0.001};
    struct rng rng = rng_make(1, 4);
    struct err err = {0};
    int status = probe_run(items, 2, &plan, &place, &rng, results, &err);
    ok(fake[1].n_run >= 40, "what stays vague is measured once more (%d runs)", fake[1].n_run);
    ok(status == 0 ? results[1].noisy : err.code == ERR_RESOURCE, "and is said to be noisy");
}

/* An item that says itself how long each of its tokens took. */
struct teller {
    double unit_ns[4];
};

static int tell(void *arg, struct err *err)
{
    (void)arg, (void)err;
    return 0;
}

static struct probe_item told(struct teller *teller, double ns)
{
    for (int i = 0; i < 4; i++)
        teller->unit_ns[i] = ns;
    return (struct probe_item){
        .run = tell, .arg = teller, .n_units = 4, .unit_ns = teller->unit_ns};
}

static int probe_tellers(struct sample_place *place, double between, struct err *err)
{
    struct teller teller[2];
    struct probe_item items[2] = {told(&teller[0], 1e6), told(&teller[1], 5e5)};
    struct probe_plan plan = {
        .warmup_max = 2, .rounds_min = 30, .rounds_max = 30, .ci = 0.01, .between = between};
    struct rng rng = rng_make(1, 5);
    return probe_run(items, 2, &plan, place, &rng, results, err);
}

static bool is_near(double a, double b, double share)
{
    return a > b * (1 - share) && a < b * (1 + share);
}

static void test_between(int cpu)
{
    struct sample_place place = {.cpu = cpu};
    struct err err = {0};
    if (probe_tellers(&place, 0.02, &err) != 0) {
        ok(err.code == ERR_RESOURCE, "a busy machine is refused: %s", err.text);
        return;
    }
    ok(is_near(results[1].ratio_mid, 0.5, 1e-9) &&
           is_near(results[1].ratio_lo, 0.5 * exp(-1.96 * 0.02), 1e-9) &&
           is_near(results[1].ratio_hi, 0.5 * exp(1.96 * 0.02), 1e-9),
       "rounds that agree leave the interval that probes differ by");
    ok(results[0].ratio_lo == 1 && results[0].ratio_hi == 1, "which the reference has not");
}

static void test_rest(int cpu)
{
    struct sample_place place = {.cpu = cpu, .reference = "test/rest", .spared = 1};
    struct teller teller[2];
    struct probe_item items[2] = {told(&teller[0], 1e6), told(&teller[1], 5e5)};
    struct probe_plan plan = {.warmup_max = 2, .rounds_min = 30, .rounds_max = 30, .ci = 0.01};
    struct rng rng = rng_make(1, 6);
    struct err err = {0};
    double rest[2] = {0};
    for (int i = 0; i < 2; i++) {
        if (probe_run(items, 2, &plan, &place, &rng, results, &err) != 0) {
            ok(err.code == ERR_RESOURCE, "a busy machine is refused: %s", err.text);
            return;
        }
        rest[i] = footing_recall_least(place.reference);
        if (rest[i] <= 0) {
            ok(results[0].noisy || results[0].n_accepted < plan.rounds_min,
               "a busy machine shows no rest");
            return;
        }
        told(&teller[0], 0.99e6);
    }
    ok(is_near(rest[0], 1e6 / 6000, 0.9), "what the reference takes at rest is found out (%.4g)",
       rest[0]);
    ok(rest[0] == rest[1], "and stays what it was when the reference is a little faster");
    ok(is_near(results[1].ratio_mid, 0.5, 0.08) && is_near(results[0].rest_ns, 1e6, 0.08),
       "which ratios are to (%.4f)", results[1].ratio_mid);
    place.rest_steps = rest[0] / 2;
    told(&teller[0], 1e6);
    if (probe_run(items, 2, &plan, &place, &rng, results, &err) == 0)
        ok(results[0].rest_steps == rest[0] / 2 && footing_recall_least(place.reference) == rest[0],
           "who says what it is is believed, and the node keeps its own");
    place.rest_steps = 0;
    told(&teller[0], 0.5e6);
    ok(probe_run(items, 2, &plan, &place, &rng, results, &err) != 0 || results[0].noisy ||
           results[0].n_accepted < plan.rounds_min ||
           footing_recall_least(place.reference) < 0.7 * rest[0],
       "until it is much faster");
}

/* The node has seen the reference one and a half times as fast. */
static void test_pressure(int cpu)
{
    struct sample_place place = {.cpu = cpu, .reference = "test/pressed", .spared = 0.25};
    struct footing footing;
    struct err err = {0};
    double clock_ns = 1e9;
    for (int i = 0; i < 20; i++) {
        footing_take(NULL, &footing);
        clock_ns = fmin(clock_ns, footing.clock_ns);
    }
    footing_keep_least(place.reference, 1e6 / clock_ns / 1.5, 0);
    if (probe_tellers(&place, 0, &err) != 0) {
        ok(err.code == ERR_RESOURCE, "a busy machine is refused: %s", err.text);
        return;
    }
    ok(results[0].rejected[PRESSED] > 0 || results[0].noisy,
       "a reference slower than the node has shown is pressed");
    ok(is_near(results[1].ratio_mid, 0.5 * pow(1.5, 0.25), 0.12),
       "its ratio is put right by what the item was spared (%.3f)", results[1].ratio_mid);
    ok(results[1].ratio_lo < results[1].ratio_mid * 0.96 &&
           results[1].ratio_hi > results[1].ratio_mid * 1.2,
       "and the interval holds all that it may have been (%.3f to %.3f)", results[1].ratio_lo,
       results[1].ratio_hi);
}

int main(void)
{
    struct machine *machine = machine_load(NULL);
    int cpu = 0;
    if (machine == NULL || machine_plan(machine, 0, 1, 1, &cpu, NULL) != 0 ||
        machine_bind_thread(machine, cpu, NULL) != 0)
        return tap_skip_all("threads cannot be bound here");
    machine_destroy(machine);
    char folder[] = "/tmp/kerf-probe.XXXXXX";
    if (mkdtemp(folder) == NULL)
        return 1;
    setenv("KERF_QUIET_DIR", folder, 1);
    test_good_run(cpu);
    test_wrong_core(cpu);
    test_failing_item(cpu);
    test_vague(cpu);
    test_between(cpu);
    test_rest(cpu);
    test_pressure(cpu);
    char path[64];
    snprintf(path, sizeof path, "%s/kerf-footing.%ld", folder, (long)getuid());
    unlink(path);
    rmdir(folder);
    return tap_done();
}
