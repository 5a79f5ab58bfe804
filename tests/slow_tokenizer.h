/* slow_tokenizer.h - encoding as its definition reads, for tests: look at all neighbours, join the
 * pair with the best score, begin again.  O(n^2) look-ups, each through the whole vocabulary, and
 * nothing shared with the real tokenizer.  User-defined pieces are not treated. */
#ifndef KERF_SLOW_TOKENIZER_H
#define KERF_SLOW_TOKENIZER_H

#include "evaluator/formats/gguf.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slow_piece {
    struct gguf_text text;
    double score;
    uint64_t type;
};

struct slow_vocabulary {
    struct slow_piece *pieces;
    int32_t n;
};

static inline struct slow_vocabulary slow_read(const struct gguf *gguf)
{
    struct slow_vocabulary slow = {.n = (int32_t)gguf_array_length(gguf, "tokenizer.ggml.tokens")};

    slow.pieces = calloc((size_t)slow.n + 1, sizeof *slow.pieces);
    for (int32_t i = 0; i < slow.n; i++) {
        struct slow_piece *piece = &slow.pieces[i];
        size_t at = (size_t)i;
        if (gguf_array_text(gguf, "tokenizer.ggml.tokens", at, &piece->text, NULL) != 0 ||
            gguf_array_float(gguf, "tokenizer.ggml.scores", at, &piece->score, NULL) != 0 ||
            gguf_array_uint(gguf, "tokenizer.ggml.token_type", at, &piece->type, NULL) != 0)
            abort();
    }
    return slow;
}

/* The last piece of a text that is normal (1) or unused (5), -1 when there is none. */
static inline int32_t slow_find(const struct slow_vocabulary *slow, const char *text, size_t length)
{
    for (int32_t i = slow->n - 1; i >= 0; i--) {
        const struct slow_piece *piece = &slow->pieces[i];
        if (piece->text.length == length && memcmp(piece->text.data, text, length) == 0 &&
            (piece->type == 1 || piece->type == 5))
            return i;
    }
    return -1;
}

static inline int32_t slow_byte(const struct slow_vocabulary *slow, unsigned byte)
{
    char text[8];

    snprintf(text, sizeof text, "<0x%02X>", byte);
    for (int32_t i = 0; i < slow->n; i++) {
        const struct slow_piece *piece = &slow->pieces[i];
        if (piece->type == 6 && piece->text.length == 6 && memcmp(piece->text.data, text, 6) == 0)
            return i;
    }
    abort();
}

/* Encode valid UTF-8 into tokens[], which has room for 3 * (length + 1); their number. */
static inline size_t slow_encode(const struct slow_vocabulary *slow, const char *text,
                                 size_t length, bool space, int32_t *tokens)
{
    char *marked = malloc(3 * (length + 1));
    size_t *starts = malloc((3 * (length + 1) + 1) * sizeof *starts);
    size_t n_bytes = 0, n = 0, n_tokens = 0;

    if (marked == NULL || starts == NULL)
        abort();
    for (size_t i = 0; i < length + space; i++) {
        char c = space && i == 0 ? ' ' : text[i - space];
        memcpy(marked + n_bytes, c == ' ' ? "\xe2\x96\x81" : &c, c == ' ' ? 3 : 1);
        if (((unsigned char)c & 0xc0) != 0x80)
            starts[n++] = n_bytes;
        n_bytes += c == ' ' ? 3 : 1;
    }
    starts[n] = n_bytes;
    for (;;) {
        size_t best = SIZE_MAX;
        double best_score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            int32_t token = slow_find(slow, marked + starts[i], starts[i + 2] - starts[i]);
            if (token >= 0 && (best == SIZE_MAX || slow->pieces[token].score > best_score)) {
                best = i;
                best_score = slow->pieces[token].score;
            }
        }
        if (best == SIZE_MAX)
            break;
        memmove(starts + best + 1, starts + best + 2, (n - best - 1) * sizeof *starts);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t token = slow_find(slow, marked + starts[i], starts[i + 1] - starts[i]);
        if (token >= 0)
            tokens[n_tokens++] = token;
        for (size_t b = starts[i]; token < 0 && b < starts[i + 1]; b++)
            tokens[n_tokens++] = slow_byte(slow, (unsigned char)marked[b]);
    }
    free(marked);
    free(starts);
    return n_tokens;
}

#endif
