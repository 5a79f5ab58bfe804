/* GGUF for writing: the bytes of the layout, and what our reader finds in them. */
#include "evaluator/formats/gguf_write.h"

#include "evaluator/formats/gguf.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "tests/gguf_bytes.h"
#include "tests/tap.h"

#include <dirent.h>
#include <unistd.h>

static char folder[] = "/tmp/test_gguf_write.XXXXXX";

static const char *in(const char *name)
{
    static char paths[4][100];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int n_entries(void)
{
    DIR *dir = opendir(folder);
    int n = -2; /* . and .. */

    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* A writer's file against bytes that were put together by hand. */
static void test_layout(void)
{
    static const uint64_t matrix[2] = {3, 2}, vector[1] = {32};
    static const float weights[6] = {1, 2, 3, 4, 5, 6};
    static const uint32_t words[2] = {8, 9};
    static const uint8_t blocks[18] = {0xaa, 0xbb};
    struct gguf_bytes want = {0};
    struct err err = {0};

    bytes_head(&want, 3, 2, 3);
    bytes_key_text(&want, "general.architecture", "llama");
    bytes_key(&want, "kerf.flag", GGUF_BOOL, "\1", 1);
    bytes_key_array(&want, "kerf.words", GGUF_U32, 2, words, sizeof words);
    bytes_tensor(&want, "a.weight", 2, matrix, 0, 0);
    bytes_tensor(&want, "b.weight", 1, vector, 2, 32);
    bytes_pad(&want, 32);
    bytes_put(&want, weights, sizeof weights);
    bytes_pad(&want, 32);
    bytes_put(&want, blocks, sizeof blocks);
    bytes_pad(&want, 32);

    struct gguf_writer *writer = gguf_writer_create(&err);
    ok(writer != NULL && gguf_put_text(writer, "general.architecture", "llama", &err) == 0 &&
           gguf_put_bool(writer, "kerf.flag", 17, &err) == 0 &&
           gguf_put_u32_array(writer, "kerf.words", words, 2, &err) == 0 &&
           gguf_put_tensor(writer, "a.weight", FORMAT_F32, 3, 2, weights, &err) == 0 &&
           gguf_put_tensor(writer, "b.weight", FORMAT_Q4_0, 32, 1, blocks, &err) == 0,
       "keys and tensors are collected");
    for (int turn = 0; turn < 2; turn++) {
        size_t n = 0;
        ok(gguf_writer_save(writer, in("layout.gguf"), &err) == 0, "the file is saved");
        char *got = file_read(in("layout.gguf"), 1 << 20, &n, &err);
        ok(got != NULL && n == want.n && memcmp(got, want.data, n) == 0,
           "it has the %zu bytes of the format, in pass %d", want.n, turn + 1);
        free(got);
    }
    ok(n_entries() == 1, "no draft is left beside it");
    gguf_writer_destroy(writer);
    gguf_writer_destroy(NULL);
    free(want.data);
}

/* Every kind of key, read back. */
static void test_keys(void)
{
    static const char *const texts[3] = {"x", "", "a\0b"};
    static const size_t lengths[3] = {1, 0, 3};
    static const float floats[2] = {-0.5f, INFINITY};
    static const int32_t ints[2] = {3, -4};
    struct err err = {0};
    struct gguf_text text;
    uint64_t value = 0;
    double number = 0;
    int flag = 1;

    struct gguf_writer *writer = gguf_writer_create(&err);
    ok(gguf_put_u32(writer, "u32", UINT32_MAX, &err) == 0 &&
           gguf_put_f32(writer, "f32", 0.1f, &err) == 0 &&
           gguf_put_bool(writer, "bool", 0, &err) == 0 &&
           gguf_put_text(writer, "empty", "", &err) == 0 &&
           gguf_put_f32_array(writer, "floats", floats, 2, &err) == 0 &&
           gguf_put_i32_array(writer, "ints", ints, 2, &err) == 0 &&
           gguf_put_u32_array(writer, "nothing", NULL, 0, &err) == 0 &&
           gguf_put_text_array(writer, "texts", texts, lengths, 3, &err) == 0 &&
           gguf_writer_save(writer, in("keys.gguf"), &err) == 0,
       "a file of keys alone is saved");
    gguf_writer_destroy(writer);
    struct gguf *gguf = gguf_open(in("keys.gguf"), &err);
    if (!ok(gguf != NULL && gguf_n_keys(gguf) == 8, "and read"))
        return;
    ok(gguf_get_uint(gguf, "u32", &value, &err) == 1 && value == UINT32_MAX, "a u32 comes back");
    ok(gguf_get_float(gguf, "f32", &number, &err) == 1 && number == (double)0.1f,
       "an f32 comes back bit by bit");
    ok(gguf_get_bool(gguf, "bool", &flag, &err) == 1 && flag == 0, "a bool comes back");
    ok(gguf_get_text(gguf, "empty", &text, &err) == 1 && text.length == 0, "an empty text, too");
    ok(gguf_array_float(gguf, "floats", 1, &number, &err) == 0 && isinf(number),
       "an infinite element comes back");
    ok(gguf_array_uint(gguf, "ints", 0, &value, &err) == 0 && value == 3, "an i32 comes back");
    ok(gguf_array_length(gguf, "nothing") == 0, "an empty array comes back");
    ok(gguf_array_text(gguf, "texts", 2, &text, &err) == 0 && text.length == 3 &&
           memcmp(text.data, "a\0b", 3) == 0,
       "a text with a NUL comes back whole");
    gguf_close(gguf);
}

/* Every key of one file into another. */
static void test_copy(void)
{
    struct gguf_bytes bytes = bytes_sample(2, NULL);
    struct err err = {0};

    struct gguf *from = gguf_open_memory(bytes.data, bytes.n, "sample", &err);
    struct gguf_writer *writer = gguf_writer_create(&err);
    bool done = from != NULL && writer != NULL;
    for (size_t i = 0; done && i < gguf_n_keys(from); i++) {
        struct gguf_text key = gguf_key_at(from, i);
        char *name = strndup(key.data, key.length);
        done = gguf_put_copy(writer, from, name, &err) == 0;
        free(name);
    }
    ok(done && gguf_put_copy(writer, from, "absent", &err) == 0, "an absent key is passed over");
    ok(gguf_writer_save(writer, in("copy.gguf"), &err) == 0, "the copy is saved");
    struct gguf *to = gguf_open(in("copy.gguf"), &err);
    ok(to != NULL && gguf_n_keys(to) == SAMPLE_KEYS - 1 &&
           gguf_type_of(to, "general.alignment") == -1,
       "it has every key but the alignment, which is the default again");
    bool same = to != NULL;
    for (size_t i = 0; same && i < gguf_n_keys(to); i++) {
        struct gguf_text key = gguf_key_at(to, i);
        char *name = strndup(key.data, key.length);
        uint32_t types[2];
        const void *data[2];
        size_t n[2];
        same = gguf_raw_value(from, name, &types[0], &data[0], &n[0]) == 0 &&
               gguf_raw_value(to, name, &types[1], &data[1], &n[1]) == 0 && types[0] == types[1] &&
               n[0] == n[1] && memcmp(data[0], data[1], n[0]) == 0;
        free(name);
    }
    ok(same, "types and bytes of all values are the same");
    gguf_writer_destroy(writer);
    gguf_close(from);
    gguf_close(to);
    free(bytes.data);
}

/* Tensors of every format, more than the first room of the list. */
static void test_tensors(void)
{
    static uint8_t data[2 * 256 * 4];
    struct err err = {0};
    char name[32];
    bool done = true;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    struct gguf_writer *writer = gguf_writer_create(&err);
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        done = done && gguf_put_tensor(writer, name, (enum format)(i % N_FORMATS), 256,
                                       1 + (size_t)i % 2, data, &err) == 0;
    }
    ok(done && gguf_writer_save(writer, in("tensors.gguf"), &err) == 0, "150 tensors are saved");
    gguf_writer_destroy(writer);
    struct gguf *gguf = gguf_open(in("tensors.gguf"), &err);
    for (int i = 0; done && i < 150; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        const struct gguf_tensor *tensor = gguf != NULL ? gguf_tensor_find(gguf, name) : NULL;
        done = tensor != NULL && (int)tensor->format == i % N_FORMATS && tensor->dims[0] == 256 &&
               tensor->dims[1] == 1 + (uint64_t)i % 2 && tensor->n_dims == 1 + (uint32_t)i % 2 &&
               tensor->n_bytes == format_row_bytes(tensor->format, 256) * (1 + (size_t)i % 2) &&
               (uintptr_t)tensor->data % 32 == 0 &&
               memcmp(tensor->data, data, tensor->n_bytes) == 0;
    }
    ok(done, "and read back with shape, format, alignment and bytes");
    gguf_close(gguf);
}

static void test_failures(void)
{
    struct err err = {0};

    int before = n_entries();
    struct gguf_writer *writer = gguf_writer_create(&err);
    gguf_put_text(writer, "general.architecture", "llama", &err);
    ok(gguf_writer_save(writer, in("no/such/folder.gguf"), &err) == -1 && err.code == ERR_CREATE,
       "a folder that is not there is told");
    ok(gguf_writer_save(writer, folder, &err) == -1 && err.code == ERR_CREATE,
       "a folder is not replaced");
    ok(n_entries() == before, "nothing is left behind");
    gguf_writer_destroy(writer);
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 1;
    test_layout();
    test_keys();
    test_copy();
    test_tensors();
    test_failures();
    static const char *const made[] = {"layout.gguf", "keys.gguf", "copy.gguf", "tensors.gguf"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        unlink(in(made[i]));
    rmdir(folder);
    return tap_done();
}
