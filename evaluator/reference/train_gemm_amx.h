/* train_gemm_amx.h - the linear maps and the attention of the tile backend (train_backend.h says
 * what each does).  Call only where train_backend_amx found the tiles usable. */
#ifndef TRAIN_GEMM_AMX_H
#define TRAIN_GEMM_AMX_H

#include <stdbool.h>
#include <stddef.h>

#include "evaluator/reference/train_backend.h"

size_t gemm_amx_weight_bytes(size_t n_out, size_t n_in);
void gemm_amx_weight_pack(size_t n_out, size_t n_in, const float *w, void *packed);
size_t gemm_amx_scratch(size_t n_out, size_t n_in);
void gemm_amx_linear(size_t n_rows, size_t n_out, size_t n_in, const void *x, size_t ldx,
                     const void *packed, struct train_output y, void *scratch);
void gemm_amx_linear_back(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                          const void *packed, struct train_output dx, void *scratch);
void gemm_amx_linear_weight(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                            const void *x, size_t ldx, float *dw, void *scratch);

bool attention_amx_fits(const struct train_heads *heads);
size_t attention_amx_scratch(const struct train_heads *heads);
void attention_amx(const struct train_heads *heads, const void *qkv, void *out, float *log_sum,
                   void *scratch);
void attention_amx_back(const struct train_heads *heads, const void *qkv, const void *out,
                        const float *log_sum, const void *d_out, void *d_qkv, void *scratch);

#endif
