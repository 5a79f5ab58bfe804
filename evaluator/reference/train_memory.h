/* train_memory.h - large arrays on large pages. */
#ifndef TRAIN_MEMORY_H
#define TRAIN_MEMORY_H

#include <stddef.h>

/* n_bytes (1 or more) at zero, aligned to 64 bytes at least, on 2 MiB pages where the kernel has
 * them: blocks of a matrix touch one page a row, more than the processor keeps translations of
 * when pages are small.  Yours to free(); NULL without memory. */
void *train_memory_create(size_t n_bytes);

#endif
