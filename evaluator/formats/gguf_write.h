/* gguf_write.h - GGUF v3 for writing: collect keys and tensors, then write the file in one go,
 * atomically (temporary file, fsync, rename).  Keys keep the order in which they were added.
 * Adding a key or tensor name twice asserts: names come from us.  Tensor names have 1 to 63 bytes
 * (stock engines refuse 64). */
#ifndef KERF_GGUF_WRITE_H
#define KERF_GGUF_WRITE_H

#include "space/format.h"
#include <stddef.h>
#include <stdint.h>

struct err;
struct gguf;
struct gguf_writer;

struct gguf_writer *gguf_writer_create(struct err *err);
void gguf_writer_destroy(struct gguf_writer *writer); /* NULL is fine */

/* All 0, or -1 without memory. */
int gguf_put_u32(struct gguf_writer *writer, const char *key, uint32_t value, struct err *err);
int gguf_put_f32(struct gguf_writer *writer, const char *key, float value, struct err *err);
int gguf_put_bool(struct gguf_writer *writer, const char *key, int value, struct err *err);
int gguf_put_text(struct gguf_writer *writer, const char *key, const char *value, struct err *err);
int gguf_put_u32_array(struct gguf_writer *writer, const char *key, const uint32_t *values,
                       size_t n, struct err *err);
int gguf_put_f32_array(struct gguf_writer *writer, const char *key, const float *values, size_t n,
                       struct err *err);
int gguf_put_i32_array(struct gguf_writer *writer, const char *key, const int32_t *values, size_t n,
                       struct err *err);
/* values[i] has lengths[i] bytes (need not be NUL-terminated). */
int gguf_put_text_array(struct gguf_writer *writer, const char *key, const char *const *values,
                        const size_t *lengths, size_t n, struct err *err);
/* Copy a key of another file as it is; 0 also when it is absent there, and for general.alignment,
 * which is left at its default of 32. */
int gguf_put_copy(struct gguf_writer *writer, const struct gguf *from, const char *key,
                  struct err *err);

/* Add a tensor of 1 or 2 dimensions: row_len weights a row, n_rows rows (1 for a vector, written
 * with n_dims 1).  The rows must fit the format.  `data` is borrowed until gguf_writer_save. */
int gguf_put_tensor(struct gguf_writer *writer, const char *name, enum format format,
                    size_t row_len, size_t n_rows, const void *data, struct err *err);

/* May be called more than once.  Codes of file_draft_open and file_draft_commit. */
int gguf_writer_save(struct gguf_writer *writer, const char *path, struct err *err);

#endif
