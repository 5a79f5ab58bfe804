/* config_json.c - comments out, cJSON over the rest.
 *
 * One pass over the text blanks the comments and meets what cJSON would take or report badly: open
 * strings, open comments, deep nesting.  After that the text is known to be JSON, and a position in
 * it is found by counting. */
#include "space/base/config_json.h"

#include "space/base/config_json_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A configuration larger or deeper than this is a mistake or an attack. */
#define CONFIG_MAX_BYTES ((size_t)16 << 20)
#define CONFIG_MAX_DEPTH 64

void config_json_place(const char *text, size_t offset, int *line, int *column)
{
    *line = 1;
    *column = 1;
    /* An editor does not show the byte order mark. */
    for (size_t i = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; i < offset; i++) {
        if (text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

void config_json_syntax_error(const struct config_json *config, size_t offset, struct err *err,
                              const char *fmt, ...)
{
    char sentence[sizeof err->text];
    int line, column;
    va_list args;

    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    config_json_place(config->text, offset, &line, &column);
    err_set(err, ERR_CONFIG, "%s:%d:%d: %s", config->path, line, column, sentence);
}

/* ---- first pass: comments, strings, depth -------------------------------------------------- */

/* `at` is the opening quote; the offset behind the closing one, or 0 when the line, the text or a
 * control character comes first. */
static size_t string_end(const char *text, size_t at)
{
    for (size_t i = at + 1; (unsigned char)text[i] >= 0x20 || text[i] == '\t'; i++) {
        if (text[i] == '"')
            return i + 1;
        if (text[i] == '\\' && (unsigned char)text[i + 1] >= 0x20)
            i++;
    }
    return 0;
}

/* Blank the comment at `at`; the offset behind it, or 0 when it never ends.  Line ends stay. */
static size_t comment_blank(char *text, size_t at)
{
    bool is_block = text[at + 1] == '*';
    size_t end = at + 2;

    if (is_block) {
        const char *close = strstr(text + end, "*/");
        if (close == NULL)
            return 0;
        end = (size_t)(close - text) + 2;
    } else {
        end += strcspn(text + end, "\n");
    }
    for (size_t i = at; i < end; i++)
        if (text[i] != '\n')
            text[i] = ' ';
    return end;
}

static int prepare_text(struct config_json *config, struct err *err)
{
    char *text = config->text;
    int depth = 0;

    for (size_t i = 0; text[i] != '\0';) {
        size_t next = i + 1;
        if ((unsigned char)text[i] < 0x20 && strchr("\t\r\n", text[i]) == NULL) {
            config_json_syntax_error(config, i, err, "control character 0x%02x", (unsigned)text[i]);
            return -1;
        }
        if (text[i] == '"') {
            next = string_end(text, i);
            if (next == 0) {
                config_json_syntax_error(config, i, err, "this string is not closed on its line");
                return -1;
            }
        } else if (text[i] == '/' && (text[i + 1] == '/' || text[i + 1] == '*')) {
            next = comment_blank(text, i);
            if (next == 0) {
                config_json_syntax_error(config, i, err, "this comment is not closed");
                return -1;
            }
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > CONFIG_MAX_DEPTH) {
                config_json_syntax_error(config, i, err, "nested more than %d deep",
                                         CONFIG_MAX_DEPTH);
                return -1;
            }
        } else if (text[i] == '}' || text[i] == ']') {
            depth--;
        }
        i = next;
    }
    return 0;
}

/* ---- walking known-good text --------------------------------------------------------------- */

size_t config_json_skip_space(const char *text, size_t at)
{
    return at + strspn(text + at, " \t\r\n");
}

size_t config_json_start(const char *text)
{
    return config_json_skip_space(text, strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0);
}

/* Behind the value that starts at `at`. */
static size_t skip_value(const char *text, size_t at)
{
    int depth = 0;

    for (;;) {
        if (text[at] == '"') {
            size_t end = string_end(text, at);
            assert(end > 0);
            at = end;
        } else if (text[at] == '{' || text[at] == '[') {
            depth++;
            at++;
        } else if (text[at] == '}' || text[at] == ']') {
            depth--;
            at++;
        } else {
            /* A number or word, or what stands between values inside. */
            size_t n = strcspn(text + at, depth > 0 ? "\"{}[]" : "\"{}[], \t\r\n");
            if (n == 0)
                return at;
            at += n;
        }
        if (depth == 0 || text[at] == '\0')
            return at;
    }
}

size_t config_json_child_offset(const char *text, size_t at, size_t n, size_t *value)
{
    bool is_object = text[at] == '{';

    at = config_json_skip_space(text, at + 1);
    for (;; n--) {
        *value = at;
        if (is_object) {
            size_t colon = config_json_skip_space(text, skip_value(text, at));
            *value = config_json_skip_space(text, colon + 1);
        }
        if (n == 0)
            return at;
        size_t comma = config_json_skip_space(text, skip_value(text, *value));
        at = config_json_skip_space(text, comma + 1);
    }
}

/* ---- second pass: what cJSON accepts and we do not ----------------------------------------- */

struct key_place {
    const char *key;
    size_t place;
};

static int compare_keys(const void *a, const void *b)
{
    const struct key_place *p = a, *q = b;
    int order = strcmp(p->key, q->key);

    return order != 0 ? order : (p->place > q->place) - (p->place < q->place);
}

/* Refuse a key that comes twice: cJSON would keep both and answer with the first. */
static int check_duplicates(const struct config_json *config, const cJSON *object, size_t at,
                            struct err *err)
{
    size_t n = 0, value;
    int result = 0;

    for (const cJSON *child = object->child; child != NULL; child = child->next)
        n++;
    struct key_place *keys = calloc(n + 1, sizeof *keys);
    if (keys == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", config->path);
        return -1;
    }
    n = 0;
    for (const cJSON *child = object->child; child != NULL; child = child->next, n++)
        keys[n] = (struct key_place){child->string, n};
    qsort(keys, n, sizeof *keys, compare_keys);
    for (size_t i = 1; i < n && result == 0; i++) {
        if (strcmp(keys[i].key, keys[i - 1].key) == 0) {
            size_t offset = config_json_child_offset(config->text, at, keys[i].place, &value);
            config_json_syntax_error(config, offset, err, "key '%s' comes twice", keys[i].key);
            result = -1;
        }
    }
    free(keys);
    return result;
}

/* `node` starts at `at`.  Recursion is bounded: prepare_text has counted the depth. */
static int check_node(const struct config_json *config, const cJSON *node, size_t at,
                      struct err *err)
{
    if (cJSON_IsNumber(node) && !isfinite(node->valuedouble)) {
        config_json_syntax_error(config, at, err, "this number is too large");
        return -1;
    }
    if (cJSON_IsObject(node) && check_duplicates(config, node, at, err) != 0)
        return -1;
    /* The offset moves along with the children, so that the text is read once a level. */
    size_t next = config_json_skip_space(config->text, at + 1);
    for (const cJSON *child = node->child; child != NULL; child = child->next) {
        size_t value = next;
        if (cJSON_IsObject(node))
            value = config_json_skip_space(
                config->text,
                config_json_skip_space(config->text, skip_value(config->text, next)) + 1);
        if (check_node(config, child, value, err) != 0)
            return -1;
        next = config_json_skip_space(
            config->text,
            config_json_skip_space(config->text, skip_value(config->text, value)) + 1);
    }
    return 0;
}

/* Back over space: the offset behind the last character that is none. */
static size_t back_space(const char *text, size_t at)
{
    while (at > 0 && strchr(" \t\r\n", text[at - 1]) != NULL)
        at--;
    return at;
}

/* How much of the text to quote: a mark alone, else the word, at most 20 bytes of it. */
static int word_length(const char *text)
{
    size_t n = strchr(",:{}[]", *text) != NULL ? 0 : strcspn(text + 1, " \t\r\n,:\"{}[]");

    return (int)(n < 20 ? n + 1 : 20);
}

/* Say what stands where cJSON stopped. */
static void report_syntax(const struct config_json *config, size_t offset, struct err *err)
{
    const char *text = config->text;

    /* Where a key should begin, cJSON stops one character behind the one that is not a quote. */
    if (offset > 1 && strchr(" \t\r\n[{\"", text[offset - 1]) == NULL) {
        size_t previous = back_space(text, offset - 1);
        if (previous > 0 && strchr("{,", text[previous - 1]) != NULL)
            offset--;
    }
    offset = config_json_skip_space(text, offset);
    size_t before = back_space(text, offset);
    bool after_comma = before > 0 && text[before - 1] == ',';

    if (text[offset] == '\0')
        config_json_syntax_error(config, offset, err, "the text ends too early");
    else if (text[offset] == ',' &&
             strchr("}]", text[config_json_skip_space(text, offset + 1)]) != NULL)
        config_json_syntax_error(config, offset, err, "a comma after the last item");
    else if (after_comma && strchr("}]", text[offset]) != NULL)
        config_json_syntax_error(config, before - 1, err, "a comma after the last item");
    else if (text[offset] == '\\')
        config_json_syntax_error(config, offset, err, "unknown escape '%.2s' in a string",
                                 text + offset);
    else
        config_json_syntax_error(config, offset, err, "unexpected '%.*s'",
                                 word_length(text + offset), text + offset);
}

static int parse_text(struct config_json *config, struct err *err)
{
    const char *stop = NULL;
    size_t n_bytes = strlen(config->text);

    if (prepare_text(config, err) != 0)
        return -1;
    /* The NUL is part of the length: it must follow the value. */
    config->root = cJSON_ParseWithLengthOpts(config->text, n_bytes + 1, &stop, 1);
    if (config->root == NULL) {
        report_syntax(config, stop != NULL ? (size_t)(stop - config->text) : 0, err);
        return -1;
    }
    size_t start = config_json_start(config->text);
    if (!cJSON_IsObject(config->root)) {
        config_json_syntax_error(config, start, err, "expected an object, '{ ... }'");
        return -1;
    }
    return check_node(config, config->root, start, err);
}

/* ---- the interface -------------------------------------------------------------------------- */

int config_json_parse(struct config_json *config, const char *path, const char *text,
                      struct err *err)
{
    struct config_json fresh = {.path = strdup(path), .text = strdup(text)};

    if (fresh.path == NULL || fresh.text == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", path);
        config_json_close(&fresh);
        return -1;
    }
    if (parse_text(&fresh, err) != 0) {
        config_json_close(&fresh);
        return -1;
    }
    *config = fresh;
    return 0;
}

int config_json_open(struct config_json *config, const char *path, struct err *err)
{
    size_t n_bytes;
    int result = -1;
    char *text = file_read(path, CONFIG_MAX_BYTES, &n_bytes, err);

    if (text == NULL)
        return -1;
    if (strlen(text) != n_bytes) {
        struct config_json named = {.path = (char *)path, .text = text};
        config_json_syntax_error(&named, strlen(text), err, "a NUL byte: this is not a text file");
    } else {
        result = config_json_parse(config, path, text, err);
    }
    free(text);
    return result;
}

void config_json_close(struct config_json *config)
{
    cJSON_Delete(config->root);
    free(config->text);
    free(config->path);
    *config = (struct config_json){0};
}

int config_json_save(cJSON *root, const char *path, struct err *err)
{
    char *text = cJSON_Print(root);
    int status = -1;

    cJSON_Delete(root);
    if (text == NULL)
        err_set(err, ERR_MEMORY, "%s: out of memory", path);
    else
        status = file_replace(path, text, strlen(text), err);
    cJSON_free(text);
    return status;
}
