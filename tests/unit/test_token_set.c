/* Texts become sequences.  The vocabulary has bytes only, so that tokens can be counted by hand:
 * byte b is token b + 3, BOS is 1, and encoding puts U+2581 (three bytes) in front of a text and
 * where a space was. */
#include "evaluator/formats/gguf.h"
#include "evaluator/quality/token_set.h"
#include "tests/parent_file.h"
#include "tests/tap.h"

enum { FRONT = 3 };

static char folder[256];
static struct tokenizer *tokenizer;

static struct tokenizer *make_tokenizer(void)
{
    struct gguf_writer *w = gguf_writer_create(NULL);
    char path[512];

    parent_file_vocabulary(w, 260);
    if (gguf_writer_save(w, folder_path(folder, "vocabulary.gguf", path), NULL) != 0)
        abort();
    gguf_writer_destroy(w);
    struct gguf *gguf = gguf_open(path, NULL);
    struct tokenizer *made = tokenizer_create(gguf, NULL);
    gguf_close(gguf);
    return made;
}

static int parse(struct token_set *set, const char *text, const char *separator, uint32_t sequence,
                 uint64_t most, uint64_t least, struct err *err)
{
    return token_set_parse(set, tokenizer, "some text", text, strlen(text), separator, sequence,
                           most, least, err);
}

static bool begins(const struct token_set *set, uint32_t n, const uint32_t *want)
{
    bool same = set->n_sequences == n && set->n_tokens == want[n];

    for (uint32_t i = 0; i <= n && same; i++)
        same = set->begin[i] == want[i];
    return same;
}

static void test_documents(void)
{
    struct token_set set;
    uint32_t begin, end;

    ok(parse(&set, "  ab\n|c de |\n \n||fgh", "|", 100, 1000, 2, NULL) == 0, "a text is read");
    ok(begins(&set, 3, (const uint32_t[]){0, 6, 6 + 10, 6 + 10 + 7}),
       "each document is a sequence, empty ones are none");
    ok(set.tokens[0] == 1 && set.tokens[6] == 1 && set.tokens[16] == 1, "each begins with BOS");
    ok(set.tokens[4] == 'a' + 3 && set.tokens[5] == 'b' + 3, "white space around it is dropped");
    /* BOS, front, c, a space that became three bytes, d and e. */
    ok(set.tokens[10] == 'c' + 3 && set.tokens[11] == 0xe2 + 3 && set.tokens[15] == 'e' + 3,
       "and that inside is kept");
    token_set_sequence(&set, 1, &begin, &end);
    ok(begin == 6 && end == 16, "a sequence knows its tokens");
    ok(token_set_n_predicted(&set) == 20, "all but the first of each are predicted");
    ok(token_set_n_within(&set, 6) == 1 && token_set_n_within(&set, 15) == 1 &&
           token_set_n_within(&set, 16) == 2 && token_set_n_within(&set, 9999) == 3,
       "whole sequences are counted");
    ok(token_set_n_within(&set, 0) == 1, "one at least");
    token_set_fini(&set);

    ok(parse(&set, "a|b", "", 100, 1000, 2, NULL) == 0 && set.n_sequences == 1 &&
           set.n_tokens == 1 + FRONT + 3,
       "without a separator all is one document");
    token_set_fini(&set);
    ok(parse(&set, "a<sep>b<sep", "<sep>", 100, 1000, 2, NULL) == 0 && set.n_sequences == 2,
       "a separator that is cut short does not separate");
    token_set_fini(&set);
    token_set_fini(&set);
}

static void test_cuts(void)
{
    struct token_set set, less;

    /* BOS, 3 for the front, 10 letters: 14 tokens. */
    parse(&set, "abcdefghij", "", 6, 1000, 2, NULL);
    ok(begins(&set, 3, (const uint32_t[]){0, 6, 12, 14}), "a long document is cut");
    ok(set.tokens[0] == 1 && set.tokens[6] == 'c' + 3, "with one BOS only");
    token_set_fini(&set);
    parse(&set, "abcdefghi|xyz", "|", 6, 1000, 2, NULL);
    /* 13 tokens and 7: the last of each would stand alone. */
    ok(begins(&set, 3, (const uint32_t[]){0, 6, 12, 18}),
       "a piece of one token is left out, and what follows moves up");
    ok(set.tokens[11] == 'h' + 3 && set.tokens[12] == 1, "the next document begins as any other");
    token_set_fini(&set);

    parse(&set, "abcdefghij|klmnopq|rstuvwxyz", "|", 6, 1000, 2, NULL);
    for (uint32_t n = 2; n <= set.n_tokens; n++) {
        bool nested = parse(&less, "abcdefghij|klmnopq|rstuvwxyz", "|", 6, n, 2, NULL) == 0 &&
                      less.n_tokens <= n && less.n_tokens + 1 >= n &&
                      memcmp(less.tokens, set.tokens, less.n_tokens * sizeof *set.tokens) == 0;
        for (uint32_t i = 0; nested && i < less.n_sequences; i++)
            nested = less.begin[i] == set.begin[i] && less.begin[i + 1] - less.begin[i] >= 2;
        if (!nested || n == set.n_tokens)
            ok(nested, "every set of at most %u tokens is a beginning of the larger ones", n);
        token_set_fini(&less);
    }
    token_set_fini(&set);
}

static void test_identity(void)
{
    static const struct {
        const char *text;
        uint32_t sequence;
        bool same;
    } cases[] = {{"abc|def", 50, true},   {"abc| def ", 50, true}, {"abc|deg", 50, false},
                 {"abc|de|f", 50, false}, {"abc|def", 5, false},   {"abc|def", 60, true}};
    struct token_set first, set;

    parse(&first, "abc|def", "|", 50, 100, 2, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parse(&set, cases[i].text, "|", cases[i].sequence, 100, 2, NULL);
        ok((memcmp(&set.hash, &first.hash, sizeof set.hash) == 0) == cases[i].same,
           "'%s' in sequences of %u is %s set", cases[i].text, cases[i].sequence,
           cases[i].same ? "the same" : "another");
        token_set_fini(&set);
    }
    ok(token_set_of(&set, first.tokens, first.n_tokens, 7, NULL) == 0 &&
           begins(&set, 2, (const uint32_t[]){0, 7, 14}),
       "tokens that are there already are one document");
    token_set_fini(&set);
    struct err err = {0};
    ok(token_set_of(&set, first.tokens, 1, 7, &err) == -1 && err.code == ERR_DATA,
       "a single token is no set");
    token_set_fini(&first);
}

static void test_refusals(void)
{
    struct token_set set = {.n_tokens = 77};
    struct err err = {0};
    char path[512];

    ok(parse(&set, "abc", "", 50, 100, 8, &err) == -1 && err.code == ERR_DATA,
       "a text that is too short is refused");
    is_text(err.text,
            "some text: 7 tokens, 8 are needed: take more text, or lower the number of tokens "
            "under /quality",
            "with both figures");
    ok(set.n_tokens == 77, "and the set is not touched");
    ok(parse(&set, "abc", "", 50, 100, 7, &err) == 0, "what is just enough is not");
    token_set_fini(&set);
    ok(parse(&set, " | ", "|", 50, 100, 0, &err) == -1, "a text without tokens is refused");
    ok(parse(&set, "abc|defg", "|", 6, 7, 7, &err) == 0 && set.n_tokens == 6,
       "a full set may lack the token that would stand alone");
    token_set_fini(&set);
    ok(token_set_read(&set, tokenizer, folder_path(folder, "none.txt", path), "", 50, 100, 7,
                      &err) == -1 &&
           err.code == ERR_MISSING,
       "a file that is not there is missing");
    FILE *file = fopen(folder_path(folder, "some.txt", path), "w");
    fputs("abc|defg", file);
    fclose(file);
    ok(token_set_read(&set, tokenizer, path, "|", 50, 100, 2, &err) == 0 && set.n_sequences == 2,
       "one that is there is read");
    token_set_fini(&set);
}

int main(void)
{
    folder_make(folder);
    tokenizer = make_tokenizer();
    test_documents();
    test_cuts();
    test_identity();
    test_refusals();
    tokenizer_destroy(tokenizer);
    folder_remove(folder);
    return tap_done();
}
