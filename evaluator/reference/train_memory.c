/* train_memory.c - see the header. */
#include "evaluator/reference/train_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE_PAGE = 2 << 20, CACHE_LINE = 64 };

void *train_memory_create(size_t n_bytes)
{
    size_t unit = n_bytes < LARGE_PAGE ? CACHE_LINE : LARGE_PAGE;
    if (n_bytes > SIZE_MAX - unit)
        return NULL;
    size_t whole = (n_bytes + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, whole);
    if (memory == NULL)
        return NULL;
    if (unit == LARGE_PAGE)
        (void)madvise(memory, whole, MADV_HUGEPAGE); /* a wish: small pages work too */
    memset(memory, 0, whole);
    return memory;
}
