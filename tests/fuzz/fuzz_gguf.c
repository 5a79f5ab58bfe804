/* fuzz_gguf.c - a GGUF file from a stranger: opened, walked to the last byte, its vocabulary used.
 * A refusal has to be ERR_DATA in one line; the sanitizers judge the rest. */
#include "evaluator/formats/gguf.h"
#include "evaluator/tokenizer.h"
#include "space/base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/gguf_bytes.h"

#include <stdio.h>

static void must(bool held, const struct err *err, const char *what)
{
    if (held)
        return;
    fprintf(stderr, "fuzz_gguf: %s: %s '%s'\n", what, err_name(err->code), err->text);
    abort();
}

/* A sample that is refused itself would have all its mutations refused at the same place. */
uint8_t *fuzz_sample(size_t *n_bytes)
{
    struct gguf_bytes bytes = bytes_sample(3, NULL);
    struct err err = {0};

    struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, "sample", &err);
    must(gguf != NULL, &err, "sample");
    struct tokenizer *tokenizer = tokenizer_create(gguf, &err);
    must(tokenizer != NULL, &err, "vocabulary of the sample");
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    *n_bytes = bytes.n;
    return bytes.data;
}

/* Tokens are inside the vocabulary, and decoding them works. */
static void use_tokenizer(const struct gguf *gguf)
{
    static const char text[] = "ab abab [x] \xc3\xa9\n\xff"
                               "baab<s>";
    struct err err = {0};
    struct tokenizer *tokenizer = tokenizer_create(gguf, &err);
    int32_t *tokens;

    if (tokenizer == NULL) {
        must(err.code == ERR_DATA && strchr(err.text, '\n') == NULL, &err, "vocabulary");
        return;
    }
    int64_t n = tokenizer_encode(tokenizer, text, sizeof text - 1, true, &tokens, &err);
    must(n > 0 && n <= 3 * (int64_t)sizeof text, &err, "encoding");
    for (int64_t i = 0; i < n; i++)
        must(tokens[i] >= 0 && (size_t)tokens[i] < tokenizer_n_vocab(tokenizer), &err, "token");
    must(tokenizer_bos(tokenizer) < (int32_t)tokenizer_n_vocab(tokenizer), &err, "BOS");
    char *back = tokenizer_decode(tokenizer, tokens, (size_t)n, &err);
    must(back != NULL, &err, "decoding");
    free(back);
    free(tokens);
    tokenizer_destroy(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static volatile uint64_t seen;
    struct err err = {0};
    /* An exact copy, so that a read behind the end is seen. */
    uint8_t *copy = malloc(n_bytes > 0 ? n_bytes : 1);

    if (copy == NULL)
        return 0;
    memcpy(copy, data, n_bytes);
    struct gguf *gguf = gguf_open_memory(copy, n_bytes, "fuzz", &err);
    if (gguf != NULL) {
        seen += gguf_walk(gguf);
        (void)seen; /* read so that no compiler calls the sum unused */
        use_tokenizer(gguf);
    } else {
        must(err.code == ERR_DATA && err.text[0] != '\0' && strchr(err.text, '\n') == NULL, &err,
             "file");
    }
    gguf_close(gguf);
    free(copy);
    return 0;
}
