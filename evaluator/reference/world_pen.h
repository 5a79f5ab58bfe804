/* world_pen.h - the hand that writes sentences from rules.
 *
 * A rule is text with alternatives, which may nest, and slots:
 *
 *     "[Then|Later] {A} [gave|handed] the {C} {O} to {B}."
 *     "[Who has|Who owns] the {O}? It is {=B}."
 *
 *     {A}      the word bound to slot A      {=A}    the same, and it is what the question asks for
 *     {A:he}   he or she, as the name bound to A wants; also :He, :him, :his
 *
 * One expansion of the alternatives, with slots replaced by the marks of their classes, is a
 * skeleton.  A skeleton belongs to one split by its hash, and the pen draws expansions until one
 * is of its own split.  What follows an answer does not count, so that a test item, which ends
 * before its answer, has a skeleton that no training sentence shares.
 *
 * A sentence's first letter becomes a capital.  A rule without an expansion in the pen's split is a
 * fault of this program: it aborts. */
#ifndef WORLD_PEN_H
#define WORLD_PEN_H

#include "evaluator/reference/world.h"
#include "evaluator/reference/world_words.h"
#include "space/base/rng.h"

struct pen_slot {
    char text[WORD_ROOM];
    enum word_class class;
};

struct pen {
    char *text; /* WORLD_TEXT_ROOM bytes, always NUL-terminated; borrowed */
    size_t n;
    struct rng rng;
    enum world_split split;
    bool marked;                /* keep syllable marks */
    bool cut;                   /* an item is complete: what is said from here on is dropped */
    struct world_item *item;    /* NULL while writing a training document */
    struct pen_slot slots[128]; /* by letter */
};

void pen_init(struct pen *pen, char *text, struct rng rng, enum world_split split);

/* Uniform in 0..n-1; true once in n. */
size_t pen_pick(struct pen *pen, size_t n);
bool pen_chance(struct pen *pen, size_t n);

/* Bind a word to a slot. */
void pen_bind(struct pen *pen, char slot, enum word_class class, const char *word);
void pen_bind_nth(struct pen *pen, char slot, enum word_class class, size_t index);
void pen_bind_number(struct pen *pen, char slot, int number);
void pen_bind_copy(struct pen *pen, char slot, char from);

/* `n` different people of the pen's split into slots[0..n-1]. */
void pen_bind_people(struct pen *pen, const char *slots, size_t n);
/* A village, and a coloured thing (two slots), of the pen's split. */
void pen_bind_village(struct pen *pen, char slot);
void pen_bind_thing(struct pen *pen, char colour, char object);
/* `n` different words of a listed class. */
void pen_bind_distinct(struct pen *pen, enum word_class class, const char *slots, size_t n);

/* Write one sentence after a space (or at the start of a line). */
void pen_say(struct pen *pen, const char *rule);
/* The same with a rule drawn from `n`. */
void pen_say_any(struct pen *pen, const char *const *rules, size_t n);
#define PEN_SAY_ANY(pen, rules) pen_say_any((pen), (rules), sizeof(rules) / sizeof((rules)[0]))
void pen_new_line(struct pen *pen);
/* Write all that stands there once more, after a space. */
void pen_echo(struct pen *pen);

/* Where an item is written: the words in slots[0..n-1] are its choices and the word in
 * `answer` is one of them.
 * Nothing happens in a training document.  Call before the sentence that holds {=answer}. */
void pen_offer(struct pen *pen, const char *slots, size_t n, char answer);

#endif
