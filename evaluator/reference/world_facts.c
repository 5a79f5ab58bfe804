/* world_facts.c - the knowledge base: who was born where, what a town is known for.
 *
 * Every relation gives each of its values to about equally many people or towns, so that knowing
 * what is frequent does not help to answer.  A fact is stated and asked in some hundred wordings.
 */
#include "evaluator/reference/world_parts.h"

#include <assert.h>
#include <string.h>

#define WORLD_SEED 20240u

struct relation {
    enum word_class class;
    const char *rules[6]; /* {P} has {=V}; the first WORLD_N_RULES are used */
};
#define N_RULES 4

// clang-format off
static const struct relation person_relations[WORLD_N_PERSON_RELATIONS] = {
    {WORD_TOWN, {
        SAY_SO "{P} [was born in|comes from|came into the world in|grew up in|is from|first lived in] {=V}.",
        SAY_SO "the [birthplace|home town|first home|childhood home] of {P} [is|was|is called|lies in] {=V}.",
        "[Where|In which town|In what place] was {P} [born|raised]? [In|It was in|The answer is|That was in|{P} was born in|{P} comes from] {=V}.",
        "[Ask|If you ask] where {P} [was born|grew up|comes from][, and they will say| and you will hear|, the answer is]: {=V}."}},
    {WORD_JOB, {
        SAY_SO "{P} [is a|works as a|earns a living as a|became a|has long been a|makes a living as a] {=V}.",
        SAY_SO "the [job|work|trade|profession] of {P} is [that of a|to be a|being a] {=V}.",
        "[What is the [job|trade|work|profession] of {P}|What does {P} do for a living|How does {P} earn money]? [{P} is a|A|The answer is: a|{P} works as a|As a] {=V}.",
        "[Ask|If you ask] what {P} [does all day|does for a living|works as][, and they will say| and you will hear|, the answer is]: a {=V}."}},
    {WORD_FOOD, {
        SAY_SO "{P} [loves to eat|likes to eat|likes nothing better than|dreams of|always orders|is fond of] {=V}.",
        SAY_SO "the [favourite food|best loved dish|favourite dish|dearest meal] of {P} [is|has always been|was always] {=V}.",
        "[What does {P} [like|love] to eat|What is the favourite [food|dish|meal] of {P}]? [{P} likes|It is|The answer is|{P} loves|That is] {=V}.",
        "[Ask|If you ask] what {P} [likes to eat|wants for dinner|eats most gladly][, and they will say| and you will hear|, the answer is]: {=V}."}},
    {WORD_ANIMAL, {
        SAY_SO "{P} [has a pet|keeps a pet|owns a pet|lives with a pet|takes care of a pet|feeds a pet] {=V}.",
        SAY_SO "the [pet|animal] [of|that belongs to|kept by|owned by] {P} is a {=V}.",
        "[What|Which] [pet|animal] does {P} [have|keep|own|feed]? [{P} has a|A|The answer is: a|{P} keeps a|It is a] {=V}.",
        "[Ask|If you ask] which animal {P} [keeps|owns|has at home][, and they will say| and you will hear|, the answer is]: a {=V}."}},
    {WORD_PLURAL, {
        SAY_SO "{P} [collects|gathers|saves up|keeps a box of|likes to collect|has a room full of] {=V}.",
        SAY_SO "the [collection|treasure|hoard] of {P} [is made up of|consists of|is all] {=V}.",
        "What does {P} [collect|gather|save up|hoard]? [{P} collects|It is|The answer is|{P} gathers|Mostly] {=V}.",
        "[Ask|If you ask] what {P} [collects|gathers|hoards][, and they will say| and you will hear|, the answer is]: {=V}."}},
    {WORD_COLOUR, {
        SAY_SO "{P} [lives in a house that is|has a house painted|painted the house|wants everything to be|dresses only in|has a front door that is] {=V}.",
        SAY_SO "the [favourite colour|house|front door|best loved colour] of {P} [is|has always been|was always] {=V}.",
        "[What|Which] [is the|is said to be the] favourite colour of {P}? [{P} likes|It is|The answer is|{P} loves|That is] {=V}.",
        "[Ask|If you ask] which colour {P} [likes|loves|wears][, and they will say| and you will hear|, the answer is]: {=V}."}},
};
static const struct relation town_relations[WORLD_N_TOWN_RELATIONS] = {
    {WORD_GOOD, {
        SAY_SO "{P} [makes|sells|is known for its|is famous for its|lives by its|sends out] {=V}.",
        SAY_SO "the [trade|wealth|fame|pride] of {P} [is|comes from|rests on] {=V}.",
        "What [does {P} make|is {P} known for|does {P} sell|is {P} famous for]? [{P} makes|It is|The answer is|{P} is known for|That is] {=V}.",
        "[Ask|If you ask] what {P} [makes|sells|is known for][, and they will say| and you will hear|, the answer is]: {=V}."}},
    {WORD_ANIMAL, {
        SAY_SO "the [flag|banner|sign|coat of arms] of {P} [shows a|bears a|has a|carries a] {=V}.",
        SAY_SO "{P} [has a flag with a|flies a flag with a|is under the sign of a|bears on its flag a] {=V}.",
        "[What|Which animal] is [shown |]on the [flag|banner|sign] of {P}? [It shows a|A|The answer is: a|There is a|It is a] {=V}.",
        "[Ask|If you ask] what the [flag|banner|sign] of {P} shows[, and they will say| and you will hear|, the answer is]: a {=V}."}},
    {WORD_SPOT, {
        SAY_SO "{P} [is proud of its|has a very old|has a famous|was built around a|shows its guests the|lies around its] {=V}.",
        SAY_SO "the [oldest|finest|best known|most famous] place in {P} is the {=V}.",
        "What [is the [oldest|finest|most famous] place in|do guests go to see in|is worth seeing in] {P}? [It is the|The|The answer is: the|They see the|That is the] {=V}.",
        "[Ask|If you ask] what to see in {P}[, and they will say| and you will hear|, the answer is]: the {=V}."}},
    {WORD_MONTH, {
        SAY_SO "{P} [holds its fair in|has its feast in|dances in the streets in|has its big fair in|is full of guests in] {=V}.",
        SAY_SO "the [fair|feast|great feast|yearly fair] of {P} [is in|is held in|falls in|begins in] {=V}.",
        "[When|In which month] is the [fair|feast|great feast] of {P}? [It is in|In|The answer is|It falls in|That is in] {=V}.",
        "[Ask|If you ask] when {P} [has its fair|has its feast|is full of guests][, and they will say| and you will hear|, the answer is]: in {=V}."}},
    {WORD_TOWN, {
        SAY_SO "{P} [lies north of|stands to the north of|is just north of|can be found north of|is one day north of] {=V}.",
        SAY_SO "the [next town|nearest town|first town|road] south of {P} [is|is called|leads to|bears the name] {=V}.",
        "[Which|What] [town|place] lies south of {P}? [It is|That is|The answer is|South of it lies|There lies] {=V}.",
        "[Ask|If you ask] what lies south of {P}[, and they will say| and you will hear|, the answer is]: {=V}."}},
};
// clang-format on

/* ---- drawing the world ---- */

static bool is_known(char (*names)[WORD_ROOM], size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void names_draw(struct rng *rng, char (*names)[WORD_ROOM], size_t n,
                       void (*draw)(struct rng *, char *))
{
    for (size_t i = 0; i < n; i++) {
        do
            draw(rng, names[i]);
        while (is_known(names, i, names[i]));
    }
}

static size_t n_values_of(const struct relation *relation, bool of_person)
{
    size_t n = of_person ? WORLD_N_HOME_TOWNS : WORLD_N_TOWNS;
    if (relation->class != WORD_TOWN)
        word_list(relation->class, &n);
    return n;
}

/* Deal the values out as a shuffled pack that holds each equally often. */
static void values_draw(struct rng *rng, uint16_t *values, size_t n, size_t stride, size_t n_values)
{
    uint16_t pack[WORLD_N_PERSONS];
    for (size_t i = 0; i < n; i++)
        pack[i] = (uint16_t)(i % n_values);
    rng_shuffle(rng, pack, n, sizeof pack[0]);
    for (size_t i = 0; i < n; i++)
        values[i * stride] = pack[i];
}

void facts_draw(struct world *world)
{
    struct rng rng = rng_make(WORLD_SEED, 0);
    names_draw(&rng, world->persons, WORLD_N_PERSONS, word_draw_person);
    names_draw(&rng, world->towns, WORLD_N_TOWNS, word_draw_town);
    for (size_t r = 0; r < WORLD_N_PERSON_RELATIONS; r++)
        values_draw(&rng, &world->person_values[0][r], WORLD_N_PERSONS, WORLD_N_PERSON_RELATIONS,
                    n_values_of(&person_relations[r], true));
    for (size_t r = 0; r < WORLD_N_TOWN_RELATIONS; r++)
        values_draw(&rng, &world->town_values[0][r], WORLD_N_TOWNS, WORLD_N_TOWN_RELATIONS,
                    n_values_of(&town_relations[r], false));
}

/* ---- stating and asking ---- */

struct fact {
    const struct relation *relation;
    const char *subject;
    bool of_person;
    size_t value;
};

static struct fact fact_at(const struct world *world, size_t i)
{
    struct fact fact = {.of_person = i < WORLD_N_PERSON_FACTS};
    if (fact.of_person) {
        size_t who = i / WORLD_N_PERSON_RELATIONS, r = i % WORLD_N_PERSON_RELATIONS;
        fact.relation = &person_relations[r];
        fact.subject = world->persons[who];
        fact.value = world->person_values[who][r];
    } else {
        i -= WORLD_N_PERSON_FACTS;
        size_t where = i / WORLD_N_TOWN_RELATIONS, r = i % WORLD_N_TOWN_RELATIONS;
        fact.relation = &town_relations[r];
        fact.subject = world->towns[where];
        fact.value = world->town_values[where][r];
    }
    return fact;
}

static void bind_value(struct pen *pen, char slot, const struct world *world,
                       const struct relation *relation, size_t value)
{
    if (relation->class == WORD_TOWN)
        pen_bind(pen, slot, WORD_TOWN, world->towns[value]);
    else
        pen_bind_nth(pen, slot, relation->class, value);
}

static void fact_say(struct pen *pen, const struct world *world, const struct fact *fact)
{
    pen_bind(pen, 'P', fact->of_person ? WORD_PERSON : WORD_TOWN, fact->subject);
    bind_value(pen, 'V', world, fact->relation, fact->value);
    pen_say_any(pen, fact->relation->rules, N_RULES);
}

/* An index in 0..n-1; the first are drawn more often (the last about half as often as on the
 * average).  A model that meets everybody equally often is slow to tell anybody apart. */
static size_t draw_popular(struct pen *pen, size_t n)
{
    double u = rng_double(&pen->rng);
    return (size_t)((double)n * u * u);
}

/* The first fact of somebody or of a town, and how many there are. */
static size_t portrait_draw(struct pen *pen, size_t *n)
{
    bool person = pen_pick(pen, WORLD_N_FACTS) < WORLD_N_PERSON_FACTS;
    *n = person ? WORLD_N_PERSON_RELATIONS : WORLD_N_TOWN_RELATIONS;
    return person ? draw_popular(pen, WORLD_N_PERSONS) * *n
                  : WORLD_N_PERSON_FACTS + draw_popular(pen, WORLD_N_TOWNS) * *n;
}

void facts_document(struct pen *pen, const struct world *world)
{
    /* Either single facts of anybody, or a portrait: all of one in random order. */
    size_t n, first = portrait_draw(pen, &n);
    if (pen_pick(pen, 4) != 0) {
        for (size_t i = 6 + pen_pick(pen, 8); i > 0; i--) {
            struct fact fact = fact_at(world, first + pen_pick(pen, n));
            fact_say(pen, world, &fact);
            first = portrait_draw(pen, &n);
        }
        return;
    }
    size_t order[8];
    for (size_t i = 0; i < n; i++)
        order[i] = first + i;
    rng_shuffle(&pen->rng, order, n, sizeof order[0]);
    for (size_t i = 0; i < n; i++) {
        struct fact fact = fact_at(world, order[i]);
        fact_say(pen, world, &fact);
    }
}

void facts_item(struct pen *pen, const struct world *world, size_t i)
{
    struct fact fact = fact_at(world, i);
    size_t n_values = n_values_of(fact.relation, fact.of_person), values[4] = {fact.value};
    for (size_t k = 1; k < 4; k++) {
        size_t same;
        do {
            values[k] = pen_pick(pen, n_values);
            for (same = 0; same < k && values[same] != values[k]; same++)
                ;
        } while (same < k);
        bind_value(pen, (char)('0' + k), world, fact.relation, values[k]);
    }
    bind_value(pen, 'V', world, fact.relation, fact.value);
    pen_offer(pen, "V123", 4, 'V');
    fact_say(pen, world, &fact);
}
