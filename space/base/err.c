/* err.c - the code table and the sentence builder. */
#include "space/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err_row {
    const char *name;
    const char *phrase;
    int exit_status;
};

static const struct err_row err_rows[] = {
#define ERR_ROW(code, phrase, status) [code] = {#code, phrase, status},
    ERR_CODES(ERR_ROW)
#undef ERR_ROW
};

static const struct err_row *err_row(enum err_code code)
{
    size_t n_rows = sizeof err_rows / sizeof err_rows[0];

    return &err_rows[(size_t)code < n_rows ? code : ERR_INTERNAL];
}

/* A message is one line, whatever file name or key it quotes. */
static void err_flatten(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

void err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list args;

    if (err == NULL)
        return;
    /* Built aside, since an argument may be the old text of the same struct. */
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_flatten(text);
    err->code = code;
    memcpy(err->text, text, sizeof text);
}

static enum err_code err_code_of(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return ERR_MISSING;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_PERMISSION;
    case ENOMEM:
        return ERR_MEMORY;
    default:
        return ERR_IO;
    }
}

void err_set_errno(struct err *err, int errnum, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list args;

    if (err == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(err, err_code_of(errnum), "%s: %s", text, strerror(errnum));
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    char text[sizeof err->text];
    va_list args;

    if (err == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(err, err->code, "%s: %s", text, err->text);
}

const char *err_phrase(enum err_code code)
{
    return err_row(code)->phrase;
}

const char *err_name(enum err_code code)
{
    return err_row(code)->name;
}

int err_exit_status(enum err_code code)
{
    return err_row(code)->exit_status;
}
