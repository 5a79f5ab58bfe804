/* A workload on a pass: what is timed, and that a settled run computes the same.  How long anything
 * takes is not judged. */
#include "latency_model/stand_in.h"
#include "latency_model/workload_run.h"
#include "space/base/err.h"
#include "space/space.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>
#include <string.h>

static const int32_t tokens[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};

/* One run; its last logits are in forward_logits. */
static bool run_once(const struct workload_run *run, uint32_t n_units, struct err *err)
{
    struct probe_item item = workload_run_item((struct workload_run *)run);

    if (item.n_units != n_units || item.prepare(item.arg, err) != 0 || item.run(item.arg, err) != 0)
        return false;
    for (uint32_t i = 0; i < n_units; i++)
        if (!(item.unit_ns[i] > 0))
            return false;
    return true;
}

static void test_kind(const struct workload *workload, uint32_t n_units, uint32_t n_settled,
                      const struct model *model, struct team *team)
{
    struct forward_options options = {0};
    struct err err = {0};
    char name[32];

    workload_format(workload, name);
    workload_run_room(workload, &options);
    struct forward *plain = forward_create(model, kernels_select(), team, &options, &err);
    struct forward *settled = forward_create(model, kernels_select(), team, &options, &err);
    if (!ok(plain != NULL && settled != NULL, "%s: two passes %s", name, err.text))
        return;
    uint32_t n_vocab = model->geometry.n_vocab;
    struct workload_run a = workload_run_make(plain, tokens, workload, n_vocab);
    struct workload_run b = workload_run_make(settled, tokens, workload, n_vocab);
    workload_run_settle(&b);
    ok(run_once(&a, n_units, &err), "%s: %u units are timed %s", name, n_units, err.text);
    for (int again = 0; again < 3; again++)
        ok(run_once(&b, n_settled, &err), "%s: settled, %u %s", name, n_settled, err.text);
    ok(forward_position(plain) == forward_position(settled) &&
           memcmp(forward_logits(plain), forward_logits(settled), n_vocab * sizeof(float)) == 0,
       "%s: the same logits in the end", name);
    forward_destroy(plain);
    forward_destroy(settled);
}

int main(void)
{
    struct geometry geometry = fixture_stories();
    struct team *team = team_create(2, NULL, NULL, NULL);
    struct space_limits limits;
    struct space space;
    struct genome genome;
    struct err err = {0};
    uint8_t levels[SPACE_MAX_GENES] = {0};

    space_default_limits(&limits, &geometry, PROFILE_GGUF);
    if (!ok(space_init(&space, &geometry, &limits, &err) == 0, "a space %s", err.text))
        return tap_done();
    space_genome(&space, levels, &genome);
    struct stand_in *weights = stand_in_create(&geometry, &genome, 1, &err);
    struct model *model = weights != NULL ? stand_in_model(weights, &genome, &err) : NULL;
    if (ok(model != NULL, "a model %s", err.text)) {
        test_kind(&(struct workload){WORKLOAD_DECODE, 5, 3, 1}, 5, 5, model, team);
        test_kind(&(struct workload){WORKLOAD_PREFILL, 6, 4, 1}, 1, 3, model, team);
        test_kind(&(struct workload){WORKLOAD_PREFILL, 4, 2, 2}, 1, 3, model, team);
    }
    model_destroy(model);
    stand_in_destroy(weights);
    team_destroy(team);
    return tap_done();
}
