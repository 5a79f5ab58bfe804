/* world_people.c - who is meant, and who came when. */
#include "evaluator/reference/world_parts.h"

#include <stdio.h>
#include <string.h>

// clang-format off
#define MET_AT \
    "[[One day|On {T}|In {M}|Last {T}|Late one night|Long ago|Before the fair|After the storm] |]"
static const char *const four_met[] = {
    MET_AT "{A}, {B}, {C} and {D} [met|came together|sat|waited|were|worked] [at|near|by|in] the {L}.",
    MET_AT "the {L} was [full of|visited by|noisy with|home to] four people, {A}, {B}, {C} and {D}.",
    "[There were|Here come|Here are|Think of] four [friends|people|neighbours|guests] at the {L}: {A}, {B}, {C} and {D}.",
};

/* Who "he" is follows from the verb and the reason. */
struct deed {
    const char *deed;         /* U does it to V */
    const char *reasons[2];   /* because of U, because of V; after "because he" */
};
static const struct deed deeds[] = {
    {"lent the {K} {O} to {V}", {"[did not need it|had no use for it|was kind]", "[needed it|had asked for it|had none]"}},
    {"borrowed the {K} {O} from {V}", {"[needed it|wanted to use it|had none]", "[did not need it|had no use for it|was kind]"}},
    {"sold the {K} {O} to {V}", {"[needed money|was poor|had too many]", "[wanted to have it|offered money|liked it]"}},
    {"asked {V} for help with the {K} {O}", {"[was tired|could not do it|was too weak]", "[was strong|knew how to do it|was clever]"}},
    {"thanked {V} for the {K} {O}", {"[was glad|had been given it|got it]", "[had given it|had brought it|had made it]"}},
    {"carried the {K} {O} for {V}", {"[was strong|wanted to help|was polite]", "[was tired|was too weak|had hurt an arm]"}},
    {"paid {V} for the {K} {O}", {"[had ordered it|wanted to have it|owed money]", "[had made it|had sold it|had mended it]"}},
    {"took the {K} {O} away from {V}", {"[was angry|was a thief|wanted to have it]", "[had been careless|had fallen asleep|had stolen it]"}},
};
#define DEED_WHEN "[One day |Later |Then |In the end |At noon |Before dark |After a while |]"
static const char *const deed_questions[] = {
    "[Who is meant by {P:he}|Who is {P:he}|Whom does the word {P:he} mean|Which of them is {P:he}]? [It is|That is|{P:He} is|The answer is|The word means] {=P}.",
    "[Here|In this story|In that sentence|In the last sentence] [the word {P:he}|{P:he}] [means|stands for|is] {=P}.",
};

/* Only one of the four is a man (or a woman). */
static const char *const gender_events[] = {
    "[Then|Later|After a while|At noon|Before dark|In the end] {P:he} [took|found|lost|cleaned|bought|hid|forgot] the {K} {O}.",
    "[Soon|In the evening|Late at night|The next day|Not long after] {P:he} [went away|walked home|was gone|ran off] with the {K} {O}.",
};
static const char *const gender_questions[] = {
    "[Who was|Which of them was|Can you say who was] {P:he}? [It was|That was|{P:He} was|The answer is|It must have been] {=P}.",
    "[So |As we see, |It is clear that |In short, |]the [one with the {K} {O} was|{K} {O} was with|{K} {O} was in the hands of|{K} {O} was last seen with] {=P}.",
};

/* Each has a trade and is then named by it. */
static const char *const trades[] = {
    "{A} [is|was|worked as|lived as] a {a}, {B} [is|was] a {b}, {C} [is|was] a {c} and {D} [is|was] a {d}.",
    "[The {a} is called|The {a} was|The name of the {a} is|We call the {a}] {A}, [the {b} is called|the {b} was|the {b} is] {B}, [the {c} is called|the {c} was] {C} and the {d} [is called|was|is] {D}.",
};
static const char *const trade_events[] = {
    "[Then|Later|After a while|At noon|Before dark|In the end] the {x} [took|found|lost|cleaned|bought|hid|forgot] the {K} {O}.",
    "[Soon|In the evening|Late at night|The next day|Not long after] the {x} [went away|walked home|was gone|ran off] with the {K} {O}.",
};
static const char *const trade_questions[] = {
    "[Who had|Who was seen with|Which of them had|Can you say who had] the {K} {O}? [It was|That was|The answer is|It must have been] {=P}.",
    "[So |As we see, |It is clear that |In short, |]the [one with the {K} {O} was|{K} {O} was with|{K} {O} was in the hands of|{K} {O} was last seen with] {=P}.",
};
// clang-format on

static void setting_bind(struct pen *pen)
{
    pen_bind_distinct(pen, WORD_DAY, "T", 1);
    pen_bind_distinct(pen, WORD_MONTH, "M", 1);
    pen_bind_distinct(pen, WORD_SPOT, "L", 1);
    pen_bind_thing(pen, 'K', 'O');
}

static bool slot_is_she(const struct pen *pen, char slot)
{
    return word_is_she(pen->slots[(unsigned char)slot].text);
}

/* Doer and done-to are two of the four, of one gender, so that the pronoun alone does not tell. */
static void deed_exercise(struct pen *pen)
{
    pen_bind_people(pen, "ABCD", 4);
    setting_bind(pen);
    PEN_SAY_ANY(pen, four_met);
    size_t u, v;
    do {
        u = pen_pick(pen, 4);
        v = pen_pick(pen, 4);
    } while (u == v || slot_is_she(pen, "ABCD"[u]) != slot_is_she(pen, "ABCD"[v]));
    pen_bind_copy(pen, 'U', "ABCD"[u]);
    pen_bind_copy(pen, 'V', "ABCD"[v]);
    size_t who = pen_pick(pen, 2);
    pen_bind_copy(pen, 'P', who == 0 ? 'U' : 'V');
    const struct deed *deed = &deeds[pen_pick(pen, sizeof deeds / sizeof deeds[0])];
    char rule[256];
    snprintf(rule, sizeof rule, DEED_WHEN "{U} %s because {P:he} %s.", deed->deed,
             deed->reasons[who]);
    pen_say(pen, rule);
    pen_offer(pen, "ABCD", 4, 'P');
    PEN_SAY_ANY(pen, deed_questions);
}

static void gender_exercise(struct pen *pen)
{
    char odd;
    size_t n_she;
    do {
        pen_bind_people(pen, "ABCD", 4);
        n_she = 0;
        for (const char *slot = "ABCD"; *slot != '\0'; slot++)
            n_she += slot_is_she(pen, *slot);
    } while (n_she != 1 && n_she != 3);
    for (odd = 'A'; slot_is_she(pen, odd) != (n_she == 1); odd++)
        ;
    setting_bind(pen);
    PEN_SAY_ANY(pen, four_met);
    pen_bind_copy(pen, 'P', odd);
    PEN_SAY_ANY(pen, gender_events);
    pen_offer(pen, "ABCD", 4, 'P');
    PEN_SAY_ANY(pen, gender_questions);
}

static void trade_exercise(struct pen *pen)
{
    pen_bind_people(pen, "ABCD", 4);
    pen_bind_distinct(pen, WORD_JOB, "abcd", 4);
    setting_bind(pen);
    PEN_SAY_ANY(pen, trades);
    size_t last = 4;
    for (size_t n = pen->item != NULL ? 1 : 3; n > 0; n--) {
        size_t who;
        do
            who = pen_pick(pen, 4);
        while (who == last);
        last = who;
        pen_bind_copy(pen, 'P', "ABCD"[who]);
        pen_bind_copy(pen, 'x', "abcd"[who]);
        pen_bind_thing(pen, 'K', 'O');
        PEN_SAY_ANY(pen, trade_events);
        pen_offer(pen, "ABCD", 4, 'P');
        PEN_SAY_ANY(pen, trade_questions);
    }
}

void coreference_exercise(struct pen *pen)
{
    for (size_t n = pen->item != NULL ? 1 : 2; n > 0; n--) {
        size_t kind = pen_pick(pen, 4);
        if (kind == 0)
            gender_exercise(pen);
        else if (kind == 1)
            trade_exercise(pen);
        else
            deed_exercise(pen);
    }
}

/* ---- order ---- */

// clang-format off
static const char *const orders[] = {
    "[First|First of all|In front] [came|arrived|came in|was] {A}, then {B}, then {C}, then {D}, then {E}[, and that was all|].",
    "[Five people|Five friends|The guests|The runners] [came|arrived|went in|lined up] at the {L} [in this order|one after another]: {A}, {B}, {C}, {D}, {E}.",
    "[At|Near|In] the {L} [there were|stood|came|arrived] {A}, [after {A:him}|next] {B}, [after {B:him}|next] {C}, [after {C:him}|next] {D}, [after {D:him}|next] {E}.",
};
static const char *const order_pairs[] = {
    "[On that day|In the race|At the fair|In the village|As we saw] {A} [was|came|arrived|stood] [right |just |]before {B}.",
    "[Then|And|Also|Of course|So] {X} [was|came|arrived|stood] [right |just |]before {Y}.",
};
static const char *const after_questions[] = {
    "[Who|Which of them] [was|came|arrived] [right|just|directly] after {X}? [It was|That was|The answer is|Right after came|After {X} came|Then came] {=P}.",
    "[Say it again|Go on|Once more|And so on]: [first |]{X}, [then|next|and] {=P}.",
    "[So |As we see, |In short, |][right|just|directly] after {X} [came|was|there was|followed] {=P}.",
};
static const char *const before_questions[] = {
    "[Who|Which of them] [was|came|arrived] [right|just|directly] before {X}? [It was|That was|The answer is|Right before came] {=P}.",
    "[So |As we see, |In short, |][right|just|directly] before {X} [came|was|there was|went] {=P}.",
};
static const char *const nth_questions[5] = {
    "[[Who|Which of them] [was|came|arrived] first? [It was|That was|The answer is|First was]|The [first|very first] [of them|of all|of the five] was|[In front|At the head] [of all |]was] {=P}.",
    "[[Who|Which of them] [was|came|arrived] second? [It was|That was|The answer is|Second was]|The second [of them|of all|of the five|one] was|The second [place|turn] [was for|went to]] {=P}.",
    "[[Who|Which of them] [was|came|arrived] third? [It was|That was|The answer is|Third was]|The third [of them|of all|of the five|one] was|The third [place|turn] [was for|went to]] {=P}.",
    "[[Who|Which of them] [was|came|arrived] fourth? [It was|That was|The answer is|Fourth was]|The fourth [of them|of all|of the five|one] was|The fourth [place|turn] [was for|went to]] {=P}.",
    "[[Who|Which of them] [was|came|arrived] last? [It was|That was|The answer is|Last was]|The [last|very last] [of them|of all|of the five] was|[Behind all|At the end] [of them |]was] {=P}.",
};
// clang-format on

static void order_ask(struct pen *pen)
{
    size_t kind = pen_pick(pen, 3), i = pen_pick(pen, kind == 2 ? 5 : 4);
    if (kind == 2) {
        pen_bind_copy(pen, 'P', "ABCDE"[i]);
        pen_offer(pen, "ABCDE", 5, 'P');
        pen_say(pen, nth_questions[i]);
        return;
    }
    bool after = kind == 0;
    pen_bind_copy(pen, 'X', "ABCDE"[after ? i : i + 1]);
    pen_bind_copy(pen, 'P', "ABCDE"[after ? i + 1 : i]);
    pen_offer(pen, "ABCDE", 5, 'P');
    if (after)
        PEN_SAY_ANY(pen, after_questions);
    else
        PEN_SAY_ANY(pen, before_questions);
}

void sequence_exercise(struct pen *pen)
{
    pen_bind_people(pen, "ABCDE", 5);
    setting_bind(pen);
    if (!pen_chance(pen, 3)) {
        PEN_SAY_ANY(pen, orders);
    } else {
        pen_say(pen, order_pairs[0]);
        for (size_t i = 1; i < 4; i++) {
            pen_bind_copy(pen, 'X', "ABCDE"[i]);
            pen_bind_copy(pen, 'Y', "ABCDE"[i + 1]);
            pen_say(pen, order_pairs[1]);
        }
    }
    for (size_t n = pen->item != NULL ? 1 : 4; n > 0; n--)
        order_ask(pen);
}
