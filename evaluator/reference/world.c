/* world.c - documents of the training split and items of the test split. */
#include "evaluator/reference/world.h"
#include "evaluator/reference/world_parts.h"
#include "space/base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ITEM_SEED 7001u

static const struct {
    const char *name;
    int n_choices;
} tasks[WORLD_N_TASKS] = {
#define TASK_ROW(task, name, n_choices) [task] = {name, n_choices},
    WORLD_TASKS(TASK_ROW)
#undef TASK_ROW
};

struct world *world_create(struct err *err)
{
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL) {
        err_set(err, ERR_MEMORY, "the reference world: out of memory");
        return NULL;
    }
    facts_draw(world);
    return world;
}

void world_destroy(struct world *world)
{
    free(world);
}

const char *world_task_name(enum world_task task)
{
    return tasks[task].name;
}

int world_task_n_choices(enum world_task task)
{
    return tasks[task].n_choices;
}

/* Documents of each kind out of SHARE_TOTAL.  Documents differ in length; data/README.md has
 * the shares in tokens. */
enum { SHARE_OTHERS = 20 }; /* rhymes and scenes */
static const unsigned shares[WORLD_N_TASKS] = {
    [WORLD_COREFERENCE] = 20, [WORLD_CAUSE_EFFECT] = 8, [WORLD_ARITHMETIC] = 15, [WORLD_RECALL] = 8,
    [WORLD_SEQUENCE] = 14,    [WORLD_FACTS] = 34,       [WORLD_READING] = 18,
};

/* One short document in so many is said twice: nothing teaches copying sooner, since each word of
 * the second saying can be known. */
#define ECHO_SHARE 5
#define ECHO_BYTES 800

/* A task by its share, or WORLD_N_TASKS for rhymes and scenes. */
static unsigned task_draw(struct pen *pen)
{
    unsigned total = SHARE_OTHERS, task = 0;
    for (unsigned t = 0; t < WORLD_N_TASKS; t++)
        total += shares[t];
    size_t at = pen_pick(pen, total);
    for (; task < WORLD_N_TASKS && at >= shares[task]; task++)
        at -= shares[task];
    return task;
}

/* An exercise of any task but facts: a document, or an item where the pen carries one. */
static void exercise_write(struct pen *pen, const struct world *world, unsigned task)
{
    switch (task) {
    case WORLD_COREFERENCE:
        coreference_exercise(pen);
        break;
    case WORLD_CAUSE_EFFECT:
        cause_effect_exercise(pen);
        break;
    case WORLD_ARITHMETIC:
        arithmetic_exercise(pen);
        break;
    case WORLD_RECALL:
        recall_exercise(pen, world);
        break;
    case WORLD_SEQUENCE:
        sequence_exercise(pen);
        break;
    default:
        assert(task == WORLD_READING);
        reading_exercise(pen);
    }
}

static void document_write(struct pen *pen, const struct world *world, unsigned task)
{
    if (task == WORLD_FACTS)
        facts_document(pen, world);
    else if (task != WORLD_N_TASKS)
        exercise_write(pen, world, task);
    else if (pen_chance(pen, 8))
        scenes_write(pen, 60);
    else
        rhyme_write(pen);
}

size_t world_document(const struct world *world, uint64_t seed, uint64_t index, bool marked,
                      char text[WORLD_TEXT_ROOM])
{
    return world_document_of(world, WORLD_N_TASKS, seed, index, marked, text);
}

size_t world_document_of(const struct world *world, enum world_task only, uint64_t seed,
                         uint64_t index, bool marked, char text[WORLD_TEXT_ROOM])
{
    struct pen pen;
    pen_init(&pen, text, rng_make(seed, index), WORLD_TRAIN);
    pen.marked = marked;
    document_write(&pen, world, only != WORLD_N_TASKS ? only : task_draw(&pen));
    pen_new_line(&pen);
    if (pen.n < ECHO_BYTES && pen_chance(&pen, ECHO_SHARE))
        pen_echo(&pen);
    return pen.n;
}

static void item_write(struct pen *pen, const struct world *world, enum world_task task,
                       size_t fact)
{
    if (task == WORLD_FACTS)
        facts_item(pen, world, fact);
    else
        exercise_write(pen, world, task);
}

static bool is_repeated(const struct world_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(items[i].context, items[n].context) == 0)
            return true;
    return false;
}

/* Put the answer where it is wanted. */
static void answer_move(struct world_item *item, int to)
{
    char held[sizeof item->choices[0]];
    memcpy(held, item->choices[to], sizeof held);
    memcpy(item->choices[to], item->choices[item->answer], sizeof held);
    memcpy(item->choices[item->answer], held, sizeof held);
    item->answer = to;
}

void world_items(const struct world *world, enum world_task task, size_t n,
                 struct world_item *items)
{
    /* Facts are dealt from a shuffled pack, so that none is asked twice. */
    static size_t facts[WORLD_N_FACTS];
    struct rng deck = rng_make(ITEM_SEED, UINT64_MAX);
    for (size_t i = 0; i < WORLD_N_FACTS; i++)
        facts[i] = i;
    rng_shuffle(&deck, facts, WORLD_N_FACTS, sizeof facts[0]);
    assert(n <= WORLD_N_FACTS);

    char text[WORLD_TEXT_ROOM];
    uint64_t stream = (uint64_t)task << 32;
    for (size_t i = 0; i < n; stream++) {
        struct pen pen;
        memset(&items[i], 0, sizeof items[i]);
        pen_init(&pen, text, rng_make(ITEM_SEED, stream), WORLD_TEST);
        pen.item = &items[i];
        item_write(&pen, world, task, facts[i]);
        assert(pen.cut && pen.n < sizeof items[i].context);
        memcpy(items[i].context, text, pen.n + 1);
        int want = (int)(i % (size_t)items[i].n_choices);
        if (task == WORLD_READING && items[i].n_choices == 2) {
            /* Yes and no keep their places; as many items of each are taken. */
            if (strcmp(items[i].choices[items[i].answer], want == 0 ? " yes" : " no") != 0)
                continue;
        }
        answer_move(&items[i], want);
        if (!is_repeated(items, i))
            i++;
    }
}
