/* test_config_json.c - comments, positions, and one clear line for every kind of mistake. */
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <unistd.h>

/* Parsing `text` fails with ERR_CONFIG and exactly this line. */
static void refuses(const char *text, const char *want, const char *title)
{
    struct config_json config = {0};
    struct err err = {0};
    int result = config_json_parse(&config, "s.json", text, &err);

    ok(result == -1 && err.code == ERR_CONFIG && config.root == NULL, "%s is refused", title);
    is_text(err.text, want, "%s is reported in its place", title);
    if (result == 0)
        config_json_close(&config);
}

static void test_syntax(void)
{
    refuses("{\"a\": 1,\n \"b\": ]}", "s.json:2:7: unexpected ']'", "a stray bracket");
    refuses("{\"a\": 1\n \"b\": 2}", "s.json:2:2: unexpected '\"b'", "a missing comma");
    refuses("{\"a\": 1,\n}", "s.json:1:8: a comma after the last item", "a comma too many");
    refuses("{\"a\": [1, 2, ]}", "s.json:1:12: a comma after the last item", "one in a list");
    refuses("{a: 1}", "s.json:1:2: unexpected 'a'", "a key without quotes");
    refuses("{\"b\": 1, abc: 1}", "s.json:1:10: unexpected 'abc'", "a second one");
    refuses("{, \"a\": 1}", "s.json:1:2: unexpected ','", "a comma at the start");
    refuses("{\"b\": [1,,2]}", "s.json:1:10: unexpected ','", "a comma twice");
    refuses("{\"b\" 1}", "s.json:1:6: unexpected '1'", "a missing colon");
    refuses("{\"b\": \"x\\qy\"}", "s.json:1:9: unknown escape '\\q' in a string", "a bad escape");
    refuses("{\"b\": \"\\ud800\"}", "s.json:1:8: unknown escape '\\u' in a string", "half a pair");
    refuses("{\"a\": yes}", "s.json:1:7: unexpected 'yes'", "a bare word");
    refuses("{\"a\": 1} x", "s.json:1:10: unexpected 'x'", "text behind the end");
    refuses("{\"a\": 1", "s.json:1:8: the text ends too early", "a missing brace");
    refuses("", "s.json:1:1: the text ends too early", "an empty text");
    refuses("[1]", "s.json:1:1: expected an object, '{ ... }'", "a list at the top");
    refuses("// note\n  3", "s.json:2:3: expected an object, '{ ... }'", "a number at the top");
    refuses("{\"a\": \"x\n}", "s.json:1:7: this string is not closed on its line",
            "an open string");
    refuses("{\"a\": 1,\n  /* never", "s.json:2:3: this comment is not closed", "an open comment");
    refuses("{\"a\":\n\x01 1}", "s.json:2:1: control character 0x01", "a control character");
    refuses("{\"a\": 1e999}", "s.json:1:7: this number is too large", "an infinite number");
    refuses("{\"b\": [0, {\"c\": -1e999}]}", "s.json:1:17: this number is too large",
            "one deep inside");
}

static void test_positions_after_comments(void)
{
    /* Comments keep lines and columns; their content is not JSON and does not count. */
    refuses("// a \"quote and { in a comment\n{ /* two\n lines { \" */ \"a\": oops }",
            "s.json:3:20: unexpected 'oops'", "an error behind comments");
    refuses("{\"\xc3\xa9t\xc3\xa9\": oops}", "s.json:1:9: unexpected 'oops'",
            "an error behind letters of two bytes");
    refuses("\xEF\xBB\xBF{\"a\": oops}", "s.json:1:7: unexpected 'oops'",
            "an error behind a byte order mark");
    refuses("{\"u\": \"http://x/*y*/\",\n \"a\": oops}", "s.json:2:7: unexpected 'oops'",
            "an error behind slashes in a string");
}

static void test_duplicates(void)
{
    refuses("{\"a\": 1,\n \"b\": {\"x\": 1, \"y\": 2,\n  \"x\": 3}}",
            "s.json:3:3: key 'x' comes twice", "a key that comes twice");
    refuses("{\"a\": [1, {\"k\": 1, \"\\u006b\": 2}]}", "s.json:1:20: key 'k' comes twice",
            "a twin written with an escape");
    struct config_json config;
    ok(config_json_parse(&config, "s", "{\"a\": {\"x\": 1}, \"b\": {\"x\": 1}, \"A\": 2}", NULL) ==
           0,
       "the same key in two objects, or in another case, is fine");
    config_json_close(&config);
}

static void test_depth(void)
{
    char text[300] = "{\"a\":";
    struct config_json config;
    size_t n = strlen(text);

    memset(text + n, '[', 63);
    memset(text + n + 63, ']', 63);
    strcpy(text + n + 126, "}");
    ok(config_json_parse(&config, "s", text, NULL) == 0, "64 levels are taken");
    config_json_close(&config);
    memset(text + n, '[', 64);
    memset(text + n + 64, ']', 64);
    strcpy(text + n + 128, "}");
    refuses(text, "s.json:1:69: nested more than 64 deep", "a 65th level");
    char *deep = malloc(1000001);
    memset(deep, '[', 1000000);
    deep[1000000] = '\0';
    refuses(deep, "s.json:1:65: nested more than 64 deep", "a million levels");
    free(deep);
}

static const char *sample =
    "{ // the study\n"
    "  \"space\": {\n"
    "    \"ffn\": { \"min\": 4, \"max\": \"16Ki\" },\n"
    "    \"a/b\": 1, \"c~d\": [ ], \"\": 7\n"
    "  },\n"
    "  /* {\"decoy\": 1} */ \"list\": [ 10, [20, {\"deep\": true}], \"]},\\\"\", 40 ],\n"
    "  \"url\": \"http://x\", \"last\":\n"
    "      null\n"
    "}\n";

static void stands_at(const struct config_json *config, const char *pointer, int line, int column)
{
    int got_line = 0, got_column = 0;
    int result = config_json_position(config, pointer, &got_line, &got_column);

    if (!ok(result == 0 && got_line == line && got_column == column, "'%s' stands at %d:%d",
            pointer, line, column))
        printf("# found at %d:%d\n", got_line, got_column);
}

static void test_pointers(void)
{
    struct config_json config;
    struct err err = {0};
    int line = -1, column = -1;

    ok(config_json_parse(&config, "s.json", sample, &err) == 0, "a sample with comments parses");
    ok(strlen(config.text) == strlen(sample), "blanking keeps the length");
    is_text(config_json_get(&config, "/url")->valuestring, "http://x",
            "slashes in a string are no comment");
    ok(config_json_get(&config, "/list/3")->valueint == 40, "an element is found by number");
    ok(cJSON_IsTrue(config_json_get(&config, "/list/1/1/deep")), "deep inside as well");
    ok(config_json_get(&config, "/space/a~1b")->valueint == 1 &&
           cJSON_IsArray(config_json_get(&config, "/space/c~0d")) &&
           config_json_get(&config, "/space/")->valueint == 7,
       "escaped and empty keys are found");
    ok(config_json_get(&config, "") == config.root, "the empty pointer is the whole");
    static const char *const absent[] = {"/nope",   "/space/FFN",       "/list/4", "/list/-1",
                                         "/list/x", "/list/",           "/url/0",  "/decoy",
                                         "space",   "/list/99999999999"};
    int n_found = 0;
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        n_found += config_json_get(&config, absent[i]) != NULL;
    ok(n_found == 0, "what is not there is not found, nor in another case");

    stands_at(&config, "", 1, 1);
    stands_at(&config, "/space", 2, 3);
    stands_at(&config, "/space/ffn", 3, 5);
    stands_at(&config, "/space/ffn/min", 3, 14);
    stands_at(&config, "/space/ffn/max", 3, 24);
    stands_at(&config, "/space/c~0d", 4, 15);
    stands_at(&config, "/list", 6, 22);
    stands_at(&config, "/list/0", 6, 32);
    stands_at(&config, "/list/1", 6, 36);
    stands_at(&config, "/list/1/1/deep", 6, 42);
    stands_at(&config, "/list/2", 6, 58);
    stands_at(&config, "/list/3", 6, 67);
    stands_at(&config, "/last", 7, 22);
    ok(config_json_position(&config, "/space/none", &line, &column) == -1 && line == -1,
       "what is not there has no position");

    config_json_error(&config, "/space/ffn/min", &err, "must be at least %d", 8);
    is_text(err.text, "s.json:3:14: /space/ffn/min: must be at least 8",
            "an error names its place");
    ok(err.code == ERR_CONFIG, "and is ERR_CONFIG");
    config_json_error(&config, "/space/ffn/step", &err, "is missing");
    is_text(err.text, "s.json:3:5: /space/ffn/step: is missing",
            "a missing key is reported at what should hold it");
    config_json_error(&config, "", &err, "is too short");
    is_text(err.text, "s.json:1:1: is too short", "the whole needs no pointer");
    config_json_error(&config, "/url", NULL, "nobody listens");
    config_json_close(&config);
    config_json_close(&config);
    ok(config.root == NULL, "closing twice is fine");
}

static void test_keys(void)
{
    static const char *const words[] = {"layers", "ffn", "kv_groups", "formats", NULL};
    static const char *const none[] = {NULL};
    struct config_json config;
    struct err err = {0};

    is_text(config_json_nearest("layres", words), "layers", "two letters swapped");
    is_text(config_json_nearest("fn", words), "ffn", "one letter missing");
    is_text(config_json_nearest("kvgroup", words), "kv_groups", "two missing");
    is_text(config_json_nearest("format", words), "formats", "a missing plural");
    ok(config_json_nearest("x", none) == NULL, "no words, no nearest");
    char long_word[500];
    memset(long_word, 'x', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    ok(config_json_nearest(long_word, words) != NULL, "a very long word has one too");

    config_json_parse(&config, "s.json",
                      "{\"space\": {\"layers\": 1,\n \"ffm\": 2}, \"n\": 3, \"o\": {\"a/b\": 1}}",
                      NULL);
    ok(config_json_check_keys(&config, "/space", words, &err) == -1 && err.code == ERR_CONFIG,
       "an unknown key is refused");
    is_text(err.text, "s.json:2:2: /space/ffm: unknown key; did you mean 'ffn'?",
            "with its place and the nearest known key");
    static const char *const top[] = {"space", "n", "o", NULL}, *const part[] = {"space", "n",
                                                                                 NULL};
    ok(config_json_check_keys(&config, "", top, &err) == 0, "known keys are fine");
    ok(config_json_check_keys(&config, "", part, &err) == -1, "the top is checked like the rest");
    ok(config_json_check_keys(&config, "/none", top, &err) == 0, "an absent object is fine");
    config_json_check_keys(&config, "/n", top, &err);
    is_text(err.text, "s.json:2:13: /n: expected an object, '{ ... }'", "a number is no object");
    config_json_check_keys(&config, "/o", top, &err);
    is_text(err.text, "s.json:2:27: /o/a~1b: unknown key; did you mean 'n'?",
            "a slash in a key is escaped");
    config_json_close(&config);
}

static void test_file(void)
{
    const char *base = getenv("TMPDIR");
    char path[300], want[400];
    struct config_json config = {0};
    struct err err = {0};

    snprintf(path, sizeof path, "%s/kerf-test-config-%ld.json", base != NULL ? base : "/tmp",
             (long)getpid());
    ok(config_json_open(&config, path, &err) == -1 && err.code == ERR_MISSING,
       "a missing file is ERR_MISSING");
    file_replace(path, sample, strlen(sample), NULL);
    ok(config_json_open(&config, path, &err) == 0 &&
           config_json_get(&config, "/space/ffn/min") != NULL,
       "a file is read");
    config_json_close(&config);
    file_replace(path, "{\"a\":\n\0}", 8, NULL);
    ok(config_json_open(&config, path, &err) == -1 && err.code == ERR_CONFIG, "a NUL is refused");
    snprintf(want, sizeof want, "%s:2:1: a NUL byte: this is not a text file", path);
    is_text(err.text, want, "where it stands");
    unlink(path);
}

/* Damage the sample at random: it parses or fails with a position, and when it parses every child
 * of the tree has a position inside the text.  The sanitizers watch. */
static void test_damage(void)
{
    static const char letters[] = "{}[]\",:/*\\ \n\t0e-.tfnu~\x01\xc3";
    struct rng rng = rng_make(31, 7);
    int n_parsed = 0, n_wrong = 0;
    char text[600];

    for (int t = 0; t < 20000; t++) {
        size_t n = strlen(sample);
        strcpy(text, sample);
        for (uint64_t edits = 1 + rng_below(&rng, 3); edits > 0; edits--) {
            size_t at = rng_below(&rng, n);
            if (rng_below(&rng, 8) == 0)
                text[n = at] = '\0';
            else
                text[at] = letters[rng_below(&rng, sizeof letters - 1)];
            if (n == 0)
                break;
        }
        struct config_json config;
        struct err err = {0};
        if (config_json_parse(&config, "s", text, &err) != 0) {
            n_wrong += strncmp(err.text, "s:", 2) != 0 || err.code != ERR_CONFIG;
            continue;
        }
        n_parsed++;
        int line, column;
        const char *const probes[] = {"/space/ffn/max", "/list/1/1/deep", "/list/3", "/last"};
        for (size_t i = 0; i < 4; i++)
            if (config_json_get(&config, probes[i]) != NULL)
                n_wrong += config_json_position(&config, probes[i], &line, &column) != 0 ||
                           line < 1 || line > 20 || column < 1;
        config_json_close(&config);
    }
    ok(n_wrong == 0 && n_parsed > 500 && n_parsed < 19500,
       "20000 damaged texts parse or fail with a position (%d parsed)", n_parsed);
}

int main(void)
{
    test_syntax();
    test_positions_after_comments();
    test_duplicates();
    test_depth();
    test_pointers();
    test_keys();
    test_file();
    test_damage();
    return tap_done();
}
