/* forward_site.c - the input of a linear group: normed, packed once for all its matrices, heard by
 * whoever listens; and the product of a share of rows with it. */
#include "evaluator/forward_parts.h"

#include <assert.h>

struct span walker_share(const struct walker *walker, size_t n, size_t grain)
{
    struct span span;

    team_share(n, grain, walker->member, walker->n_members, &span.begin, &span.end);
    return span;
}

void walker_wait(const struct walker *walker)
{
    team_barrier(walker->pass->forward->team, walker->member);
}

static enum act_kind kind_of(const struct weights *w)
{
    if (w->act == ACT_FLOAT)
        return KIND_FLOAT;
    return format_block(w->format) == 32 ? KIND_Q8_32 : KIND_Q8_K;
}

/* Vectors [begin, end) of x[][n_in], normed into normed[][n_in] where there is a gain, and packed
 * in every kind of `pack` that is not NULL. */
static void prepare_vectors(const struct forward *f, struct span span, const float *x, size_t n_in,
                            const float *gain, float *normed, kernel_pack_fn *const *pack,
                            const struct site_input *input)
{
    float eps = f->model->geometry.rms_eps;

    for (size_t t = span.begin; t < span.end; t++) {
        const float *row = x + t * n_in;
        if (gain != NULL) {
            f->kernels->rms_norm(normed + t * n_in, row, gain, n_in, eps);
            row = normed + t * n_in;
        }
        for (int kind = KIND_Q8_32; kind < N_ACT_KINDS; kind++)
            if (pack[kind] != NULL)
                pack[kind](row, n_in, (char *)input->packed[kind] + t * input->bytes[kind]);
    }
}

struct site_input site_prepare(const struct walker *walker, uint32_t layer, enum linear_site site,
                               const float *x, uint32_t n, size_t n_in, const float *gain,
                               const struct weights *const *weights, int n_weights)
{
    struct forward *f = walker->pass->forward;
    bool heard = f->listen != NULL && site != N_LINEAR_SITES;
    bool private = n == 1 && !heard;
    const struct scratch *scratch = &f->scratch[walker->member];
    float *normed = private ? scratch->normed : f->normed;
    kernel_pack_fn *pack[N_ACT_KINDS] = {NULL};
    struct site_input input = {.packed = {[KIND_FLOAT] = (const char *)(gain ? normed : x)},
                               .bytes = {[KIND_FLOAT] = n_in * sizeof(float)}};
    bool packs = false;

    for (int i = 0; i < n_weights; i++) {
        enum act_kind kind = kind_of(weights[i]);
        if (kind == KIND_FLOAT || pack[kind] != NULL)
            continue;
        pack[kind] = f->kernels->pack[weights[i]->format][ACT_Q8];
        input.packed[kind] = private ? scratch->packed[kind] : f->packed[kind];
        input.bytes[kind] = kernels_act_bytes(weights[i]->format, ACT_Q8, n_in);
        packs = true;
    }
    if (private) {
        prepare_vectors(f, (struct span){0, 1}, x, n_in, gain, normed, pack, &input);
        return input;
    }
    if (gain != NULL || packs) {
        prepare_vectors(f, walker_share(walker, n, 1), x, n_in, gain, normed, pack, &input);
        walker_wait(walker);
    }
    if (heard) {
        if (walker->member == 0)
            f->listen(f->listen_arg, layer, site, gain != NULL ? normed : x, n, (uint32_t)n_in);
        walker_wait(walker);
    }
    return input;
}

void site_multiply(const struct forward *f, const struct weights *w, const struct site_input *input,
                   struct span rows, size_t n, float *out, size_t stride)
{
    size_t row_bytes = format_row_bytes(w->format, w->n_in);
    enum act_kind kind = kind_of(w);

    assert(rows.end <= w->n_out);
    f->kernels->matmul[w->format][w->act]((const char *)w->data + rows.begin * row_bytes, row_bytes,
                                          rows.end - rows.begin, w->n_in, input->packed[kind],
                                          input->bytes[kind], n, out + rows.begin, stride);
}
