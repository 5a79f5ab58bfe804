/* What is made of footings.  Nothing here judges how good the machine's own is. */
#include "evaluator/team.h"
#include "latency_model/footing.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_taking(void)
{
    struct footing alone, together;
    struct team *team = team_create(2, NULL, NULL, NULL);
    footing_take(NULL, &alone);
    ok(alone.clock_ns > 0 && alone.width > 0 && alone.meet_ns == 0,
       "one thread has a clock and a width, and nobody to meet");
    if (team != NULL) {
        footing_take(team, &together);
        ok(together.clock_ns > 0 && together.width > 0 && together.meet_ns > 0,
           "a team meets (in %.0f ns)", together.meet_ns);
    }
    team_destroy(team);
}

static void test_judging(void)
{
    const struct footing_best unknown = {0}, best = {.width = 0.8, .meet_ns = 70};
    struct footing footing = {.clock_ns = 6000, .width = 2, .meet_ns = 900};
    ok(footing_judge(&footing, &unknown) == FOOTING_FIRM, "who knows nothing finds no fault");
    ok(footing_judge(&footing, &best) == FOOTING_APART, "cores that meet late are apart");
    footing.meet_ns = 80;
    ok(footing_judge(&footing, &best) == FOOTING_SHARED, "a narrow core is shared");
    footing.width = 0.82;
    ok(footing_judge(&footing, &best) == FOOTING_FIRM, "small differences are none");
}

static void test_learning(void)
{
    struct footing footing[40];
    struct footing_best best = {0};
    for (int i = 0; i < 40; i++)
        footing[i] = (struct footing){.clock_ns = 1, .width = 1 + 0.01 * i, .meet_ns = 100 + i};
    footing[7].width = 0.1;
    footing_learn(&best, footing, FOOTING_LEARN_MIN - 1);
    ok(best.width == 0 && best.meet_ns == 0, "a few teach nothing");
    footing_learn(&best, footing, 40);
    ok(best.width > 1 && best.width < 1.1 && best.meet_ns > 100 && best.meet_ns < 110,
       "many teach their lower tenth, not their least (%.2f, %.0f)", best.width, best.meet_ns);
    struct footing_best before = best;
    for (int i = 0; i < 40; i++)
        footing[i].width *= 3;
    footing_learn(&best, footing, 40);
    ok(memcmp(&best, &before, sizeof best) == 0, "worse ones teach nothing");
}

static void test_keeping(const char *folder)
{
    const struct footing_best best = {.width = 0.8125, .meet_ns = 70};
    struct footing_best read;
    char path[128], elsewhere[128];
    footing_recall("cpu:a/2t", &read);
    ok(read.width == 0 && read.meet_ns == 0, "nothing is known of a new node");
    footing_keep("cpu:a/2t", &best);
    footing_recall("cpu:a/2t", &read);
    ok(memcmp(&read, &best, sizeof best) == 0, "what was kept is recalled");
    footing_keep("cpu:a/2t", &(struct footing_best){.width = 0.9, .meet_ns = 75});
    footing_recall("cpu:a/2t", &read);
    ok(memcmp(&read, &best, sizeof best) == 0, "and not replaced by worse");
    footing_recall("cpu:b/2t", &read);
    ok(read.width == 0, "another device has shown nothing");

    footing_keep_least("test/rest", 20, 0.08);
    footing_keep_least("test/rest", 19, 0.08);
    ok(footing_recall_least("test/rest") == 20, "a number that falls by little stays");
    footing_keep_least("test/rest", 18, 0.08);
    ok(footing_recall_least("test/rest") == 18, "and goes when it falls by more");

    snprintf(path, sizeof path, "%s/kerf-footing.%ld", folder, (long)getuid());
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", folder);
    ok(rename(path, elsewhere) == 0 && symlink(elsewhere, path) == 0, "a link in its place");
    footing_recall("cpu:a/2t", &read);
    ok(read.width == 0, "is not followed");
    unlink(path);
    FILE *file = fopen(path, "w");
    fprintf(file, "cpu:a/2t nan 1e300\n");
    fclose(file);
    footing_recall("cpu:a/2t", &read);
    ok(read.width == 0, "nonsense is not believed");
    unlink(path);
    unlink(elsewhere);
}

int main(void)
{
    char folder[] = "/tmp/kerf-footing.XXXXXX";
    if (mkdtemp(folder) == NULL)
        return 1;
    setenv("KERF_QUIET_DIR", folder, 1);
    test_taking();
    test_judging();
    test_learning();
    test_keeping(folder);
    rmdir(folder);
    return tap_done();
}
