/* int8_avx2.h - the pieces of the AVX2 kernels, between their files only. */
#ifndef KERF_INT8_AVX2_H
#define KERF_INT8_AVX2_H

#include "evaluator/kernels/act_pack.h"

/* A few columns (decode_avx2.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_Q2_K_avx2, decode_Q3_K_avx2, decode_Q4_K_avx2, decode_Q5_K_avx2,
    decode_Q6_K_avx2, decode_IQ4_NL_avx2, decode_Q4_0_avx2, decode_Q5_0_avx2, decode_Q8_0_avx2;

/* Many columns (tile_avx2.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn tile_Q2_K_avx2, tile_Q3_K_avx2, tile_Q4_K_avx2, tile_Q5_K_avx2, tile_Q6_K_avx2,
    tile_IQ4_NL_avx2, tile_Q4_0_avx2, tile_Q5_0_avx2, tile_Q8_0_avx2;

#endif
