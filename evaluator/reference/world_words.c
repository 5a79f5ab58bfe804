/* world_words.c - the word lists, names made of syllables, and the split of everything by hash. */
#include "evaluator/reference/world_words.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <threads.h>

#define TEST_SHARE   4 /* one in so many spellings belongs to the test split */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// clang-format off
static const char *const colours[] = {"red", "blue", "green", "white", "black", "brown", "grey", "pink", "golden",
    "purple", "yellow", "silver"};
static const char *const objects[] = {"lamp", "rope", "hat", "drum", "coin", "key", "basket", "bell", "knife", "ring",
    "box", "flute", "hammer", "pillow", "shovel", "spoon", "broom", "button", "ribbon", "bucket", "whistle", "saddle",
    "purse", "comb", "torch", "pencil", "helmet", "puppet", "marble", "razor"};
static const char *const spots[] = {"barn", "mill", "market", "river", "forest", "school", "garden", "harbour",
    "bridge", "tower", "cave", "meadow", "temple", "bakery", "well", "cellar", "kitchen", "stable", "shed", "quarry"};
static const char *const jobs[] = {"baker", "farmer", "smith", "miller", "sailor", "weaver", "hunter", "teacher",
    "doctor", "painter", "singer", "carpenter", "tailor", "potter", "shepherd", "fisher", "mason", "barber", "cook",
    "judge", "guard", "nurse", "clerk", "dancer", "tanner", "brewer", "butcher", "cobbler", "gardener", "porter",
    "scribe", "hatter"};
static const char *const animals[] = {"dog", "cat", "horse", "cow", "goat", "sheep", "pig", "hen", "duck", "goose",
    "rabbit", "fox", "wolf", "bear", "deer", "mouse", "frog", "snake", "turtle", "parrot", "pony", "donkey", "camel",
    "swan", "crow", "falcon", "beaver", "badger", "lizard", "monkey"};
static const char *const foods[] = {"bread", "soup", "rice", "cheese", "honey", "pie", "cake", "stew", "fish", "beans",
    "corn", "plums", "pears", "nuts", "figs", "grapes", "melon", "carrots", "turnips", "cabbage", "porridge",
    "pancakes", "butter", "lentils", "mushrooms", "dates", "cherries", "noodles", "dumplings", "pudding", "garlic",
    "peas"};
static const char *const plurals[] = {"shells", "stones", "apples", "eggs", "feathers", "sticks", "leaves", "stamps",
    "acorns", "lemons", "peaches", "candies", "flowers", "pebbles", "berries", "cones", "toys", "dolls", "pins",
    "corks", "hooks", "masks", "clocks", "horns", "gems", "pearls", "medals", "bones"};
static const char *const goods[] = {"wool", "salt", "silk", "iron", "wine", "glass", "paper", "soap", "rugs", "boats",
    "swords", "shoes", "gloves", "wheels", "ropes", "bricks", "barrels", "sugar", "tea", "oil", "coal", "copper",
    "leather", "timber", "pepper", "vinegar", "bottles", "blankets", "lanterns", "needles", "mirrors", "saddles"};
static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July", "August",
    "September", "October", "November", "December"};
static const char *const days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
static const char *const wares[] = {
    "vase", "window", "bottle", "mirror", "goblet", "lens", "jar", "bead",         /* glass */
    "letter", "book", "map", "kite", "poster", "card", "scroll", "ticket",         /* paper */
    "shirt", "blanket", "flag", "curtain", "scarf", "coat", "tent", "towel",       /* cloth */
    "nail", "gate", "anvil", "chain", "kettle", "sword", "plough", "pan",          /* iron */
    "chair", "table", "ladder", "fence", "door", "cart", "bench", "raft",          /* wood */
    "boot", "belt", "glove", "strap", "wallet", "whip", "sandal", "bridle",        /* leather */
    "pot", "bowl", "cup", "tile", "brick", "plate", "mug", "jug",                  /* clay */
    "rose", "tulip", "lily", "fern", "bush", "vine", "clover", "daisy"};           /* plants */
static const char *const effects[] = { /* glass, paper, cloth, iron, wood, leather, clay, plant */
    "gleamed", "tore", "shrank", "dripped", "swelled", "darkened", "crumbled", "grew",             /* rain */
    "cracked", "burned", "smoked", "glowed", "charred", "hissed", "baked", "withered",             /* fire */
    "shattered", "fluttered", "crumpled", "bent", "splintered", "bounced", "broke", "drooped",     /* fall */
    "sparkled", "curled", "faded", "heated", "dried", "softened", "warmed", "bloomed",             /* sun */
    "dulled", "yellowed", "frayed", "rusted", "rotted", "peeled", "chipped", "spread",             /* years */
    "clouded", "stiffened", "froze", "chilled", "split", "hardened", "snapped", "died"};           /* frost */
static const char *const pasts[] = {"bought", "found", "sold", "lost", "hid", "cleaned", "took", "painted", "kept",
    "mended", "dropped", "carried"};
static const char *const bases[] = {"buy", "find", "sell", "lose", "hide", "clean", "take", "paint", "keep", "mend",
    "drop", "carry"};
static const char *const yes_no[] = {"yes", "no"};

static const struct {
    const char *mark;
    const char *const *words;
    size_t n;
} classes[WORD_N_CLASSES] = {
    [WORD_NAME] = {"<name>", NULL, 0},
    [WORD_PERSON] = {"<person>", NULL, 0},
    [WORD_TOWN] = {"<village>", NULL, 0},
    [WORD_VILLAGE] = {"<village>", NULL, 0},
    [WORD_NUMBER] = {"<number>", NULL, 0},
    [WORD_YES] = {"<yes>", yes_no, COUNT(yes_no)},
    [WORD_COLOUR] = {"<colour>", colours, COUNT(colours)},
    [WORD_OBJECT] = {"<object>", objects, COUNT(objects)},
    [WORD_SPOT] = {"<spot>", spots, COUNT(spots)},
    [WORD_JOB] = {"<job>", jobs, COUNT(jobs)},
    [WORD_ANIMAL] = {"<animal>", animals, COUNT(animals)},
    [WORD_FOOD] = {"<food>", foods, COUNT(foods)},
    [WORD_PLURAL] = {"<plural>", plurals, COUNT(plurals)},
    [WORD_GOOD] = {"<good>", goods, COUNT(goods)},
    [WORD_MONTH] = {"<month>", months, COUNT(months)},
    [WORD_DAY] = {"<day>", days, COUNT(days)},
    [WORD_WARE] = {"<ware>", wares, COUNT(wares)},
    [WORD_EFFECT] = {"<effect>", effects, COUNT(effects)},
    [WORD_PAST] = {"<past>", pasts, COUNT(pasts)},
    [WORD_BASE] = {"<base>", bases, COUNT(bases)},
};
// clang-format on
_Static_assert(COUNT(wares) == WORD_N_MATERIALS * WORD_WARES_A_MATERIAL, "wares by material");
_Static_assert(COUNT(effects) == WORD_N_ACTIONS * WORD_N_MATERIALS, "effects by action");
_Static_assert(COUNT(pasts) == COUNT(bases), "each past has its base form");

static const char head_consonants[] = "BDFGHJKLMNPRSTVZ", head_vowels[] = "aeiou";
static const char tail_consonants[] = "bdfgklmnprstvz", tail_vowels[] = "aiou";
static const char *const endings[] = {"dale", "ford",  "wick", "moor",
                                      "ham",  "stead", "port", "field"};

const char *const *word_list(enum word_class c, size_t *n)
{
    assert(classes[c].words != NULL);
    *n = classes[c].n;
    return classes[c].words;
}

const char *word_class_mark(enum word_class c)
{
    return classes[c].mark;
}

size_t word_n_heads(void)
{
    return (sizeof head_consonants - 1) * (sizeof head_vowels - 1);
}

void word_head(size_t i, char out[3])
{
    out[0] = head_consonants[i / (sizeof head_vowels - 1)];
    out[1] = head_vowels[i % (sizeof head_vowels - 1)];
    out[2] = '\0';
}

size_t word_n_tails(void)
{
    return (sizeof tail_consonants - 1) * (sizeof tail_vowels - 1);
}

void word_tail(size_t i, char out[3])
{
    out[0] = tail_consonants[i / (sizeof tail_vowels - 1)];
    out[1] = tail_vowels[i % (sizeof tail_vowels - 1)];
    out[2] = '\0';
}

uint64_t word_hash(const char *kind, const char *text)
{
    /* FNV-1a over both, then a finisher so that the low bits are as good as the high ones. */
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = kind; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    h = (h ^ 0xffu) * 0x100000001b3u;
    for (const char *p = text; *p != '\0'; p++)
        if (*p != WORD_SYLLABLE_MARK)
            h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

enum world_split word_split(const char *kind, const char *text)
{
    return word_hash(kind, text) % TEST_SHARE == 0 ? WORLD_TEST : WORLD_TRAIN;
}

static char *add_syllable(char *at, const char *syllable)
{
    size_t n = strlen(syllable);
    memcpy(at, syllable, n + 1);
    return at + n;
}

/* A head and `n_tails` tails with marks between them. */
static char *draw_syllables(struct rng *rng, int n_tails, char *out)
{
    char syllable[3];
    word_head(rng_below(rng, word_n_heads()), syllable);
    char *at = add_syllable(out, syllable);
    for (int i = 0; i < n_tails; i++) {
        *at++ = WORD_SYLLABLE_MARK;
        word_tail(rng_below(rng, word_n_tails()), syllable);
        at = add_syllable(at, syllable);
    }
    return at;
}

void word_draw_name(struct rng *rng, enum world_split split, char *out)
{
    do
        draw_syllables(rng, 1, out);
    while (word_split("name", out) != split);
}

void word_draw_person(struct rng *rng, char *out)
{
    draw_syllables(rng, 2, out);
}

/* Towns take the first hash class of three among the endings' products, villages the others. */
static bool is_town(const char *name)
{
    return word_hash("town", name) % 3 == 0;
}

static void draw_place(struct rng *rng, char *out)
{
    char *at = draw_syllables(rng, 1, out);
    *at++ = WORD_SYLLABLE_MARK;
    add_syllable(at, endings[rng_below(rng, COUNT(endings))]);
}

void word_draw_town(struct rng *rng, char *out)
{
    do
        draw_place(rng, out);
    while (!is_town(out));
}

void word_draw_village(struct rng *rng, enum world_split split, char *out)
{
    do
        draw_place(rng, out);
    while (is_town(out) || word_split("village", out) != split);
}

void word_draw_thing(struct rng *rng, enum world_split split, size_t *colour, size_t *object)
{
    char pair[2 * WORD_ROOM];
    do {
        *colour = rng_below(rng, COUNT(colours));
        *object = rng_below(rng, COUNT(objects));
        snprintf(pair, sizeof pair, "%s %s", colours[*colour], objects[*object]);
    } while (word_split("thing", pair) != split);
}

bool word_is_she(const char *name)
{
    char last = name[strlen(name) - 1];
    return last == 'a' || last == 'i';
}

static bool is_tail(const char *p)
{
    return p[0] != '\0' && strchr(tail_consonants, p[0]) != NULL && p[1] != '\0' &&
           strchr(tail_vowels, p[1]) != NULL;
}

static int name_class_of(const char *word)
{
    if (word[0] == '\0' || strchr(head_consonants, word[0]) == NULL || word[1] == '\0' ||
        strchr(head_vowels, word[1]) == NULL || !is_tail(word + 2))
        return -1;
    if (word[4] == '\0')
        return WORD_NAME;
    if (is_tail(word + 4) && word[6] == '\0')
        return WORD_PERSON;
    for (size_t i = 0; i < COUNT(endings); i++)
        if (strcmp(word + 4, endings[i]) == 0)
            return WORD_VILLAGE;
    return -1;
}

/* Listed words by hash: a constant table, filled once because C cannot do it at compile time. */
#define INDEX_SLOTS 2048
static struct {
    const char *word;
    int class;
} word_index[INDEX_SLOTS];
static once_flag word_index_once = ONCE_FLAG_INIT;

static size_t index_slot(const char *word)
{
    uint32_t h = 2166136261u;
    for (const char *p = word; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    size_t at = (h ^ h >> 15) % INDEX_SLOTS;
    while (word_index[at].word != NULL && strcmp(word_index[at].word, word) != 0)
        at = (at + 1) % INDEX_SLOTS;
    return at;
}

static void word_index_fill(void)
{
    for (int c = 0; c < WORD_N_CLASSES; c++)
        for (size_t i = 0; i < classes[c].n; i++) {
            size_t at = index_slot(classes[c].words[i]);
            assert(word_index[at].word == NULL); /* no word is of two classes */
            word_index[at].word = classes[c].words[i];
            word_index[at].class = c;
        }
}

int word_class_of(const char *word)
{
    call_once(&word_index_once, word_index_fill);
    size_t at = index_slot(word);
    if (word_index[at].word != NULL)
        return word_index[at].class;
    if (word[0] != '\0' && strspn(word, "0123456789") == strlen(word))
        return WORD_NUMBER;
    return name_class_of(word);
}
