/* imatrix_parts.h - what the two forms of an importance matrix share. */
#ifndef KERF_IMATRIX_PARTS_H
#define KERF_IMATRIX_PARTS_H

#include "evaluator/compression/imatrix.h"

int imatrix_dat_parse(struct imatrix *matrix, const uint8_t *data, size_t n_bytes, const char *name,
                      struct err *err);
int imatrix_dat_write(const struct imatrix *matrix, const char *path, struct err *err);
int imatrix_gguf_parse(struct imatrix *matrix, const void *data, size_t n_bytes, const char *name,
                       struct err *err);
int imatrix_gguf_write(const struct imatrix *matrix, const char *path, struct err *err);

/* mean_square[i] = sum[i] / count, an array of bytes; ERR_DATA when one is negative or not finite. */
int imatrix_fill(struct imatrix_entry *entry, const void *sum, double count, const char *path,
                 struct err *err);
/* Chunks that `n_tokens` make, a part of one counted. */
uint32_t imatrix_n_chunks(const struct imatrix *matrix, uint64_t n_tokens);

#endif
