/* train_pool.h - N threads that wait for work, all of them on the same piece of it. */
#ifndef TRAIN_POOL_H
#define TRAIN_POOL_H

#include <stddef.h>

struct err;
struct train_pool;

typedef void train_pool_fn(void *arg, size_t thread, size_t n_threads);

/* The caller counts as thread 0, so n_threads - 1 are started.  NULL with `err` filled. */
struct train_pool *train_pool_create(size_t n_threads, struct err *err);
void train_pool_destroy(struct train_pool *pool); /* NULL is fine */
size_t train_pool_size(const struct train_pool *pool);

/* Call fn(arg, thread, n_threads) once on every thread; returns when all have returned. */
void train_pool_run(struct train_pool *pool, train_pool_fn *fn, void *arg);

#endif
