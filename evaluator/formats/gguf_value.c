/* gguf_value.c - the values of a GGUF file's keys, read with the type that the caller expects. */
#include "evaluator/formats/gguf_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t n_bytes;
} types[] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(uint32_t type)
{
    return type < sizeof types / sizeof types[0] ? types[type].name : NULL;
}

size_t gguf_type_bytes(uint32_t type)
{
    assert(type < sizeof types / sizeof types[0]);
    return types[type].n_bytes;
}

const char *gguf_short_path(const char *path)
{
    size_t n = strlen(path);

    return n > 160 ? path + n - 160 : path;
}

static const struct gguf_key *key_find(const struct gguf *gguf, const char *key)
{
    size_t index = gguf_name_find(gguf->key_names, gguf->n_keys, key);

    return index != SIZE_MAX ? &gguf->keys[index] : NULL;
}

size_t gguf_n_keys(const struct gguf *gguf)
{
    return gguf->n_keys;
}

struct gguf_text gguf_key_at(const struct gguf *gguf, size_t index)
{
    assert(index < gguf->n_keys);
    return gguf->keys[index].name;
}

int gguf_type_of(const struct gguf *gguf, const char *key)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL)
        return -1;
    return found->is_array ? GGUF_ARRAY : (int)found->type;
}

/* Element `index` of numbers as a whole number that is not negative. */
static bool uint_at(const struct gguf_key *key, size_t index, uint64_t *value)
{
    int64_t number = 0; /* sign-extended */
    size_t n_bytes = types[key->type].n_bytes;

    switch (key->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *value = 0;
        memcpy(value, key->elements + index * n_bytes, n_bytes);
        return true;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        memcpy(&number, key->elements + index * n_bytes, n_bytes);
        number = (int64_t)((uint64_t)number << (64 - 8 * n_bytes)) >> (64 - 8 * n_bytes);
        if (number < 0)
            return false;
        *value = (uint64_t)number;
        return true;
    default:
        return false;
    }
}

static bool float_at(const struct gguf_key *key, size_t index, double *value)
{
    float number;

    switch (key->type) {
    case GGUF_F32:
        memcpy(&number, key->elements + index * sizeof number, sizeof number);
        *value = (double)number;
        return true;
    case GGUF_F64:
        memcpy(value, key->elements + index * sizeof *value, sizeof *value);
        return true;
    default:
        return false;
    }
}

/* Say that `key` is not what was expected. */
static int unsuitable(const struct gguf *gguf, const struct gguf_key *key, const char *expected,
                      struct err *err)
{
    err_set(err, ERR_DATA,
            "%s: at byte %zu: key '%.*s' is %s%s, expected %s: convert the model again",
            gguf_short_path(gguf->path), key->at, gguf_shown(key->name),
            key->is_array ? "an array of " : "", types[key->type].name, expected);
    return -1;
}

int gguf_get_uint(const struct gguf *gguf, const char *key, uint64_t *value, struct err *err)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL)
        return 0;
    if (found->is_array || !uint_at(found, 0, value))
        return unsuitable(gguf, found, "a whole number that is not negative", err);
    return 1;
}

int gguf_get_float(const struct gguf *gguf, const char *key, double *value, struct err *err)
{
    const struct gguf_key *found = key_find(gguf, key);
    double number;

    if (found == NULL)
        return 0;
    if (found->is_array || !float_at(found, 0, &number) || !isfinite(number))
        return unsuitable(gguf, found, "a finite floating-point number", err);
    *value = number;
    return 1;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, int *value, struct err *err)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL)
        return 0;
    if (found->is_array || found->type != GGUF_BOOL || found->elements[0] > 1)
        return unsuitable(gguf, found, "a bool of 0 or 1", err);
    *value = found->elements[0];
    return 1;
}

int gguf_get_text(const struct gguf *gguf, const char *key, struct gguf_text *text, struct err *err)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL)
        return 0;
    if (found->is_array || found->type != GGUF_STRING)
        return unsuitable(gguf, found, "a string", err);
    *text = found->text;
    return 1;
}

int64_t gguf_array_length(const struct gguf *gguf, const char *key)
{
    const struct gguf_key *found = key_find(gguf, key);

    return found != NULL && found->is_array ? (int64_t)found->n_elements : -1;
}

/* The array `key` with an element `index`, or NULL with `err` filled. */
static const struct gguf_key *array_find(const struct gguf *gguf, const char *key, size_t index,
                                         const char *expected, struct err *err)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL) {
        err_set(err, ERR_DATA, "%s: key '%.64s' is missing: convert the model again",
                gguf_short_path(gguf->path), key);
        return NULL;
    }
    if (!found->is_array) {
        unsuitable(gguf, found, expected, err);
        return NULL;
    }
    if (index >= found->n_elements) {
        err_set(err, ERR_DATA,
                "%s: at byte %zu: key '%.*s' has %" PRIu64 " elements, and element %zu is needed: "
                "convert the model again",
                gguf_short_path(gguf->path), found->at, gguf_shown(found->name), found->n_elements,
                index);
        return NULL;
    }
    return found;
}

int gguf_array_uint(const struct gguf *gguf, const char *key, size_t index, uint64_t *value,
                    struct err *err)
{
    const char *expected = "an array of whole numbers that are not negative";
    const struct gguf_key *found = array_find(gguf, key, index, expected, err);

    if (found == NULL)
        return -1;
    return uint_at(found, index, value) ? 0 : unsuitable(gguf, found, expected, err);
}

int gguf_array_float(const struct gguf *gguf, const char *key, size_t index, double *value,
                     struct err *err)
{
    const char *expected = "an array of floating-point numbers";
    const struct gguf_key *found = array_find(gguf, key, index, expected, err);

    if (found == NULL)
        return -1;
    return float_at(found, index, value) ? 0 : unsuitable(gguf, found, expected, err);
}

int gguf_array_text(const struct gguf *gguf, const char *key, size_t index, struct gguf_text *text,
                    struct err *err)
{
    const char *expected = "an array of strings";
    const struct gguf_key *found = array_find(gguf, key, index, expected, err);

    if (found == NULL)
        return -1;
    if (found->type != GGUF_STRING)
        return unsuitable(gguf, found, expected, err);
    *text = found->texts[index];
    return 0;
}

int gguf_raw_value(const struct gguf *gguf, const char *key, uint32_t *type, const void **data,
                   size_t *n_bytes)
{
    const struct gguf_key *found = key_find(gguf, key);

    if (found == NULL)
        return -1;
    *type = found->is_array ? GGUF_ARRAY : found->type;
    *data = found->value;
    *n_bytes = found->n_bytes;
    return 0;
}
