/* kernel_sets.h - inside the kernels only: how a set is put together and checked.
 * A set starts as a copy of the reference; each instruction set's files then overwrite the entries
 * that they do faster, so that a format without a fast kernel still works.  The set of matrix tiles
 * starts as a copy of the AVX-512 set, which serves it where columns are few. */
#ifndef KERF_KERNEL_SETS_H
#define KERF_KERNEL_SETS_H

#include "evaluator/kernels/kernels.h"

struct err;

kernel_pack_fn pack_float; /* a copy: ACT_FLOAT of every set */

void matmul_ref_fill(struct kernels *set);
void layer_ref_fill(struct kernels *set);
void moments_ref_fill(struct kernels *set);
void cache_ref_fill(struct kernels *set);
void attend_ref_fill(struct kernels *set);

/* Each part of the fast sets; to be called only where the processor has the instructions. */
void int8_avx2_fill(struct kernels *set);
void float_avx2_fill(struct kernels *set);
void layer_avx2_fill(struct kernels *set);
void moments_avx2_fill(struct kernels *set);
void cache_avx2_fill(struct kernels *set);
void attend_avx2_fill(struct kernels *set); /* behind packing and unpacking */
void int8_avx512_fill(struct kernels *set);
void float_avx512_fill(struct kernels *set);
void layer_avx512_fill(struct kernels *set);
void moments_avx512_fill(struct kernels *set);
void cache_avx512_fill(struct kernels *set);
void attend_avx512_fill(struct kernels *set); /* behind packing and unpacking */
void int8_amx_fill(struct kernels *set);      /* both: behind what serves few columns */
void float_amx_fill(struct kernels *set);

/* Whether the processor has matrix tiles of int8 and bf16. */
bool amx_is_there(void);
/* Ask the operating system for them: for this process, its threads and what it forks.  0, or -1
 * with ERR_RESOURCE where it says no. */
int amx_permit(struct err *err);

/* Positions that attention takes at a time: fewer where they are wide, so that keys and values of a
 * tile stay in the first cache.  Vectors are padded to whole registers of any set. */
enum { ATTEND_TILE_MIN = 16 };
static inline size_t attend_tile(size_t head_dim)
{
    return head_dim <= 32   ? 4 * ATTEND_TILE_MIN
           : head_dim <= 64 ? 2 * ATTEND_TILE_MIN
                            : ATTEND_TILE_MIN;
}
static inline size_t attend_padded(size_t head_dim)
{
    return (head_dim + 15) / 16 * 16;
}
/* Of one position: so many keys at a time; vectors are padded to pairs of registers of any set. */
enum { ATTEND_CHUNK = 128 };
static inline size_t attend_pieces(size_t head_dim)
{
    return (head_dim + 31) / 32 * 32;
}
#define LOG2_E 0x1.715476p+0f

/* matmul_NAME of an instruction set: up to `few` columns do not repay the filling of a tile. */
#define INT8_MATMUL(isa, name, few)                                                                \
    static void matmul_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        kernel_matmul_fn *matmul = n_cols > (few) ? tile_##name##_##isa : decode_##name##_##isa;   \
        matmul(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out, out_stride);               \
    }

/* 0 when every entry of `set` reproduces `reference` on a fixed input; -1 with ERR_INTERNAL and
 * the name of the first entry that does not. */
int kernels_check(const struct kernels *set, const struct kernels *reference, struct err *err);

#endif
