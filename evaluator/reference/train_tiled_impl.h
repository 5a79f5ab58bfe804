/* train_tiled_impl.h - a backend on bf16 blocks, written once over the kind of block.  Included by
 * train_backend_amx.c and train_backend_dot.c, which include their block header before and define
 *   TILED_TABLE, TILED_NAME   the name of the table to define and of its backend */
#include "evaluator/reference/train_backend.h"
#include "evaluator/reference/train_rows.h"

#include "evaluator/reference/train_attention_impl.h"
#include "evaluator/reference/train_gemm_impl.h"

const struct train_backend TILED_TABLE = {
    .name = TILED_NAME,
    .rows = &train_rows_bf16,
    .weight_bytes = gemm_weight_bytes,
    .weight_pack = gemm_weight_pack,
    .linear_scratch = gemm_scratch,
    .linear = gemm_linear,
    .linear_back = gemm_linear_back,
    .linear_weight = gemm_linear_weight,
    .attention_fits = attention_fits,
    .attention_scratch = attention_scratch,
    .attention = attention_forward,
    .attention_back = attention_back,
};
