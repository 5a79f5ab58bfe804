/* gguf.c - reads a GGUF file in one pass over its head and keeps pointers into it.
 *
 * A cursor walks the untrusted bytes; it is the only thing that moves forward, and it never moves
 * past the end.  Counts are compared with what the rest of the file could hold at most before
 * anything is allocated for them, so memory stays proportional to the file.  Names are found by
 * binary search in a sorted index, which also shows duplicates and cannot be slowed down by names
 * that were chosen to collide. */
#include "evaluator/formats/gguf_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read in place: little-endian");

/* The smallest key: name length, one byte of name, type, one byte of value. */
#define KEY_MIN_BYTES (8 + 1 + 4 + 1)
#define KEY_NAME_MAX  65535
/* The smallest tensor info: name length, one byte of name, rank, one dimension, type, offset. */
#define TENSOR_MIN_BYTES  (8 + 1 + 4 + 8 + 4 + 8)
#define TENSOR_NAME_MAX   64
#define DEFAULT_ALIGNMENT 32

/* The place that is read next; `at` never exceeds `size`. */
struct cursor {
    const uint8_t *data;
    size_t size;
    size_t at;
    const char *path;
    struct err *err;
};

/* Say what is wrong at byte `at`. */
__attribute__((format(printf, 3, 4))) static void lie(const struct cursor *cursor, uint64_t at,
                                                      const char *fmt, ...)
{
    char text[sizeof cursor->err->text];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(cursor->err, ERR_DATA, "%s: at byte %" PRIu64 ": %s", gguf_short_path(cursor->path), at,
            text);
}

/* The next `n` bytes, or NULL when the file ends before. */
static const uint8_t *cursor_take(struct cursor *cursor, uint64_t n, const char *what)
{
    size_t left = cursor->size - cursor->at;

    if (n > left) {
        lie(cursor, cursor->at,
            "%s takes %" PRIu64 " bytes and the file has %zu left: it is cut short or damaged, "
            "get it again",
            what, n, left);
        return NULL;
    }
    const uint8_t *bytes = cursor->data + cursor->at;
    cursor->at += (size_t)n;
    return bytes;
}

static int cursor_u32(struct cursor *cursor, uint32_t *value, const char *what)
{
    const uint8_t *bytes = cursor_take(cursor, sizeof *value, what);

    if (bytes == NULL)
        return -1;
    memcpy(value, bytes, sizeof *value);
    return 0;
}

static int cursor_u64(struct cursor *cursor, uint64_t *value, const char *what)
{
    const uint8_t *bytes = cursor_take(cursor, sizeof *value, what);

    if (bytes == NULL)
        return -1;
    memcpy(value, bytes, sizeof *value);
    return 0;
}

static int cursor_text(struct cursor *cursor, struct gguf_text *text, const char *what)
{
    uint64_t length;

    if (cursor_u64(cursor, &length, what) != 0)
        return -1;
    const uint8_t *bytes = cursor_take(cursor, length, what);
    if (bytes == NULL)
        return -1;
    *text = (struct gguf_text){(const char *)bytes, (size_t)length};
    return 0;
}

/* A count of things of at least `min_bytes` each. */
static int cursor_count(struct cursor *cursor, uint64_t *count, size_t min_bytes, const char *what)
{
    size_t at = cursor->at;

    if (cursor_u64(cursor, count, what) != 0)
        return -1;
    size_t left = cursor->size - cursor->at;
    if (*count > left / min_bytes) {
        lie(cursor, at,
            "%s says %" PRIu64 ", more than the %zu bytes left can hold: the file is cut short or "
            "damaged, get it again",
            what, *count, left);
        return -1;
    }
    return 0;
}

/* A name of 1 to `max` bytes that a C string can hold. */
static int cursor_name(struct cursor *cursor, struct gguf_text *name, size_t max, const char *what)
{
    size_t at = cursor->at;

    if (cursor_text(cursor, name, what) != 0)
        return -1;
    if (name->length == 0 || name->length > max) {
        lie(cursor, at, "%s has %zu bytes, allowed are 1 to %zu: the file is damaged, get it again",
            what, name->length, max);
        return -1;
    }
    if (memchr(name->data, '\0', name->length) != NULL) {
        lie(cursor, at, "%s has a NUL in it: the file is damaged, get it again", what);
        return -1;
    }
    return 0;
}

/* Magic and version. */
static int version_read(struct cursor *cursor)
{
    uint32_t version;
    const uint8_t *magic = cursor_take(cursor, 4, "the magic");

    if (magic == NULL)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0) {
        lie(cursor, 0, "this is no GGUF file: it does not begin with GGUF; convert it first");
        return -1;
    }
    if (cursor_u32(cursor, &version, "the version") != 0)
        return -1;
    /* Versions are small, so empty low bytes mean that the bytes come the other way round. */
    if (version != 0 && (version & 0xffff) == 0) {
        lie(cursor, 4, "this GGUF file is big-endian; convert it to little-endian");
        return -1;
    }
    if (version == 1) {
        lie(cursor, 4, "this is GGUF version 1, which is obsolete; convert the model again");
        return -1;
    }
    if (version != 2 && version != 3) {
        lie(cursor, 4, "GGUF version %" PRIu32 " is not known here; convert the model to version 3",
            version);
        return -1;
    }
    return 0;
}

/* Remember where each string of an array is. */
static int texts_read(struct cursor *cursor, struct gguf_key *key)
{
    if (key->n_elements == 0)
        return 0;
    key->texts = malloc((size_t)key->n_elements * sizeof *key->texts);
    if (key->texts == NULL) {
        err_set(cursor->err, ERR_MEMORY, "%s: out of memory for %" PRIu64 " strings",
                gguf_short_path(cursor->path), key->n_elements);
        return -1;
    }
    for (uint64_t i = 0; i < key->n_elements; i++)
        if (cursor_text(cursor, &key->texts[i], "a string of an array") != 0)
            return -1;
    return 0;
}

static int array_read(struct cursor *cursor, struct gguf_key *key)
{
    size_t at = cursor->at;

    if (cursor_u32(cursor, &key->type, "the element type of an array") != 0)
        return -1;
    if (key->type == GGUF_ARRAY) {
        lie(cursor, at, "key '%.*s' is an array of arrays, which kerf does not read: remove it",
            gguf_shown(key->name));
        return -1;
    }
    if (gguf_type_name(key->type) == NULL) {
        lie(cursor, at,
            "key '%.*s' has elements of the unknown type %" PRIu32
            ": the file is damaged, get it again",
            gguf_shown(key->name), key->type);
        return -1;
    }
    size_t element_bytes = gguf_type_bytes(key->type);
    /* A string takes its length at least. */
    if (cursor_count(cursor, &key->n_elements, element_bytes > 0 ? element_bytes : 8,
                     "the length of an array") != 0)
        return -1;
    if (key->type == GGUF_STRING)
        return texts_read(cursor, key);
    /* The product cannot overflow: the count was checked against the bytes left. */
    key->elements = cursor_take(cursor, key->n_elements * element_bytes, "an array");
    return key->elements != NULL ? 0 : -1;
}

static int key_read(struct cursor *cursor, struct gguf_key *key)
{
    key->at = cursor->at;
    if (cursor_name(cursor, &key->name, KEY_NAME_MAX, "the name of a key") != 0)
        return -1;
    size_t type_at = cursor->at;
    if (cursor_u32(cursor, &key->type, "the type of a key") != 0)
        return -1;
    if (gguf_type_name(key->type) == NULL) {
        lie(cursor, type_at,
            "key '%.*s' has the unknown type %" PRIu32 ": the file is damaged, get it again",
            gguf_shown(key->name), key->type);
        return -1;
    }
    size_t value_at = cursor->at;
    key->value = cursor->data + cursor->at;
    key->is_array = key->type == GGUF_ARRAY;
    int status;
    if (key->is_array) {
        status = array_read(cursor, key);
    } else if (key->type == GGUF_STRING) {
        status = cursor_text(cursor, &key->text, "the string of a key");
    } else {
        key->elements = cursor_take(cursor, gguf_type_bytes(key->type), "the value of a key");
        status = key->elements != NULL ? 0 : -1;
    }
    key->n_bytes = cursor->at - value_at;
    return status;
}

static int compare_names(const void *a, const void *b)
{
    const struct gguf_name *left = a, *right = b;
    size_t n = left->name.length < right->name.length ? left->name.length : right->name.length;
    int order = memcmp(left->name.data, right->name.data, n);

    if (order != 0)
        return order;
    if (left->name.length != right->name.length)
        return left->name.length < right->name.length ? -1 : 1;
    return 0;
}

/* Sort an index and refuse a name that is there twice. */
static int names_sort(const struct cursor *cursor, struct gguf_name *names, size_t n,
                      const char *what)
{
    if (n < 2)
        return 0;
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&names[i - 1], &names[i]) != 0)
            continue;
        size_t at = names[i].at > names[i - 1].at ? names[i].at : names[i - 1].at;
        lie(cursor, at, "%s '%.*s' is there twice: the file is damaged, get it again", what,
            gguf_shown(names[i].name));
        return -1;
    }
    return 0;
}

size_t gguf_name_find(const struct gguf_name *names, size_t n, const char *name)
{
    struct gguf_name wanted = {.name = {name, strlen(name)}};
    const struct gguf_name *found =
        n > 0 ? bsearch(&wanted, names, n, sizeof *names, compare_names) : NULL;

    return found != NULL ? found->index : SIZE_MAX;
}

static int out_of_memory(const struct cursor *cursor)
{
    err_set(cursor->err, ERR_MEMORY, "%s: out of memory", gguf_short_path(cursor->path));
    return -1;
}

static int keys_read(struct gguf *gguf, struct cursor *cursor)
{
    if (gguf->n_keys == 0)
        return 0;
    gguf->keys = calloc(gguf->n_keys, sizeof *gguf->keys);
    gguf->key_names = calloc(gguf->n_keys, sizeof *gguf->key_names);
    if (gguf->keys == NULL || gguf->key_names == NULL)
        return out_of_memory(cursor);
    for (size_t i = 0; i < gguf->n_keys; i++) {
        struct gguf_key *key = &gguf->keys[i];
        if (key_read(cursor, key) != 0)
            return -1;
        gguf->key_names[i] = (struct gguf_name){key->name, key->at, i};
    }
    return names_sort(cursor, gguf->key_names, gguf->n_keys, "key");
}

/* What tensor data is aligned to: a power of two, at least 8. */
static int alignment_read(const struct gguf *gguf, const struct cursor *cursor, size_t *alignment)
{
    uint64_t value = DEFAULT_ALIGNMENT;

    int found = gguf_get_uint(gguf, "general.alignment", &value, cursor->err);
    if (found < 0)
        return -1;
    if (value < 8 || value > UINT32_MAX || (value & (value - 1)) != 0) {
        lie(cursor,
            gguf->keys[gguf_name_find(gguf->key_names, gguf->n_keys, "general.alignment")].at,
            "general.alignment is %" PRIu64 ", not a power of two from 8 on: the file is damaged, "
            "get it again",
            value);
        return -1;
    }
    *alignment = (size_t)value;
    return 0;
}

/* Dimensions whose product fits 63 bits. */
static int dims_read(struct cursor *cursor, struct gguf_tensor *tensor, uint64_t *n_weights)
{
    *n_weights = 1;
    for (uint32_t d = 0; d < 4; d++) {
        size_t at = cursor->at;
        tensor->dims[d] = 1;
        if (d >= tensor->n_dims)
            continue;
        if (cursor_u64(cursor, &tensor->dims[d], "a dimension of a tensor") != 0)
            return -1;
        if (tensor->dims[d] == 0 ||
            __builtin_mul_overflow(*n_weights, tensor->dims[d], n_weights) ||
            *n_weights > INT64_MAX) {
            lie(cursor, at,
                "tensor '%.*s': dimension %" PRIu32 " of %" PRIu64
                " is not possible: the file is damaged, get it again",
                gguf_shown(tensor->name), d, tensor->dims[d]);
            return -1;
        }
    }
    return 0;
}

/* Bytes of the data, when the format is one that kerf computes with. */
static int tensor_size(const struct cursor *cursor, size_t at, struct gguf_tensor *tensor,
                       uint64_t n_weights)
{
    uint64_t n_bytes;

    tensor->format = format_from_ggml(tensor->ggml_type);
    if (tensor->format == FORMAT_NONE)
        return 0;
    uint64_t block = format_block(tensor->format);
    if (tensor->dims[0] % block != 0) {
        lie(cursor, at,
            "tensor '%.*s': rows of %" PRIu64
            " weights are no whole number of %s blocks of %" PRIu64
            ": the file is damaged, get it again",
            gguf_shown(tensor->name), tensor->dims[0], format_name(tensor->format), block);
        return -1;
    }
    if (__builtin_mul_overflow(n_weights / block, (uint64_t)format_block_bytes(tensor->format),
                               &n_bytes) ||
        n_bytes > SIZE_MAX) {
        lie(cursor, at,
            "tensor '%.*s' of %" PRIu64 " weights is larger than memory: the file is damaged, get "
            "it again",
            gguf_shown(tensor->name), n_weights);
        return -1;
    }
    tensor->n_bytes = (size_t)n_bytes;
    return 0;
}

static int tensor_read(struct cursor *cursor, struct gguf_slot *slot)
{
    struct gguf_tensor *tensor = &slot->tensor;
    uint64_t n_weights;

    slot->at = cursor->at;
    if (cursor_name(cursor, &tensor->name, TENSOR_NAME_MAX, "the name of a tensor") != 0)
        return -1;
    size_t at = cursor->at;
    if (cursor_u32(cursor, &tensor->n_dims, "the rank of a tensor") != 0)
        return -1;
    if (tensor->n_dims < 1 || tensor->n_dims > 4) {
        lie(cursor, at,
            "tensor '%.*s' has %" PRIu32 " dimensions, allowed are 1 to 4: the file is damaged, "
            "get it again",
            gguf_shown(tensor->name), tensor->n_dims);
        return -1;
    }
    if (dims_read(cursor, tensor, &n_weights) != 0 ||
        cursor_u32(cursor, &tensor->ggml_type, "the type of a tensor") != 0 ||
        cursor_u64(cursor, &slot->offset, "the offset of a tensor") != 0)
        return -1;
    return tensor_size(cursor, slot->at, tensor, n_weights);
}

/* Point every tensor at its bytes, which must lie in the file. */
static int tensors_place(struct gguf *gguf, const struct cursor *cursor, size_t alignment)
{
    size_t padding = (alignment - cursor->at % alignment) % alignment;
    size_t left = cursor->size - cursor->at;
    /* The padding itself may be missing only where nothing follows. */
    size_t start = cursor->at + (padding <= left ? padding : left);

    left = cursor->size - start;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        struct gguf_slot *slot = &gguf->slots[i];
        struct gguf_tensor *tensor = &slot->tensor;
        if (slot->offset % alignment != 0) {
            lie(cursor, slot->at,
                "tensor '%.*s': offset %" PRIu64 " is no multiple of the alignment %zu: the file "
                "is damaged, get it again",
                gguf_shown(tensor->name), slot->offset, alignment);
            return -1;
        }
        /* Data of an unknown format has a first byte at least. */
        size_t n_bytes = tensor->n_bytes > 0 ? tensor->n_bytes : 1;
        if (slot->offset > left || n_bytes > left - slot->offset) {
            lie(cursor, slot->at,
                "tensor '%.*s': %zu bytes at offset %" PRIu64 " of the %zu bytes of data: the "
                "file is cut short or damaged, get it again",
                gguf_shown(tensor->name), n_bytes, slot->offset, left);
            return -1;
        }
        tensor->data = cursor->data + start + slot->offset;
    }
    return 0;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct gguf_slot *left = *(const struct gguf_slot *const *)a;
    const struct gguf_slot *right = *(const struct gguf_slot *const *)b;

    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* Refuse tensors that share bytes: an export would write them twice, a patch would hit both. */
static int tensors_disjoint(const struct gguf *gguf, const struct cursor *cursor)
{
    int status = 0;

    if (gguf->n_tensors < 2)
        return 0;
    const struct gguf_slot **order = malloc(gguf->n_tensors * sizeof *order);
    if (order == NULL)
        return out_of_memory(cursor);
    for (size_t i = 0; i < gguf->n_tensors; i++)
        order[i] = &gguf->slots[i];
    qsort(order, gguf->n_tensors, sizeof *order, compare_offsets);
    for (size_t i = 1; i < gguf->n_tensors && status == 0; i++) {
        const struct gguf_slot *before = order[i - 1], *slot = order[i];
        size_t n_bytes = before->tensor.n_bytes > 0 ? before->tensor.n_bytes : 1;
        if (slot->offset - before->offset >= n_bytes)
            continue;
        lie(cursor, slot->at,
            "tensor '%.*s' overlaps tensor '%.*s': the file is damaged, get it again",
            gguf_shown(slot->tensor.name), gguf_shown(before->tensor.name));
        status = -1;
    }
    free(order);
    return status;
}

static int tensors_read(struct gguf *gguf, struct cursor *cursor)
{
    size_t alignment;

    if (alignment_read(gguf, cursor, &alignment) != 0)
        return -1;
    if (gguf->n_tensors == 0)
        return 0;
    /* The count was taken before the keys were read. */
    if (gguf->n_tensors > (cursor->size - cursor->at) / TENSOR_MIN_BYTES) {
        lie(cursor, cursor->at,
            "%zu tensors do not fit in the %zu bytes left: the file is cut short or damaged, get "
            "it again",
            gguf->n_tensors, cursor->size - cursor->at);
        return -1;
    }
    gguf->slots = calloc(gguf->n_tensors, sizeof *gguf->slots);
    gguf->tensor_names = calloc(gguf->n_tensors, sizeof *gguf->tensor_names);
    if (gguf->slots == NULL || gguf->tensor_names == NULL)
        return out_of_memory(cursor);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        struct gguf_slot *slot = &gguf->slots[i];
        if (tensor_read(cursor, slot) != 0)
            return -1;
        gguf->tensor_names[i] = (struct gguf_name){slot->tensor.name, slot->at, i};
    }
    if (names_sort(cursor, gguf->tensor_names, gguf->n_tensors, "tensor") != 0 ||
        tensors_place(gguf, cursor, alignment) != 0)
        return -1;
    return tensors_disjoint(gguf, cursor);
}

static int head_read(struct gguf *gguf, struct cursor *cursor)
{
    uint64_t n_tensors, n_keys;

    if (version_read(cursor) != 0 ||
        cursor_count(cursor, &n_tensors, TENSOR_MIN_BYTES, "the number of tensors") != 0 ||
        cursor_count(cursor, &n_keys, KEY_MIN_BYTES, "the number of keys") != 0)
        return -1;
    gguf->n_tensors = (size_t)n_tensors;
    gguf->n_keys = (size_t)n_keys;
    if (keys_read(gguf, cursor) != 0)
        return -1;
    return tensors_read(gguf, cursor);
}

/* Read `data`; on success it is gguf's business, on failure still the caller's. */
static struct gguf *gguf_read(const uint8_t *data, size_t size, const char *path, struct err *err)
{
    struct cursor cursor = {.data = data, .size = size, .path = path, .err = err};
    struct gguf *gguf = calloc(1, sizeof *gguf);

    if (gguf == NULL || (gguf->path = strdup(path)) == NULL) {
        out_of_memory(&cursor);
        goto undo;
    }
    if (head_read(gguf, &cursor) == 0)
        return gguf;

undo:
    gguf_close(gguf);
    return NULL;
}

struct gguf *gguf_open(const char *path, struct err *err)
{
    struct file_map map;

    if (file_map_open(&map, path, err) != 0)
        return NULL;
    struct gguf *gguf = gguf_read(map.data, map.size, path, err);
    if (gguf == NULL) {
        file_map_close(&map);
        return NULL;
    }
    gguf->map = map;
    return gguf;
}

struct gguf *gguf_open_memory(const void *data, size_t n_bytes, const char *name, struct err *err)
{
    assert((uintptr_t)data % 8 == 0);
    return gguf_read(data, n_bytes, name, err);
}

void gguf_close(struct gguf *gguf)
{
    if (gguf == NULL)
        return;
    for (size_t i = 0; i < gguf->n_keys && gguf->keys != NULL; i++)
        free(gguf->keys[i].texts);
    free(gguf->keys);
    free(gguf->key_names);
    free(gguf->slots);
    free(gguf->tensor_names);
    free(gguf->path);
    file_map_close(&gguf->map);
    free(gguf);
}

const char *gguf_path(const struct gguf *gguf)
{
    return gguf->path;
}

size_t gguf_n_tensors(const struct gguf *gguf)
{
    return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index)
{
    assert(index < gguf->n_tensors);
    return &gguf->slots[index].tensor;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *gguf, const char *name)
{
    size_t index = gguf_name_find(gguf->tensor_names, gguf->n_tensors, name);

    return index != SIZE_MAX ? &gguf->slots[index].tensor : NULL;
}
