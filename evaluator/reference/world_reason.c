/* world_reason.c - what follows from rules: cause and effect, and sums in two steps.
 *
 * Cause and effect: what happens to a thing depends on what is done to it and on what it is made
 * of.  A pair (thing, action) is of one split, so a test item asks for a pair never seen: the model
 * must have learned the thing's material from its other fates.
 *
 * Sums: a start and two changes, everything between 2 and SUM_LIMIT.  A combination counts as the
 * same in either order of its changes, and is of one split. */
#include "evaluator/reference/world_parts.h"

#include <assert.h>
#include <stdio.h>

// clang-format off
#define TIME "[One evening |One day |Last week |In the spring |By mistake |For some reason |Once |Long ago |]"
#define THEN "[so |and then |so in the end |and soon |and, as one would think, |and of course |and at last ]"
static const char *const action_rules[WORD_N_ACTIONS][2] = {
    {TIME "[{A} left|{A} forgot|{A} put|there stood] a {W} [outside |out |]in the [heavy |cold |long |]rain, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [was|stood|lay] in the [heavy |cold |long |]rain[ all night|], [it|the {W}] {=E}."},
    {TIME "[{A} threw|{A} pushed|{A} let|somebody threw] a {W} [deep |right |]into the [hot |open |big |]fire, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [was|fell|came] into the [hot |open |big |]fire[ at night|], [it|the {W}] {=E}."},
    {TIME "[{A} dropped|{A} let go of|the wind blew] a {W} [down |]from the [high |old |steep |]roof, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [fell|dropped|came down] from the [high |old |steep |]roof[ that day|], [it|the {W}] {=E}."},
    {TIME "[{A} left|{A} laid|{A} hung|there was] a {W} [outside |out |]in the [hot |bright |summer |]sun, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [was|stood|lay] in the [hot |bright |summer |]sun[ all day|], [it|the {W}] {=E}."},
    {TIME "[{A} left|{A} kept|{A} forgot|nobody used] a {W} [somewhere |]for [many |twenty |a hundred |very many ]years, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [was left alone|lay about|was not used] for [many |twenty |a hundred ]years[ or more|], [it|the {W}] {=E}."},
    {TIME "[{A} left|{A} forgot|{A} put|there was] a {W} [outside |out |]in the [hard |bitter |winter |]frost, " THEN "the {W} {=E}.",
     "[Because|Since|When] the {W} of {A} [was|stood|lay] in the [hard |bitter |winter |]frost[ all night|], [it|the {W}] {=E}."},
};
// clang-format on

static enum world_split fate_split(size_t ware, size_t action)
{
    size_t n;
    char pair[2 * WORD_ROOM];
    snprintf(pair, sizeof pair, "%s %zu", word_list(WORD_WARE, &n)[ware], action);
    return word_split("fate", pair);
}

/* A thing and what is done to it, of the pen's split. */
static void fate_draw(struct pen *pen, size_t *ware, size_t *action)
{
    do {
        *ware = pen_pick(pen, WORD_N_MATERIALS * WORD_WARES_A_MATERIAL);
        *action = pen_pick(pen, WORD_N_ACTIONS);
    } while (fate_split(*ware, *action) != pen->split);
}

/* An index in 0..n-1 that is neither `a` nor `b`. */
static size_t other_than(struct pen *pen, size_t n, size_t a, size_t b)
{
    size_t i;
    do
        i = pen_pick(pen, n);
    while (i == a || i == b);
    return i;
}

/* Two effects of the same action on other materials, two of other actions on the same material. */
static void effects_offer(struct pen *pen, size_t material, size_t action)
{
    size_t m1 = other_than(pen, WORD_N_MATERIALS, material, material);
    size_t m2 = other_than(pen, WORD_N_MATERIALS, material, m1);
    size_t a1 = other_than(pen, WORD_N_ACTIONS, action, action);
    size_t a2 = other_than(pen, WORD_N_ACTIONS, action, a1);
    pen_bind_nth(pen, '1', WORD_EFFECT, action * WORD_N_MATERIALS + m1);
    pen_bind_nth(pen, '2', WORD_EFFECT, action * WORD_N_MATERIALS + m2);
    pen_bind_nth(pen, '3', WORD_EFFECT, a1 * WORD_N_MATERIALS + material);
    pen_bind_nth(pen, '4', WORD_EFFECT, a2 * WORD_N_MATERIALS + material);
    pen_offer(pen, "E1234", 5, 'E');
}

void cause_effect_exercise(struct pen *pen)
{
    for (size_t n = pen->item != NULL ? 1 : 3 + pen_pick(pen, 4); n > 0; n--) {
        size_t ware, action;
        fate_draw(pen, &ware, &action);
        size_t material = ware / WORD_WARES_A_MATERIAL;
        pen_bind_people(pen, "A", 1);
        pen_bind_nth(pen, 'W', WORD_WARE, ware);
        pen_bind_nth(pen, 'E', WORD_EFFECT, action * WORD_N_MATERIALS + material);
        effects_offer(pen, material, action);
        pen_say(pen, action_rules[action][pen_pick(pen, 2)]);
    }
}

/* ---- sums ---- */

#define SUM_LIMIT  20
#define STEP_LIMIT 9

struct sum {
    int start, first, second; /* changes may be negative */
};

static enum world_split sum_split(struct sum s)
{
    int low = s.first < s.second ? s.first : s.second;
    char text[64];
    snprintf(text, sizeof text, "%d %d %d", s.start, low, s.first + s.second - low);
    return word_split("sum", text);
}

static bool is_in_range(int number)
{
    return number >= 2 && number <= SUM_LIMIT;
}

static int draw_change(struct pen *pen)
{
    int size = 2 + (int)pen_pick(pen, STEP_LIMIT - 1);
    return pen_chance(pen, 2) ? -size : size;
}

/* Draw by result, so that all results are equally frequent. */
static struct sum sum_draw(struct pen *pen)
{
    struct sum s;
    int result = 2 + (int)pen_pick(pen, SUM_LIMIT - 1);
    do {
        s.first = draw_change(pen);
        s.second = draw_change(pen);
        s.start = result - s.first - s.second;
    } while (!is_in_range(s.start) || !is_in_range(s.start + s.first) || s.first == -s.second ||
             sum_split(s) != pen->split);
    return s;
}

/* Wrong results near the right one, of as many digits, each as likely as the others. */
static void results_offer(struct pen *pen, int result)
{
    int low = result < 10 ? 2 : 10, high = result < 10 ? 9 : SUM_LIMIT, wrong[3];
    for (int i = 0; i < 3; i++) {
        int same;
        do {
            wrong[i] = low + (int)pen_pick(pen, (size_t)(high - low + 1));
            for (same = 0; same < i && wrong[same] != wrong[i]; same++)
                ;
        } while (same < i || wrong[i] == result || wrong[i] > result + 5 || wrong[i] < result - 5);
        pen_bind_number(pen, (char)('6' + i), wrong[i]);
    }
    pen_offer(pen, "R678", 4, 'R');
}

// clang-format off
static const char *const start_rules[] = {
    "[At first|In the morning|On {D}|To begin with|Yesterday|Before lunch|One day] {A} [had|owned|counted|held] {1} {S}.",
    "{A} [had|owned|started with|began with|came with|brought] [just |only |]{1} {S}[ in a bag| at home| in a box|].",
    "[There were|There lay|One could count] {1} {S} [in the bag|in the box|on the table|in the hands] of {A}.",
};
static const char *const more_rules[] = {
    "[Then|Later|After that|Next|Soon|On the way] {A:he} [found|got|bought|was given|picked up|received] {2} more[ {S}|].",
    "[A friend|A stranger|The wind|A child|Some neighbour] [then |later |soon |]brought {2} more[ {S}|][ to {A}|].",
    "{A} [then |later |soon |]added {2} [more|new ones|others|more {S}][ to them| from home|].",
};
static const char *const less_rules[] = {
    "[Then|Later|After that|Next|Soon|On the way] {A:he} [lost|gave away|sold|dropped|threw away|spent] {2}[ {S}| of them|].",
    "[A friend|A stranger|The wind|A child|Some neighbour] [then |later |soon |]took away {2}[ {S}| of them|][ from {A}|].",
    "{A} [then |later |soon |]parted with {2} [of them|of these|of those|{S}][ for good| for money|].",
};
static const char *const so_far_rules[] = {
    "[Now|So now|That made it so that|By then] {A:he} [had|owned|held|counted] {=R}[ {S}|].",
    "[That made|That left|It came to|So there were] {=R}[ {S}|][ by then| for now|].",
};
static const char *const end_rules[] = {
    "[In the end|At last|At the end|Finally|When all was done|By evening] {A} [had|owned|held|counted|was left with] {=R} {S}.",
    "How many {S} [did {A} have|did {A} own|were there|did {A} end up with] [in the end|at last|at the end|then|by evening]? [The answer is|{A} had|There were|It was|{A:He} had] {=R}.",
};
static const char *const plain_rules[2][2] = { /* adding, taking away */
    {"{1} [plus|and|with] {2} [is|makes|gives|comes to] {=R}.",
     "[What is|How much is|Work out] {1} plus {2}? [It is|The answer is|That is|It makes] {=R}."},
    {"{1} [less|minus|without] {2} [is|makes|gives|leaves] {=R}.",
     "[What is|How much is|Work out] {1} minus {2}? [It is|The answer is|That is|It makes] {=R}."},
};
// clang-format on

static void change_say(struct pen *pen, int change)
{
    pen_bind_number(pen, '2', change < 0 ? -change : change);
    if (change > 0)
        PEN_SAY_ANY(pen, more_rules);
    else
        PEN_SAY_ANY(pen, less_rules);
}

static void sum_tell(struct pen *pen)
{
    struct sum s = sum_draw(pen);
    pen_bind_people(pen, "A", 1);
    pen_bind_distinct(pen, WORD_PLURAL, "S", 1);
    pen_bind_distinct(pen, WORD_DAY, "D", 1);
    pen_bind_number(pen, '1', s.start);
    PEN_SAY_ANY(pen, start_rules);
    change_say(pen, s.first);
    /* Half of the training stories say the sum between, which shows what the steps are. */
    if (pen->item == NULL && pen_chance(pen, 2)) {
        pen_bind_number(pen, 'R', s.start + s.first);
        PEN_SAY_ANY(pen, so_far_rules);
    }
    change_say(pen, s.second);
    int result = s.start + s.first + s.second;
    pen_bind_number(pen, 'R', result);
    results_offer(pen, result);
    PEN_SAY_ANY(pen, end_rules);
}

/* One step, bare. */
static void sum_drill(struct pen *pen)
{
    int result = 2 + (int)pen_pick(pen, SUM_LIMIT - 1), change, start;
    do {
        change = draw_change(pen);
        start = result - change;
    } while (!is_in_range(start));
    pen_bind_number(pen, '1', start);
    pen_bind_number(pen, '2', change < 0 ? -change : change);
    pen_bind_number(pen, 'R', result);
    pen_say(pen, plain_rules[change < 0][pen_pick(pen, 2)]);
}

void arithmetic_exercise(struct pen *pen)
{
    if (pen->item != NULL) {
        sum_tell(pen);
        return;
    }
    for (size_t n = 3 + pen_pick(pen, 3); n > 0; n--) {
        sum_tell(pen);
        if (pen_chance(pen, 2))
            sum_drill(pen);
    }
}
