/* The reader, the writer and the tokenizer on a model that others made: stories260K, found through
 * KERF_PUBLIC_DATA.  Token counts and pieces are those of its own README and vocabulary. */
#include "evaluator/formats/gguf.h"
#include "evaluator/formats/gguf_write.h"
#include "evaluator/tokenizer.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "tests/slow_tokenizer.h"
#include "tests/tap.h"

#include <unistd.h>

#define SEPARATOR "<|endoftext|>"

static char model_path[1000], text_path[1000];

/* Everything copied by our writer is the file again, byte by byte. */
static void test_copy(const struct gguf *gguf)
{
    char path[] = "/tmp/test_stories260k.XXXXXX", name[100];
    struct err err = {0};
    bool done = true;
    size_t n[2] = {0};

    int fd = mkstemp(path);
    struct gguf_writer *writer = gguf_writer_create(&err);
    for (size_t i = 0; i < gguf_n_keys(gguf); i++) {
        struct gguf_text key = gguf_key_at(gguf, i);
        snprintf(name, sizeof name, "%.*s", (int)key.length, key.data);
        done = done && gguf_put_copy(writer, gguf, name, &err) == 0;
    }
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        snprintf(name, sizeof name, "%.*s", (int)tensor->name.length, tensor->name.data);
        done = done && gguf_put_tensor(writer, name, tensor->format, tensor->dims[0],
                                       tensor->dims[1], tensor->data, &err) == 0;
    }
    ok(fd >= 0 && done && gguf_writer_save(writer, path, &err) == 0, "the model is written again");
    char *old = file_read(model_path, 1 << 24, &n[0], &err);
    char *new = file_read(path, 1 << 24, &n[1], &err);
    ok(old != NULL && new != NULL &&n[0] == n[1] && memcmp(old, new, n[0]) == 0,
       "with the %zu bytes it had", n[0]);
    free(old);
    free(new);
    gguf_writer_destroy(writer);
    close(fd);
    unlink(path);
}

static void test_model(const struct gguf *gguf)
{
    struct err err = {0};
    uint64_t width = 0;

    ok(gguf_n_tensors(gguf) == 48 && gguf_n_keys(gguf) == 19, "it has 48 tensors and 19 keys");
    ok(gguf_get_uint(gguf, "llama.feed_forward_length", &width, &err) == 1 && width == 172,
       "its FFN is 172 wide");
    const struct gguf_tensor *down = gguf_tensor_find(gguf, "blk.4.ffn_down.weight");
    ok(down != NULL && down->format == FORMAT_F32 && down->dims[0] == 172 && down->dims[1] == 64 &&
           down->n_bytes == 4 * 172 * 64,
       "the last FFN comes back from 172 to 64");
    test_copy(gguf);
}

static void test_pieces(const struct tokenizer *tokenizer)
{
    static const struct {
        int32_t token;
        const char *text;
    } known[] = {{1, "<s>"}, {259, "\xe2\x96\x81t"}, {260, "he"}, {265, "\xe2\x96\x81the"}};
    struct err err = {0};
    size_t length;

    ok(tokenizer_n_vocab(tokenizer) == 512 && tokenizer_bos(tokenizer) == 1 &&
           tokenizer_eos(tokenizer) == 2 && tokenizer_adds_bos(tokenizer),
       "512 pieces, BOS is 1, EOS is 2");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        is_text(tokenizer_piece(tokenizer, known[i].token, &length), known[i].text,
                "piece %d is %s", (int)known[i].token, known[i].text);
    int32_t *tokens = NULL;
    int64_t n = tokenizer_encode(tokenizer, "the", 3, true, &tokens, &err);
    ok(n == 1 && tokens[0] == 265, "'the' at the start is one piece");
    free(tokens);
}

/* Whether decoding gives the text back, the space in front included. */
static bool comes_back(const struct tokenizer *tokenizer, const char *text, size_t length,
                       bool space)
{
    struct err err = {0};
    int32_t *tokens = NULL;

    int64_t n = tokenizer_encode(tokenizer, text, length, space, &tokens, &err);
    char *back = n >= 0 ? tokenizer_decode(tokenizer, tokens, (size_t)n, &err) : NULL;
    size_t front = space && length > 0 ? 1 : 0;
    bool same = back != NULL && strlen(back) == length + front && (front == 0 || back[0] == ' ') &&
                memcmp(back + front, text, length) == 0;
    free(back);
    free(tokens);
    return same;
}

static void test_whole_text(const struct tokenizer *tokenizer, const char *text, size_t n_bytes)
{
    ok(comes_back(tokenizer, text, n_bytes, false), "%zu bytes come back as they were", n_bytes);
    ok(comes_back(tokenizer, text, n_bytes, true), "and with a space in front");
}

/* Lines of the text against the definition of the encoding; every 150th, as that is slow. */
static void test_lines(const struct tokenizer *tokenizer, const struct gguf *gguf, const char *text)
{
    struct slow_vocabulary slow = slow_read(gguf);
    int n_lines = 0, n_same = 0, n_back = 0, number = 0;
    struct err err = {0};

    for (const char *line = text; *line != '\0' && n_lines < 60; number++) {
        size_t length = strcspn(line, "\n");
        if (length > 0 && length < 250 && number % 150 == 0) {
            int32_t want[3 * 251], *got = NULL;
            bool space = n_lines % 2 == 0;
            size_t n_want = slow_encode(&slow, line, length, space, want);
            int64_t n = tokenizer_encode(tokenizer, line, length, space, &got, &err);
            n_same += n == (int64_t)n_want && memcmp(got, want, n_want * sizeof *want) == 0;
            n_back += comes_back(tokenizer, line, length, space);
            n_lines++;
            free(got);
        }
        line += length + (line[length] == '\n');
    }
    ok(n_lines > 10 && n_same == n_lines, "%d of %d lines have the tokens of the definition",
       n_same, n_lines);
    ok(n_back == n_lines, "%d of them come back", n_back);
    free(slow.pieces);
}

/* Stories 200 to 259, without the white space around them, each with a space in front and no BOS:
 * the 24,777 tokens that an independent program counted. */
static void test_count(const struct tokenizer *tokenizer, const char *text)
{
    struct err err = {0};
    int64_t n_tokens = 0;
    int number = 0;

    for (const char *story = text; story != NULL && number < 260; number++) {
        const char *end = strstr(story, SEPARATOR), *next = end;
        if (end == NULL)
            end = story + strlen(story);
        const char *begin = story;
        while (begin < end && strchr(" \n", *begin) != NULL)
            begin++;
        const char *last = end;
        while (last > begin && strchr(" \n", last[-1]) != NULL)
            last--;
        if (number >= 200) {
            int32_t *tokens = NULL;
            n_tokens +=
                tokenizer_encode(tokenizer, begin, (size_t)(last - begin), true, &tokens, &err);
            free(tokens);
        }
        story = next != NULL ? next + strlen(SEPARATOR) : NULL;
    }
    ok(number == 260 && n_tokens == 24777, "stories 200 to 259 have %lld tokens, 24777 are told",
       (long long)n_tokens);
}

int main(void)
{
    const char *folder = getenv("KERF_PUBLIC_DATA");
    struct err err = {0};
    size_t n_bytes = 0;

    if (folder == NULL)
        return tap_skip_all("KERF_PUBLIC_DATA is not set: it names the folder of public test data");
    snprintf(model_path, sizeof model_path, "%s/stories260K/stories260Ktok512.gguf", folder);
    snprintf(text_path, sizeof text_path, "%s/text/tinystories_sample.txt", folder);
    if (!file_exists(model_path) || !file_exists(text_path))
        return tap_skip_all("stories260K/ or text/ is not in the folder KERF_PUBLIC_DATA");
    struct gguf *gguf = gguf_open(model_path, &err);
    struct tokenizer *tokenizer = gguf != NULL ? tokenizer_create(gguf, &err) : NULL;
    char *text = file_read(text_path, 1 << 24, &n_bytes, &err);
    if (ok(tokenizer != NULL && text != NULL, "model, tokenizer and text are read")) {
        test_model(gguf);
        test_pieces(tokenizer);
        test_whole_text(tokenizer, text, n_bytes);
        test_lines(tokenizer, gguf, text);
        test_count(tokenizer, text);
    } else {
        printf("# %s\n", err.text);
    }
    free(text);
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    return tap_done();
}
