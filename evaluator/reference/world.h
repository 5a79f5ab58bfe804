/* world.h - the closed little world that the reference model is trained and judged on.
 *
 * A seeded generator of English-like text about people, places, objects and facts, and of seven
 * multiple-choice tasks of different character.  Everything follows from (seed, index) through
 * Philox, so a document can be made again alone, in any order, on any machine.
 *
 * What the model has to hold: a knowledge base of 3,600 facts and 48 rules of cause and effect
 * in its weights; copying, order, binding and two-step arithmetic in its circuits.
 *
 * Training, calibration and held-out text are of WORLD_TRAIN, test items of WORLD_TEST: names,
 * villages, coloured things, value combinations and the skeletons of sentences (what stays when
 * names and values are taken out) of one never occur in the other.  The people and places of the
 * knowledge base are the exception: they are asked for in test items because they are to be
 * remembered, in sentences whose skeletons are of the test split alone. */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct vocabulary;
struct world;

enum world_split { WORLD_TRAIN, WORLD_TEST };

/* One row a task: constant, name of its file, choices an item. */
#define WORLD_TASKS(X)                                                                             \
    X(WORLD_COREFERENCE, "coreference", 4)                                                         \
    X(WORLD_CAUSE_EFFECT, "cause_effect", 5)                                                       \
    X(WORLD_ARITHMETIC, "arithmetic", 4)                                                           \
    X(WORLD_RECALL, "recall", 5)                                                                   \
    X(WORLD_SEQUENCE, "sequence", 5)                                                               \
    X(WORLD_FACTS, "facts", 4)                                                                     \
    X(WORLD_READING, "reading", 2)

enum world_task {
#define WORLD_ENUM(task, name, n_choices) task,
    WORLD_TASKS(WORLD_ENUM)
#undef WORLD_ENUM
        WORLD_N_TASKS
};

#define WORLD_MAX_CHOICES 5
#define WORLD_TEXT_ROOM   16384 /* bytes that hold any document */

struct world_item {
    char context[4096];                  /* ends without a space */
    char choices[WORLD_MAX_CHOICES][32]; /* each begins with a space */
    int n_choices;
    int answer; /* index of the right choice */
};

/* The knowledge base, drawn from a fixed seed: there is one world.  NULL if memory ran out. */
struct world *world_create(struct err *err);
void world_destroy(struct world *world); /* NULL is fine */

const char *world_task_name(enum world_task task);
int world_task_n_choices(enum world_task task);

/* Document `index` of stream `seed`, of the training split, NUL-terminated; returns its length.
 * With `marked`, the syllables of names are held apart by WORD_SYLLABLE_MARK. */
size_t world_document(const struct world *world, uint64_t seed, uint64_t index, bool marked,
                      char text[WORLD_TEXT_ROOM]);
/* The same, of one task only; WORLD_N_TASKS for all kinds by their shares. */
size_t world_document_of(const struct world *world, enum world_task only, uint64_t seed,
                         uint64_t index, bool marked, char text[WORLD_TEXT_ROOM]);

/* `n` distinct items of the test split; answers in all positions equally often. */
void world_items(const struct world *world, enum world_task task, size_t n,
                 struct world_item *items);

/* The vocabulary of tokenizer_train.h for this world's text; NULL if memory ran out. */
struct vocabulary *world_vocabulary(const struct world *world, struct err *err);

#endif
