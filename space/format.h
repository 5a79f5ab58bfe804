/* format.h - the block formats of ggml that weights are kept in: names, sizes, fallbacks.
 * Sizes are computed from block and bytes, never from published labels. */
#ifndef KERF_FORMAT_H
#define KERF_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One row a format: name, ggml type id, weights per block, bytes per block.  Ordered from the
 * coarsest to the finest, so that a larger value never means fewer bits per weight. */
#define FORMATS(X)                                                                                 \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(IQ4_NL, 20, 32, 18)                                                                          \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(F16, 1, 1, 2)                                                                                \
    X(BF16, 30, 1, 2)                                                                              \
    X(F32, 0, 1, 4)

enum format {
#define FORMAT_ENUM(name, ggml_type, block, bytes) FORMAT_##name,
    FORMATS(FORMAT_ENUM)
#undef FORMAT_ENUM
    N_FORMATS,
    FORMAT_NONE = -1 /* no such format; a unit that is dropped */
};

/* What multiplies the weights: activations quantized to 8 bits a block, as the engine that users
 * deploy with does for quantized weights, or kept in float. */
enum act_format { ACT_FLOAT, ACT_Q8, N_ACT_FORMATS };

const char *format_name(enum format format);          /* "Q4_K" */
enum format format_parse(const char *name);           /* FORMAT_NONE when unknown; exact spelling */
enum format format_from_ggml(uint32_t ggml_type);     /* FORMAT_NONE when not supported */
uint32_t format_to_ggml(enum format format);
size_t format_block(enum format format);              /* weights per block */
size_t format_block_bytes(enum format format);
/* The least number of bytes that is whole blocks and whole lines of a cache: where matrices of a
 * format that lie in one stretch of blocks may begin. */
size_t format_stride(enum format format);
double format_bits(enum format format);               /* per weight: 2.625 for Q2_K */
bool format_is_quantized(enum format format);         /* neither F32, F16 nor BF16 */

/* Whether the KV cache can be kept in it: F32, F16, Q8_0 or Q4_0. */
bool format_is_cache(enum format format);

/* Whether rows of `row_len` weights can be kept in `format` (a whole number of blocks). */
bool format_fits(enum format format, size_t row_len);
/* The format that llama.cpp's rules put in place of one that does not fit: K-quants fall to a
 * 32-block (Q6_K to Q8_0, Q5_K to Q5_0, Q4_K to Q4_0, Q3_K and Q2_K to IQ4_NL), 32-blocks to F16. */
enum format format_fallback(enum format format, size_t row_len);
/* Bytes of one row; asserts that it fits. */
size_t format_row_bytes(enum format format, size_t row_len);

const char *act_format_name(enum act_format act);     /* "a16", "a8" */
enum act_format act_format_parse(const char *name, bool *known);
/* What llama.cpp does: 8 bits where the weight is quantized, else float. */
enum act_format act_format_of(enum format weights);

#endif
