/* meeting.h - how the decode kernels of an instruction set go through a matrix; for the files of
 * one set to include.
 *
 * Rows are taken four at a time from the four quarters of the matrix: the loads of activations are
 * shared, four independent sums hide latencies, and each quarter is one long stream for the
 * prefetchers.  Up to MEET_COLUMNS columns meet a row together: it is read and unpacked once. */
#ifndef KERF_MEETING_H
#define KERF_MEETING_H

#include "evaluator/kernels/inline.h"

#include <stddef.h>
#include <stdint.h>

enum { STREAMS = 4, MEET_COLUMNS = 4 };

/* Four rows and the columns that they meet; the first n_rows are wanted. */
struct meeting {
    const uint8_t *w;
    size_t apart; /* bytes from one row to the next */
    int n_rows;
    size_t n_in;
    const char *act[MEET_COLUMNS]; /* packed */
    int n_cols;
    float *out;
    size_t out_apart, out_stride; /* of rows, of columns */
};
typedef void rows_fn(const struct meeting *m);

/* Rows left over are the first of four equal ones, so that no row depends on where it stands. */
INLINE void meet(rows_fn *rows, const uint8_t *w, size_t row_bytes, size_t n_rows, size_t n_in,
                 const char *act, size_t act_bytes, int n_cols, float *out, size_t out_stride)
{
    size_t quarter = n_rows / STREAMS, done = STREAMS * quarter;
    struct meeting m = {.n_in = n_in, .n_cols = n_cols, .out_apart = quarter};
    m.out_stride = out_stride;
#pragma GCC unroll 4
    for (int c = 0; c < n_cols; c++)
        m.act[c] = act + (size_t)c * act_bytes;
    for (size_t r = 0; r < quarter + n_rows - done; r++) {
        bool four = r < quarter;
        size_t row = four ? r : done + r - quarter;
        m.w = w + row * row_bytes;
        m.apart = four ? quarter * row_bytes : 0;
        m.n_rows = four ? STREAMS : 1;
        m.out = out + row;
        rows(&m);
    }
}

/* decode_NAME_ISA, a kernel_matmul_fn for a few columns: code of its own for each number of them.
 * What follows the name takes a meeting m. */
#define MEET(name, columns)                                                                        \
    meet(rows_##name, w, row_bytes, n_rows, n_in, (const char *)act + c * act_bytes, act_bytes,    \
         columns, out + c * out_stride, out_stride)
#define DECODE(isa, name, ...)                                                                     \
    INLINE void rows_##name(const struct meeting *m)                                               \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    void decode_##name##_##isa(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,        \
                               const void *act, size_t act_bytes, size_t n_cols, float *out,       \
                               size_t out_stride)                                                  \
    {                                                                                              \
        for (size_t c = 0; c < n_cols; c += MEET_COLUMNS)                                          \
            switch (n_cols - c) {                                                                  \
            case 1:                                                                                \
                MEET(name, 1);                                                                     \
                break;                                                                             \
            case 2:                                                                                \
                MEET(name, 2);                                                                     \
                break;                                                                             \
            case 3:                                                                                \
                MEET(name, 3);                                                                     \
                break;                                                                             \
            default:                                                                               \
                MEET(name, 4);                                                                     \
            }                                                                                      \
    }

#endif
