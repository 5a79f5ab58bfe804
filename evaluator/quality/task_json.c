/* task_json.c - reads a task file, line by line, and encodes it. */
#include "evaluator/quality/task_parts.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK_MAX_BYTES ((size_t)1 << 28)

/* Where in which file. */
struct place {
    const char *path;
    size_t line;
    struct err *err;
};

__attribute__((format(printf, 2, 3))) static int wrong(const struct place *place, const char *fmt,
                                                       ...)
{
    char text[200];
    size_t length = strlen(place->path);
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(place->err, ERR_DATA, "%s:%zu: %s", place->path + (length > 150 ? length - 150 : 0),
            place->line, text);
    return -1;
}

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "task: out of memory");
    return -1;
}

/* ---- one continuation ----------------------------------------------------------------------- */

/* Code points behind the spaces in front. */
static uint32_t count_characters(const char *text)
{
    uint32_t n = 0;

    while (*text == ' ')
        text++;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n > 0 ? n : 1;
}

/* BOS and the tokens of `length` bytes.  Their number, or -1. */
static int64_t encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                      int32_t **tokens, struct err *err)
{
    int32_t bos = tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer) : -1;

    int64_t n = tokenizer_encode(tokenizer, text, length, true, tokens, err);
    if (n < 0 || bos < 0)
        return n;
    int32_t *longer = realloc(*tokens, ((size_t)n + 1) * sizeof *longer);
    if (longer == NULL) {
        free(*tokens);
        return out_of_memory(err);
    }
    memmove(longer + 1, longer, (size_t)n * sizeof *longer);
    longer[0] = bos;
    *tokens = longer;
    return n + 1;
}

/* How many tokens the context has by itself, white space at its end left to the choice. */
static int64_t count_context(const struct tokenizer *tokenizer, const char *context,
                             struct err *err)
{
    size_t length = strlen(context);
    int32_t *tokens;

    while (length > 0 && strchr(" \t\r\n", context[length - 1]) != NULL)
        length--;
    int64_t n = encode(tokenizer, context, length, &tokens, err);
    if (n >= 0)
        free(tokens);
    return n;
}

static int choice_read(struct choice *choice, const struct tokenizer *tokenizer,
                       const char *context, const char *text, int64_t n_context,
                       const struct place *place)
{
    size_t a = strlen(context), b = strlen(text);

    char *joined = malloc(a + b + 1);
    if (joined == NULL)
        return out_of_memory(place->err);
    memcpy(joined, context, a);
    memcpy(joined + a, text, b + 1);
    int64_t n = encode(tokenizer, joined, a + b, &choice->tokens, place->err);
    free(joined);
    if (n < 0)
        return -1;
    /* A merge across the seam can leave less than a token: the last one is scored then. */
    if (n_context > n - 1)
        n_context = n - 1;
    if (n > INT32_MAX || n_context < 1)
        return wrong(place, "a choice needs a token in front of it: the context is empty and the "
                            "vocabulary adds none");
    choice->n_tokens = (uint32_t)n;
    choice->n_context = (uint32_t)n_context;
    choice->n_characters = count_characters(text);
    return 0;
}

/* ---- one item ------------------------------------------------------------------------------- */

static void item_fini(struct item *item)
{
    for (uint32_t c = 0; c < item->n_choices; c++)
        free(item->choices[c].tokens);
    free(item->choices);
}

/* The longest beginning that all choices share and that lies in front of what is scored. */
static uint32_t count_shared(const struct item *item)
{
    const struct choice *first = &item->choices[0];
    uint32_t n = first->n_context;

    for (uint32_t c = 1; c < item->n_choices; c++) {
        const struct choice *choice = &item->choices[c];
        uint32_t same = 0, most = choice->n_context < n ? choice->n_context : n;
        while (same < most && choice->tokens[same] == first->tokens[same])
            same++;
        n = same;
    }
    return n;
}

static int item_fill(struct item *item, const struct tokenizer *tokenizer, const char *context,
                     const cJSON *choices, const struct place *place)
{
    const cJSON *text;

    item->choices = calloc((size_t)cJSON_GetArraySize(choices), sizeof *item->choices);
    if (item->choices == NULL)
        return out_of_memory(place->err);
    int64_t n_context = count_context(tokenizer, context, place->err);
    if (n_context < 0)
        return -1;
    cJSON_ArrayForEach(text, choices)
    {
        if (!cJSON_IsString(text) || text->valuestring[0] == '\0')
            return wrong(place, "choice %u is not a text", item->n_choices);
        item->n_choices++;
        if (choice_read(&item->choices[item->n_choices - 1], tokenizer, context, text->valuestring,
                        n_context, place) != 0)
            return -1;
    }
    item->n_shared = count_shared(item);
    if (item->n_shared == 0)
        return wrong(place, "the choices change how the context begins");
    return 0;
}

static int item_read(struct item *item, const struct tokenizer *tokenizer, const cJSON *node,
                     const struct place *place)
{
    const cJSON *context = cJSON_GetObjectItemCaseSensitive(node, "context");
    const cJSON *choices = cJSON_GetObjectItemCaseSensitive(node, "choices");
    const cJSON *answer = cJSON_GetObjectItemCaseSensitive(node, "answer");

    if (!cJSON_IsObject(node))
        return wrong(place, "not a JSON object");
    if (!cJSON_IsString(context))
        return wrong(place, "\"context\" is not a text");
    if (!cJSON_IsArray(choices))
        return wrong(place, "\"choices\" is not an array");
    int n = cJSON_GetArraySize(choices);
    if (n < 2 || n > TASK_MAX_CHOICES)
        return wrong(place, "%d choices, allowed are 2 to %d", n, TASK_MAX_CHOICES);
    if (!cJSON_IsNumber(answer) || !(answer->valuedouble >= 0 && answer->valuedouble < n) ||
        answer->valuedouble != answer->valueint)
        return wrong(place, "\"answer\" is not a number from 0 to %d", n - 1);
    *item = (struct item){.answer = (uint32_t)answer->valueint};
    if (item_fill(item, tokenizer, context->valuestring, choices, place) != 0) {
        item_fini(item);
        return -1;
    }
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t length)
{
    while (length > 0 && strchr(" \t\r", text[length - 1]) != NULL)
        length--;
    return length == 0;
}

static int line_read(struct task *task, const struct tokenizer *tokenizer, const char *text,
                     size_t length, const struct place *place)
{
    const char *end = NULL;

    if (task->n_items == task->room) {
        size_t room = 2 * task->room + 64;
        struct item *items = realloc(task->items, room * sizeof *items);
        if (items == NULL)
            return out_of_memory(place->err);
        task->items = items;
        task->room = room;
    }
    cJSON *node = cJSON_ParseWithLengthOpts(text, length, &end, 0);
    if (node == NULL)
        return wrong(place, "not JSON from character %zu on", (size_t)(end - text) + 1);
    int status = is_blank(end, length - (size_t)(end - text))
                     ? item_read(&task->items[task->n_items], tokenizer, node, place)
                     : wrong(place, "something follows the object");
    cJSON_Delete(node);
    if (status == 0)
        task->n_items++;
    return status;
}

static int lines_read(struct task *task, const struct tokenizer *tokenizer, const char *text,
                      uint32_t max_items, struct place *place)
{
    while (*text != '\0' && (max_items == 0 || task->n_items < max_items)) {
        size_t length = strcspn(text, "\n");
        place->line++;
        if (!is_blank(text, length) && line_read(task, tokenizer, text, length, place) != 0)
            return -1;
        text += length + (text[length] == '\n');
    }
    if (task->n_items > 0)
        return 0;
    place->line = 1;
    return wrong(place, "no items in it");
}

/* "dir/facts.jsonl" is "facts". */
static char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t length = strlen(name), suffix = strlen(".jsonl");

    if (length > suffix && strcmp(name + length - suffix, ".jsonl") == 0)
        length -= suffix;
    return strndup(name, length);
}

struct task *task_read(const char *path, const struct tokenizer *tokenizer, uint32_t max_items,
                       struct err *err)
{
    struct place place = {path, 0, err};
    size_t length;

    char *text = file_read(path, TASK_MAX_BYTES, &length, err);
    if (text == NULL)
        return NULL;
    struct task *task = calloc(1, sizeof *task);
    if (task == NULL || (task->name = name_of(path)) == NULL) {
        out_of_memory(err);
        goto undo;
    }
    if (strlen(text) != length) {
        place.line = 1;
        for (const char *at = text; *at != '\0'; at++)
            place.line += *at == '\n';
        wrong(&place, "a byte of zero, which no text holds");
        goto undo;
    }
    if (lines_read(task, tokenizer, text, max_items, &place) != 0)
        goto undo;
    free(text);
    return task;

undo:
    task_destroy(task);
    free(text);
    return NULL;
}

void task_destroy(struct task *task)
{
    if (task == NULL)
        return;
    for (uint32_t i = 0; i < task->n_items; i++)
        item_fini(&task->items[i]);
    free(task->items);
    free(task->name);
    free(task);
}
