/* tokenizer_encode.c - merging by score, as SentencePiece's BPE models are meant and llama.cpp runs
 * them.
 *
 * The text is cut into characters; then, as long as two neighbours join to a piece, the pair whose
 * piece has the highest score is joined (the leftmost of equal ones).  A heap of candidate pairs
 * makes that O(n log n).  Before that the text is cut where no piece holds the two bytes that meet:
 * nothing can be joined across such a place, so both sides are encoded on their own, with the same
 * result and a small heap.  With usual vocabularies these are the words.
 *
 * User-defined pieces are cut out first, the longest ones first, and what follows one begins with a
 * space again where the vocabulary asks for spaces, as llama.cpp does it.  Control, unknown and
 * byte pieces are never found in text. */
#include "evaluator/tokenizer_parts.h"

#include "space/base/err.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX_BYTES ((size_t)512 << 20) /* so that places in marked text fit 31 bits */

/* A stretch of text that is one token so far, in a list without gaps. */
struct symbol {
    uint32_t start, length; /* length 0: joined to its left neighbour */
    int32_t before, after;  /* neighbours, -1 at the ends */
    int32_t token;
};

/* Two neighbours that would join to a piece. */
struct pair {
    float score;
    int32_t left;
    uint32_t length; /* of both; when it no longer is, the pair is stale */
    int32_t token;
};

/* A stretch of the caller's text: raw, or a user-defined piece. */
struct fragment {
    const char *text;
    size_t length;
    int32_t token; /* NO_TOKEN: raw */
};

/* The state of one call. */
struct encoder {
    const struct tokenizer *tokenizer;
    char *text; /* of the fragment, spaces marked */
    struct symbol *symbols;
    struct pair *heap;
    size_t n_symbols, symbols_room; /* the heap has room for 2 pairs a symbol */
    size_t n_pairs;
    int32_t *tokens;
    size_t n_tokens, tokens_room;
};

/* Whether pair `a` is joined before pair `b`. */
static bool pair_before(const struct pair *a, const struct pair *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void heap_push(struct encoder *encoder, struct pair pair)
{
    struct pair *heap = encoder->heap;
    size_t i = encoder->n_pairs++;

    for (; i > 0 && pair_before(&pair, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = pair;
}

static struct pair heap_pop(struct encoder *encoder)
{
    struct pair *heap = encoder->heap, top = heap[0], last = heap[--encoder->n_pairs];
    size_t n = encoder->n_pairs, i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && pair_before(&heap[child + 1], &heap[child]))
            child++;
        if (!pair_before(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Whether two bytes that follow each other may be inside one piece. */
static bool bytes_meet(const struct tokenizer *tokenizer, char before, char after)
{
    uint32_t pair = (uint32_t)(uint8_t)before << 8 | (uint8_t)after;

    return (tokenizer->meet[pair / 64] >> (pair % 64) & 1) != 0;
}

/* Bytes of the UTF-8 character at `text`, 1 where the bytes are no character. */
static uint32_t character_bytes(const char *text, size_t left)
{
    uint8_t first = (uint8_t)text[0];
    uint32_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;

    if (first > 0xf7 || n > left)
        return 1;
    for (uint32_t i = 1; i < n; i++)
        if (((uint8_t)text[i] & 0xc0) != 0x80)
            return 1;
    return n;
}

/* Offer a symbol and the one behind it, if they join to a piece. */
static void pair_offer(struct encoder *encoder, int32_t left)
{
    if (left < 0 || encoder->symbols[left].after < 0)
        return;
    const struct symbol *symbol = &encoder->symbols[left];
    uint32_t length = symbol->length + encoder->symbols[symbol->after].length;
    int32_t token = tokenizer_find(encoder->tokenizer, encoder->text + symbol->start, length);
    if (token != NO_TOKEN)
        heap_push(encoder,
                  (struct pair){encoder->tokenizer->pieces[token].score, left, length, token});
}

/* Join neighbours until no pair is left. */
static void symbols_join(struct encoder *encoder)
{
    struct symbol *symbols = encoder->symbols;

    for (size_t i = 0; i + 1 < encoder->n_symbols; i++)
        pair_offer(encoder, (int32_t)i);
    while (encoder->n_pairs > 0) {
        struct pair pair = heap_pop(encoder);
        struct symbol *left = &symbols[pair.left];
        /* Symbols only grow, so the same start and length are the same two neighbours. */
        if (left->length == 0 || left->after < 0 ||
            left->length + symbols[left->after].length != pair.length)
            continue;
        struct symbol *right = &symbols[left->after];
        left->length = pair.length;
        left->token = pair.token;
        left->after = right->after;
        right->length = 0;
        if (left->after >= 0)
            symbols[left->after].before = pair.left;
        pair_offer(encoder, left->before);
        pair_offer(encoder, pair.left);
    }
}

/* Tokens of a character that is no piece: its bytes, or else one unknown piece. */
static void bytes_emit(struct encoder *encoder, const char *text, uint32_t length)
{
    const int32_t *byte_tokens = encoder->tokenizer->byte_tokens;

    for (uint32_t i = 0; i < length; i++) {
        if (byte_tokens[(uint8_t)text[i]] == NO_TOKEN) {
            encoder->tokens[encoder->n_tokens++] = encoder->tokenizer->unknown;
            return;
        }
    }
    for (uint32_t i = 0; i < length; i++)
        encoder->tokens[encoder->n_tokens++] = byte_tokens[(uint8_t)text[i]];
}

static void symbols_emit(struct encoder *encoder)
{
    if (encoder->n_symbols == 0)
        return;
    for (int32_t i = 0; i >= 0; i = encoder->symbols[i].after) {
        const struct symbol *symbol = &encoder->symbols[i];
        if (symbol->token != NO_TOKEN)
            encoder->tokens[encoder->n_tokens++] = symbol->token;
        else
            bytes_emit(encoder, encoder->text + symbol->start, symbol->length);
    }
    encoder->n_symbols = 0;
}

static int symbols_reserve(struct encoder *encoder)
{
    if (encoder->n_symbols < encoder->symbols_room)
        return 0;
    size_t room = encoder->symbols_room > 0 ? 2 * encoder->symbols_room : 64;
    struct symbol *symbols = reallocarray(encoder->symbols, room, sizeof *symbols);
    if (symbols == NULL)
        return -1;
    encoder->symbols = symbols;
    /* Pairs exist only while a segment is joined, never while one is collected. */
    struct pair *heap = reallocarray(encoder->heap, room, 2 * sizeof *heap);
    if (heap == NULL)
        return -1;
    encoder->heap = heap;
    encoder->symbols_room = room;
    return 0;
}

static int symbol_add(struct encoder *encoder, uint32_t start, uint32_t length)
{
    if (symbols_reserve(encoder) != 0)
        return -1;
    int32_t i = (int32_t)encoder->n_symbols++;
    encoder->symbols[i] = (struct symbol){
        .start = start,
        .length = length,
        .before = i - 1,
        .after = -1,
        .token = tokenizer_find(encoder->tokenizer, encoder->text + start, length),
    };
    if (i > 0)
        encoder->symbols[i - 1].after = i;
    return 0;
}

/* Encode the `length` bytes of marked text, segment by segment. */
static int marked_encode(struct encoder *encoder, size_t length)
{
    const char *text = encoder->text;

    for (size_t at = 0; at < length;) {
        uint32_t n = character_bytes(text + at, length - at);
        if (at > 0 && !bytes_meet(encoder->tokenizer, text[at - 1], text[at])) {
            symbols_join(encoder);
            symbols_emit(encoder);
        }
        if (symbol_add(encoder, (uint32_t)at, n) != 0)
            return -1;
        at += n;
    }
    symbols_join(encoder);
    symbols_emit(encoder);
    return 0;
}

/* Room for `n` more tokens. */
static int tokens_reserve(struct encoder *encoder, size_t n)
{
    if (n <= encoder->tokens_room - encoder->n_tokens)
        return 0;
    size_t room = encoder->n_tokens + n + encoder->n_tokens / 2;
    int32_t *tokens = reallocarray(encoder->tokens, room, sizeof *tokens);
    if (tokens == NULL)
        return -1;
    encoder->tokens = tokens;
    encoder->tokens_room = room;
    return 0;
}

/* Encode a stretch of raw text, with a space in front if `space`. */
static int raw_encode(struct encoder *encoder, const char *raw, size_t length, bool space)
{
    size_t n_spaces = space ? 1 : 0, n = 0;

    for (size_t i = 0; i < length; i++)
        n_spaces += raw[i] == ' ';
    size_t n_bytes = length + (space ? 1 : 0) + (SPACE_MARK_BYTES - 1) * n_spaces;
    char *text = realloc(encoder->text, n_bytes);
    if (text == NULL)
        return -1;
    encoder->text = text;
    /* No token stands for less than a byte of marked text. */
    if (tokens_reserve(encoder, n_bytes) != 0)
        return -1;
    if (space) {
        memcpy(text, SPACE_MARK, SPACE_MARK_BYTES);
        n = SPACE_MARK_BYTES;
    }
    for (size_t i = 0; i < length; i++) {
        if (raw[i] == ' ') {
            memcpy(text + n, SPACE_MARK, SPACE_MARK_BYTES);
            n += SPACE_MARK_BYTES;
        } else {
            text[n++] = raw[i];
        }
    }
    return marked_encode(encoder, n);
}

/* A growing list of fragments. */
struct fragments {
    struct fragment *items;
    size_t n, room;
};

static int fragment_add(struct fragments *fragments, const char *text, size_t length, int32_t token)
{
    if (length == 0)
        return 0;
    if (fragments->n == fragments->room) {
        size_t room = fragments->room > 0 ? 2 * fragments->room : 16;
        struct fragment *items = reallocarray(fragments->items, room, sizeof *items);
        if (items == NULL)
            return -1;
        fragments->items = items;
        fragments->room = room;
    }
    fragments->items[fragments->n++] = (struct fragment){text, length, token};
    return 0;
}

/* Cut a raw fragment at every place of one user-defined piece, from the left. */
static int fragment_cut(struct fragments *out, struct fragment raw, const struct piece *piece,
                        int32_t token)
{
    const char *end = raw.text + raw.length, *hit;

    while (raw.text < end &&
           (hit = memmem(raw.text, (size_t)(end - raw.text), piece->text, piece->length)) != NULL) {
        if (fragment_add(out, raw.text, (size_t)(hit - raw.text), NO_TOKEN) != 0 ||
            fragment_add(out, hit, piece->length, token) != 0)
            return -1;
        raw.text = hit + piece->length;
    }
    return fragment_add(out, raw.text, (size_t)(end - raw.text), NO_TOKEN);
}

/* Cut all user-defined pieces out of the text, one piece after the other. */
static int text_cut(const struct tokenizer *tokenizer, const char *text, size_t length,
                    struct fragments *fragments)
{
    if (fragment_add(fragments, text, length, NO_TOKEN) != 0)
        return -1;
    for (size_t u = 0; u < tokenizer->n_user; u++) {
        int32_t token = tokenizer->user_tokens[u];
        const struct piece *piece = &tokenizer->pieces[token];
        if (memmem(text, length, piece->text, piece->length) == NULL)
            continue;
        struct fragments next = {0};
        int status = 0;
        for (size_t i = 0; i < fragments->n && status == 0; i++) {
            struct fragment *old = &fragments->items[i];
            status = old->token == NO_TOKEN
                         ? fragment_cut(&next, *old, piece, token)
                         : fragment_add(&next, old->text, old->length, old->token);
        }
        free(fragments->items);
        *fragments = next;
        if (status != 0)
            return -1;
    }
    return 0;
}

static int fragments_encode(struct encoder *encoder, const struct fragments *fragments,
                            bool space_prefix)
{
    bool space = space_prefix && encoder->tokenizer->adds_space;

    for (size_t i = 0; i < fragments->n; i++) {
        const struct fragment *fragment = &fragments->items[i];
        if (fragment->token == NO_TOKEN) {
            if (raw_encode(encoder, fragment->text, fragment->length, space) != 0)
                return -1;
            space = false;
        } else {
            if (tokens_reserve(encoder, 1) != 0)
                return -1;
            encoder->tokens[encoder->n_tokens++] = fragment->token;
            space = encoder->tokenizer->adds_space;
        }
    }
    return 0;
}

int64_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                         bool space_prefix, int32_t **tokens, struct err *err)
{
    struct encoder encoder = {.tokenizer = tokenizer};
    struct fragments fragments = {0};

    if (length > TEXT_MAX_BYTES) {
        err_set(err, ERR_DATA, "a text of %zu bytes is too long: split it below %zu bytes", length,
                TEXT_MAX_BYTES);
        return -1;
    }
    int status = 0;
    /* One token at least, so that *tokens is never NULL. */
    if (tokens_reserve(&encoder, 1) != 0 ||
        (length > 0 && (text_cut(tokenizer, text, length, &fragments) != 0 ||
                        fragments_encode(&encoder, &fragments, space_prefix) != 0)))
        status = -1;
    free(fragments.items);
    free(encoder.text);
    free(encoder.symbols);
    free(encoder.heap);
    if (status != 0) {
        free(encoder.tokens);
        err_set(err, ERR_MEMORY, "out of memory for the tokens of %zu bytes of text", length);
        return -1;
    }
    *tokens = encoder.tokens;
    return (int64_t)encoder.n_tokens;
}
