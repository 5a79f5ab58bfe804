/* gguf_parts.h - what gguf.c (the head of the file) and gguf_value.c (the values of keys) share.
 * For these two alone. */
#ifndef KERF_GGUF_PARTS_H
#define KERF_GGUF_PARTS_H

#include "evaluator/formats/gguf.h"
#include "space/base/file.h"
#include <stdbool.h>

/* A key and where its value lies.  Checked when it was read: every byte of the value is inside the
 * map, and so are the strings. */
struct gguf_key {
    struct gguf_text name;
    size_t at;     /* byte of the file where the key begins */
    uint32_t type; /* of the value, or of the elements of an array */
    bool is_array;
    const uint8_t *value; /* as the file has it; not aligned */
    size_t n_bytes;
    const uint8_t *elements; /* numbers and bools: the value, or the first element */
    uint64_t n_elements;     /* of an array */
    struct gguf_text text;   /* of a string */
    struct gguf_text *texts; /* [n_elements] of an array of strings; ours */
};

struct gguf_slot {
    struct gguf_tensor tensor;
    size_t at;       /* byte of the file where its info begins */
    uint64_t offset; /* of its data, from the start of all data */
};

/* A row of a sorted index of names. */
struct gguf_name {
    struct gguf_text name;
    size_t at;
    size_t index;
};

struct gguf {
    char *path;
    struct file_map map; /* empty when the bytes belong to the caller */
    size_t n_keys;
    struct gguf_key *keys;
    struct gguf_name *key_names; /* [n_keys], sorted */
    size_t n_tensors;
    struct gguf_slot *slots;
    struct gguf_name *tensor_names; /* [n_tensors], sorted */
};

/* Index of the thing called `name`, SIZE_MAX when there is none. */
size_t gguf_name_find(const struct gguf_name *names, size_t n, const char *name);

/* "u32", NULL for a number that is no type. */
const char *gguf_type_name(uint32_t type);
/* Of one number or bool; 0 for strings and arrays. */
size_t gguf_type_bytes(uint32_t type);

/* The end of a path, so that a message has room for what it says. */
const char *gguf_short_path(const char *path);
/* Two arguments for "%.*s" that show the first bytes of a name. */
#define gguf_shown(text) (int)((text).length < 64 ? (text).length : 64), (text).data

#endif
