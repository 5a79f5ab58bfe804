/* world_scenes.c - small scenes about strangers: weather, errands, animals.  They fill the distance
 * between a fact and its question, and are the plain story text of the world. */
#include "evaluator/reference/world_parts.h"

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
