/* tokenizer.c - the vocabulary: read from a GGUF file, searched by text, written back as text. */
#include "evaluator/tokenizer_parts.h"

#include "evaluator/formats/gguf.h"
#include "space/base/err.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash_of(const char *text, size_t length)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ length;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u;
    return (uint32_t)(hash >> 32 ^ hash);
}

/* The slot where a text is, or the free one where it would go. */
static struct slot *slot_find(const struct tokenizer *tokenizer, const char *text, size_t length,
                              uint32_t hash)
{
    for (size_t i = hash & tokenizer->slot_mask;; i = (i + 1) & tokenizer->slot_mask) {
        struct slot *slot = &tokenizer->slots[i];
        if (slot->token == NO_TOKEN)
            return slot;
        const struct piece *piece = &tokenizer->pieces[slot->token];
        if (slot->hash == hash && piece->length == length && memcmp(piece->text, text, length) == 0)
            return slot;
    }
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    if (length > tokenizer->longest)
        return NO_TOKEN;
    return slot_find(tokenizer, text, length, hash_of(text, length))->token;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte of a piece "<0x4F>", -1 when it is none. */
static int byte_of(struct gguf_text text)
{
    if (text.length != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static int vocabulary_error(const struct gguf *gguf, struct err *err, const char *what)
{
    err_set(err, ERR_DATA, "%s: %s; convert the model again with a current converter",
            gguf_path(gguf), what);
    return -1;
}

/* The kind and the number of pieces. */
static int size_read(struct tokenizer *tokenizer, const struct gguf *gguf, struct err *err)
{
    struct gguf_text model;

    int found = gguf_get_text(gguf, "tokenizer.ggml.model", &model, err);
    if (found < 0)
        return -1;
    if (found == 0)
        return vocabulary_error(gguf, err, "it has no tokenizer (no key tokenizer.ggml.model)");
    if (model.length != 5 || memcmp(model.data, "llama", 5) != 0) {
        err_set(err, ERR_DATA,
                "%s: its tokenizer is of the kind '%.*s' and kerf reads only 'llama'; choose a "
                "model with that kind",
                gguf_path(gguf), model.length < 64 ? (int)model.length : 64, model.data);
        return -1;
    }
    int64_t n = gguf_array_length(gguf, "tokenizer.ggml.tokens");
    if (n < 1 || n >= INT32_MAX)
        return vocabulary_error(gguf, err, "tokenizer.ggml.tokens holds no usable list of pieces");
    if (gguf_array_length(gguf, "tokenizer.ggml.scores") != n)
        return vocabulary_error(gguf, err, "tokenizer.ggml.scores does not have a score a piece");
    if (gguf_array_length(gguf, "tokenizer.ggml.token_type") != n)
        return vocabulary_error(gguf, err,
                                "tokenizer.ggml.token_type does not have a type a piece");
    tokenizer->n_vocab = (size_t)n;
    return 0;
}

/* One copy of all texts, each with a NUL behind it. */
static int pool_read(struct tokenizer *tokenizer, const struct gguf *gguf, struct err *err)
{
    struct gguf_text text;
    size_t n_bytes = 0;

    /* The texts lie in the map, so their sum fits; only one piece can be absurdly long. */
    for (size_t i = 0; i < tokenizer->n_vocab; i++) {
        if (gguf_array_text(gguf, "tokenizer.ggml.tokens", i, &text, err) != 0)
            return -1;
        if (text.length > UINT16_MAX)
            return vocabulary_error(gguf, err, "a piece of tokenizer.ggml.tokens exceeds 64 KiB");
        n_bytes += text.length + 1;
    }
    tokenizer->pool = malloc(n_bytes);
    tokenizer->pieces = calloc(tokenizer->n_vocab, sizeof *tokenizer->pieces);
    if (tokenizer->pool == NULL || tokenizer->pieces == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
        return -1;
    }
    char *at = tokenizer->pool;
    for (size_t i = 0; i < tokenizer->n_vocab; i++) {
        if (gguf_array_text(gguf, "tokenizer.ggml.tokens", i, &text, err) != 0)
            return -1;
        memcpy(at, text.data, text.length);
        at[text.length] = '\0';
        tokenizer->pieces[i].text = at;
        tokenizer->pieces[i].length = (uint32_t)text.length;
        at += text.length + 1;
    }
    return 0;
}

/* Score and type of every piece. */
static int pieces_read(struct tokenizer *tokenizer, const struct gguf *gguf, struct err *err)
{
    double score;
    uint64_t type;

    for (size_t i = 0; i < tokenizer->n_vocab; i++) {
        struct piece *piece = &tokenizer->pieces[i];
        if (gguf_array_float(gguf, "tokenizer.ggml.scores", i, &score, err) != 0 ||
            gguf_array_uint(gguf, "tokenizer.ggml.token_type", i, &type, err) != 0)
            return -1;
        if (isnan(score))
            return vocabulary_error(gguf, err, "a score of tokenizer.ggml.scores is not a number");
        if (type < PIECE_NORMAL || type > PIECE_BYTE)
            return vocabulary_error(gguf, err, "tokenizer.ggml.token_type has an unknown type");
        piece->score = (float)score;
        piece->type = (enum piece_type)type;
        if (piece->type != PIECE_BYTE)
            continue;
        int byte = byte_of((struct gguf_text){piece->text, piece->length});
        if (byte < 0)
            return vocabulary_error(gguf, err, "a byte piece is not written as <0xHH>");
        piece->byte = (uint8_t)byte;
        tokenizer->byte_tokens[byte] = (int32_t)i;
    }
    return 0;
}

/* Whether text may become this piece. */
static bool is_text_piece(const struct piece *piece)
{
    return piece->length > 0 && (piece->type == PIECE_NORMAL || piece->type == PIECE_USER_DEFINED ||
                                 piece->type == PIECE_UNUSED);
}

/* The hash table and the pairs of bytes that meet inside pieces. */
static int table_build(struct tokenizer *tokenizer, struct err *err)
{
    size_t n_slots = 16;

    while (n_slots < 2 * tokenizer->n_vocab)
        n_slots *= 2;
    tokenizer->slots = malloc(n_slots * sizeof *tokenizer->slots);
    if (tokenizer->slots == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
        return -1;
    }
    tokenizer->slot_mask = n_slots - 1;
    for (size_t i = 0; i < n_slots; i++)
        tokenizer->slots[i] = (struct slot){0, NO_TOKEN};
    for (size_t i = 0; i < tokenizer->n_vocab; i++) {
        const struct piece *piece = &tokenizer->pieces[i];
        if (!is_text_piece(piece))
            continue;
        uint32_t hash = hash_of(piece->text, piece->length);
        /* Of two pieces with one text the later counts, as in llama.cpp. */
        *slot_find(tokenizer, piece->text, piece->length, hash) = (struct slot){hash, (int32_t)i};
        if (piece->length > tokenizer->longest)
            tokenizer->longest = piece->length;
        for (uint32_t b = 1; b < piece->length; b++) {
            uint32_t pair = (uint32_t)(uint8_t)piece->text[b - 1] << 8 | (uint8_t)piece->text[b];
            tokenizer->meet[pair / 64] |= (uint64_t)1 << (pair % 64);
        }
    }
    return 0;
}

static int compare_user(const void *a, const void *b, void *context)
{
    const struct piece *pieces = context;
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;

    if (pieces[left].length != pieces[right].length)
        return pieces[left].length > pieces[right].length ? -1 : 1;
    return (left > right) - (left < right);
}

/* List the user-defined pieces, longest first. */
static int user_build(struct tokenizer *tokenizer, struct err *err)
{
    for (size_t i = 0; i < tokenizer->n_vocab; i++)
        if (tokenizer->pieces[i].type == PIECE_USER_DEFINED && tokenizer->pieces[i].length > 0)
            tokenizer->n_user++;
    if (tokenizer->n_user == 0)
        return 0;
    tokenizer->user_tokens = malloc(tokenizer->n_user * sizeof *tokenizer->user_tokens);
    if (tokenizer->user_tokens == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
        return -1;
    }
    size_t n = 0;
    for (size_t i = 0; i < tokenizer->n_vocab; i++)
        if (tokenizer->pieces[i].type == PIECE_USER_DEFINED && tokenizer->pieces[i].length > 0)
            tokenizer->user_tokens[n++] = (int32_t)i;
    qsort_r(tokenizer->user_tokens, n, sizeof *tokenizer->user_tokens, compare_user,
            tokenizer->pieces);
    return 0;
}

/* A token that the file names, or `standard` of the `wanted` type where it names none. */
static int special_read(const struct tokenizer *tokenizer, const struct gguf *gguf, const char *key,
                        size_t standard, enum piece_type wanted, int32_t *token, struct err *err)
{
    uint64_t value;

    int found = gguf_get_uint(gguf, key, &value, err);
    if (found < 0)
        return -1;
    *token = NO_TOKEN;
    if (found == 0) {
        if (standard < tokenizer->n_vocab && tokenizer->pieces[standard].type == wanted)
            *token = (int32_t)standard;
        return 0;
    }
    /* Old converters wrote -1 as u32 for "none". */
    if (value == UINT32_MAX)
        return 0;
    if (value >= tokenizer->n_vocab) {
        err_set(err, ERR_DATA,
                "%s: %s is %" PRIu64 ", beyond the %zu pieces; convert the model again",
                gguf_path(gguf), key, value, tokenizer->n_vocab);
        return -1;
    }
    *token = (int32_t)value;
    return 0;
}

static int bool_read(const struct gguf *gguf, const char *key, bool *value, struct err *err)
{
    int number;

    int found = gguf_get_bool(gguf, key, &number, err);
    if (found == 1)
        *value = number != 0;
    return found < 0 ? -1 : 0;
}

static int specials_read(struct tokenizer *tokenizer, const struct gguf *gguf, struct err *err)
{
    tokenizer->adds_bos = true;
    tokenizer->adds_space = true;
    if (special_read(tokenizer, gguf, "tokenizer.ggml.unknown_token_id", 0, PIECE_UNKNOWN,
                     &tokenizer->unknown, err) != 0 ||
        special_read(tokenizer, gguf, "tokenizer.ggml.bos_token_id", 1, PIECE_CONTROL,
                     &tokenizer->bos, err) != 0 ||
        special_read(tokenizer, gguf, "tokenizer.ggml.eos_token_id", 2, PIECE_CONTROL,
                     &tokenizer->eos, err) != 0 ||
        bool_read(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos, err) != 0 ||
        bool_read(gguf, "tokenizer.ggml.add_space_prefix", &tokenizer->adds_space, err) != 0)
        return -1;
    tokenizer->adds_bos = tokenizer->adds_bos && tokenizer->bos != NO_TOKEN;
    for (int byte = 0; byte < 256; byte++)
        if (tokenizer->byte_tokens[byte] == NO_TOKEN && tokenizer->unknown == NO_TOKEN)
            return vocabulary_error(gguf, err, "it lacks byte pieces and has no unknown piece");
    return 0;
}

struct tokenizer *tokenizer_create(const struct gguf *gguf, struct err *err)
{
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);

    if (tokenizer == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the tokenizer");
        return NULL;
    }
    for (int byte = 0; byte < 256; byte++)
        tokenizer->byte_tokens[byte] = NO_TOKEN;
    if (size_read(tokenizer, gguf, err) != 0 || pool_read(tokenizer, gguf, err) != 0 ||
        pieces_read(tokenizer, gguf, err) != 0 || table_build(tokenizer, err) != 0 ||
        user_build(tokenizer, err) != 0 || specials_read(tokenizer, gguf, err) != 0) {
        tokenizer_destroy(tokenizer);
        return NULL;
    }
    return tokenizer;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->user_tokens);
    free(tokenizer->slots);
    free(tokenizer->pieces);
    free(tokenizer->pool);
    free(tokenizer);
}

size_t tokenizer_n_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->n_vocab;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t token, size_t *length)
{
    assert(token >= 0 && (size_t)token < tokenizer->n_vocab);
    *length = tokenizer->pieces[token].length;
    return tokenizer->pieces[token].text;
}

/* The text of one token at `at`, which has room for the whole piece; the place behind it. */
static char *piece_decode(const struct piece *piece, char *at)
{
    switch (piece->type) {
    case PIECE_BYTE:
        *at++ = (char)piece->byte;
        return at;
    case PIECE_USER_DEFINED:
        memcpy(at, piece->text, piece->length);
        return at + piece->length;
    case PIECE_NORMAL:
    case PIECE_UNUSED:
        for (uint32_t i = 0; i < piece->length;) {
            if (strncmp(piece->text + i, SPACE_MARK, SPACE_MARK_BYTES) == 0) {
                *at++ = ' ';
                i += SPACE_MARK_BYTES;
            } else {
                *at++ = piece->text[i++];
            }
        }
        return at;
    default:
        return at;
    }
}

char *tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *tokens, size_t n,
                       struct err *err)
{
    size_t n_bytes = 1;

    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (size_t)tokens[i] >= tokenizer->n_vocab) {
            err_set(err, ERR_DATA, "token %" PRId32 " at place %zu is beyond the %zu pieces",
                    tokens[i], i, tokenizer->n_vocab);
            return NULL;
        }
        n_bytes += tokenizer->pieces[tokens[i]].length;
    }
    char *text = malloc(n_bytes);
    if (text == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the text of %zu tokens", n);
        return NULL;
    }
    char *at = text;
    for (size_t i = 0; i < n; i++)
        at = piece_decode(&tokenizer->pieces[tokens[i]], at);
    *at = '\0';
    return text;
}
