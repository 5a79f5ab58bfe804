/* world_parts.h - what the parts of the world ask of each other.
 *
 * Each exercise writes one document of its family with several questions, or, when the pen carries
 * an item, the passage and one question up to its answer, and the choices. */
#ifndef WORLD_PARTS_H
#define WORLD_PARTS_H

#include "evaluator/reference/world.h"
#include "evaluator/reference/world_pen.h"

#include <stdbool.h>

/* Beginnings that fit before any statement; they multiply the skeletons of a rule. */
#define SAY_SO                                                                                     \
    "[|As we know, |They say that |It is true that |Everyone knows that |The old book says that "  \
    "|People say that |It is said that |I heard that |We learned that |You may know that "         \
    "|In this land |It is written that |Here is a fact: |Remember that |My aunt told me that ]"

#define WORLD_N_PERSONS          450
#define WORLD_N_TOWNS            180
#define WORLD_N_HOME_TOWNS       40 /* the first towns are birthplaces */
#define WORLD_N_PERSON_RELATIONS 6
#define WORLD_N_TOWN_RELATIONS   5
#define WORLD_N_PERSON_FACTS     (WORLD_N_PERSONS * WORLD_N_PERSON_RELATIONS)
#define WORLD_N_FACTS            (WORLD_N_PERSON_FACTS + WORLD_N_TOWNS * WORLD_N_TOWN_RELATIONS)

/* Values are indices into the list of the relation's class, or towns. */
struct world {
    char persons[WORLD_N_PERSONS][WORD_ROOM];
    char towns[WORLD_N_TOWNS][WORD_ROOM];
    uint16_t person_values[WORLD_N_PERSONS][WORLD_N_PERSON_RELATIONS];
    uint16_t town_values[WORLD_N_TOWNS][WORLD_N_TOWN_RELATIONS];
};

/* world_facts.c: the knowledge base. */
void facts_draw(struct world *world);
void facts_document(struct pen *pen, const struct world *world);
void facts_item(struct pen *pen, const struct world *world, size_t fact); /* 0..WORLD_N_FACTS-1 */

/* world_reason.c: rules and numbers. */
void cause_effect_exercise(struct pen *pen);
void arithmetic_exercise(struct pen *pen);

/* world_people.c: who is meant, who came when. */
void coreference_exercise(struct pen *pen);
void sequence_exercise(struct pen *pen);

/* world_reading.c: what stands in the text. */
void reading_exercise(struct pen *pen);
void recall_exercise(struct pen *pen, const struct world *world);

/* world_scenes.c: small talk about strangers; at least `n_words` words of it. */
void scenes_write(struct pen *pen, size_t n_words);
/* A rhyme that says the same again and again: the shortest lesson in copying. */
void rhyme_write(struct pen *pen);

#endif
