/* GGUF for reading: what a good file says, and what a bad one is told. */
#include "evaluator/formats/gguf.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "tests/gguf_bytes.h"
#include "tests/tap.h"

#include <unistd.h>

static const char *name = "model.gguf";

static void test_keys(const struct gguf *gguf)
{
    struct err err = {0};
    struct gguf_text text;
    uint64_t value = 0;
    double number = 0;
    int flag = 0;

    ok(gguf_n_keys(gguf) == SAMPLE_KEYS, "every key is listed");
    text = gguf_key_at(gguf, 1);
    ok(text.length == 17 && memcmp(text.data, "general.alignment", 17) == 0,
       "keys keep the order of the file");
    ok(gguf_get_uint(gguf, "t.u8", &value, &err) == 1 && value == 200, "a u8 is read");
    ok(gguf_get_uint(gguf, "t.u16", &value, &err) == 1 && value == 0x1234, "a u16 is read");
    ok(gguf_get_uint(gguf, "t.u32", &value, &err) == 1 && value == UINT32_MAX, "a u32 is read");
    ok(gguf_get_uint(gguf, "t.u64", &value, &err) == 1 && value == UINT64_MAX, "a u64 is read");
    ok(gguf_get_uint(gguf, "t.i32", &value, &err) == 1 && value == INT32_MAX,
       "a positive i32 is a whole number");
    value = 3;
    ok(gguf_get_uint(gguf, "t.none", &value, &err) == 0 && value == 3,
       "an absent key changes nothing");
    ok(gguf_get_uint(gguf, "t.i8", &value, &err) == -1 && err.code == ERR_DATA && value == 3,
       "a negative i8 is refused and changes nothing");
    ok(strstr(err.text, "t.i8") != NULL && strstr(err.text, name) != NULL,
       "the refusal names key and file");
    ok(gguf_get_uint(gguf, "t.i16", &value, &err) == -1, "a negative i16 is refused");
    ok(gguf_get_uint(gguf, "t.i64", &value, &err) == -1, "a negative i64 is refused");
    ok(gguf_get_uint(gguf, "t.f32", &value, &err) == -1, "a float is no whole number");
    ok(gguf_get_uint(gguf, "t.bool", &value, &err) == -1, "a bool is no whole number");
    ok(gguf_get_uint(gguf, "a.u32", &value, &err) == -1, "an array is no whole number");
    ok(gguf_get_float(gguf, "t.f32", &number, &err) == 1 && number == 1.5, "an f32 is read");
    ok(gguf_get_float(gguf, "t.f64", &number, &err) == 1 && number == 1.5, "an f64 is read");
    ok(gguf_get_float(gguf, "t.u8", &number, &err) == -1, "a whole number is no float");
    ok(gguf_get_bool(gguf, "t.bool", &flag, &err) == 1 && flag == 1, "a bool is read");
    ok(gguf_get_bool(gguf, "t.u8", &flag, &err) == -1, "a u8 is no bool");
    ok(gguf_get_text(gguf, "general.architecture", &text, &err) == 1 && text.length == 5 &&
           memcmp(text.data, "llama", 5) == 0,
       "a string is read");
    ok(gguf_get_text(gguf, "t.u8", &text, &err) == -1, "a number is no string");
    ok(gguf_type_of(gguf, "t.i16") == GGUF_I16 && gguf_type_of(gguf, "a.u32") == GGUF_ARRAY &&
           gguf_type_of(gguf, "none") == -1,
       "types can be asked for");
}

static void test_arrays(const struct gguf *gguf)
{
    struct err err = {0};
    struct gguf_text text;
    uint64_t value = 0;
    double number = 0;
    const void *data;
    size_t n_bytes;
    uint32_t type;

    ok(gguf_array_length(gguf, "a.u32") == 3 && gguf_array_length(gguf, "a.none") == 0,
       "arrays have lengths");
    ok(gguf_array_length(gguf, "t.u8") == -1 && gguf_array_length(gguf, "none") == -1,
       "what is no array has none");
    ok(gguf_array_uint(gguf, "a.u32", 2, &value, &err) == 0 && value == UINT32_MAX,
       "an element of u32 is read");
    ok(gguf_array_uint(gguf, "a.u32", 3, &value, &err) == -1 && err.code == ERR_DATA,
       "an element behind the last is refused");
    ok(gguf_array_uint(gguf, "a.none", 0, &value, &err) == -1,
       "an empty array has no first element");
    ok(gguf_array_uint(gguf, "a.i32", 0, &value, &err) == 0 && value == 5 &&
           gguf_array_uint(gguf, "a.i32", 1, &value, &err) == -1,
       "of an i32 array the negative elements are refused");
    ok(gguf_array_uint(gguf, "none", 0, &value, &err) == -1 && err.code == ERR_DATA,
       "an absent array is refused");
    ok(gguf_array_float(gguf, "a.f64", 1, &number, &err) == 0 && number == -2.25,
       "an element of f64 is read");
    ok(gguf_array_float(gguf, "a.u32", 1, &number, &err) == -1, "a u32 is no float");
    ok(gguf_array_text(gguf, "a.text", 2, &text, &err) == 0 && text.length == 5 &&
           memcmp(text.data, "three", 5) == 0,
       "the third string is read");
    ok(gguf_array_text(gguf, "a.text", 1, &text, &err) == 0 && text.length == 0,
       "an empty string is read");
    ok(gguf_array_text(gguf, "a.text", 3, &text, &err) == -1, "a fourth is refused");
    ok(gguf_raw_value(gguf, "a.u32", &type, &data, &n_bytes) == 0 && type == GGUF_ARRAY &&
           n_bytes == 4 + 8 + 12,
       "the raw value of an array includes its head");
    ok(gguf_raw_value(gguf, "none", &type, &data, &n_bytes) == -1, "an absent key has none");
}

static void test_tensors(const struct gguf *gguf)
{
    const struct gguf_tensor *tensor = gguf_tensor_find(gguf, "q.weight");

    ok(gguf_n_tensors(gguf) == SAMPLE_TENSORS && tensor == gguf_tensor_at(gguf, 1),
       "tensors are found by name and keep their order");
    ok(tensor->format == FORMAT_Q4_0 && tensor->n_dims == 2 && tensor->dims[0] == 32 &&
           tensor->dims[1] == 2 && tensor->dims[2] == 1 && tensor->n_bytes == 36,
       "a matrix of Q4_0 has its shape and size");
    ok(*(const uint8_t *)tensor->data == 33, "its data begin at its offset");
    tensor = gguf_tensor_find(gguf, "norm");
    ok(tensor->n_dims == 4 && tensor->n_bytes == 16 && *(const uint8_t *)tensor->data == 225,
       "four dimensions are read");
    tensor = gguf_tensor_find(gguf, "odd.weight");
    ok(tensor->format == FORMAT_NONE && tensor->ggml_type == 3 && tensor->n_bytes == 0,
       "a format that is not ours is named and has no size");
    ok(gguf_tensor_find(gguf, "q.weigh") == NULL && gguf_tensor_find(gguf, "q.weights") == NULL &&
           gguf_tensor_find(gguf, "") == NULL,
       "a part of a name finds nothing");
}

static void test_good_files(void)
{
    struct err err = {0};

    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf_bytes bytes = bytes_sample(version, NULL);
        struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, name, &err);
        if (ok(gguf != NULL, "version %u is read", version)) {
            test_keys(gguf);
            test_arrays(gguf);
            test_tensors(gguf);
            is_text(gguf_path(gguf), name, "the file keeps its name");
        }
        gguf_close(gguf);
        free(bytes.data);
    }
    gguf_close(NULL);
}

static void test_empty_file(void)
{
    struct gguf_bytes bytes = {0};
    struct err err = {0};

    bytes_head(&bytes, 3, 0, 0);
    struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, name, &err);
    ok(gguf != NULL && gguf_n_keys(gguf) == 0 && gguf_n_tensors(gguf) == 0 &&
           gguf_tensor_find(gguf, "x") == NULL && gguf_type_of(gguf, "x") == -1,
       "a file without keys and tensors is read");
    gguf_close(gguf);
    free(bytes.data);
    ok(gguf_open_memory(NULL, 0, name, &err) == NULL && err.code == ERR_DATA,
       "no bytes at all are refused");
}

/* Whether opening fails with one line of ERR_DATA that names the file and is not cut. */
static bool refused(const struct gguf_bytes *bytes, struct err *err)
{
    *err = (struct err){0};
    struct gguf *gguf = gguf_open_memory(bytes->data, bytes->n, name, err);
    if (gguf != NULL) {
        gguf_close(gguf);
        return false;
    }
    return err->code == ERR_DATA && strstr(err->text, name) != NULL &&
           strchr(err->text, '\n') == NULL && strlen(err->text) < sizeof err->text - 1;
}

/* The sample with `n` bytes at `place` behind a name replaced is refused with a word on it. */
static void lie_check(const char *behind, size_t place, const void *value, size_t n,
                      const char *word, const char *title)
{
    struct gguf_bytes bytes = bytes_sample(3, NULL);
    struct err err;

    size_t at = (behind != NULL ? bytes_behind(&bytes, behind) : 0) + place;
    memcpy(bytes.data + at, value, n);
    bool held = refused(&bytes, &err) && strstr(err.text, word) != NULL;
    if (!ok(held, "%s", title))
        printf("# %s\n", err.text);
    free(bytes.data);
}

#define U32(value) &(uint32_t){value}, 4
#define U64(value) &(uint64_t){value}, 8

static void test_head_lies(void)
{
    lie_check(NULL, 0, "ggml", 4, "no GGUF file", "another magic is refused");
    lie_check(NULL, 4, U32(1), "version 1", "version 1 is refused");
    lie_check(NULL, 4, U32(0), "version 0", "version 0 is refused");
    lie_check(NULL, 4, U32(4), "version 4", "a version to come is refused");
    lie_check(NULL, 4, U32(0x03000000), "big-endian", "a big-endian file is recognised");
    lie_check(NULL, 8, U64(UINT64_MAX), "number of tensors", "absurdly many tensors are refused");
    lie_check(NULL, 8, U64(1 + SAMPLE_TENSORS), "tensor", "one tensor too many is refused");
    lie_check(NULL, 16, U64(UINT64_MAX), "number of keys", "absurdly many keys are refused");
    lie_check(NULL, 16, U64((uint64_t)1 << 61), "number of keys",
              "an overflowing count is refused");
    lie_check(NULL, 16, U64(SAMPLE_KEYS - 1), "tensor", "one key too few is refused");
    lie_check(NULL, 24, U64(UINT64_MAX), "name of a key", "a name beyond the file is refused");
    lie_check(NULL, 24, U64(0), "name of a key", "an empty name is refused");
}

static void test_key_lies(void)
{
    lie_check("t.u8", 0, U32(13), "unknown type 13", "an unknown type is refused");
    lie_check("a.u32", 4, U32(13), "unknown type 13", "an unknown element type is refused");
    lie_check("a.u32", 4, U32(GGUF_ARRAY), "array of arrays", "an array of arrays is refused");
    lie_check("a.u32", 8, U64(UINT64_MAX), "length of an array", "an absurd length is refused");
    lie_check("a.u32", 8, U64((uint64_t)1 << 62), "length of an array",
              "a length whose bytes overflow is refused");
    lie_check("a.text", 8, U64((uint64_t)1 << 60), "length of an array",
              "absurdly many strings are refused");
    lie_check("a.text", 16, U64(UINT64_MAX), "string", "a string beyond the file is refused");
    lie_check("general.architecture", 4, U64(UINT64_MAX - 7), "string",
              "a string whose end overflows is refused");
    lie_check("t.u8", (size_t)-1, "\0", 1, "NUL", "a NUL in a key is refused");
    lie_check("t.u16", (size_t)-5, "t.i16", 5, "there twice",
              "a key that is there twice is refused");
    static const uint32_t wrong[] = {0, 1, 4, 12, 24, 48, 4294967295u};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char title[64];
        snprintf(title, sizeof title, "an alignment of %u is refused", wrong[i]);
        lie_check("general.alignment", 4, U32(wrong[i]), "general.alignment", title);
    }
    lie_check("general.alignment", 0, U32(GGUF_F32), "general.alignment",
              "an alignment that is a float is refused");
    lie_check("general.alignment", 4, U32(64), "multiple of the alignment",
              "offsets that miss a larger alignment are refused");
    lie_check("general.alignment", 4, U32((uint32_t)1 << 31), "cut short",
              "an alignment beyond the file is refused where tensors follow");
}

static void test_tensor_lies(void)
{
    lie_check("q.weight", 0, U32(0), "0 dimensions", "rank 0 is refused");
    lie_check("q.weight", 0, U32(5), "5 dimensions", "rank 5 is refused");
    lie_check("q.weight", 0, U32(UINT32_MAX), "dimensions", "an absurd rank is refused");
    lie_check("q.weight", 4, U64(0), "not possible", "a dimension of 0 is refused");
    lie_check("q.weight", 12, U64(UINT64_MAX), "not possible",
              "dimensions that overflow are refused");
    lie_check("q.weight", 12, U64((uint64_t)1 << 59), "not possible",
              "a product that overflows 63 bits is refused");
    lie_check("f.weight", 12, U64((uint64_t)1 << 61), "larger than memory",
              "bytes that overflow are refused");
    lie_check("q.weight", 12, U64((uint64_t)1 << 40), "cut short",
              "a tensor larger than the file is refused");
    lie_check("q.weight", 4, U64(33), "whole number", "a row of 33 weights in Q4_0 is refused");
    lie_check("k.weight", 4, U64(128), "whole number", "half a block of Q2_K is refused");
    lie_check("q.weight", 24, U64(33), "multiple", "an offset between alignments is refused");
    lie_check("q.weight", 24, U64(4096), "cut short", "an offset beyond the file is refused");
    lie_check("q.weight", 24, U64(UINT64_MAX - 31), "cut short",
              "an offset that overflows is refused");
    lie_check("q.weight", 24, U64(0), "overlaps", "two tensors at one place are refused");
    lie_check("odd.weight", 16, U64(64), "overlaps",
              "a tensor of unknown format inside another is refused");
    lie_check("f.weight", 4, U64(6), "overlaps", "a tensor that reaches into the next is refused");
    lie_check("q.weight", (size_t)-8, "f", 1, "there twice",
              "a name that is there twice is refused");
    lie_check("q.weight", (size_t)-16, U64(65), "1 to 64", "a name of 65 bytes is refused");
    lie_check("q.weight", (size_t)-1, "\0", 1, "NUL", "a NUL in a name is refused");
}

/* A file that ends early, at every byte; the copy is exact, so that sanitizers see a step too far.
 */
static void test_truncation(void)
{
    size_t data_at, n_accepted = 0;
    struct gguf_bytes bytes = bytes_sample(3, &data_at);
    struct err err;

    for (size_t n = 0; n < bytes.n; n++) {
        struct gguf_bytes part = {0};
        bytes_put(&part, bytes.data, n);
        if (!refused(&part, &err)) {
            n_accepted++;
            printf("# cut to %zu bytes: %s\n", n, err.text);
        }
        free(part.data);
    }
    ok(n_accepted == 0, "the sample cut at each of its %zu bytes is refused with one line",
       bytes.n);
    free(bytes.data);
}

/* Opened or refused, never anything else.  Counts of both in n_outcomes. */
static void try_file(const struct gguf_bytes *bytes, size_t n_outcomes[2], bool *clean)
{
    struct err err = {0};
    struct gguf *gguf = gguf_open_memory(bytes->data, bytes->n, name, &err);

    n_outcomes[gguf != NULL]++;
    if (gguf != NULL)
        (void)*(volatile uint64_t *)&(uint64_t){gguf_walk(gguf)};
    else if (err.code != ERR_DATA || strchr(err.text, '\n') != NULL || err.text[0] == '\0')
        *clean = false;
    gguf_close(gguf);
}

/* Every byte and every word of the head replaced by values that hurt. */
static void test_flips(void)
{
    static const uint64_t huge[] = {0,
                                    1,
                                    UINT32_MAX,
                                    (uint64_t)1 << 31,
                                    (uint64_t)1 << 60,
                                    INT64_MAX,
                                    (uint64_t)1 << 63,
                                    UINT64_MAX - 7,
                                    UINT64_MAX};
    size_t data_at, n_outcomes[2] = {0};
    struct gguf_bytes bytes = bytes_sample(3, &data_at);
    bool clean = true;
    uint8_t kept[8];

    for (size_t at = 0; at + 8 <= data_at; at++) {
        memcpy(kept, bytes.data + at, 8);
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[at] = kept[0] ^ (uint8_t)(1 << bit);
            try_file(&bytes, n_outcomes, &clean);
        }
        bytes.data[at] = kept[0];
        for (size_t v = 0; v < sizeof huge / sizeof huge[0]; v++) {
            memcpy(bytes.data + at, &huge[v], 4);
            try_file(&bytes, n_outcomes, &clean);
            memcpy(bytes.data + at, &huge[v], 8);
            try_file(&bytes, n_outcomes, &clean);
            memcpy(bytes.data + at, kept, 8);
        }
    }
    ok(clean && n_outcomes[0] > 1000 && n_outcomes[1] > 1000,
       "of damaged heads %zu are refused with one line of ERR_DATA and %zu are still files",
       n_outcomes[0], n_outcomes[1]);
    free(bytes.data);
}

/* The same through the file system. */
static void test_paths(void)
{
    char path[] = "/tmp/test_gguf.XXXXXX", absent[sizeof path + 8];
    struct gguf_bytes bytes = bytes_sample(3, NULL);
    struct err err = {0};

    int fd = mkstemp(path);
    ok(fd >= 0 && write(fd, bytes.data, bytes.n) == (ssize_t)bytes.n, "a file is written");
    struct gguf *gguf = gguf_open(path, &err);
    if (ok(gguf != NULL, "and read")) {
        is_text(gguf_path(gguf), path, "under its path");
        ok(gguf_walk(gguf) != 0, "every byte of it");
    }
    gguf_close(gguf);
    ok(ftruncate(fd, 600) == 0 && gguf_open(path, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, path) != NULL,
       "a truncated file is refused by its path");
    ok(ftruncate(fd, 0) == 0 && gguf_open(path, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, path) != NULL,
       "so is an empty one");
    close(fd);
    unlink(path);
    snprintf(absent, sizeof absent, "%s.absent", path);
    ok(gguf_open(absent, &err) == NULL && err.code == ERR_MISSING, "an absent file is missing");
    ok(gguf_open("/tmp", &err) == NULL && err.code == ERR_DATA, "a folder is no file");
    ok(gguf_open(absent, NULL) == NULL, "the reason may be left out");
    free(bytes.data);
}

int main(void)
{
    test_good_files();
    test_empty_file();
    test_head_lies();
    test_key_lies();
    test_tensor_lies();
    test_truncation();
    test_flips();
    test_paths();
    return tap_done();
}
