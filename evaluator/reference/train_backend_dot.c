/* train_backend_dot.c - the backend on the bf16 dot products of AVX-512. */
#include "evaluator/reference/train_block_dot.h"

#define TILED_TABLE train_table_dot
#define TILED_NAME  "dot"
#include "evaluator/reference/train_tiled_impl.h"
