/* meeting.h - how the decode kernels of an instruction set go through a matrix; for the files of
 * one set to include.
 *
 * Rows are taken four at a time from the four quarters of the matrix: the loads of activations are
 * shared, four independent sums hide latencies, and each quarter is one long stream for the
 * prefetchers.  Up to MEET_COLUMNS columns meet a row together: it is unpacked once for them, and
 * of more the next ones find it in a near cache. */
#ifndef KERF_MEETING_H
#define KERF_MEETING_H

#include "evaluator/kernels/inline.h"

#include <stdbool.h>
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

/* Code of its own for each number of columns. */
INLINE void meet(rows_fn *rows, struct meeting m, const char *act, size_t act_bytes, int n_cols)
{
    m.n_cols = n_cols;
#pragma GCC unroll 4
    for (int c = 0; c < n_cols; c++)
        m.act[c] = act + (size_t)c * act_bytes;
    rows(&m);
}

/* A kernel_matmul_fn.  Rows left over are the first of four equal ones, so that no row depends on
 * where it stands. */
INLINE void meet_all(rows_fn *rows, const uint8_t *w, size_t row_bytes, size_t n_rows, size_t n_in,
                     const char *act, size_t act_bytes, size_t n_cols, float *out,
                     size_t out_stride)
{
    size_t quarter = n_rows / STREAMS, n_fours = quarter + n_rows % STREAMS;
    struct meeting m = {.n_in = n_in, .out_apart = quarter, .out_stride = out_stride};
    for (size_t r = 0; r < n_fours; r++) {
        bool four = r < quarter;
        size_t row = four ? r : r + (STREAMS - 1) * quarter;
        m.w = w + row * row_bytes;
        m.apart = four ? quarter * row_bytes : 0;
        m.n_rows = four ? STREAMS : 1;
        for (size_t c = 0; c < n_cols; c += MEET_COLUMNS) {
            const char *first = act + c * act_bytes;
            m.out = out + c * out_stride + row;
            switch (n_cols - c) {
            case 1:
                meet(rows, m, first, act_bytes, 1);
                break;
            case 2:
                meet(rows, m, first, act_bytes, 2);
                break;
            case 3:
                meet(rows, m, first, act_bytes, 3);
                break;
            default:
                meet(rows, m, first, act_bytes, 4);
            }
        }
    }
}

/* decode_NAME_ISA; what follows the name takes a meeting m. */
#define DECODE(isa, name, ...)                                                                     \
    INLINE void rows_##name(const struct meeting *m)                                               \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    void decode_##name##_##isa(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,        \
                               const void *act, size_t act_bytes, size_t n_cols, float *out,       \
                               size_t out_stride)                                                  \
    {                                                                                              \
        meet_all(rows_##name, w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,             \
                 out_stride);                                                                      \
    }

#endif
