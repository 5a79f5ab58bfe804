/* world_reading.c - what stands in the text: yes or no, and recall over a distance. */
#include "evaluator/reference/world_parts.h"

#include <assert.h>

// clang-format off
static const char *const event_rules[] = {
    "[One day |Later |In the morning |At noon |Before dark |On {T} |Last {T} |Then |]{A} {v} the {K} {O}[ in {Z}| with {A:his} own hands| again| for a friend|].",
    "[We saw that |They say that |It is said that |It was {T} when |At dawn ]{A} {v} the {K} {O}[ in {Z}| with {A:his} own hands| again| for a friend|].",
};
static const char *const place_rules[] = {
    "[One day |Later |In the morning |At noon |On {T} |Then |]{A} [put|left|placed|laid] the {K} {O} [in|near|by|behind] the {L}.",
    "[We saw that |They say that |It is said that |At dawn ]the {K} {O} of {A} [was|stood|lay] [in|near|by|behind] the {L}.",
};
static const char *const event_questions[] = {
    "[Now tell me: |Question: |Think back: |]did {A} {u} the {K} {O}? [Answer: |The answer is |I say |We must say |]{=Y}.",
    "[|So |Well, |Think back: ][is it true|is it so|does the story say|do we read] that {A} {v} the {K} {O}? [Answer: |The answer is |I say |We must say |]{=Y}.",
};
static const char *const place_questions[] = {
    "[Now tell me: |Question: |Think back: |]was the {K} {O} [at|in|near] the {L}? [Answer: |The answer is |I say |We must say |]{=Y}.",
    "[|So |Well, |Think back: ][is it true|is it so|does the story say|do we read] that the {K} {O} was [at|in|near] the {L}? [Answer: |The answer is |I say |We must say |]{=Y}.",
};
// clang-format on

/* In training only: who did it, so that comparing follows looking up. */
static const char *const doer_questions[] = {
    "[Who|Which of them] {v} the {K} {O}? [It was|That was|The answer is|] {=A}.",
    "[The one who|Whoever] {v} the {K} {O} [is|was] {=A}.",
    "[Well, |So |As we read, |]the {K} {O}: {A} {v} it.",
};

#define N_EVENTS 3

struct event {
    struct pen_slot who, colour, object, past, base, spot;
};

static void event_draw(struct pen *pen, size_t i, struct event *event)
{
    pen_bind_copy(pen, 'A', "012"[i]);
    pen_bind_copy(pen, 'L', "345"[i]);
    pen_bind_thing(pen, 'K', 'O');
    size_t n, verb;
    word_list(WORD_PAST, &n);
    verb = pen_pick(pen, n);
    pen_bind_nth(pen, 'v', WORD_PAST, verb);
    pen_bind_nth(pen, 'u', WORD_BASE, verb);
    *event = (struct event){pen->slots['A'], pen->slots['K'], pen->slots['O'],
                            pen->slots['v'], pen->slots['u'], pen->slots['L']};
}

/* Thing and deed of one event, person and place of the same or another. */
static void event_bind(struct pen *pen, const struct event *thing, const struct event *other)
{
    pen->slots['A'] = other->who;
    pen->slots['L'] = other->spot;
    pen->slots['K'] = thing->colour;
    pen->slots['O'] = thing->object;
    pen->slots['v'] = thing->past;
    pen->slots['u'] = thing->base;
}

/* Ask for thing and deed of one event with the person (or place) of the same or another. */
static void event_ask(struct pen *pen, const struct event *events, bool of_place)
{
    size_t thing = pen_pick(pen, N_EVENTS), other = thing;
    bool yes = pen_chance(pen, 2);
    if (pen->item == NULL && !of_place && pen_chance(pen, 2)) {
        event_bind(pen, &events[thing], &events[thing]);
        PEN_SAY_ANY(pen, doer_questions);
    }
    while (!yes && other == thing)
        other = pen_pick(pen, N_EVENTS);
    event_bind(pen, &events[thing], &events[other]);
    pen_bind_nth(pen, 'y', WORD_YES, 0);
    pen_bind_nth(pen, 'n', WORD_YES, 1);
    pen_bind_copy(pen, 'Y', yes ? 'y' : 'n');
    pen_offer(pen, "yn", 2, 'Y');
    if (of_place)
        PEN_SAY_ANY(pen, place_questions);
    else
        PEN_SAY_ANY(pen, event_questions);
}

void reading_exercise(struct pen *pen)
{
    struct event events[N_EVENTS];
    bool of_place = pen_chance(pen, 3);
    pen_bind_people(pen, "012", N_EVENTS);
    pen_bind_distinct(pen, WORD_SPOT, "345", N_EVENTS);
    pen_bind_village(pen, 'Z');
    pen_bind_distinct(pen, WORD_DAY, "T", 1);
    for (size_t i = 0; i < N_EVENTS; i++) {
        event_draw(pen, i, &events[i]);
        if (of_place)
            PEN_SAY_ANY(pen, place_rules);
        else
            PEN_SAY_ANY(pen, event_rules);
    }
    for (size_t n = pen->item != NULL ? 1 : 5; n > 0; n--)
        event_ask(pen, events, of_place);
}

/* ---- recall ---- */

// clang-format off
#define LISTEN "[|Remember: |Do not forget: |Listen well: |Keep this in mind: |Mark my words: |Let it be known: |First of all, |Note that ]"
static const struct {
    enum word_class class;
    const char *fact, *question;
} memories[] = {
    {WORD_SPOT, LISTEN "{A} [hid|buried|left|keeps|has put] [a treasure|the treasure|a big treasure] [in|near|behind] the {V}.",
     "[Where is the treasure of {A}|Where did {A} hide the treasure|In what place does {A} keep the treasure|Where does {A} keep a treasure]? [It is in the|In the|The answer is: the|{A} hid the treasure in the|{A} left a treasure near the|{A} keeps a treasure behind the] {=V}."},
    {WORD_ANIMAL, LISTEN "{A} [came with|travels with|brought along|walks with|is followed by] a [clever |faithful |grey |fat |]{V}.",
     "[Which animal|What animal|What] [came with|travels with|was brought by|belongs to|follows] {A}? [It is a|A|The answer is: a|{A} came with a|{A} travels with a|{A} walks with a] {=V}."},
    {WORD_FOOD, LISTEN "{A} [ordered|asked for|wished for|will bring|wants] [a lot of |a bit of |some |]{V}.",
     "[What|Which food] [did {A} order|did {A} ask for|was it that {A} wanted|will {A} bring|does {A} want]? [It is|It was|The answer is|{A} wants|{A} ordered|{A} will bring] {=V}."},
};
// clang-format on

#define N_MEMORIES     5
#define DISTANCE_WORDS 115 /* a word is at least one token */

void recall_exercise(struct pen *pen, const struct world *world)
{
    size_t kind = pen_pick(pen, sizeof memories / sizeof memories[0]);
    enum word_class class = memories[kind].class;
    pen_bind_people(pen, "01234", N_MEMORIES);
    pen_bind_distinct(pen, class, "abcde", N_MEMORIES);
    for (size_t i = 0; i < N_MEMORIES; i++) {
        pen_bind_copy(pen, 'A', "01234"[i]);
        pen_bind_copy(pen, 'V', "abcde"[i]);
        pen_say(pen, memories[kind].fact);
    }
    /* Facts of the knowledge base fill the distance in training as well as small talk does. */
    if (pen->item == NULL && pen_chance(pen, 2)) {
        facts_document(pen, world);
        if (pen_chance(pen, 2))
            facts_document(pen, world);
    } else {
        scenes_write(pen, pen->item != NULL ? DISTANCE_WORDS : 10 + pen_pick(pen, DISTANCE_WORDS));
    }
    size_t order[N_MEMORIES] = {0, 1, 2, 3, 4};
    rng_shuffle(&pen->rng, order, N_MEMORIES, sizeof order[0]);
    for (size_t i = 0; i < (pen->item != NULL ? 1 : N_MEMORIES); i++) {
        pen_bind_copy(pen, 'A', "01234"[order[i]]);
        pen_bind_copy(pen, 'V', "abcde"[order[i]]);
        pen_offer(pen, "abcde", N_MEMORIES, 'V');
        pen_say(pen, memories[kind].question);
    }
}
