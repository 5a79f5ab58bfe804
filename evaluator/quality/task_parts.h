/* task_parts.h - what reading (task_json.c) and scoring (task.c) share; for these two alone. */
#ifndef KERF_TASK_PARTS_H
#define KERF_TASK_PARTS_H

#include "evaluator/quality/task.h"

#define TASK_MAX_CHOICES 64

/* One continuation: BOS, context and choice in one row of tokens. */
struct choice {
    int32_t *tokens;
    uint32_t n_tokens;     /* >= 2 */
    uint32_t n_context;    /* tokens[n_context..] are scored; 1 <= n_context < n_tokens */
    uint32_t n_characters; /* >= 1 */
};

struct item {
    struct choice *choices;
    uint32_t n_choices; /* >= 2 */
    uint32_t answer;
    uint32_t n_shared; /* tokens that all choices begin with and none is scored of: >= 1 */
};

struct task {
    char *name;
    struct item *items;
    uint32_t n_items;
    size_t room; /* items that fit */
};

#endif
