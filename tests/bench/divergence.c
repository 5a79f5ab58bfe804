#include "tests/bench/divergence.h"

#include "evaluator/compression/stitch.h"
#include "space/base/err.h"
#include "space/base/stats.h"
#include "tests/bench/variant_list.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void sum_up(struct divergence *d)
{
    double sum = 0, n_tokens = 0;

    for (uint32_t i = 0; i < d->n_sequences; i++) {
        sum += d->mean[i] * d->size[i];
        n_tokens += d->size[i];
    }
    d->kld = sum / n_tokens;
    d->kld_se = stats_cluster_se(d->mean, d->size, d->n_sequences);
}

int divergence_measure(const struct bench_model *b, const struct model *model, uint32_t tokens,
                       struct divergence *d, struct err *err)
{
    struct quality quality;

    *d = (struct divergence){.n_sequences = token_set_n_within(&b->heldout, tokens)};
    if (d->n_sequences > DIVERGENCE_MAX_SEQUENCES) {
        err_set(err, ERR_DATA, "the held-out text has %u sequences, at most %d are compared",
                d->n_sequences, DIVERGENCE_MAX_SEQUENCES);
        return -1;
    }
    forward_set_model(b->forward, model);
    int status = quality_measure_sequences(b->forward, b->model, b->states, &b->heldout, tokens,
                                           &quality, d->mean, err);
    forward_set_model(b->forward, b->model);
    for (uint32_t i = 0; i < d->n_sequences; i++)
        d->size[i] = b->heldout.begin[i + 1] - b->heldout.begin[i] - 1;
    if (status == 0)
        sum_up(d);
    return status;
}

int divergence_of_genome(const struct bench_model *b, const struct variant_source *source,
                         struct store *store, const struct genome *genome, uint32_t tokens,
                         struct divergence *d, struct err *err)
{
    struct variant_list list = {0};
    struct model *model = NULL;

    if (variant_list_of_genome(&list, genome, parent_geometry(b->parent), err) == 0 &&
        variant_list_build(&list, source, store, b->team, err) == 0)
        model = stitch_model(source, store, genome, err);
    variant_list_fini(&list);
    int status = model != NULL ? divergence_measure(b, model, tokens, d, err) : -1;
    model_destroy(model);
    return status;
}

struct divergence divergence_from(const struct divergence *d, uint32_t first)
{
    struct divergence part = {.n_sequences = d->n_sequences - first};

    assert(first < d->n_sequences);
    memcpy(part.mean, d->mean + first, part.n_sequences * sizeof part.mean[0]);
    memcpy(part.size, d->size + first, part.n_sequences * sizeof part.size[0]);
    sum_up(&part);
    return part;
}

struct ratio divergence_ratio(const struct divergence *a, const struct divergence *b)
{
    double rest[DIVERGENCE_MAX_SEQUENCES];
    struct ratio ratio = {a->kld / b->kld, NAN};

    assert(a->n_sequences == b->n_sequences);
    for (uint32_t i = 0; i < a->n_sequences; i++)
        rest[i] = (a->mean[i] - ratio.value * b->mean[i]) / b->kld;
    ratio.se = stats_cluster_se(rest, a->size, a->n_sequences);
    return ratio;
}
