/* The tokenizer on small vocabularies made here: rules one by one, then against its definition. */
#include "evaluator/tokenizer.h"

#include "evaluator/formats/gguf.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/gguf_bytes.h"
#include "tests/slow_tokenizer.h"
#include "tests/tap.h"

#define SP         "\xe2\x96\x81"
#define MAX_PIECES 400

/* A vocabulary under construction. */
struct vocabulary {
    char *texts[MAX_PIECES];
    float scores[MAX_PIECES];
    int32_t types[MAX_PIECES];
    size_t n;
};

static int32_t add(struct vocabulary *vocabulary, const char *text, float score, int32_t type)
{
    size_t i = vocabulary->n++;

    vocabulary->texts[i] = strdup(text);
    vocabulary->scores[i] = score;
    vocabulary->types[i] = type;
    return (int32_t)i;
}

/* <unk>, <s>, </s>, and all 256 bytes from token 3 on. */
static void add_basics(struct vocabulary *vocabulary)
{
    char text[8];

    add(vocabulary, "<unk>", 0, 2);
    add(vocabulary, "<s>", 0, 3);
    add(vocabulary, "</s>", 0, 3);
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof text, "<0x%02X>", byte);
        add(vocabulary, text, 0, 6);
    }
}

/* The file of a vocabulary, with more keys if `extra` names a bool and its value. */
static struct gguf_bytes file_of(const struct vocabulary *vocabulary, const char *extra, int value)
{
    struct gguf_bytes bytes = {0};
    const char *texts[MAX_PIECES];

    for (size_t i = 0; i < vocabulary->n; i++)
        texts[i] = vocabulary->texts[i];
    bytes_head(&bytes, 3, 0, extra != NULL ? 5 : 4);
    bytes_key_text(&bytes, "tokenizer.ggml.model", "llama");
    bytes_key_texts(&bytes, "tokenizer.ggml.tokens", texts, vocabulary->n);
    bytes_key_array(&bytes, "tokenizer.ggml.scores", GGUF_F32, vocabulary->n, vocabulary->scores,
                    4 * vocabulary->n);
    bytes_key_array(&bytes, "tokenizer.ggml.token_type", GGUF_I32, vocabulary->n, vocabulary->types,
                    4 * vocabulary->n);
    if (extra != NULL)
        bytes_key(&bytes, extra, GGUF_BOOL, &(uint8_t){(uint8_t)value}, 1);
    return bytes;
}

static void vocabulary_free(struct vocabulary *vocabulary)
{
    for (size_t i = 0; i < vocabulary->n; i++)
        free(vocabulary->texts[i]);
    vocabulary->n = 0;
}

static struct tokenizer *tokenizer_of(const struct vocabulary *vocabulary, const char *extra,
                                      int value, struct err *err)
{
    struct gguf_bytes bytes = file_of(vocabulary, extra, value);

    struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, "vocabulary", err);
    struct tokenizer *tokenizer = gguf != NULL ? tokenizer_create(gguf, err) : NULL;
    /* Pieces were copied, so the file may go before the tokenizer does. */
    gguf_close(gguf);
    free(bytes.data);
    return tokenizer;
}

/* Pieces of an encoded text, joined by '|' into one of a few rotating buffers. */
static const char *pieces_of(const struct tokenizer *tokenizer, const char *text, size_t length,
                             bool space)
{
    static char buffers[4][1000];
    static int turn;
    char *out = buffers[turn++ % 4];
    struct err err = {0};
    int32_t *tokens = NULL;
    size_t used = 0;

    int64_t n = tokenizer_encode(tokenizer, text, length, space, &tokens, &err);
    out[0] = '\0';
    if (n < 0)
        snprintf(out, sizeof buffers[0], "%s", err.text);
    for (int64_t i = 0; i < n; i++) {
        size_t piece_length;
        const char *piece = tokenizer_piece(tokenizer, tokens[i], &piece_length);
        used += (size_t)snprintf(out + used, sizeof buffers[0] - used, "%s%.*s", i > 0 ? "|" : "",
                                 (int)piece_length, piece);
    }
    free(tokens);
    return out;
}

#define PIECES(tokenizer, text, space) pieces_of(tokenizer, text, sizeof text - 1, space)

static void test_merging(void)
{
    struct vocabulary v = {0};
    struct err err = {0};

    add_basics(&v);
    for (const char *c = "abcdn<s>/"; *c != '\0'; c++)
        add(&v, (char[]){*c, '\0'}, -100, 1);
    add(&v, SP, -90, 1);
    add(&v, "bc", -1, 1);
    add(&v, "ab", -2, 1);
    add(&v, "cd", -2, 1);
    add(&v, "abcd", -3, 1);
    add(&v, "aa", -4, 1);
    add(&v, "aaa", -5, 1);
    add(&v, SP "a", -6, 1);
    add(&v, SP SP, -7, 1);
    add(&v, "\xc3\xa9", -8, 1);
    add(&v, "n" SP "n", -9, 1);
    add(&v, "n" SP, -10, 1);
    struct tokenizer *t = tokenizer_of(&v, NULL, 0, &err);
    if (!ok(t != NULL, "a vocabulary is read"))
        printf("# %s\n", err.text);
    is_text(PIECES(t, "abc", false), "a|bc",
            "the better score is joined first, though not leftmost");
    is_text(PIECES(t, "abcd", false), "a|bc|d",
            "a longer piece is out of reach behind a better pair");
    is_text(PIECES(t, "abd", false), "ab|d", "a pair is joined when nothing better is there");
    is_text(PIECES(t, "aaa", false), "aaa", "joined pieces are joined again");
    is_text(PIECES(t, "aaaa", false), "aa|aa", "of equal scores the leftmost is joined first");
    is_text(PIECES(t, "aaaaa", false), "aa|aaa", "so a run is paired from the left");
    is_text(PIECES(t, "a", true), SP "a", "a space is put in front");
    is_text(PIECES(t, "a", false), "a", "or not, where the caller wants none");
    is_text(PIECES(t, "", true), "", "an empty text has no tokens, not even a space");
    is_text(PIECES(t, "d  d", false), "d|" SP SP "|d", "two spaces may be a piece");
    is_text(PIECES(t, "n n", false), "n" SP "n", "a piece may go across a space");
    is_text(PIECES(t, "\xc3\xa9", false), "\xc3\xa9", "a character of two bytes is one symbol");
    is_text(PIECES(t, "\xc3\xa8", false), "<0xC3>|<0xA8>", "an unknown one falls to its bytes");
    is_text(PIECES(t, "z\n", false), "<0x7A>|<0x0A>", "so do letters and line ends");
    is_text(PIECES(t,
                   "\xc3"
                   "a\xa9\xff",
                   false),
            "<0xC3>|a|<0xA9>|<0xFF>", "invalid UTF-8 becomes bytes and keeps its neighbours");
    is_text(PIECES(t, "\xf0\x9f", false), "<0xF0>|<0x9F>", "a character cut short becomes bytes");
    is_text(PIECES(t, "a\0b", false), "a|<0x00>|b", "a NUL is a byte like others");
    is_text(PIECES(t, "<s>", false), "<|s|>", "control pieces are not found in text");
    is_text(PIECES(t, "<0x61>", false), "<|<0x30>|<0x78>|<0x36>|<0x31>|>", "nor are byte pieces");
    tokenizer_destroy(t);
    tokenizer_destroy(NULL);
    vocabulary_free(&v);
}

static void test_decode(void)
{
    struct vocabulary v = {0};
    struct err err = {0};

    add_basics(&v);
    int32_t ab = add(&v, SP "a" SP "b", -1, 1), user = add(&v, SP "x", 0, 4);
    struct tokenizer *t = tokenizer_of(&v, NULL, 0, &err);
    int32_t tokens[] = {1, ab, 3 + 0xc3, 3 + 0xa9, 0, user, 2};
    char *text = tokenizer_decode(t, tokens, 7, &err);
    is_text(text, " a b\xc3\xa9" SP "x",
            "pieces, bytes and user-defined pieces are text, control and unknown pieces vanish");
    free(text);
    text = tokenizer_decode(t, NULL, 0, &err);
    is_text(text, "", "no tokens are no text");
    free(text);
    tokens[2] = (int32_t)v.n;
    ok(tokenizer_decode(t, tokens, 7, &err) == NULL && err.code == ERR_DATA,
       "a token beyond the vocabulary is refused");
    tokens[2] = -1;
    ok(tokenizer_decode(t, tokens, 7, &err) == NULL && err.code == ERR_DATA,
       "a negative token is refused");
    tokenizer_destroy(t);
    vocabulary_free(&v);
}

static void test_user_defined(void)
{
    struct vocabulary v = {0};
    struct err err = {0};

    add_basics(&v);
    add(&v, "a", -1, 1);
    add(&v, "b", -1, 1);
    add(&v, "[", -1, 1);
    add(&v, SP, -1, 1);
    add(&v, "[b", 0, 4);
    add(&v, "[b]", 0, 4);
    add(&v, "  ", 0, 4);
    struct tokenizer *t = tokenizer_of(&v, NULL, 0, &err);
    is_text(PIECES(t, "a[b]a", false), "a|[b]|" SP "|a",
            "a user-defined piece is cut out, the longest first, and a space follows it");
    is_text(PIECES(t, "[ba[b]", true), "[b|" SP "|a|[b]", "at both ends, without a space in front");
    is_text(PIECES(t, "[b][b]", true), "[b]|[b]", "two in a row have no space between them");
    is_text(PIECES(t, "a   a", false), "a|  |" SP "|" SP "|a",
            "their spaces are those of the text");
    is_text(PIECES(t, "[a", false), "[|a", "a part of one is plain text");
    tokenizer_destroy(t);
    t = tokenizer_of(&v, "tokenizer.ggml.add_space_prefix", 0, &err);
    is_text(PIECES(t, "a[b]a", true), "a|[b]|a", "a vocabulary that wants no spaces gets none");
    tokenizer_destroy(t);
    vocabulary_free(&v);
}

static void test_unknown(void)
{
    struct vocabulary v = {0};
    struct err err = {0};

    add(&v, "<unk>", 0, 2);
    add(&v, "<s>", 0, 3);
    add(&v, "</s>", 0, 3);
    add(&v, "a", -1, 1);
    add(&v, "<0xC3>", 0, 6);
    struct tokenizer *t = tokenizer_of(&v, NULL, 0, &err);
    is_text(PIECES(t,
                   "\xc3\xa9"
                   "a",
                   false),
            "<unk>|a", "a character whose bytes are not all pieces is one unknown piece");
    is_text(PIECES(t, "\xc3", false), "<0xC3>", "one whose bytes are is not");
    ok(tokenizer_n_vocab(t) == 5 && tokenizer_bos(t) == 1 && tokenizer_eos(t) == 2 &&
           tokenizer_adds_bos(t),
       "control pieces 1 and 2 are BOS and EOS where the file names none, and BOS is added");
    tokenizer_destroy(t);
    t = tokenizer_of(&v, "tokenizer.ggml.add_bos_token", 0, &err);
    ok(t != NULL && !tokenizer_adds_bos(t), "unless the file says no");
    tokenizer_destroy(t);
    v.types[1] = 1;
    t = tokenizer_of(&v, NULL, 0, &err);
    ok(t != NULL && tokenizer_bos(t) == -1 && !tokenizer_adds_bos(t),
       "a text piece is not taken for BOS, and none is added");
    tokenizer_destroy(t);
    v.types[0] = 1;
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "unknown piece") != NULL,
       "without all bytes and without an unknown piece the vocabulary is refused");
    vocabulary_free(&v);
}

/* Vocabularies that are refused, with a word of the reason. */
static void test_refusals(void)
{
    struct vocabulary v = {0};
    struct err err = {0};

    add_basics(&v);
    v.types[5] = 7;
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "unknown type") != NULL,
       "a type that does not exist is refused");
    v.types[5] = -1;
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && err.code == ERR_DATA, "a negative one, too");
    v.types[5] = 6;
    v.scores[7] = NAN;
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && strstr(err.text, "not a number") != NULL,
       "a score that is no number is refused");
    v.scores[7] = 0;
    v.types[0] = 6;
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && strstr(err.text, "<0xHH>") != NULL,
       "a byte piece that names no byte is refused");
    v.types[0] = 2;
    ok(tokenizer_of(&v, "tokenizer.ggml.add_bos_token", 2, &err) == NULL &&
           strstr(err.text, "add_bos_token") != NULL,
       "a bool of 2 is refused");
    ok(tokenizer_of(&v, "tokenizer.ggml.bos_token_id", 1, &err) == NULL && err.code == ERR_DATA,
       "a BOS that is no number is refused");
    vocabulary_free(&v);
    ok(tokenizer_of(&v, NULL, 0, &err) == NULL && err.code == ERR_DATA, "no pieces are refused");
}

/* Damage one key of the sample; whether the tokenizer is refused with `word`. */
static bool sample_refused(const char *key, size_t place, const void *value, size_t n,
                           const char *word)
{
    struct gguf_bytes bytes = bytes_sample(3, NULL);
    struct err err = {0};

    memcpy(bytes.data + bytes_behind(&bytes, key) + place, value, n);
    struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, "sample", &err);
    struct tokenizer *tokenizer = gguf != NULL ? tokenizer_create(gguf, &err) : NULL;
    bool held = gguf != NULL && tokenizer == NULL && err.code == ERR_DATA &&
                strstr(err.text, "sample") != NULL && strstr(err.text, word) != NULL;
    if (!held && err.text[0] != '\0')
        printf("# %s\n", err.text);
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    free(bytes.data);
    return held;
}

static void test_damaged_keys(void)
{
    ok(sample_refused("tokenizer.ggml.model", 12, "gpt-2", 5, "gpt-2"),
       "another kind of tokenizer is refused by name");
    ok(sample_refused("tokenizer.ggml.model", (size_t)-1, "k", 1, "no tokenizer"),
       "a file without a tokenizer is told so");
    ok(sample_refused("tokenizer.ggml.tokens", (size_t)-1, "z", 1, "tokenizer.ggml.tokens"),
       "one without pieces, too");
    ok(sample_refused("tokenizer.ggml.scores", (size_t)-1, "z", 1, "tokenizer.ggml.scores"),
       "one without scores, too");
    ok(sample_refused("tokenizer.ggml.token_type", (size_t)-1, "z", 1, "tokenizer.ggml.token_type"),
       "one without types, too");
    ok(sample_refused("tokenizer.ggml.scores", 4, &(uint32_t){GGUF_U32}, 4,
                      "tokenizer.ggml.scores"),
       "scores that are no floats are refused");
    ok(sample_refused("tokenizer.ggml.bos_token_id", 4, &(uint32_t){SAMPLE_PIECES}, 4,
                      "bos_token_id"),
       "a BOS beyond the vocabulary is refused");
    ok(!sample_refused("tokenizer.ggml.bos_token_id", 4, &(uint32_t){UINT32_MAX}, 4, ""),
       "-1 stands for no BOS");
}

/* Random vocabularies over a small alphabet, random texts: the same tokens as the definition. */
static void test_definition(void)
{
    static const char *const letters[] = {"a", "b", "c", " ", "\xc3\xa9", "\xe2\x82\xac", "z"};
    struct rng rng = rng_make(20, 0);
    struct err err = {0};
    int n_texts = 0, n_same = 0, n_joined = 0;

    for (int round = 0; round < 60; round++) {
        struct vocabulary v = {0};
        char text[64];
        add_basics(&v);
        uint64_t n_letters = 3 + rng_below(&rng, 4);
        for (int i = 0; i < 60; i++) {
            text[0] = '\0';
            for (uint64_t l = rng_below(&rng, 5) + 1; l > 0; l--) {
                const char *letter = letters[rng_below(&rng, n_letters)];
                strcat(text, letter[0] == ' ' ? SP : letter);
            }
            add(&v, text, -(float)rng_below(&rng, 12), rng_below(&rng, 20) == 0 ? 5 : 1);
        }
        struct gguf_bytes bytes = file_of(&v, NULL, 0);
        struct gguf *gguf = gguf_open_memory(bytes.data, bytes.n, "random", &err);
        struct tokenizer *t = tokenizer_create(gguf, &err);
        struct slow_vocabulary slow = slow_read(gguf);
        for (int i = 0; t != NULL && i < 20; i++) {
            int32_t want[300], *got = NULL;
            text[0] = '\0';
            for (uint64_t l = rng_below(&rng, 18); l > 0; l--)
                strcat(text, letters[rng_below(&rng, 7)]);
            /* An empty text has no tokens, whatever is put in front. */
            bool space = rng_below(&rng, 2) == 0 && text[0] != '\0';
            size_t n_want = slow_encode(&slow, text, strlen(text), space, want);
            int64_t n = tokenizer_encode(t, text, strlen(text), space, &got, &err);
            n_texts++;
            n_same += n == (int64_t)n_want && memcmp(got, want, n_want * sizeof *want) == 0;
            n_joined += n_want + 2 < strlen(text);
            free(got);
        }
        free(slow.pieces);
        tokenizer_destroy(t);
        gguf_close(gguf);
        free(bytes.data);
        vocabulary_free(&v);
    }
    ok(n_same == n_texts && n_texts == 1200 && n_joined > 200,
       "%d of %d random texts have the tokens of the definition, %d with much to join", n_same,
       n_texts, n_joined);
}

/* A megabyte without a place to cut: quadratic work would run into the time limit of the test. */
static void test_long_text(void)
{
    struct vocabulary v = {0};
    struct err err = {0};
    size_t n_bytes = (size_t)1 << 20;
    char *text = malloc(n_bytes), piece[20] = "";
    int32_t *tokens = NULL;

    add_basics(&v);
    for (int i = 0; i < 5; i++) {
        memset(piece, 'a', (size_t)1 << i);
        piece[1 << i] = '\0';
        add(&v, piece, -(float)i, 1);
    }
    struct tokenizer *t = tokenizer_of(&v, NULL, 0, &err);
    memset(text, 'a', n_bytes);
    int64_t n = tokenizer_encode(t, text, n_bytes, false, &tokens, &err);
    bool even = n == (int64_t)n_bytes / 16;
    for (int64_t i = 0; even && i < n; i++)
        even = tokens[i] == 3 + 256 + 4;
    ok(even, "a million letters without a word end become pieces of 16");
    free(tokens);
    free(text);
    tokenizer_destroy(t);
    vocabulary_free(&v);
}

int main(void)
{
    test_merging();
    test_decode();
    test_user_defined();
    test_unknown();
    test_refusals();
    test_damaged_keys();
    test_definition();
    test_long_text();
    return tap_done();
}
