/* train_pool.c - a round counter under one mutex: threads wait for the next round to begin, the
 * caller for the last of them to finish it. */
#include "evaluator/reference/train_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "space/base/err.h"

struct worker {
    struct train_pool *pool;
    size_t index;
    pthread_t thread;
};

struct train_pool {
    size_t n_threads, n_started;
    pthread_mutex_t mutex;
    pthread_cond_t begin, end;
    unsigned long round;
    size_t n_busy;
    bool closing;
    train_pool_fn *fn;
    void *arg;
    struct worker workers[];
};

static void *work(void *worker)
{
    struct worker *me = worker;
    struct train_pool *pool = me->pool;
    unsigned long done = 0;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->round == done && !pool->closing)
            pthread_cond_wait(&pool->begin, &pool->mutex);
        if (pool->closing)
            break;
        done = pool->round;
        pthread_mutex_unlock(&pool->mutex);
        pool->fn(pool->arg, me->index, pool->n_threads);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->n_busy == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

struct train_pool *train_pool_create(size_t n_threads, struct err *err)
{
    struct train_pool *pool = calloc(1, sizeof *pool + n_threads * sizeof pool->workers[0]);
    if (pool == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for %zu threads", n_threads);
        return NULL;
    }
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    for (size_t i = 1; i < n_threads; i++) {
        struct worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        int failure = pthread_create(&w->thread, NULL, work, w);
        if (failure != 0) {
            err_set_errno(err, failure, "cannot start thread %zu of %zu", i, n_threads);
            train_pool_destroy(pool);
            return NULL;
        }
        pool->n_started++;
    }
    return pool;
}

void train_pool_destroy(struct train_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

size_t train_pool_size(const struct train_pool *pool)
{
    return pool->n_threads;
}

void train_pool_run(struct train_pool *pool, train_pool_fn *fn, void *arg)
{
    pthread_mutex_lock(&pool->mutex);
    pool->fn = fn;
    pool->arg = arg;
    pool->n_busy = pool->n_threads - 1;
    pool->round++;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);

    fn(arg, 0, pool->n_threads);

    pthread_mutex_lock(&pool->mutex);
    while (pool->n_busy > 0)
        pthread_cond_wait(&pool->end, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
