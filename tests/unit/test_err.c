/* test_err.c - codes, sentences, prefixes. */
#include "space/base/err.h"
#include "tests/tap.h"

#include <errno.h>

static void test_table(void)
{
    is_text(err_name(ERR_DATA), "ERR_DATA", "a code knows its name");
    is_text(err_phrase(ERR_STOPPED), "stopped, run again", "a code knows its phrase");
    ok(err_exit_status(ERR_NONE) == 0, "no error exits with 0");
    ok(err_exit_status(ERR_NO) == 1 && err_exit_status(ERR_USAGE) == 2, "no is 1, usage is 2");
    ok(err_exit_status(ERR_CONFIG) == 78 && err_exit_status(ERR_PERMISSION) == 77,
       "the sysexits codes hold");
    is_text(err_name((enum err_code)999), "ERR_INTERNAL", "an unknown code is a bug of ours");
}

static void test_sentences(void)
{
    struct err err = {0};
    char long_text[1000];

    err_set(&err, ERR_DATA, "%s: tensor %d lies", "m.gguf", 7);
    ok(err.code == ERR_DATA, "err_set keeps the code");
    is_text(err.text, "m.gguf: tensor 7 lies", "err_set formats the sentence");
    err_prefix(&err, "layer %d", 3);
    is_text(err.text, "layer 3: m.gguf: tensor 7 lies", "a prefix goes in front");
    ok(err.code == ERR_DATA, "a prefix leaves the code");
    err_set(&err, ERR_IO, "again: %s", err.text);
    is_text(err.text, "again: layer 3: m.gguf: tensor 7 lies", "the old text may be an argument");
    err_set(&err, ERR_DATA, "bad name 'a\nb\x1b[0m'");
    ok(strpbrk(err.text, "\n\x1b") == NULL, "a quoted newline or escape does not break the line");

    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    err_set(&err, ERR_DATA, "%s", long_text);
    ok(strlen(err.text) == sizeof err.text - 1, "a long sentence is cut to fit");
    err_prefix(&err, "%s", long_text);
    ok(strlen(err.text) == sizeof err.text - 1, "so is a long prefix");

    err_set(NULL, ERR_DATA, "nobody listens");
    err_set_errno(NULL, ENOENT, "nobody listens");
    err_prefix(NULL, "nobody listens");
    ok(true, "a caller who does not want the reason passes NULL");
}

static void test_errno(void)
{
    static const struct {
        int errnum;
        enum err_code code;
    } rows[] = {{ENOENT, ERR_MISSING}, {EACCES, ERR_PERMISSION}, {EPERM, ERR_PERMISSION},
                {ENOMEM, ERR_MEMORY},  {ENOSPC, ERR_IO},         {EIO, ERR_IO}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        char want[100];
        err_set_errno(&err, rows[i].errnum, "cannot open %s", "x");
        snprintf(want, sizeof want, "cannot open x: %s", strerror(rows[i].errnum));
        ok(err.code == rows[i].code, "errno %d becomes %s", rows[i].errnum, err_name(rows[i].code));
        is_text(err.text, want, "and its words follow the sentence");
    }
}

int main(void)
{
    test_table();
    test_sentences();
    test_errno();
    return tap_done();
}
