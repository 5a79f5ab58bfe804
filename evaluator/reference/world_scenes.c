/* world_scenes.c - small scenes about strangers: weather, errands, animals.  They fill the distance
 * between a fact and its question, and are the plain story text of the world. */
#include "evaluator/reference/world_parts.h"

#include <stdio.h>
#include <string.h>

#define WHEN                                                                                       \
    "[|One day |One evening |In the morning |After a while |Late at night |That {D} |Last {D} "    \
    "|In {M} |Some time later |At noon |Before long ]"

// clang-format off
static const char *const rules[] = {
    WHEN "{X} [walked|went|ran|rode|hurried] [slowly |quickly |quietly |]to {Z}[ to see the fair| and came back late|].",
    WHEN "{X} [saw|met|chased|fed|followed] a [small|big|young|tired|hungry] {N}[ on the road| by the wall|].",
    WHEN "the [wind|rain|snow|sun|fog|storm] [came|was strong|was gentle|did not stop|went away] [in|over|near] {Z}.",
    WHEN "{X} [cooked|ate|shared|bought] some {F}[ with {Y}| for {Y}| and was happy|].",
    WHEN "{X} and {Y} [sang|danced|talked|played|laughed|rested] [together|for an hour|until dark|all day long][ in {Z}|].",
    WHEN "{X} [sat|waited|slept|stood] [under a tree|near the wall|by the fire|at the gate of {Z}] [and thought of home|and said nothing|for a long time].",
    WHEN "[the sky over|the road to|the hill near|the square of] {Z} was [dark|bright|quiet|empty|full of people|wet].",
    WHEN "{X} [told|wrote|sang] a [long|short|sad|funny|strange] [story|song|poem] [about|to] {Y}.",
    WHEN "{X} [wanted|hoped|planned|promised] to [visit|see|find|help|thank] {Y}[ soon| again| some day|].",
    WHEN "the [old|young|little|tall] {J} of {Z} [smiled|slept|sang|worked hard|went home|looked up].",
    WHEN "a [small|big|grey|noisy|lazy] {N} [ran|jumped|hid|slept|looked around] [behind the house|under the cart|near the fire|in the grass|by the road].",
    WHEN "{X} [asked|called|visited|greeted] {Y}, but {X:he} [got no answer|did not stay|was in a hurry|was too late|forgot why].",
};
// clang-format on

static void strangers_bind(struct pen *pen)
{
    pen_bind_people(pen, "XY", 2);
    pen_bind_village(pen, 'Z');
    pen_bind_distinct(pen, WORD_DAY, "D", 1);
    pen_bind_distinct(pen, WORD_MONTH, "M", 1);
    pen_bind_distinct(pen, WORD_ANIMAL, "N", 1);
    pen_bind_distinct(pen, WORD_FOOD, "F", 1);
    pen_bind_distinct(pen, WORD_JOB, "J", 1);
}

void scenes_write(struct pen *pen, size_t n_words)
{
    size_t start = pen->n, n_seen = 0;
    strangers_bind(pen);
    while (n_seen < n_words && !pen->cut) {
        if (pen_chance(pen, 4))
            strangers_bind(pen);
        PEN_SAY_ANY(pen, rules);
        n_seen = 0;
        for (size_t i = start; i < pen->n; i++)
            n_seen += pen->text[i] == ' ';
    }
}

/* ---- rhymes ---- */

/* What is said of each: a verb and the class of what follows.  The gap between a name and what
 * belongs to it grows from nothing to three words: copying over no gap is learned first. */
static const struct {
    const char *verb;
    enum word_class class;
} sayings[] = {
    {"", WORD_JOB},        {"", WORD_ANIMAL},       {"", WORD_FOOD},
    {"", WORD_SPOT},       {"", WORD_COLOUR},       {"", WORD_NUMBER},
    {" eats", WORD_FOOD},  {" sells", WORD_GOOD},   {" has a", WORD_ANIMAL},
    {" is the", WORD_JOB}, {" wants", WORD_PLURAL}, {" is at the", WORD_SPOT},
};
#define LEAD                                                                                       \
    "[Say after me: |Learn by heart: |The song goes: |They call out: |Once more: |Again: "         \
    "|One more time: |And again: |Now all together: |The children sing: ]"
#define N_SINGERS 6

/* A roll call: the same names in the same order, on and on. */
static void roll_call_write(struct pen *pen, size_t n)
{
    static const char *const between[] = {" ", " ", ", ", " and ", ", then ", " before "};
    const char *comma = between[pen_pick(pen, sizeof between / sizeof between[0])];
    char rule[512] = LEAD;
    for (size_t i = 0; i < n; i++)
        snprintf(rule + strlen(rule), 16, "{%c}%s", (char)('0' + i), i + 1 < n ? comma : ".");
    for (size_t i = 2 + pen_pick(pen, 3); i > 0; i--)
        pen_say(pen, rule);
}

static void values_bind(struct pen *pen, enum word_class class, size_t n)
{
    if (class != WORD_NUMBER) {
        pen_bind_distinct(pen, class, "abcdef", n);
        return;
    }
    int numbers[20];
    for (int i = 0; i < 20; i++)
        numbers[i] = i + 1;
    rng_shuffle(&pen->rng, numbers, 20, sizeof numbers[0]);
    for (size_t i = 0; i < n; i++)
        pen_bind_number(pen, "abcdef"[i], numbers[i]);
}

/* Everybody with what is theirs, each time in another order; or the things with their owners. */
static void litany_write(struct pen *pen, size_t n)
{
    size_t order[N_SINGERS] = {0, 1, 2, 3, 4, 5};
    size_t saying = pen_pick(pen, sizeof sayings / sizeof sayings[0]);
    bool turned = sayings[saying].verb[0] == '\0' && pen_chance(pen, 3);
    values_bind(pen, sayings[saying].class, n);
    for (size_t k = 3 + pen_pick(pen, 2); k > 0; k--) {
        char rule[512] = LEAD;
        for (size_t i = 0; i < n; i++) {
            char name = "012345"[order[i]], value = "abcdef"[order[i]];
            snprintf(rule + strlen(rule), 32, "{%c}%s {%c}%s", turned ? value : name,
                     sayings[saying].verb, turned ? name : value, i + 1 < n ? ", " : ".");
        }
        pen_say(pen, rule);
        rng_shuffle(&pen->rng, order, n, sizeof order[0]);
    }
}

void rhyme_write(struct pen *pen)
{
    size_t n = 3 + pen_pick(pen, N_SINGERS - 2);
    pen_bind_people(pen, "012345", n);
    if (pen_chance(pen, 4))
        roll_call_write(pen, n);
    else
        litany_write(pen, n);
}
