/* int8_avx512.h - the pieces of the AVX-512 VNNI kernels, between their files only. */
#ifndef KERF_INT8_AVX512_H
#define KERF_INT8_AVX512_H

#include "evaluator/kernels/act_pack.h"

/* A few columns (decode_avx512.c, decode_k_avx512.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn decode_Q2_K_avx512, decode_Q3_K_avx512, decode_Q4_K_avx512, decode_Q5_K_avx512,
    decode_Q6_K_avx512, decode_IQ4_NL_avx512, decode_Q4_0_avx512, decode_Q5_0_avx512,
    decode_Q8_0_avx512;

/* Many columns (tile_avx512.c); arguments as kernel_matmul_fn. */
kernel_matmul_fn tile_Q2_K_avx512, tile_Q3_K_avx512, tile_Q4_K_avx512, tile_Q5_K_avx512,
    tile_Q6_K_avx512, tile_IQ4_NL_avx512, tile_Q4_0_avx512, tile_Q5_0_avx512, tile_Q8_0_avx512;

#endif
