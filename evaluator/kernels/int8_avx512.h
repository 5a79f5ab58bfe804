/* int8_avx512.h - the pieces of the AVX-512 VNNI kernels, between their files only. */
#ifndef KERF_INT8_AVX512_H
#define KERF_INT8_AVX512_H

#include "evaluator/kernels/act_pack.h"

/* out[r] for one packed column (decode_avx512.c). */
typedef void decode_fn(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,
                       const void *packed, float *out);
decode_fn decode_Q2_K_avx512, decode_Q3_K_avx512, decode_Q4_K_avx512, decode_Q5_K_avx512,
    decode_Q6_K_avx512, decode_IQ4_NL_avx512, decode_Q4_0_avx512, decode_Q5_0_avx512,
    decode_Q8_0_avx512;

/* Many columns (tile_avx512.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn tile_Q2_K_avx512, tile_Q3_K_avx512, tile_Q4_K_avx512, tile_Q5_K_avx512,
    tile_Q6_K_avx512, tile_IQ4_NL_avx512, tile_Q4_0_avx512, tile_Q5_0_avx512, tile_Q8_0_avx512;

#endif
