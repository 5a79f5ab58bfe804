/* arena.c - a bump allocator over one anonymous mapping.
 * Under the address sanitizer what is not handed out is poisoned, so that a write past the last
 * piece is caught; pieces lie back to back otherwise. */
#include "space/base/arena.h"

#include "space/base/err.h"
#include "space/base/log.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, n_bytes)   ((void)(start), (void)(n_bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, n_bytes) ((void)(start), (void)(n_bytes))
#endif

size_t arena_rounded(size_t n_bytes)
{
    /* Saturates, so that a sum of absurd sizes is refused by arena_init rather than wrapped. */
    if (n_bytes > SIZE_MAX - (ARENA_ALIGN - 1))
        return SIZE_MAX & ~(size_t)(ARENA_ALIGN - 1);
    return (n_bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

int arena_init(struct arena *arena, size_t size, struct err *err)
{
    struct arena fresh = {.size = arena_rounded(size)};

    if (fresh.size > 0) {
        void *base =
            mmap(NULL, fresh.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) {
            err_set(err, ERR_MEMORY, "cannot reserve %zu bytes of working memory: %s", size,
                    strerror(errno));
            return -1;
        }
        fresh.base = base;
        ASAN_POISON_MEMORY_REGION(fresh.base, fresh.size);
    }
    *arena = fresh;
    return 0;
}

void arena_fini(struct arena *arena)
{
    if (arena->base != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->size);
        munmap(arena->base, arena->size);
    }
    *arena = (struct arena){0};
}

void *arena_take(struct arena *arena, size_t n_bytes)
{
    size_t n_rounded = arena_rounded(n_bytes);

    /* Kept in release builds: a layout that was computed wrong must stop, not write elsewhere. */
    if (n_rounded > arena->size - arena->used) {
        log_error("arena", "piece of %zu bytes does not fit size=%zu used=%zu", n_bytes,
                  arena->size, arena->used);
        abort();
    }
    unsigned char *piece = arena->base + arena->used;
    ASAN_UNPOISON_MEMORY_REGION(piece, n_bytes);
    arena->used += n_rounded;
    return piece;
}

void arena_reset(struct arena *arena)
{
    if (arena->base != NULL)
        ASAN_POISON_MEMORY_REGION(arena->base, arena->size);
    arena->used = 0;
}
