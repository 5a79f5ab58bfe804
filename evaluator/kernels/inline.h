/* inline.h - INLINE, for the pieces that kernels are put together of: arguments that are constants
 * where they are called make code of its own, which the compiler does not see by itself. */
#ifndef KERF_INLINE_H
#define KERF_INLINE_H

#define INLINE static inline __attribute__((always_inline))

#endif
