/* token_set.c - text to sequences; reading stops as soon as there are tokens enough. */
#include "evaluator/quality/token_set.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Texts are read whole; a set is some megabytes at most. */
#define TEXT_MAX_BYTES ((size_t)1 << 30)

/* A set that grows. */
struct builder {
    struct token_set set;
    size_t tokens_room, begin_room;
    uint32_t max_tokens;
};

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "token set: out of memory");
    return -1;
}

/* Room for `more` tokens and a sequence. */
static int reserve(struct builder *b, size_t more, struct err *err)
{
    if (b->set.n_tokens + more > b->tokens_room) {
        size_t room = 2 * b->tokens_room + more;
        int32_t *tokens = realloc(b->set.tokens, room * sizeof *tokens);
        if (tokens == NULL)
            return out_of_memory(err);
        b->set.tokens = tokens;
        b->tokens_room = room;
    }
    if (b->set.n_sequences + (size_t)2 > b->begin_room) {
        size_t room = 2 * b->begin_room + 16;
        uint32_t *begin = realloc(b->set.begin, room * sizeof *begin);
        if (begin == NULL)
            return out_of_memory(err);
        b->set.begin = begin;
        b->begin_room = room;
    }
    return 0;
}

/* A document becomes one or more sequences; what lies beyond max_tokens is dropped. */
static int add_document(struct builder *b, int32_t bos, const int32_t *tokens, size_t n,
                        struct err *err)
{
    struct token_set *set = &b->set;
    size_t has_bos = bos >= 0 ? 1 : 0, all = n + has_bos;

    for (size_t at = 0; at < all;) {
        size_t length = all - at < set->sequence ? all - at : set->sequence;
        if (length > b->max_tokens - set->n_tokens)
            length = b->max_tokens - set->n_tokens;
        if (length < 2)
            break;
        if (reserve(b, length, err) != 0)
            return -1;
        set->begin[set->n_sequences++] = set->n_tokens;
        for (size_t i = at; i < at + length; i++)
            set->tokens[set->n_tokens++] = i < has_bos ? bos : tokens[i - has_bos];
        set->begin[set->n_sequences] = set->n_tokens;
        at += length;
    }
    return 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int add_text(struct builder *b, const struct tokenizer *tokenizer, const char *text,
                    size_t length, struct err *err)
{
    int32_t bos = tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer) : -1, *tokens;

    for (; length > 0 && is_space(text[0]); text++)
        length--;
    while (length > 0 && is_space(text[length - 1]))
        length--;
    if (length == 0)
        return 0;
    int64_t n = tokenizer_encode(tokenizer, text, length, true, &tokens, err);
    if (n < 0)
        return -1;
    int status = add_document(b, bos, tokens, (size_t)n, err);
    free(tokens);
    return status;
}

/* A set that has no room for another sequence is full. */
static bool is_full(const struct builder *b)
{
    return b->max_tokens - b->set.n_tokens < 2;
}

static void finish(struct builder *b, struct token_set *set)
{
    struct sha256 sha;

    *set = b->set;
    sha256_init(&sha);
    sha256_update(&sha, &set->n_tokens, sizeof set->n_tokens);
    sha256_update(&sha, set->tokens, set->n_tokens * sizeof *set->tokens);
    sha256_update(&sha, set->begin, (set->n_sequences + (size_t)1) * sizeof *set->begin);
    set->hash = sha256_final(&sha);
}

int token_set_parse(struct token_set *set, const struct tokenizer *tokenizer, const char *name,
                    const char *text, size_t length, const char *separator, uint32_t sequence,
                    uint64_t max_tokens, uint64_t min_tokens, struct err *err)
{
    struct builder b = {.set.sequence = sequence};
    size_t cut = strlen(separator);
    const char *end = text + length;

    assert(sequence >= 2);
    b.max_tokens = max_tokens < UINT32_MAX ? (uint32_t)max_tokens : UINT32_MAX;
    while (text < end && !is_full(&b)) {
        const char *stop = cut > 0 ? memmem(text, (size_t)(end - text), separator, cut) : NULL;
        size_t here = (size_t)((stop != NULL ? stop : end) - text);
        if (add_text(&b, tokenizer, text, here, err) != 0)
            goto undo;
        text = stop != NULL ? stop + cut : end;
    }
    /* A full set may be one token short of max_tokens, where that one would stand alone. */
    if (b.set.n_tokens < 2 || (b.set.n_tokens < min_tokens && !is_full(&b))) {
        err_set(err, ERR_DATA,
                "%s: %" PRIu32 " tokens, %" PRIu64
                " are needed: take more text, or lower the number of tokens under /quality",
                name, b.set.n_tokens, min_tokens > 2 ? min_tokens : 2);
        goto undo;
    }
    finish(&b, set);
    return 0;

undo:
    token_set_fini(&b.set);
    return -1;
}

int token_set_read(struct token_set *set, const struct tokenizer *tokenizer, const char *path,
                   const char *separator, uint32_t sequence, uint64_t max_tokens,
                   uint64_t min_tokens, struct err *err)
{
    size_t length;

    char *text = file_read(path, TEXT_MAX_BYTES, &length, err);
    if (text == NULL)
        return -1;
    int status = token_set_parse(set, tokenizer, path, text, length, separator, sequence,
                                 max_tokens, min_tokens, err);
    free(text);
    return status;
}

int token_set_of(struct token_set *set, const int32_t *tokens, uint32_t n_tokens, uint32_t sequence,
                 struct err *err)
{
    struct builder b = {.set.sequence = sequence, .max_tokens = n_tokens};

    assert(sequence >= 2);
    if (add_document(&b, -1, tokens, n_tokens, err) != 0) {
        token_set_fini(&b.set);
        return -1;
    }
    if (b.set.n_tokens == 0) {
        err_set(err, ERR_DATA, "token set: %" PRIu32 " tokens, 2 are needed", n_tokens);
        return -1;
    }
    finish(&b, set);
    return 0;
}

void token_set_fini(struct token_set *set)
{
    free(set->tokens);
    free(set->begin);
    *set = (struct token_set){0};
}

void token_set_sequence(const struct token_set *set, uint32_t i, uint32_t *begin, uint32_t *end)
{
    assert(i < set->n_sequences);
    *begin = set->begin[i];
    *end = set->begin[i + 1];
}

uint32_t token_set_n_predicted(const struct token_set *set)
{
    return set->n_tokens - set->n_sequences;
}

uint32_t token_set_n_within(const struct token_set *set, uint32_t tokens)
{
    uint32_t n = 1;

    while (n < set->n_sequences && set->begin[n + 1] <= tokens)
        n++;
    return n;
}
