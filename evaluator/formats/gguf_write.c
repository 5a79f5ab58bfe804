/* gguf_write.c - keys are encoded as they come, tensors are only listed; saving lays the tensors
 * out and streams head and data into one draft. */
#include "evaluator/formats/gguf_write.h"

#include "evaluator/formats/gguf.h"
#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they lie");

#define VERSION          3
#define ALIGNMENT        32
#define KEY_MAX_BYTES    65535
#define TENSOR_NAME_ROOM 64 /* with the NUL, as stock engines keep it */

/* A key that will be written; the encoded value lies behind the name in one allocation. */
struct entry {
    char *name;
    uint32_t type;
    unsigned char *value;
    size_t n_bytes;
};

/* A tensor that will be written. */
struct part {
    char name[TENSOR_NAME_ROOM];
    enum format format;
    uint32_t n_dims;
    uint64_t dims[2];
    const void *data; /* borrowed */
    size_t n_bytes;
};

struct gguf_writer {
    struct entry *entries;
    size_t n_entries, entries_room;
    struct part *parts;
    size_t n_parts, parts_room;
};

struct gguf_writer *gguf_writer_create(struct err *err)
{
    struct gguf_writer *writer = calloc(1, sizeof *writer);

    if (writer == NULL)
        err_set(err, ERR_MEMORY, "out of memory for a GGUF writer");
    return writer;
}

void gguf_writer_destroy(struct gguf_writer *writer)
{
    if (writer == NULL)
        return;
    for (size_t i = 0; i < writer->n_entries; i++)
        free(writer->entries[i].name);
    free(writer->entries);
    free(writer->parts);
    free(writer);
}

/* The list `items` with room for one more; NULL without memory, the old list intact. */
static void *list_grow(void *items, size_t n, size_t *room, size_t item_bytes, struct err *err)
{
    if (n < *room)
        return items;
    size_t wanted = *room > 0 ? 2 * *room : 64;
    void *grown = reallocarray(items, wanted, item_bytes);
    if (grown == NULL)
        err_set(err, ERR_MEMORY, "out of memory for the head of a GGUF file");
    else
        *room = wanted;
    return grown;
}

/* Add a key whose encoded value takes `n_bytes`.  The place to write them, or NULL without
 * memory. */
static unsigned char *entry_add(struct gguf_writer *writer, const char *key, uint32_t type,
                                size_t n_bytes, struct err *err)
{
    size_t length = strlen(key);

    assert(length > 0 && length <= KEY_MAX_BYTES);
    for (size_t i = 0; i < writer->n_entries; i++)
        assert(strcmp(writer->entries[i].name, key) != 0);
    void *grown = list_grow(writer->entries, writer->n_entries, &writer->entries_room,
                            sizeof *writer->entries, err);
    if (grown == NULL)
        return NULL;
    writer->entries = grown;
    char *name = n_bytes < SIZE_MAX - length ? malloc(length + 1 + n_bytes) : NULL;
    if (name == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for key '%.64s' of a GGUF file", key);
        return NULL;
    }
    memcpy(name, key, length + 1);
    struct entry *entry = &writer->entries[writer->n_entries++];
    *entry = (struct entry){name, type, (unsigned char *)name + length + 1, n_bytes};
    return entry->value;
}

/* Copy bytes and step over them. */
static unsigned char *append(unsigned char *at, const void *data, size_t n_bytes)
{
    if (n_bytes > 0)
        memcpy(at, data, n_bytes);
    return at + n_bytes;
}

static unsigned char *append_text(unsigned char *at, const char *text, size_t length)
{
    uint64_t n = length;

    return append(append(at, &n, sizeof n), text, length);
}

static int put_scalar(struct gguf_writer *writer, const char *key, uint32_t type, const void *value,
                      size_t n_bytes, struct err *err)
{
    unsigned char *at = entry_add(writer, key, type, n_bytes, err);

    if (at == NULL)
        return -1;
    append(at, value, n_bytes);
    return 0;
}

int gguf_put_u32(struct gguf_writer *writer, const char *key, uint32_t value, struct err *err)
{
    return put_scalar(writer, key, GGUF_U32, &value, sizeof value, err);
}

int gguf_put_f32(struct gguf_writer *writer, const char *key, float value, struct err *err)
{
    return put_scalar(writer, key, GGUF_F32, &value, sizeof value, err);
}

int gguf_put_bool(struct gguf_writer *writer, const char *key, int value, struct err *err)
{
    unsigned char byte = value != 0;

    return put_scalar(writer, key, GGUF_BOOL, &byte, sizeof byte, err);
}

int gguf_put_text(struct gguf_writer *writer, const char *key, const char *value, struct err *err)
{
    size_t length = strlen(value);
    unsigned char *at = entry_add(writer, key, GGUF_STRING, 8 + length, err);

    if (at == NULL)
        return -1;
    append_text(at, value, length);
    return 0;
}

/* The head of an array of `n` elements that take `n_bytes`; the place of the first one. */
static unsigned char *array_add(struct gguf_writer *writer, const char *key, uint32_t type,
                                size_t n, size_t n_bytes, struct err *err)
{
    uint64_t count = n;
    unsigned char *at =
        entry_add(writer, key, GGUF_ARRAY, sizeof type + sizeof count + n_bytes, err);

    if (at == NULL)
        return NULL;
    return append(append(at, &type, sizeof type), &count, sizeof count);
}

/* Numbers that take 4 bytes each. */
static int put_words(struct gguf_writer *writer, const char *key, uint32_t type, const void *values,
                     size_t n, struct err *err)
{
    assert(n < SIZE_MAX / 8);
    unsigned char *at = array_add(writer, key, type, n, 4 * n, err);

    if (at == NULL)
        return -1;
    append(at, values, 4 * n);
    return 0;
}

int gguf_put_u32_array(struct gguf_writer *writer, const char *key, const uint32_t *values,
                       size_t n, struct err *err)
{
    return put_words(writer, key, GGUF_U32, values, n, err);
}

int gguf_put_f32_array(struct gguf_writer *writer, const char *key, const float *values, size_t n,
                       struct err *err)
{
    return put_words(writer, key, GGUF_F32, values, n, err);
}

int gguf_put_i32_array(struct gguf_writer *writer, const char *key, const int32_t *values, size_t n,
                       struct err *err)
{
    return put_words(writer, key, GGUF_I32, values, n, err);
}

int gguf_put_text_array(struct gguf_writer *writer, const char *key, const char *const *values,
                        const size_t *lengths, size_t n, struct err *err)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < n; i++)
        n_bytes += 8 + lengths[i];
    unsigned char *at = array_add(writer, key, GGUF_STRING, n, n_bytes, err);
    if (at == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        at = append_text(at, values[i], lengths[i]);
    return 0;
}

int gguf_put_copy(struct gguf_writer *writer, const struct gguf *from, const char *key,
                  struct err *err)
{
    const void *data;
    size_t n_bytes;
    uint32_t type;

    /* The alignment of the other file says nothing about ours. */
    if (strcmp(key, "general.alignment") == 0 ||
        gguf_raw_value(from, key, &type, &data, &n_bytes) != 0)
        return 0;
    return put_scalar(writer, key, type, data, n_bytes, err);
}

int gguf_put_tensor(struct gguf_writer *writer, const char *name, enum format format,
                    size_t row_len, size_t n_rows, const void *data, struct err *err)
{
    size_t length = strlen(name), n_bytes = 0;

    assert(length > 0 && length < TENSOR_NAME_ROOM && n_rows > 0 && data != NULL);
    for (size_t i = 0; i < writer->n_parts; i++)
        assert(strcmp(writer->parts[i].name, name) != 0);
    if (__builtin_mul_overflow(format_row_bytes(format, row_len), n_rows, &n_bytes))
        assert(!"a tensor in memory is larger than memory");
    void *grown =
        list_grow(writer->parts, writer->n_parts, &writer->parts_room, sizeof *writer->parts, err);
    if (grown == NULL)
        return -1;
    writer->parts = grown;
    struct part *part = &writer->parts[writer->n_parts++];
    *part = (struct part){
        .format = format,
        .n_dims = n_rows > 1 ? 2 : 1,
        .dims = {row_len, n_rows},
        .data = data,
        .n_bytes = n_bytes,
    };
    memcpy(part->name, name, length + 1);
    return 0;
}

/* Bytes that fill up to the next multiple of the alignment. */
static size_t padding_after(uint64_t n_bytes)
{
    return (size_t)((ALIGNMENT - n_bytes % ALIGNMENT) % ALIGNMENT);
}

/* What was written of the file.  Failed writes show when the draft is committed. */
struct output {
    FILE *stream;
    uint64_t n_bytes;
};

static void output_bytes(struct output *output, const void *data, size_t n_bytes)
{
    fwrite(data, 1, n_bytes, output->stream);
    output->n_bytes += n_bytes;
}

static void output_u32(struct output *output, uint32_t value)
{
    output_bytes(output, &value, sizeof value);
}

static void output_u64(struct output *output, uint64_t value)
{
    output_bytes(output, &value, sizeof value);
}

static void output_text(struct output *output, const char *text)
{
    output_u64(output, strlen(text));
    output_bytes(output, text, strlen(text));
}

static void output_padding(struct output *output)
{
    static const unsigned char zeros[ALIGNMENT];

    output_bytes(output, zeros, padding_after(output->n_bytes));
}

static void output_all(const struct gguf_writer *writer, struct output *output)
{
    uint64_t offset = 0;

    output_bytes(output, "GGUF", 4);
    output_u32(output, VERSION);
    output_u64(output, writer->n_parts);
    output_u64(output, writer->n_entries);
    for (size_t i = 0; i < writer->n_entries; i++) {
        const struct entry *entry = &writer->entries[i];
        output_text(output, entry->name);
        output_u32(output, entry->type);
        output_bytes(output, entry->value, entry->n_bytes);
    }
    for (size_t i = 0; i < writer->n_parts; i++) {
        const struct part *part = &writer->parts[i];
        output_text(output, part->name);
        output_u32(output, part->n_dims);
        for (uint32_t d = 0; d < part->n_dims; d++)
            output_u64(output, part->dims[d]);
        output_u32(output, format_to_ggml(part->format));
        output_u64(output, offset);
        offset += part->n_bytes + padding_after(part->n_bytes);
    }
    output_padding(output);
    /* The head ends at a multiple of the alignment, so what is padded from the start of the file
     * is padded from the start of the data, too.  The last tensor is padded as the others are:
     * stock readers count whole padded tensors. */
    for (size_t i = 0; i < writer->n_parts; i++) {
        output_bytes(output, writer->parts[i].data, writer->parts[i].n_bytes);
        output_padding(output);
    }
}

int gguf_writer_save(struct gguf_writer *writer, const char *path, struct err *err)
{
    struct file_draft draft;

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    struct output output = {.stream = draft.stream};
    output_all(writer, &output);
    return file_draft_commit(&draft, err);
}
