/* train_backend_amx.c - the backend on AMX tiles. */
#include "evaluator/reference/train_block_amx.h"

#define TILED_TABLE train_table_amx
#define TILED_NAME  "amx"
#include "evaluator/reference/train_tiled_impl.h"
