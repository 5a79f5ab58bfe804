/* config_json_pointer.c - values by their pointer (RFC 6901), and where each one stands: text and
 * tree are walked together, for the i-th child of a cJSON object is the i-th member in the text. */
#include "space/base/config_json.h"

#include "space/base/config_json_parts.h"
#include "space/base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    size_t value = config_json_start(config->text);

    *offset = value;
    while (*pointer == '/') {
        size_t n;
        pointer = pointer_step(pointer, word, sizeof word);
        const cJSON *child = child_find(node, word, &n);
        if (child == NULL) {
            *found = false;
            return node;
        }
        *offset = config_json_child_offset(config->text, value, n, &value);
        node = child;
    }
    *found = *pointer == '\0';
    return node;
}

/* ---- the interface -------------------------------------------------------------------------- */

int config_json_position(const struct config_json *config, const char *pointer, int *line,
                         int *column)
{
    size_t offset;
    bool found;

    pointer_walk(config, pointer, &offset, &found);
    if (!found)
        return -1;
    config_json_place(config->text, offset, line, column);
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
        config_json_syntax_error(config, offset, err, "%s", sentence);
    else
        config_json_syntax_error(config, offset, err, "%s: %s", pointer, sentence);
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
