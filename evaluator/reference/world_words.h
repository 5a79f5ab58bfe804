/* world_words.h - the vocabulary of the closed little world and who may use which part of it.
 *
 * Every entity, value pair and sentence skeleton belongs to one split, decided by a hash of its
 * spelling: a quarter is for test items alone, the rest for training, calibration and held-out
 * text. Nothing is kept in a list, so nothing can be forgotten in one: whoever draws an entity asks
 * for a split and gets one whose hash says so.
 *
 * People's names are two syllables out of one inventory ("Tamo"), the people and places of the
 * knowledge base have three ("Belosa", "Talodale"), so that a name of the test split is made of the
 * same pieces as the names seen in training. A name that ends in a or i is a woman's. */
#ifndef WORLD_WORDS_H
#define WORLD_WORDS_H

#include "evaluator/reference/world.h"
#include "space/base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stands between the syllables of a name inside the generator; the vocabulary's training learns no
 * merge across it, and it is dropped from all other text. */
#define WORD_SYLLABLE_MARK '\x01'
#define WORD_ROOM          24 /* the longest word, marks and NUL included */

/* One row a class: name, what a skeleton shows in its place, its words. */
enum word_class {
    WORD_NAME,    /* a person of a story */
    WORD_PERSON,  /* a person of the knowledge base */
    WORD_TOWN,    /* a place of the knowledge base */
    WORD_VILLAGE, /* a place of a story */
    WORD_NUMBER,
    WORD_YES, /* yes or no */
    WORD_COLOUR,
    WORD_OBJECT,
    WORD_SPOT, /* barn, mill: where things happen */
    WORD_JOB,
    WORD_ANIMAL,
    WORD_FOOD,
    WORD_PLURAL, /* things that are counted or collected */
    WORD_GOOD,   /* what a town makes */
    WORD_MONTH,
    WORD_DAY,
    WORD_WARE,   /* what rain and fire act upon, WARES_A_MATERIAL of each material in turn */
    WORD_EFFECT, /* [action][material] */
    WORD_PAST,   /* bought */
    WORD_BASE,   /* buy */
    WORD_N_CLASSES
};

#define WORD_N_MATERIALS      8
#define WORD_WARES_A_MATERIAL 8
#define WORD_N_ACTIONS        6

/* The words of a listed class (WORD_COLOUR and later), and how many. */
const char *const *word_list(enum word_class c, size_t *n);
/* "<name>": how a skeleton spells the class. */
const char *word_class_mark(enum word_class c);
/* Class of a word as it is printed (without punctuation), or -1 for a plain word.  Names are known
 * by their syllables: 2 for WORD_NAME, 3 for WORD_PERSON, with a town's ending for WORD_VILLAGE
 * (towns of the knowledge base included). */
int word_class_of(const char *word);

/* A well mixed hash of a kind ("name", "pair"...) and a spelling; syllable marks do not count. */
uint64_t word_hash(const char *kind, const char *text);
/* The split that a spelling of this kind belongs to. */
enum world_split word_split(const char *kind, const char *text);

/* Draw from the split: a story's person or village, marks included.  `out` holds WORD_ROOM bytes.
 */
void word_draw_name(struct rng *rng, enum world_split split, char *out);
void word_draw_village(struct rng *rng, enum world_split split, char *out);
/* A colour and an object whose pair belongs to the split; indices into their lists. */
void word_draw_thing(struct rng *rng, enum world_split split, size_t *colour, size_t *object);
/* Candidates for the knowledge base, which no split owns: it is to be remembered. */
void word_draw_person(struct rng *rng, char *out);
void word_draw_town(struct rng *rng, char *out);
bool word_is_she(const char *name);

/* The syllables, for the vocabulary: "Ta" and "mo". */
size_t word_n_heads(void);
void word_head(size_t i, char out[3]);
size_t word_n_tails(void);
void word_tail(size_t i, char out[3]);

#endif
