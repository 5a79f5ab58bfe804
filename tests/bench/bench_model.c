#include "tests/bench/bench_model.h"

#include "evaluator/parent.h"
#include "space/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_model_plan_read(struct bench_model_plan *plan, int argc, char **argv)
{
    plan->model = argv[1];
    plan->calibration = argv[2];
    plan->heldout = argv[3];
    if (argc > 4)
        plan->n_calibration = (uint32_t)strtoull(argv[4], NULL, 10);
}

int bench_model_open(struct bench_model *b, const struct bench_model_plan *plan, struct err *err)
{
    struct forward_options options = {.n_ctx = 512, .n_batch = 512};
    const char *separator = plan->separator != NULL ? plan->separator : "";
    struct token_set text;
    char path[64];

    *b = (struct bench_model){.folder = "/tmp/kerf-bench.XXXXXX", .kernels = kernels_select()};
    if (mkdtemp(b->folder) == NULL) {
        err_set(err, ERR_CREATE, "no folder can be made in /tmp");
        b->folder[0] = '\0';
        return -1;
    }
    b->parent = parent_open(plan->model, err);
    if (b->parent == NULL)
        return -1;
    b->model = model_of_parent(b->parent, err);
    b->tokenizer = tokenizer_create(parent_gguf(b->parent), err);
    b->team = team_create(plan->n_threads, plan->place, plan->place_arg, err);
    if (b->model == NULL || b->tokenizer == NULL || b->team == NULL ||
        token_set_read(&b->heldout, b->tokenizer, plan->heldout, separator, 512, plan->n_quality, 2,
                       err) != 0 ||
        token_set_read(&text, b->tokenizer, plan->calibration, separator, 512, plan->n_calibration,
                       2, err) != 0)
        return -1;
    b->calibration = calibration_of_parent(b->parent, b->kernels, b->team, &text, err);
    token_set_fini(&text);
    b->forward = forward_create(b->model, b->kernels, b->team, &options, err);
    struct hash256 hash = parent_hash(b->parent);
    snprintf(path, sizeof path, "%s/states", b->folder);
    if (b->calibration == NULL || b->forward == NULL ||
        parent_states_make(path, &hash, b->model, b->kernels, b->team, &b->heldout, err) != 0)
        return -1;
    b->states = parent_states_open(path, &hash, &b->heldout, err);
    return b->states != NULL ? 0 : -1;
}

void bench_model_describe(const struct bench_model *b)
{
    char text[160];

    printf("%s\n", geometry_describe(parent_geometry(b->parent), text));
    printf("%u held-out tokens in %u sequences, %llu calibration tokens, %s kernels\n\n",
           token_set_n_predicted(&b->heldout), b->heldout.n_sequences,
           (unsigned long long)calibration_n_tokens(b->calibration), b->kernels->name);
}

void bench_model_close(struct bench_model *b)
{
    char command[64];

    forward_destroy(b->forward);
    parent_states_close(b->states);
    calibration_destroy(b->calibration);
    token_set_fini(&b->heldout);
    team_destroy(b->team);
    tokenizer_destroy(b->tokenizer);
    model_destroy(b->model);
    parent_close(b->parent);
    if (b->folder[0] == '\0')
        return;
    snprintf(command, sizeof command, "rm -rf %s", b->folder);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", b->folder);
}
