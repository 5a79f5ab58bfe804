/* tokenizer_train.c - byte-pair merging over counted words, and the encoder that goes with it. */
#include "evaluator/reference/tokenizer_train.h"
#include "evaluator/formats/gguf_write.h"
#include "evaluator/reference/world_words.h"
#include "space/base/err.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACE       "\xe2\x96\x81" /* U+2581 */
#define SPACE_BYTES 3
#define MAX_WORD    64 /* bytes of a word that is merged or remembered; longer ones are cut up */

/* ---- a table of texts: open addressing, power of two, grows ---- */

struct entry {
    char text[MAX_WORD];
    uint32_t n;
    uint32_t used;
    uint64_t count;            /* word bag: times seen; vocabulary: piece index */
    uint16_t tokens[MAX_WORD]; /* remembered encoding */
    uint16_t n_tokens;
};

struct table {
    struct entry *entries;
    size_t capacity, n;
};

static uint64_t text_hash(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)text[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static int table_init(struct table *t, size_t capacity, struct err *err)
{
    t->entries = calloc(capacity, sizeof *t->entries);
    t->capacity = capacity;
    t->n = 0;
    if (t->entries == NULL) {
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        return -1;
    }
    return 0;
}

/* The entry of a text, or the free one where it belongs. */
static struct entry *table_find(const struct table *t, const char *text, size_t n)
{
    size_t at = text_hash(text, n) & (t->capacity - 1);
    while (t->entries[at].used &&
           (t->entries[at].n != n || memcmp(t->entries[at].text, text, n) != 0))
        at = (at + 1) & (t->capacity - 1);
    return &t->entries[at];
}

static void entry_fill(struct table *t, struct entry *e, const char *text, size_t n)
{
    assert(n <= MAX_WORD);
    memcpy(e->text, text, n);
    e->n = (uint32_t)n;
    e->used = 1;
    t->n++;
}

static int table_grow(struct table *t, struct err *err)
{
    struct table bigger;
    if (table_init(&bigger, 2 * t->capacity, err) != 0)
        return -1;
    for (size_t i = 0; i < t->capacity; i++)
        if (t->entries[i].used)
            *table_find(&bigger, t->entries[i].text, t->entries[i].n) = t->entries[i];
    bigger.n = t->n;
    free(t->entries);
    *t = bigger;
    return 0;
}

/* ---- the word bag ---- */

struct word_bag {
    struct table words;
};

struct word_bag *word_bag_create(struct err *err)
{
    struct word_bag *bag = calloc(1, sizeof *bag);
    if (bag == NULL) {
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        return NULL;
    }
    if (table_init(&bag->words, 4096, err) != 0) {
        free(bag);
        return NULL;
    }
    return bag;
}

void word_bag_destroy(struct word_bag *bag)
{
    if (bag != NULL)
        free(bag->words.entries);
    free(bag);
}

int word_bag_add(struct word_bag *bag, const char *word, size_t n, uint64_t count, struct err *err)
{
    char text[MAX_WORD];
    size_t at = 0;
    for (size_t i = 0; i < n && at + SPACE_BYTES <= MAX_WORD; i++) {
        if (word[i] == ' ') {
            memcpy(text + at, SPACE, SPACE_BYTES);
            at += SPACE_BYTES;
        } else {
            text[at++] = word[i];
        }
    }
    struct entry *e = table_find(&bag->words, text, at);
    if (!e->used)
        entry_fill(&bag->words, e, text, at);
    e->count += count;
    return 2 * bag->words.n > bag->words.capacity ? table_grow(&bag->words, err) : 0;
}

int word_bag_add_text(struct word_bag *bag, const char *text, struct err *err)
{
    char word[MAX_WORD] = " ";
    size_t n = 1; /* the text itself begins with a space */
    for (const char *p = text;; p++) {
        bool letter = isalnum((unsigned char)*p);
        bool glued =
            n == 0 || (n == 1 && word[0] == ' ') || (letter && isalnum((unsigned char)word[n - 1]));
        if ((!glued || *p == ' ' || *p == '\0' || *p == '\n' || *p == WORD_SYLLABLE_MARK) &&
            n > 0) {
            if (word_bag_add(bag, word, n, 1, err) != 0)
                return -1;
            n = 0;
        }
        if (*p == '\0')
            return 0;
        if (*p != WORD_SYLLABLE_MARK && *p != '\n' && n < sizeof word)
            word[n++] = *p;
    }
}

/* ---- learning ---- */

struct vocabulary {
    struct piece *pieces;
    size_t n;
    struct table by_text;    /* normal pieces; count is the index */
    struct table remembered; /* words encoded before */
};

static struct vocabulary *vocabulary_create(size_t n_pieces, struct err *err)
{
    struct vocabulary *v = calloc(1, sizeof *v);
    if (v == NULL || (v->pieces = calloc(n_pieces, sizeof *v->pieces)) == NULL) {
        free(v);
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        return NULL;
    }
    if (table_init(&v->by_text, 8192, err) != 0 || table_init(&v->remembered, 1 << 17, err) != 0) {
        vocabulary_destroy(v);
        return NULL;
    }
    return v;
}

void vocabulary_destroy(struct vocabulary *v)
{
    if (v == NULL)
        return;
    free(v->by_text.entries);
    free(v->remembered.entries);
    free(v->pieces);
    free(v);
}

static void piece_add(struct vocabulary *v, const char *text, size_t n, float score,
                      enum piece_type type)
{
    assert(n <= PIECE_ROOM);
    struct piece *piece = &v->pieces[v->n];
    *piece = (struct piece){.score = score, .type = type, .n = (uint32_t)n};
    memcpy(piece->text, text, n);
    if (type == PIECE_NORMAL) {
        struct entry *e = table_find(&v->by_text, text, n);
        if (!e->used) {
            entry_fill(&v->by_text, e, text, n);
            e->count = v->n;
        }
    }
    v->n++;
}

static void first_pieces_add(struct vocabulary *v)
{
    piece_add(v, "<unk>", 5, 0, PIECE_UNKNOWN);
    piece_add(v, "<s>", 3, 0, PIECE_CONTROL);
    piece_add(v, "</s>", 4, 0, PIECE_CONTROL);
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        piece_add(v, text, 6, 0, PIECE_BYTE);
    }
}

/* While merging, a word is a row of symbols; symbol texts are those of characters and merges. */
struct merge_word {
    uint16_t symbols[MAX_WORD];
    size_t n;
    uint64_t count;
};

struct merger {
    struct merge_word *words;
    size_t n_words;
    char (*texts)[PIECE_ROOM]; /* by symbol */
    uint32_t *lengths;
    size_t n_symbols, n_characters, symbol_room;
};

static size_t character_bytes(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static uint16_t symbol_of(struct merger *m, const char *text, size_t n)
{
    for (size_t i = 0; i < m->n_symbols; i++)
        if (m->lengths[i] == n && memcmp(m->texts[i], text, n) == 0)
            return (uint16_t)i;
    assert(m->n_symbols < m->symbol_room && n <= PIECE_ROOM);
    memcpy(m->texts[m->n_symbols], text, n);
    m->lengths[m->n_symbols] = (uint32_t)n;
    return (uint16_t)m->n_symbols++;
}

static void merger_fini(struct merger *m)
{
    free(m->words);
    free(m->texts);
    free(m->lengths);
}

static int by_text(const void *a, const void *b)
{
    const struct entry *x = *(const struct entry *const *)a, *y = *(const struct entry *const *)b;
    int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Words in the order of their spelling, so that the result does not hang on the table's layout. */
static int merger_init(struct merger *m, const struct word_bag *bag, size_t n_pieces,
                       struct err *err)
{
    memset(m, 0, sizeof *m);
    m->symbol_room = n_pieces + 512;
    m->words = calloc(bag->words.n + 1, sizeof *m->words);
    m->texts = calloc(m->symbol_room, sizeof *m->texts);
    m->lengths = calloc(m->symbol_room, sizeof *m->lengths);
    const struct entry **sorted = calloc(bag->words.n + 1, sizeof(struct entry *));
    if (m->words == NULL || m->texts == NULL || m->lengths == NULL || sorted == NULL) {
        merger_fini(m);
        free(sorted);
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        return -1;
    }
    for (size_t i = 0; i < bag->words.capacity; i++)
        if (bag->words.entries[i].used)
            sorted[m->n_words++] = &bag->words.entries[i];
    qsort(sorted, m->n_words, sizeof sorted[0], by_text);
    for (size_t i = 0; i < m->n_words; i++) {
        struct merge_word *word = &m->words[i];
        word->count = sorted[i]->count;
        for (size_t at = 0, step; at < sorted[i]->n; at += step) {
            step = character_bytes(sorted[i]->text[at]);
            if (at + step > sorted[i]->n)
                break;
            word->symbols[word->n++] = symbol_of(m, sorted[i]->text + at, step);
        }
    }
    m->n_characters = m->n_symbols;
    free(sorted);
    return 0;
}

#define PAIR_SLOTS (1u << 16)
struct pair_count {
    uint32_t pair; /* left << 16 | right, plus one so that 0 is free */
    uint64_t count;
};

/* The most frequent pair (the smaller number of equals), 0 if there is none. */
static uint32_t best_pair(const struct merger *m, struct pair_count *pairs)
{
    memset(pairs, 0, PAIR_SLOTS * sizeof *pairs);
    for (size_t w = 0; w < m->n_words; w++)
        for (size_t i = 0; i + 1 < m->words[w].n; i++) {
            uint16_t left = m->words[w].symbols[i], right = m->words[w].symbols[i + 1];
            if (m->lengths[left] + m->lengths[right] > PIECE_ROOM)
                continue;
            uint32_t pair = ((uint32_t)left << 16 | right) + 1;
            uint32_t at = (pair * 2654435761u) >> 16;
            while (pairs[at].pair != 0 && pairs[at].pair != pair)
                at = (at + 1) % PAIR_SLOTS;
            pairs[at].pair = pair;
            pairs[at].count += m->words[w].count;
        }
    struct pair_count best = {0, 0};
    for (size_t i = 0; i < PAIR_SLOTS; i++)
        if (pairs[i].count > best.count ||
            (pairs[i].count == best.count && pairs[i].count > 0 && pairs[i].pair < best.pair))
            best = pairs[i];
    return best.pair;
}

static void pair_merge(struct merger *m, uint16_t left, uint16_t right, uint16_t joined)
{
    for (size_t w = 0; w < m->n_words; w++) {
        struct merge_word *word = &m->words[w];
        size_t n = 0;
        for (size_t i = 0; i < word->n; i++) {
            bool here =
                i + 1 < word->n && word->symbols[i] == left && word->symbols[i + 1] == right;
            word->symbols[n++] = here ? joined : word->symbols[i];
            i += here;
        }
        word->n = n;
    }
}

static int merges_add(struct vocabulary *v, struct merger *m, size_t n_pieces,
                      struct pair_count *pairs, struct err *err)
{
    float score = 0;
    while (v->n + m->n_characters < n_pieces) {
        uint32_t pair = best_pair(m, pairs);
        if (pair == 0) {
            err_set(err, ERR_DATA, "vocabulary: the text gives only %zu pieces", v->n);
            return -1;
        }
        uint16_t left = (uint16_t)((pair - 1) >> 16), right = (uint16_t)(pair - 1);
        char text[2 * PIECE_ROOM];
        size_t n_left = m->lengths[left], n = n_left + m->lengths[right];
        memcpy(text, m->texts[left], n_left);
        memcpy(text + n_left, m->texts[right], n - n_left);
        size_t n_before = m->n_symbols;
        uint16_t joined = symbol_of(m, text, n);
        if (m->n_symbols > n_before) {
            piece_add(v, text, n, score, PIECE_NORMAL);
            score -= 1;
        }
        pair_merge(m, left, right, joined);
    }
    for (size_t i = 0; i < m->n_characters; i++, score -= 1)
        piece_add(v, m->texts[i], m->lengths[i], score, PIECE_NORMAL);
    return 0;
}

struct vocabulary *vocabulary_learn(const struct word_bag *bag, size_t n_pieces, struct err *err)
{
    struct merger m;
    struct vocabulary *v = vocabulary_create(n_pieces, err);
    if (v == NULL)
        return NULL;
    if (merger_init(&m, bag, n_pieces, err) != 0)
        goto undo_create;
    struct pair_count *pairs = malloc(PAIR_SLOTS * sizeof *pairs);
    if (pairs == NULL) {
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        goto undo_merger;
    }
    first_pieces_add(v);
    if (merges_add(v, &m, n_pieces, pairs, err) != 0) {
        free(pairs);
        goto undo_merger;
    }
    free(pairs);
    merger_fini(&m);
    return v;

undo_merger:
    merger_fini(&m);
undo_create:
    vocabulary_destroy(v);
    return NULL;
}

/* ---- the file ---- */

size_t vocabulary_size(const struct vocabulary *v)
{
    return v->n;
}

const struct piece *vocabulary_piece(const struct vocabulary *v, size_t i)
{
    assert(i < v->n);
    return &v->pieces[i];
}

/* Types as a GGUF file has them, scores, and texts where they lie. */
static int pieces_put(const struct vocabulary *v, struct gguf_writer *w, struct err *err)
{
    int status = -1;
    const char **texts = calloc(v->n, sizeof texts[0]);
    size_t *lengths = calloc(v->n, sizeof lengths[0]);
    float *scores = calloc(v->n, sizeof scores[0]);
    int32_t *types = calloc(v->n, sizeof types[0]);
    if (texts == NULL || lengths == NULL || scores == NULL || types == NULL) {
        err_set(err, ERR_MEMORY, "vocabulary: out of memory");
        goto done;
    }
    for (size_t i = 0; i < v->n; i++) {
        texts[i] = v->pieces[i].text;
        lengths[i] = v->pieces[i].n;
        scores[i] = v->pieces[i].score;
        types[i] = (int32_t)v->pieces[i].type;
    }
    if (gguf_put_text_array(w, "tokenizer.ggml.tokens", texts, lengths, v->n, err) == 0 &&
        gguf_put_f32_array(w, "tokenizer.ggml.scores", scores, v->n, err) == 0 &&
        gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, v->n, err) == 0)
        status = 0;
done:
    free(texts);
    free(lengths);
    free(scores);
    free(types);
    return status;
}

int vocabulary_save(const struct vocabulary *v, const char *path, struct err *err)
{
    int status = -1;
    struct gguf_writer *w = gguf_writer_create(err);
    if (w == NULL)
        return -1;
    if (gguf_put_text(w, "general.architecture", "llama", err) == 0 &&
        gguf_put_text(w, "general.name", "kerf-reference vocabulary", err) == 0 &&
        gguf_put_text(w, "tokenizer.ggml.model", "llama", err) == 0 && pieces_put(v, w, err) == 0 &&
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", PIECE_BOS, err) == 0 &&
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", PIECE_EOS, err) == 0 &&
        gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", PIECE_UNK, err) == 0 &&
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", 1, err) == 0 &&
        gguf_put_bool(w, "tokenizer.ggml.add_eos_token", 0, err) == 0 &&
        gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", 1, err) == 0)
        status = gguf_writer_save(w, path, err);
    gguf_writer_destroy(w);
    return status;
}

/* ---- encoding ---- */

/* Pieces of one word (its space already U+2581), at most MAX_WORD bytes. */
static size_t word_encode(const struct vocabulary *v, const char *word, size_t n, uint16_t *tokens)
{
    uint32_t starts[MAX_WORD + 1];
    size_t n_parts = 0;
    for (size_t at = 0; at < n; at += character_bytes(word[at]))
        starts[n_parts++] = (uint32_t)at;
    starts[n_parts] = (uint32_t)n;
    for (;;) {
        float best = -1e30f;
        size_t where = n_parts;
        for (size_t i = 0; i + 1 < n_parts; i++) {
            const struct entry *e =
                table_find(&v->by_text, word + starts[i], starts[i + 2] - starts[i]);
            if (e->used && v->pieces[e->count].score > best) {
                best = v->pieces[e->count].score;
                where = i;
            }
        }
        if (where == n_parts)
            break;
        memmove(&starts[where + 1], &starts[where + 2], (n_parts - where - 1) * sizeof starts[0]);
        n_parts--;
    }
    size_t n_tokens = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const struct entry *e =
            table_find(&v->by_text, word + starts[i], starts[i + 1] - starts[i]);
        if (e->used)
            tokens[n_tokens++] = (uint16_t)e->count;
        else
            for (uint32_t b = starts[i]; b < starts[i + 1]; b++)
                tokens[n_tokens++] = (uint16_t)(PIECE_FIRST_BYTE + (uint8_t)word[b]);
    }
    return n_tokens;
}

static size_t word_encode_remembered(struct vocabulary *v, const char *word, size_t n,
                                     uint16_t *tokens)
{
    struct entry *e = table_find(&v->remembered, word, n);
    if (!e->used) {
        size_t n_tokens = word_encode(v, word, n, tokens);
        if (4 * v->remembered.n > 3 * v->remembered.capacity)
            return n_tokens;
        entry_fill(&v->remembered, e, word, n);
        e->n_tokens = (uint16_t)n_tokens;
        memcpy(e->tokens, tokens, n_tokens * sizeof tokens[0]);
    }
    memcpy(tokens, e->tokens, e->n_tokens * sizeof tokens[0]);
    return e->n_tokens;
}

size_t vocabulary_encode(struct vocabulary *v, const char *text, uint16_t *tokens)
{
    char word[MAX_WORD] = SPACE;
    size_t n = SPACE_BYTES, n_tokens = 0;
    for (const char *p = text;; p++) {
        /* A space begins a word; a word too long to keep is cut before a whole character. */
        bool begins = (*p & 0xc0) != 0x80;
        if (*p == '\0' || *p == ' ' || (n + 4 > MAX_WORD && begins)) {
            n_tokens += word_encode_remembered(v, word, n, tokens + n_tokens);
            n = 0;
        }
        if (*p == '\0')
            return n_tokens;
        if (*p == ' ') {
            memcpy(word, SPACE, SPACE_BYTES);
            n = SPACE_BYTES;
        } else {
            word[n++] = *p;
        }
    }
}
