/* config_json.c - comments out, cJSON over the rest, positions by walking text and tree together.
 *
 * One pass over the text blanks the comments and meets what cJSON would take or report badly: open
 * strings, open comments, deep nesting.  After that the text is known to be JSON, so a position is
 * found by counting: the i-th child of a cJSON object is the i-th member in the text. */
#include "space/base/config_json.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A configuration larger or deeper than this is a mistake or an attack. */
#define CONFIG_MAX_BYTES ((size_t)16 << 20)
#define CONFIG_MAX_DEPTH 64

/* Line and column from 1; the column counts characters, not the bytes of UTF-8. */
static void position_of(const char *text, size_t offset, int *line, int *column)
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

__attribute__((format(printf, 4, 5))) static void
syntax_error(const struct config_json *config, size_t offset, struct err *err, const char *fmt, ...)
{
    char sentence[sizeof err->text];
    int line, column;
    va_list args;

    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    position_of(config->text, offset, &line, &column);
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
            syntax_error(config, i, err, "control character 0x%02x", (unsigned)text[i]);
            return -1;
        }
        if (text[i] == '"') {
            next = string_end(text, i);
            if (next == 0) {
                syntax_error(config, i, err, "this string is not closed on its line");
                return -1;
            }
        } else if (text[i] == '/' && (text[i + 1] == '/' || text[i + 1] == '*')) {
            next = comment_blank(text, i);
            if (next == 0) {
                syntax_error(config, i, err, "this comment is not closed");
                return -1;
            }
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > CONFIG_MAX_DEPTH) {
                syntax_error(config, i, err, "nested more than %d deep", CONFIG_MAX_DEPTH);
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

static size_t skip_space(const char *text, size_t at)
{
    return at + strspn(text + at, " \t\r\n");
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

/* Offset of child `n` of the container at `at`: of its key in an object, of itself in an array.
 * `value` gets the offset of the child's value. */
static size_t child_offset(const char *text, size_t at, size_t n, size_t *value)
{
    bool is_object = text[at] == '{';

    at = skip_space(text, at + 1);
    for (;; n--) {
        *value = at;
        if (is_object) {
            size_t colon = skip_space(text, skip_value(text, at));
            *value = skip_space(text, colon + 1);
        }
        if (n == 0)
            return at;
        size_t comma = skip_space(text, skip_value(text, *value));
        at = skip_space(text, comma + 1);
    }
}

/* One step of a JSON pointer (RFC 6901): the text behind the slash, unescaped, into `word`.
 * Returns what follows it. */
static const char *pointer_step(const char *pointer, char *word, size_t room)
{
    size_t used = 0;

    assert(*pointer == '/');
    for (pointer++; *pointer != '\0' && *pointer != '/'; pointer++) {
        char c = *pointer;
        if (c == '~' && (pointer[1] == '0' || pointer[1] == '1'))
            c = *++pointer == '0' ? '~' : '/';
        if (used + 1 < room)
            word[used++] = c;
    }
    word[used] = '\0';
    return pointer;
}

/* Child of `node` by key or index; NULL when there is none, else its number in `*n`. */
static const cJSON *child_find(const cJSON *node, const char *word, size_t *n)
{
    size_t index = SIZE_MAX;
    const cJSON *child = node->child;

    if (cJSON_IsArray(node)) {
        if (word[0] == '\0' || strspn(word, "0123456789") != strlen(word) || strlen(word) > 9)
            return NULL;
        index = strtoul(word, NULL, 10);
    } else if (!cJSON_IsObject(node)) {
        return NULL;
    }
    for (*n = 0; child != NULL; child = child->next, ++*n)
        if (index == SIZE_MAX ? strcmp(child->string, word) == 0 : *n == index)
            return child;
    return NULL;
}

/* Follow `pointer` as far as it leads.  The last node met, its offset in the text, and in `found`
 * whether that is the whole way. */
static const cJSON *pointer_walk(const struct config_json *config, const char *pointer,
                                 size_t *offset, bool *found)
{
    /* Longer keys than this exist nowhere; a cut one is simply not found. */
    char word[256];
    const cJSON *node = config->root;
    size_t bom = strncmp(config->text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    size_t value = skip_space(config->text, bom);

    *offset = value;
    while (*pointer == '/') {
        size_t n;
        pointer = pointer_step(pointer, word, sizeof word);
        const cJSON *child = child_find(node, word, &n);
        if (child == NULL) {
            *found = false;
            return node;
        }
        *offset = child_offset(config->text, value, n, &value);
        node = child;
    }
    *found = *pointer == '\0';
    return node;
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
            size_t offset = child_offset(config->text, at, keys[i].place, &value);
            syntax_error(config, offset, err, "key '%s' comes twice", keys[i].key);
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
        syntax_error(config, at, err, "this number is too large");
        return -1;
    }
    if (cJSON_IsObject(node) && check_duplicates(config, node, at, err) != 0)
        return -1;
    /* The offset moves along with the children, so that the text is read once a level. */
    size_t next = skip_space(config->text, at + 1);
    for (const cJSON *child = node->child; child != NULL; child = child->next) {
        size_t value = next;
        if (cJSON_IsObject(node))
            value = skip_space(config->text,
                               skip_space(config->text, skip_value(config->text, next)) + 1);
        if (check_node(config, child, value, err) != 0)
            return -1;
        next =
            skip_space(config->text, skip_space(config->text, skip_value(config->text, value)) + 1);
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
    offset = skip_space(text, offset);
    size_t before = back_space(text, offset);
    bool after_comma = before > 0 && text[before - 1] == ',';

    if (text[offset] == '\0')
        syntax_error(config, offset, err, "the text ends too early");
    else if (text[offset] == ',' && strchr("}]", text[skip_space(text, offset + 1)]) != NULL)
        syntax_error(config, offset, err, "a comma after the last item");
    else if (after_comma && strchr("}]", text[offset]) != NULL)
        syntax_error(config, before - 1, err, "a comma after the last item");
    else if (text[offset] == '\\')
        syntax_error(config, offset, err, "unknown escape '%.2s' in a string", text + offset);
    else
        syntax_error(config, offset, err, "unexpected '%.*s'", word_length(text + offset),
                     text + offset);
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
    size_t start;
    bool found;
    pointer_walk(config, "", &start, &found);
    if (!cJSON_IsObject(config->root)) {
        syntax_error(config, start, err, "expected an object, '{ ... }'");
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
        syntax_error(&named, strlen(text), err, "a NUL byte: this is not a text file");
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

int config_json_position(const struct config_json *config, const char *pointer, int *line,
                         int *column)
{
    size_t offset;
    bool found;

    pointer_walk(config, pointer, &offset, &found);
    if (!found)
        return -1;
    position_of(config->text, offset, line, column);
    return 0;
}

void config_json_error(const struct config_json *config, const char *pointer, struct err *err,
                       const char *fmt, ...)
{
    char sentence[sizeof err->text];
    size_t offset;
    bool found;
    va_list args;

    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    /* A key that is missing is reported where its object begins. */
    pointer_walk(config, pointer, &offset, &found);
    if (pointer[0] == '\0')
        syntax_error(config, offset, err, "%s", sentence);
    else
        syntax_error(config, offset, err, "%s: %s", pointer, sentence);
}

/* The pointer of `key` inside `parent`, escaped; cut when it does not fit. */
static void pointer_join(const char *parent, const char *key, char *pointer, size_t room)
{
    size_t used = (size_t)snprintf(pointer, room, "%s/", parent);

    for (; *key != '\0' && used + 3 < room; key++) {
        if (*key == '~' || *key == '/') {
            pointer[used++] = '~';
            pointer[used++] = *key == '~' ? '0' : '1';
        } else {
            pointer[used++] = *key;
        }
    }
    if (used < room)
        pointer[used] = '\0';
}

int config_json_check_keys(const struct config_json *config, const char *pointer,
                           const char *const *known, struct err *err)
{
    char child_pointer[512];
    const cJSON *node = config_json_get(config, pointer);

    if (node == NULL)
        return 0;
    if (!cJSON_IsObject(node)) {
        config_json_error(config, pointer, err, "expected an object, '{ ... }'");
        return -1;
    }
    for (const cJSON *child = node->child; child != NULL; child = child->next) {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], child->string) != 0)
            i++;
        if (known[i] != NULL)
            continue;
        pointer_join(pointer, child->string, child_pointer, sizeof child_pointer);
        const char *nearest = config_json_nearest(child->string, known);
        if (nearest != NULL)
            config_json_error(config, child_pointer, err, "unknown key; did you mean '%s'?",
                              nearest);
        else
            config_json_error(config, child_pointer, err, "unknown key; none is known here");
        return -1;
    }
    return 0;
}

const cJSON *config_json_get(const struct config_json *config, const char *pointer)
{
    size_t offset;
    bool found;
    const cJSON *node = pointer_walk(config, pointer, &offset, &found);

    return found ? node : NULL;
}

/* Edits that turn one word into the other: insert, delete, replace, or swap two neighbours (optimal
 * string alignment).  Only the first WORD_MAX bytes are compared. */
#define WORD_MAX 64
static size_t edit_distance(const char *a, const char *b)
{
    size_t n_a = strnlen(a, WORD_MAX), n_b = strnlen(b, WORD_MAX);
    size_t cost[3][WORD_MAX + 1]; /* rows i - 2, i - 1 and i, in turn */

    for (size_t j = 0; j <= n_b; j++)
        cost[0][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *row = cost[i % 3], *above = cost[(i + 2) % 3], *above2 = cost[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return cost[n_a % 3][n_b];
}

const char *config_json_nearest(const char *word, const char *const *known)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (; *known != NULL; known++) {
        size_t distance = edit_distance(word, *known);
        if (distance < best_distance) {
            best_distance = distance;
            best = *known;
        }
    }
    return best;
}
