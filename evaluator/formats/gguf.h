/* gguf.h - GGUF for reading: a file mapped read-only, every length checked before it is believed.
 * Versions 3 and 2, which do not differ in anything that is read here.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_keys | keys | tensor infos | padding | data
 *   key:    string name | u32 type | value          string: u64 length | bytes
 *   tensor: string name | u32 n_dims | u64 dims[] | u32 ggml type | u64 offset in data
 *
 * Everything in it is untrusted: counts, lengths, offsets and products are checked against the
 * mapped size with overflow-safe arithmetic; a lie is ERR_DATA naming the file, the thing and the
 * byte offset.  Little-endian hosts only. */
#ifndef KERF_GGUF_H
#define KERF_GGUF_H

#include "space/format.h"
#include <stddef.h>
#include <stdint.h>

struct err;
struct gguf;

/* The type numbers of the file. */
/* clang-format off */
enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};
/* clang-format on */

/* A string inside the map: not NUL-terminated, borrowed until gguf_close. */
struct gguf_text {
    const char *data;
    size_t length;
};

struct gguf_tensor {
    struct gguf_text name;
    uint32_t ggml_type;
    enum format format; /* FORMAT_NONE for a type kerf does not compute with */
    uint32_t n_dims;
    uint64_t dims[4]; /* dims[0] is the row length; absent ones are 1; none is 0 */
    const void *data; /* inside the map, aligned to 8 bytes at least (32 as a rule) */
    size_t n_bytes;   /* 0 when the format is unknown */
};

/* Tensors keep the order of the file, lie inside it and do not overlap; names and keys are unique.
 * ERR_DATA for a lie, big-endian files, v1 and arrays of arrays; the codes of file_map_open. */
struct gguf *gguf_open(const char *path, struct err *err);
/* The same for a file that is already in memory: borrowed until gguf_close, aligned to 8 bytes at
 * least.  `name` stands for the path in messages. */
struct gguf *gguf_open_memory(const void *data, size_t n_bytes, const char *name, struct err *err);
void gguf_close(struct gguf *gguf); /* NULL is fine */
const char *gguf_path(const struct gguf *gguf);

size_t gguf_n_tensors(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index);
/* By name; NULL when absent. */
const struct gguf_tensor *gguf_tensor_find(const struct gguf *gguf, const char *name);

size_t gguf_n_keys(const struct gguf *gguf);
struct gguf_text gguf_key_at(const struct gguf *gguf, size_t index);
/* An enum gguf_type, -1 when absent. */
int gguf_type_of(const struct gguf *gguf, const char *key);

/* Scalars: 1 found, 0 absent, -1 with `err` when present with an unsuitable type or value.
 * gguf_get_uint takes any integer type that is not negative; gguf_get_float takes f32 and f64,
 * finite; gguf_get_bool takes a bool of 0 or 1. */
int gguf_get_uint(const struct gguf *gguf, const char *key, uint64_t *value, struct err *err);
int gguf_get_float(const struct gguf *gguf, const char *key, double *value, struct err *err);
int gguf_get_bool(const struct gguf *gguf, const char *key, int *value, struct err *err);
int gguf_get_text(const struct gguf *gguf, const char *key, struct gguf_text *text,
                  struct err *err);

/* Arrays.  gguf_array_length: -1 when absent or not an array.  Elements by index: 0, or -1 with
 * `err` when the key is absent or no array, the index is beyond its end or the element is not
 * suitable (floats may be infinite or NAN here).  Text arrays are indexed at open: access is O(1)
 * after the O(log n) search for the key. */
int64_t gguf_array_length(const struct gguf *gguf, const char *key);
int gguf_array_uint(const struct gguf *gguf, const char *key, size_t index, uint64_t *value,
                    struct err *err);
int gguf_array_float(const struct gguf *gguf, const char *key, size_t index, double *value,
                     struct err *err);
int gguf_array_text(const struct gguf *gguf, const char *key, size_t index, struct gguf_text *text,
                    struct err *err);

/* The raw bytes of a key's value (type tag excluded), for copying it to another file as it is.
 * 0, or -1 when the key is absent. */
int gguf_raw_value(const struct gguf *gguf, const char *key, uint32_t *type, const void **data,
                   size_t *n_bytes);

#endif
