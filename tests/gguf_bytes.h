/* gguf_bytes.h - GGUF files for tests, put together byte by byte and without our own writer, so
 * that reader and writer cannot agree on the same mistake.  Tests run out of memory loudly. */
#ifndef KERF_GGUF_BYTES_H
#define KERF_GGUF_BYTES_H

#include "evaluator/formats/gguf.h"

#include <stdlib.h>
#include <string.h>

struct gguf_bytes {
    uint8_t *data; /* from malloc, exactly `n` bytes: sanitizers see what is read behind it */
    size_t n;
};

static inline void bytes_put(struct gguf_bytes *bytes, const void *data, size_t n)
{
    if (n == 0)
        return;
    bytes->data = realloc(bytes->data, bytes->n + n);
    if (bytes->data == NULL)
        abort();
    memcpy(bytes->data + bytes->n, data, n);
    bytes->n += n;
}

static inline void bytes_u32(struct gguf_bytes *bytes, uint32_t value)
{
    bytes_put(bytes, &value, sizeof value);
}

static inline void bytes_u64(struct gguf_bytes *bytes, uint64_t value)
{
    bytes_put(bytes, &value, sizeof value);
}

static inline void bytes_text(struct gguf_bytes *bytes, const char *text)
{
    bytes_u64(bytes, strlen(text));
    bytes_put(bytes, text, strlen(text));
}

/* The head of a file; keys and tensor infos follow in the order of their counts. */
static inline void bytes_head(struct gguf_bytes *bytes, uint32_t version, uint64_t n_tensors,
                              uint64_t n_keys)
{
    bytes_put(bytes, "GGUF", 4);
    bytes_u32(bytes, version);
    bytes_u64(bytes, n_tensors);
    bytes_u64(bytes, n_keys);
}

static inline void bytes_key(struct gguf_bytes *bytes, const char *name, uint32_t type,
                             const void *value, size_t n)
{
    bytes_text(bytes, name);
    bytes_u32(bytes, type);
    bytes_put(bytes, value, n);
}

static inline void bytes_key_text(struct gguf_bytes *bytes, const char *name, const char *value)
{
    bytes_key(bytes, name, GGUF_STRING, NULL, 0);
    bytes_text(bytes, value);
}

static inline void bytes_key_array(struct gguf_bytes *bytes, const char *name, uint32_t type,
                                   uint64_t count, const void *values, size_t n)
{
    bytes_key(bytes, name, GGUF_ARRAY, NULL, 0);
    bytes_u32(bytes, type);
    bytes_u64(bytes, count);
    bytes_put(bytes, values, n);
}

static inline void bytes_key_texts(struct gguf_bytes *bytes, const char *name,
                                   const char *const *values, size_t n)
{
    bytes_key_array(bytes, name, GGUF_STRING, n, NULL, 0);
    for (size_t i = 0; i < n; i++)
        bytes_text(bytes, values[i]);
}

static inline void bytes_tensor(struct gguf_bytes *bytes, const char *name, uint32_t n_dims,
                                const uint64_t *dims, uint32_t type, uint64_t offset)
{
    bytes_text(bytes, name);
    bytes_u32(bytes, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        bytes_u64(bytes, dims[d]);
    bytes_u32(bytes, type);
    bytes_u64(bytes, offset);
}

static inline void bytes_pad(struct gguf_bytes *bytes, size_t alignment)
{
    while (bytes->n % alignment != 0)
        bytes_put(bytes, "", 1);
}

/* The vocabulary of the sample, of GGUF's `llama` kind. */
#define SAMPLE_PIECES 12
/* clang-format off */
static const char *const sample_pieces[SAMPLE_PIECES] = {
    "<unk>", "<s>", "</s>", "<0x0A>", "a", "b", "ab", "\342\226\201", "\342\226\201a", "abab",
    "[x]", "\xc3\xa9",
};
/* clang-format on */
static const float sample_scores[SAMPLE_PIECES] = {0, 0, 0, 0, -1, -2, -3, -4, -5, -6, -7, -8};
static const int32_t sample_types[SAMPLE_PIECES] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4, 1};

static inline void bytes_sample_keys(struct gguf_bytes *bytes)
{
    static const uint32_t alignment = 32, array[3] = {7, 8, 4294967295u}, unknown = 0, bos = 1;
    static const int32_t signs[3] = {5, -1, 0};
    static const double doubles[2] = {0.5, -2.25};
    static const char *const texts[3] = {"one", "", "three"};
    static const struct {
        const char *name;
        uint32_t type;
        size_t n;
        uint8_t value[8];
    } scalars[11] = {
        {"t.u8", GGUF_U8, 1, {200}},
        {"t.i8", GGUF_I8, 1, {0xff}},
        {"t.u16", GGUF_U16, 2, {0x34, 0x12}},
        {"t.i16", GGUF_I16, 2, {0xfe, 0xff}},
        {"t.u32", GGUF_U32, 4, {0xff, 0xff, 0xff, 0xff}},
        {"t.i32", GGUF_I32, 4, {0xff, 0xff, 0xff, 0x7f}},
        {"t.f32", GGUF_F32, 4, {0, 0, 0xc0, 0x3f}},
        {"t.bool", GGUF_BOOL, 1, {1}},
        {"t.u64", GGUF_U64, 8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
        {"t.i64", GGUF_I64, 8, {0, 0, 0, 0, 0, 0, 0, 0x80}},
        {"t.f64", GGUF_F64, 8, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}},
    };

    bytes_key_text(bytes, "general.architecture", "llama");
    bytes_key(bytes, "general.alignment", GGUF_U32, &alignment, sizeof alignment);
    for (size_t i = 0; i < 11; i++)
        bytes_key(bytes, scalars[i].name, scalars[i].type, scalars[i].value, scalars[i].n);
    bytes_key_array(bytes, "a.u32", GGUF_U32, 3, array, sizeof array);
    bytes_key_array(bytes, "a.i32", GGUF_I32, 3, signs, sizeof signs);
    bytes_key_array(bytes, "a.f64", GGUF_F64, 2, doubles, sizeof doubles);
    bytes_key_array(bytes, "a.none", GGUF_U32, 0, NULL, 0);
    bytes_key_texts(bytes, "a.text", texts, 3);
    bytes_key_text(bytes, "tokenizer.ggml.model", "llama");
    bytes_key_texts(bytes, "tokenizer.ggml.tokens", sample_pieces, SAMPLE_PIECES);
    bytes_key_array(bytes, "tokenizer.ggml.scores", GGUF_F32, SAMPLE_PIECES, sample_scores,
                    sizeof sample_scores);
    bytes_key_array(bytes, "tokenizer.ggml.token_type", GGUF_I32, SAMPLE_PIECES, sample_types,
                    sizeof sample_types);
    bytes_key(bytes, "tokenizer.ggml.unknown_token_id", GGUF_U32, &unknown, sizeof unknown);
    bytes_key(bytes, "tokenizer.ggml.bos_token_id", GGUF_U32, &bos, sizeof bos);
}

#define SAMPLE_KEYS    24
#define SAMPLE_TENSORS 5

/* A small valid file: every type of key, a vocabulary, five tensors (one of a type kerf does not
 * know); byte i of the data section is i + 1.  *data_at is where that section begins. */
static inline struct gguf_bytes bytes_sample(uint32_t version, size_t *data_at)
{
    static const uint64_t floats[2] = {3, 2}, blocks[2] = {32, 2}, odd[1] = {32},
                          k_quant[1] = {256}, four[4] = {2, 1, 2, 1};
    struct gguf_bytes bytes = {0};

    bytes_head(&bytes, version, SAMPLE_TENSORS, SAMPLE_KEYS);
    bytes_sample_keys(&bytes);
    bytes_tensor(&bytes, "f.weight", 2, floats, 0, 0);     /* F32, 24 bytes */
    bytes_tensor(&bytes, "q.weight", 2, blocks, 2, 32);    /* Q4_0, 36 bytes */
    bytes_tensor(&bytes, "odd.weight", 1, odd, 3, 96);     /* Q4_1, 20 bytes */
    bytes_tensor(&bytes, "k.weight", 1, k_quant, 10, 128); /* Q2_K, 84 bytes */
    bytes_tensor(&bytes, "norm", 4, four, 0, 224);         /* F32, 16 bytes */
    bytes_pad(&bytes, 32);
    if (data_at != NULL)
        *data_at = bytes.n;
    for (int i = 0; i < 224 + 16; i++)
        bytes_put(&bytes, &(uint8_t){(uint8_t)(i + 1)}, 1);
    return bytes;
}

/* The place right behind a name: the type of a key, the rank of a tensor. */
static inline size_t bytes_behind(const struct gguf_bytes *bytes, const char *name)
{
    struct gguf_bytes wanted = {0};

    bytes_text(&wanted, name);
    const uint8_t *hit = memmem(bytes->data, bytes->n, wanted.data, wanted.n);
    size_t place = hit != NULL ? (size_t)(hit - bytes->data) + wanted.n : SIZE_MAX;
    free(wanted.data);
    if (hit == NULL)
        abort();
    return place;
}

/* Use a file as a program would: every key, every element, every byte of every tensor.  A sum of
 * what was seen, so that nothing is optimised away. */
static inline uint64_t gguf_walk(const struct gguf *gguf)
{
    uint64_t sum = 0, value;
    double number;
    int flag;
    struct gguf_text text;

    for (size_t i = 0; i < gguf_n_keys(gguf); i++) {
        struct gguf_text name = gguf_key_at(gguf, i);
        char *key = strndup(name.data, name.length);
        const void *raw;
        uint32_t type;
        size_t n_bytes;
        if (key == NULL || gguf_raw_value(gguf, key, &type, &raw, &n_bytes) != 0 ||
            gguf_type_of(gguf, key) != (int)type)
            abort();
        for (size_t b = 0; b < n_bytes; b++)
            sum += ((const uint8_t *)raw)[b];
        sum += gguf_get_uint(gguf, key, &value, NULL) == 1 ? value : 1;
        sum += gguf_get_float(gguf, key, &number, NULL) == 1 ? number > 0 : 1;
        sum += gguf_get_bool(gguf, key, &flag, NULL) == 1 ? (uint64_t)flag : 2;
        if (gguf_get_text(gguf, key, &text, NULL) == 1 && text.length > 0)
            sum += (uint8_t)text.data[text.length - 1];
        for (int64_t e = 0; e < gguf_array_length(gguf, key); e++) {
            sum += gguf_array_uint(gguf, key, (size_t)e, &value, NULL) == 0 ? value : 1;
            sum += gguf_array_float(gguf, key, (size_t)e, &number, NULL) == 0 ? number > 0 : 1;
            if (gguf_array_text(gguf, key, (size_t)e, &text, NULL) == 0 && text.length > 0)
                sum += (uint8_t)text.data[text.length - 1];
        }
        free(key);
    }
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        char *name = strndup(tensor->name.data, tensor->name.length);
        if (name == NULL || gguf_tensor_find(gguf, name) != tensor)
            abort();
        free(name);
        for (size_t b = 0; b < tensor->n_bytes; b++)
            sum += ((const uint8_t *)tensor->data)[b];
    }
    return sum;
}

#endif
