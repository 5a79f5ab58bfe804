/* train_tokens.c - windows are drawn by a counter-based generator, so a resumed run continues with
 * the very windows that would have come next. */
#include "evaluator/reference/train_tokens.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"

struct source {
    struct file_map map;
    const uint16_t *tokens;
    size_t n;
};

struct train_tokens {
    size_t n_sources, window;
    uint16_t bos;
    uint64_t n_starts; /* places where a window can begin, all files together */
    struct source sources[];
};

static int source_open(struct source *s, const char *path, size_t window, size_t vocab,
                       struct err *err)
{
    if (file_map_open(&s->map, path, err) != 0)
        return -1;
    if (s->map.size % sizeof(uint16_t) != 0 || s->map.size / sizeof(uint16_t) < window) {
        err_set(err, ERR_DATA, "%s: %zu bytes are no file of at least %zu 16-bit tokens", path,
                s->map.size, window);
        return -1;
    }
    s->tokens = (const uint16_t *)(const void *)s->map.data; /* maps begin on a page */
    s->n = s->map.size / sizeof(uint16_t);
    for (size_t i = 0; i < s->n; i++) {
        if (s->tokens[i] >= vocab) {
            err_set(err, ERR_DATA,
                    "%s: token %u at position %zu is not below the %zu of the "
                    "vocabulary",
                    path, s->tokens[i], i, vocab);
            return -1;
        }
    }
    return 0;
}

struct train_tokens *train_tokens_open(const char *const *paths, size_t n_paths, size_t window,
                                       size_t vocab, uint16_t bos, struct err *err)
{
    assert(n_paths > 0 && window > 0);
    struct train_tokens *t = calloc(1, sizeof *t + n_paths * sizeof t->sources[0]);
    if (t == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for %zu token files", n_paths);
        return NULL;
    }
    t->window = window;
    t->bos = bos;
    for (size_t i = 0; i < n_paths; i++) {
        t->n_sources++; /* counted first: close must see a file that failed halfway */
        if (source_open(&t->sources[i], paths[i], window, vocab, err) != 0) {
            train_tokens_close(t);
            return NULL;
        }
        t->n_starts += t->sources[i].n - window + 1;
    }
    return t;
}

void train_tokens_close(struct train_tokens *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->n_sources; i++)
        file_map_close(&t->sources[i].map);
    free(t);
}

uint64_t train_tokens_count(const struct train_tokens *t)
{
    uint64_t n = 0;
    for (size_t i = 0; i < t->n_sources; i++)
        n += t->sources[i].n;
    return n;
}

/* The file and the place in it of start number `start`. */
static const struct source *find(const struct train_tokens *t, uint64_t start, size_t *place)
{
    const struct source *s = t->sources;
    while (start >= s->n - t->window + 1) {
        start -= s->n - t->window + 1;
        s++;
    }
    *place = (size_t)start;
    return s;
}

void train_tokens_draw(const struct train_tokens *t, uint64_t seed, uint64_t index, uint16_t *to)
{
    struct rng rng = rng_make(seed, index);
    size_t place;
    const struct source *s = find(t, rng_below(&rng, t->n_starts), &place);
    if (index % 2 == 0) {
        size_t begin = place;
        while (begin + t->window < s->n && s->tokens[begin] != t->bos)
            begin++;
        if (s->tokens[begin] == t->bos)
            place = begin;
    }
    memcpy(to, s->tokens + place, t->window * sizeof *to);
}

void train_tokens_spread(const struct train_tokens *t, uint64_t index, uint64_t n, uint16_t *to)
{
    size_t place;
    const struct source *s =
        find(t, (uint64_t)((double)t->n_starts * (double)index / (double)n), &place);
    memcpy(to, s->tokens + place, t->window * sizeof *to);
}
