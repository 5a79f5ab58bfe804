/* forward_fixture.h - a forward pass over a model of model_fixture.h, and all logits of one text
 * cut into any batches. */
#ifndef KERF_FORWARD_FIXTURE_H
#define KERF_FORWARD_FIXTURE_H

#include "evaluator/forward.h"
#include "space/base/err.h"
#include "tests/model_fixture.h"

#include <stdio.h>

#define N_TOKENS 75

static struct team *teams[4]; /* of 1..3 members; the test's to create and destroy */

__attribute__((unused)) static void create_teams(void)
{
    for (unsigned n = 1; n <= 3; n++)
        teams[n] = team_create(n, NULL, NULL, NULL);
}

__attribute__((unused)) static void destroy_teams(void)
{
    for (unsigned n = 1; n <= 3; n++)
        team_destroy(teams[n]);
}

__attribute__((unused)) static void draw_tokens(int32_t *tokens, uint32_t n, uint32_t n_vocab)
{
    struct rng rng = rng_make(3, 1);

    for (uint32_t t = 0; t < n; t++)
        tokens[t] = (int32_t)rng_below(&rng, n_vocab);
}

__attribute__((unused)) static struct forward *
make(const struct model *model, const struct kernels *kernels, unsigned n_threads)
{
    struct forward_options options = {.n_ctx = N_TOKENS + 5, .n_batch = N_TOKENS};
    struct err err = {0};
    struct forward *f = forward_create(model, kernels, teams[n_threads], &options, &err);

    if (f == NULL) {
        printf("# %s\n", err.text);
        exit(1);
    }
    return f;
}

/* All logits of N_TOKENS tokens in batches of `cut`, [N_TOKENS][n_vocab]. */
__attribute__((unused)) static float *run(struct forward *f, const int32_t *tokens, uint32_t cut)
{
    uint32_t n_vocab = forward_model(f)->geometry.n_vocab;
    float *all = malloc((size_t)N_TOKENS * n_vocab * sizeof *all);
    struct err err = {0};

    forward_reset(f);
    for (uint32_t t = 0; t < N_TOKENS; t += cut) {
        uint32_t n = N_TOKENS - t < cut ? N_TOKENS - t : cut;
        if (forward_tokens(f, tokens + t, n, LOGITS_ALL, &err) != 0) {
            printf("# %s\n", err.text);
            exit(1);
        }
        memcpy(all + (size_t)t * n_vocab, forward_logits(f), (size_t)n * n_vocab * sizeof *all);
    }
    return all;
}

__attribute__((unused)) static double largest_gap(const float *a, const float *b, size_t n)
{
    double gap = 0;

    for (size_t i = 0; i < n; i++)
        gap = fmax(gap, fabs((double)a[i] - (double)b[i]));
    return gap;
}

#endif
