/* arena.h - one block of memory, sized beforehand, handed out in 64-byte aligned pieces.
 * The forward pass takes one arena; its pieces live until arena_reset or arena_fini. */
#ifndef KERF_ARENA_H
#define KERF_ARENA_H

#include <stddef.h>

struct err;

struct arena {
    unsigned char *base;
    size_t size; /* bytes */
    size_t used; /* bytes, a multiple of 64 */
};

#define ARENA_ALIGN 64

/* What `n_bytes` take in an arena: rounded up to ARENA_ALIGN. */
size_t arena_rounded(size_t n_bytes);

/* Reserve `size` bytes, page-aligned and zeroed.  0, or -1 with `err` filled. */
int arena_init(struct arena *arena, size_t size, struct err *err);
void arena_fini(struct arena *arena); /* a zeroed struct is fine */
/* The next piece, 64-byte aligned, not cleared.  Asserts that it fits: the size was computed. */
void *arena_take(struct arena *arena, size_t n_bytes);
/* Forget every piece; the memory stays. */
void arena_reset(struct arena *arena);

#endif
