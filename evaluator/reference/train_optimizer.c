/* train_optimizer.c - two rounds over the parameters: sum the gradients of all threads and take
 * their norm; then, the norm known, move the weights. */
#include "evaluator/reference/train_optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/reference/train_memory.h"
#include "evaluator/reference/train_pool.h"
#include "space/base/err.h"

enum { MAX_THREADS = 256 };

int train_optimizer_init(struct train_optimizer *opt, size_t n_params, struct err *err)
{
    *opt = (struct train_optimizer){
        .n_params = n_params,
        .weights = train_memory_create(n_params * sizeof(float)),
        .average = train_memory_create(n_params * sizeof(float)),
        .moment1 = train_memory_create(n_params * sizeof(float)),
        .moment2 = train_memory_create(n_params * sizeof(float)),
    };
    if (opt->weights == NULL || opt->average == NULL || opt->moment1 == NULL ||
        opt->moment2 == NULL) {
        train_optimizer_fini(opt);
        err_set(err, ERR_MEMORY, "out of memory for the optimizer of %zu parameters", n_params);
        return -1;
    }
    return 0;
}

void train_optimizer_fini(struct train_optimizer *opt)
{
    free(opt->weights);
    free(opt->average);
    free(opt->moment1);
    free(opt->moment2);
    *opt = (struct train_optimizer){0};
}

struct step {
    struct train_optimizer *opt;
    const struct train_geometry *g;
    float *const *gradients;
    size_t n_gradients;
    double scale;
    struct train_rates rates;
    float correct1, correct2; /* the moments start at zero: 1 / (1 - beta^t) */
    double squares[MAX_THREADS];
};

/* The share of one thread, in whole cache lines. */
static void share(size_t n, size_t thread, size_t n_threads, size_t *begin, size_t *end)
{
    *begin = n * thread / n_threads / 16 * 16;
    *end = thread + 1 == n_threads ? n : n * (thread + 1) / n_threads / 16 * 16;
}

static void sum_gradients(void *arg, size_t thread, size_t n_threads)
{
    struct step *s = arg;
    size_t begin, end;
    float *sum = s->gradients[0], scale = (float)s->scale;
    double squares = 0;
    share(s->opt->n_params, thread, n_threads, &begin, &end);
    /* A few pages at a time, so that the sum is still cached for the next vector. */
    for (size_t at = begin; at < end; at += 4096) {
        size_t stop = at + 4096 < end ? at + 4096 : end;
        for (size_t k = 1; k < s->n_gradients; k++) {
            float *more = s->gradients[k];
#pragma omp simd
            for (size_t i = at; i < stop; i++)
                sum[i] += more[i];
            memset(more + at, 0, (stop - at) * sizeof *more);
        }
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (size_t i = at; i < stop; i++) {
            sum[i] *= scale;
            part += sum[i] * sum[i];
        }
        squares += (double)part;
    }
    s->squares[thread] = squares;
}

/* Parameters [begin, end), all of one part; `scale` clips, `decay` is 0 for gains. */
static void move_range(const struct step *s, size_t begin, size_t end, float scale, float decay)
{
    struct train_optimizer *opt = s->opt;
    float *w = opt->weights, *m1 = opt->moment1, *m2 = opt->moment2, *avg = opt->average;
    float *grad = s->gradients[0];
    float beta1 = (float)s->rates.beta1, beta2 = (float)s->rates.beta2;
    float lr = (float)s->rates.lr, eps = (float)s->rates.eps;
    float keep = (float)s->rates.average, correct1 = s->correct1, correct2 = s->correct2;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = grad[i] * scale;
        m1[i] = beta1 * m1[i] + (1.0f - beta1) * g;
        m2[i] = beta2 * m2[i] + (1.0f - beta2) * g * g;
        float step = m1[i] * correct1 / (sqrtf(m2[i] * correct2) + eps);
        w[i] -= lr * (step + decay * w[i]);
        avg[i] = w[i] + keep * (avg[i] - w[i]);
        grad[i] = 0;
    }
}

static void move_weights(void *arg, size_t thread, size_t n_threads)
{
    const struct step *s = arg;
    size_t begin, end;
    share(s->opt->n_params, thread, n_threads, &begin, &end);
    for (size_t i = 0; i < train_geometry_n_parts(s->g); i++) {
        struct train_part part = train_geometry_part(s->g, i);
        size_t from = part.offset, to = from + part.n_out * part.n_in;
        from = from > begin ? from : begin;
        to = to < end ? to : end;
        if (from < to)
            move_range(s, from, to, (float)s->scale, part.is_matrix ? (float)s->rates.decay : 0.0f);
    }
}

double train_optimizer_step(struct train_optimizer *opt, const struct train_geometry *g,
                            struct train_pool *pool, float *const *gradients, size_t n_gradients,
                            double scale, const struct train_rates *rates)
{
    struct step s = {
        .opt = opt,
        .g = g,
        .gradients = gradients,
        .n_gradients = n_gradients,
        .scale = scale,
        .rates = *rates,
    };
    train_pool_run(pool, sum_gradients, &s);
    double squares = 0;
    for (size_t i = 0; i < train_pool_size(pool); i++)
        squares += s.squares[i];
    double norm = sqrt(squares);
    if (!isfinite(norm)) {
        memset(gradients[0], 0, opt->n_params * sizeof(float));
        return norm;
    }

    opt->n_steps++;
    double t = (double)opt->n_steps, young = (1.0 + t) / (10.0 + t);
    s.scale = norm > rates->clip ? rates->clip / norm : 1.0;
    s.correct1 = (float)(1.0 / (1.0 - pow(rates->beta1, t)));
    s.correct2 = (float)(1.0 / (1.0 - pow(rates->beta2, t)));
    s.rates.average = rates->average < young ? rates->average : young;
    train_pool_run(pool, move_weights, &s);
    return norm;
}
