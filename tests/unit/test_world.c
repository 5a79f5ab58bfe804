/* test_world.c - the reference world keeps its splits apart.
 *
 * The generator separates training from test by the hash of a spelling.  This test does not look at
 * hashes: it reads several megabytes of training, calibration and held-out text and all task items
 * as plain text, recognises names and values by the word lists, and compares what it finds. */
#include "evaluator/formats/gguf.h"
#include "evaluator/reference/tokenizer_train.h"
#include "evaluator/reference/world.h"
#include "evaluator/reference/world_drill.h"
#include "evaluator/reference/world_words.h"
#include "evaluator/tokenizer.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#define N_ITEMS          600
#define N_DOCUMENTS      12000 /* of each of two training seeds */
#define N_TEXT_DOCUMENTS 1500  /* more than the calibration and held-out texts have */

/* ---- sets of strings ---- */

struct set {
    char **texts;
    uint32_t *counts;
    size_t capacity, n;
};

static size_t set_slot(const struct set *s, const char *text)
{
    size_t at = word_hash("set", text) & (s->capacity - 1);
    while (s->texts[at] != NULL && strcmp(s->texts[at], text) != 0)
        at = (at + 1) & (s->capacity - 1);
    return at;
}

static void set_grow(struct set *s)
{
    struct set bigger = {.capacity = s->capacity == 0 ? 1024 : 2 * s->capacity, .n = s->n};
    bigger.texts = calloc(bigger.capacity, sizeof(char *));
    bigger.counts = calloc(bigger.capacity, sizeof(uint32_t));
    if (bigger.texts == NULL || bigger.counts == NULL)
        abort();
    for (size_t i = 0; i < s->capacity; i++)
        if (s->texts[i] != NULL) {
            size_t at = set_slot(&bigger, s->texts[i]);
            bigger.texts[at] = s->texts[i];
            bigger.counts[at] = s->counts[i];
        }
    free(s->texts);
    free(s->counts);
    *s = bigger;
}

/* True when the text is new. */
static bool set_add(struct set *s, const char *text)
{
    if (2 * (s->n + 1) > s->capacity)
        set_grow(s);
    size_t at = set_slot(s, text);
    bool is_new = s->texts[at] == NULL;
    if (is_new && (s->texts[at] = strdup(text)) == NULL)
        abort();
    s->n += is_new;
    s->counts[at]++;
    return is_new;
}

static uint32_t set_count(const struct set *s, const char *text)
{
    size_t at = s->capacity == 0 ? 0 : set_slot(s, text);
    return s->capacity == 0 || s->texts[at] == NULL ? 0 : s->counts[at];
}

static void set_fini(struct set *s)
{
    for (size_t i = 0; i < s->capacity; i++)
        free(s->texts[i]);
    free(s->texts);
    free(s->counts);
}

/* ---- reading a text ---- */

/* What one side (training or test) contains. */
struct side {
    struct set names, villages, things, fates, sums, words;
    struct set sentences;  /* skeletons of whole sentences */
    struct set beginnings; /* skeletons of their beginnings, word by word */
    struct set facts;      /* "subject|value" of any sentence about the knowledge base */
    size_t n_wrong_sums;
    char last[4096]; /* skeleton of the last sentence read */
};

static void side_fini(struct side *side)
{
    set_fini(&side->names);
    set_fini(&side->villages);
    set_fini(&side->things);
    set_fini(&side->fates);
    set_fini(&side->sums);
    set_fini(&side->words);
    set_fini(&side->sentences);
    set_fini(&side->beginnings);
    set_fini(&side->facts);
}

#define MAX_WORDS 96
struct sentence {
    char words[MAX_WORDS][32]; /* without punctuation */
    int classes[MAX_WORDS];    /* of word_class_of */
    char ends[MAX_WORDS];      /* the sign that follows, or NUL */
    size_t n;
};

static bool is_town_of_world(const char *word, const struct set *towns)
{
    return set_count(towns, word) > 0;
}

/* Cut off the next sentence: up to a full stop.  A question and its answer are one. */
static const char *sentence_read(const char *p, struct sentence *s)
{
    s->n = 0;
    while (*p != '\0' && s->n < MAX_WORDS) {
        size_t n = 0;
        while (*p == ' ' || *p == '\n')
            p++;
        while (isalnum((unsigned char)*p) && n + 1 < sizeof s->words[0])
            s->words[s->n][n++] = *p++;
        s->words[s->n][n] = '\0';
        s->ends[s->n] = ispunct((unsigned char)*p) ? *p++ : '\0';
        if (n == 0)
            continue;
        s->classes[s->n] = word_class_of(s->words[s->n]);
        if (s->n == 0 && s->classes[0] < 0)
            s->words[0][0] = (char)tolower((unsigned char)s->words[0][0]);
        if (s->ends[s->n++] == '.')
            break;
    }
    return p;
}

static bool is_pronoun(const char *word)
{
    static const char *const list[] = {"he", "she", "him", "her", "his", "He", "She", "His", "Her"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (strcmp(word, list[i]) == 0)
            return true;
    return false;
}

/* The skeleton of the first `n` words. */
static void skeleton_write(const struct sentence *s, size_t n, char *out, size_t room)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const char *word = s->classes[i] >= 0 ? word_class_mark((enum word_class)s->classes[i])
                           : is_pronoun(s->words[i]) ? "<he>"
                                                     : s->words[i];
        at += (size_t)snprintf(out + at, room - at, "%s%c ", word,
                               i + 1 < n && s->ends[i] != '\0' ? s->ends[i] : ' ');
        if (at >= room)
            abort();
    }
}

static void entities_note(struct side *side, const struct sentence *s, const struct set *towns)
{
    for (size_t i = 0; i < s->n; i++) {
        set_add(&side->words, s->words[i]);
        if (s->classes[i] == WORD_NAME)
            set_add(&side->names, s->words[i]);
        if (s->classes[i] == WORD_VILLAGE && !is_town_of_world(s->words[i], towns))
            set_add(&side->villages, s->words[i]);
        if (i > 0 && s->classes[i] == WORD_OBJECT && s->classes[i - 1] == WORD_COLOUR) {
            char pair[80];
            snprintf(pair, sizeof pair, "%s %s", s->words[i - 1], s->words[i]);
            set_add(&side->things, pair);
        }
    }
}

/* A thing and what befell it: the noun of the action stands in every such sentence. */
static void fate_note(struct side *side, const struct sentence *s)
{
    static const char *const actions[] = {"rain", "fire", "roof", "sun", "years", "frost"};
    const char *ware = NULL, *action = NULL;
    for (size_t i = 0; i < s->n; i++) {
        if (s->classes[i] == WORD_WARE)
            ware = s->words[i];
        for (size_t a = 0; a < sizeof actions / sizeof actions[0]; a++)
            if (strcmp(s->words[i], actions[a]) == 0)
                action = actions[a];
    }
    bool effect = false;
    for (size_t i = 0; i < s->n; i++)
        effect |= s->classes[i] == WORD_EFFECT;
    if (ware != NULL && action != NULL && effect) {
        char pair[80];
        snprintf(pair, sizeof pair, "%s %s", ware, action);
        set_add(&side->fates, pair);
    }
}

/* Told sums: a start, a change, perhaps the sum so far, a change, the result. */
struct told {
    int numbers[2], start, n_changes;
    bool started;
};

static bool has_word(const struct sentence *s, const char *list)
{
    for (size_t i = 0; i < s->n; i++) {
        char word[40];
        snprintf(word, sizeof word, " %s ", s->words[i]);
        if (strstr(list, word) != NULL)
            return true;
    }
    return false;
}

static void sum_note(struct side *side, struct told *told, const struct sentence *s)
{
    int number = 0, n_numbers = 0;
    bool counted = false;
    for (size_t i = 0; i < s->n; i++) {
        counted |= s->classes[i] == WORD_PLURAL;
        if (s->classes[i] == WORD_NUMBER) {
            number = atoi(s->words[i]);
            n_numbers++;
        }
    }
    if (n_numbers != 1)
        return; /* a drill, or no sum at all */
    bool less = has_word(s, " lost away sold dropped spent parted ");
    bool more = !less && has_word(s, " more added others ");
    if (less || more) {
        if (told->started && told->n_changes < 2)
            told->numbers[told->n_changes++] = less ? -number : number;
    } else if (!told->started || told->n_changes == 2) {
        if (told->started) { /* this sentence is the result */
            char text[64];
            int a = told->numbers[0], b = told->numbers[1];
            snprintf(text, sizeof text, "%d %d %d", told->start, a < b ? a : b, a < b ? b : a);
            set_add(&side->sums, text);
            side->n_wrong_sums += told->start + a + b != number;
            *told = (struct told){0};
        } else if (counted) {
            *told = (struct told){.start = number, .started = true};
        }
    }
}

static void facts_note(struct side *side, const struct sentence *s)
{
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->n && s->classes[i] >= 0; k++)
            if ((s->classes[i] == WORD_PERSON || s->classes[i] == WORD_VILLAGE) && k != i &&
                s->classes[k] >= 0) {
                char pair[80];
                snprintf(pair, sizeof pair, "%s|%s", s->words[i], s->words[k]);
                set_add(&side->facts, pair);
            }
}

static void text_note(struct side *side, const char *text, const struct set *towns)
{
    struct sentence s;
    struct told told = {0};
    char skeleton[4096];
    for (const char *p = text; *p != '\0';) {
        p = sentence_read(p, &s);
        if (s.n == 0)
            break;
        entities_note(side, &s, towns);
        fate_note(side, &s);
        sum_note(side, &told, &s);
        facts_note(side, &s);
        skeleton_write(&s, s.n, skeleton, sizeof skeleton);
        strcpy(side->last, skeleton);
        if (set_add(&side->sentences, skeleton))
            for (size_t n = 1; n <= s.n; n++) {
                skeleton_write(&s, n, skeleton, sizeof skeleton);
                set_add(&side->beginnings, skeleton);
            }
    }
}

/* ---- the checks ---- */

static struct set towns_of(const struct world *world)
{
    /* A town of the knowledge base is a place that facts are told of; villages never are. */
    (void)world;
    struct set towns = {0};
    struct rng rng = rng_make(1, 1);
    for (int i = 0; i < 400000; i++) {
        char marked[WORD_ROOM], town[WORD_ROOM], *to = town;
        word_draw_town(&rng, marked);
        for (const char *from = marked; *from != '\0'; from++)
            if (*from != WORD_SYLLABLE_MARK)
                *to++ = *from;
        *to = '\0';
        set_add(&towns, town);
    }
    return towns;
}

static size_t training_read(struct side *side, const struct world *world, const struct set *towns)
{
    static const struct {
        uint64_t seed, n;
    } streams[] = {{1, 2000},
                   {2, N_TEXT_DOCUMENTS},
                   {3, N_TEXT_DOCUMENTS},
                   {1000, N_DOCUMENTS},
                   {1001, N_DOCUMENTS}};
    static char text[WORLD_TEXT_ROOM];
    size_t n_bytes = 0;
    for (size_t k = 0; k < sizeof streams / sizeof streams[0]; k++)
        for (uint64_t i = 0; i < streams[k].n; i++) {
            n_bytes += world_document(world, streams[k].seed, i, false, text);
            text_note(side, text, towns);
        }
    return n_bytes;
}

/* How many texts of `a` are also in `b`; the first few are shown. */
static size_t n_common(const struct set *a, const struct set *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->capacity; i++)
        if (a->texts[i] != NULL && set_count(b, a->texts[i]) > 0 && n++ < 5)
            printf("# in both: %s\n", a->texts[i]);
    return n;
}

static void items_read(struct side *test, const struct side *train, enum world_task task,
                       const struct world_item *items, const struct set *towns)
{
    struct set contexts = {0};
    size_t n_begun = 0, n_repeated = 0, n_unknown = 0, n_short = 0;
    for (size_t i = 0; i < N_ITEMS; i++) {
        const struct world_item *item = &items[i];
        char text[8192];
        snprintf(text, sizeof text, "%.4095s%.31s.", item->context, item->choices[item->answer]);
        text_note(test, text, towns);
        n_repeated += !set_add(&contexts, item->context);
        if (set_count(&train->beginnings, test->last) > 0 && n_begun++ < 5)
            printf("# begun in training: %s\n", test->last);
        if (task == WORLD_RECALL) { /* words after the last sentence that states a fact */
            size_t n_words = 0;
            for (const char *p = item->context; *p != '\0'; p++)
                n_words += *p == ' ';
            n_short += n_words < 100 + 5 * 5;
        }
    }
    (void)n_unknown;
    const char *name = world_task_name(task);
    ok(n_repeated == 0, "%s: no item is there twice", name);
    ok(n_begun == 0, "%s: no training sentence begins like a question", name);
    ok(n_short == 0, "%s: the items are long enough", name);
    set_fini(&contexts);
}

/* What a guesser would score that looks only at the choices and at where they stand. */
enum { GUESS_FREQUENT, GUESS_RARE, GUESS_LONG, GUESS_FIRST, GUESS_LAST, N_GUESSES };

static double guess_value(const struct world_item *item, int choice, int guess,
                          const struct set *words)
{
    const char *word = item->choices[choice] + 1, *at = strstr(item->context, word), *last = at;
    double frequency = set_count(words, word);
    while (at != NULL && (at = strstr(at + 1, word)) != NULL)
        last = at;
    switch (guess) {
    case GUESS_FREQUENT:
        return frequency;
    case GUESS_RARE:
        return -frequency;
    case GUESS_LONG:
        return (double)strlen(word);
    case GUESS_FIRST:
        return last == NULL ? -1e9 : -(double)(strstr(item->context, word) - item->context);
    default:
        return last == NULL ? -1e9 : (double)(last - item->context);
    }
}

static double guess_score(const struct world_item *items, int guess, const struct set *words)
{
    double score = 0;
    for (size_t i = 0; i < N_ITEMS; i++) {
        int n_best = 0, right = 0;
        double best = -1e30;
        for (int c = 0; c < items[i].n_choices; c++) {
            double value = guess_value(&items[i], c, guess, words);
            if (value > best) {
                best = value;
                n_best = right = 0;
            }
            if (value == best) {
                n_best++;
                right |= c == items[i].answer;
            }
        }
        score += right ? 1.0 / n_best : 0; /* ties are drawn by lot */
    }
    return score / N_ITEMS;
}

static bool answers_are_balanced(const struct world_item *items)
{
    int counts[WORLD_MAX_CHOICES] = {0}, n = items[0].n_choices;
    for (size_t i = 0; i < N_ITEMS; i++)
        counts[items[i].answer]++;
    for (int c = 0; c < n; c++)
        if (counts[c] != N_ITEMS / n)
            return false;
    return true;
}

static bool choices_are_sound(const struct world_item *items, int n_choices)
{
    for (size_t i = 0; i < N_ITEMS; i++) {
        if (items[i].n_choices != n_choices || items[i].context[0] == '\0' ||
            items[i].context[strlen(items[i].context) - 1] == ' ')
            return false;
        for (int a = 0; a < n_choices; a++) {
            if (items[i].choices[a][0] != ' ')
                return false;
            for (int b = 0; b < a; b++)
                if (strcmp(items[i].choices[a], items[i].choices[b]) == 0)
                    return false;
        }
    }
    return true;
}

static void splits_check(const struct side *train, const struct side *test)
{
    ok(train->names.n > 2000 && test->names.n > 500, "both sides have many people: %zu, %zu",
       train->names.n, test->names.n);
    ok(n_common(&test->names, &train->names) == 0, "no person of an item is known");
    ok(test->villages.n > 100 && n_common(&test->villages, &train->villages) == 0,
       "no village of an item is known");
    ok(test->things.n > 50 && n_common(&test->things, &train->things) == 0,
       "no coloured thing of an item is known");
    ok(test->fates.n > 50 && n_common(&test->fates, &train->fates) == 0,
       "no thing befell before what befalls it in an item (%zu, %zu)", train->fates.n,
       test->fates.n);
    ok(test->sums.n > 150 && n_common(&test->sums, &train->sums) == 0,
       "no sum of an item is known, in either order (%zu, %zu)", train->sums.n, test->sums.n);
    ok(n_common(&test->sentences, &train->sentences) == 0,
       "no sentence of an item is built like one known (%zu, %zu)", train->sentences.n,
       test->sentences.n);
    ok(train->n_wrong_sums == 0 && test->n_wrong_sums == 0, "all told sums are right");
}

static void facts_check(const struct side *train, const struct world_item *items)
{
    size_t n_stated = 0;
    for (size_t i = 0; i < N_ITEMS; i++) {
        struct side item = {0};
        char text[8192];
        struct set no_towns = {0};
        snprintf(text, sizeof text, "%.4095s%.31s.", items[i].context,
                 items[i].choices[items[i].answer]);
        text_note(&item, text, &no_towns);
        bool stated = false;
        for (size_t k = 0; k < item.facts.capacity; k++)
            if (item.facts.texts[k] != NULL)
                stated |= set_count(&train->facts, item.facts.texts[k]) > 0;
        n_stated += stated;
        side_fini(&item);
    }
    ok(n_stated >= N_ITEMS * 95 / 100, "training states the facts asked for (%zu of %d)", n_stated,
       N_ITEMS);
}

/* ---- the vocabulary ---- */

static bool encodes_alike(struct vocabulary *v, const struct tokenizer *tokenizer, const char *text)
{
    static uint16_t ours[4 * WORLD_TEXT_ROOM + 8];
    int32_t *theirs;
    size_t n = vocabulary_encode(v, text, ours);
    int64_t n_theirs = tokenizer_encode(tokenizer, text, strlen(text), true, &theirs, NULL);
    if (n_theirs < 0)
        return false;
    bool alike = (size_t)n_theirs == n;
    for (size_t i = 0; i < n && alike; i++)
        alike = theirs[i] == ours[i];
    free(theirs);
    return alike;
}

static void vocabulary_check(const struct world *world, const struct world_item *items)
{
    static char text[WORLD_TEXT_ROOM];
    uint16_t tokens[64];
    char path[] = "/tmp/kerf-vocabulary-XXXXXX";
    struct err err = {0};
    struct vocabulary *v = world_vocabulary(world, &err);
    int fd = mkstemp(path);
    if (!ok(v != NULL && fd >= 0 && vocabulary_size(v) == 1536, "the vocabulary has 1536 pieces"))
        return;
    close(fd);
    ok(vocabulary_save(v, path, &err) == 0, "it is saved");
    struct gguf *gguf = gguf_open(path, &err);
    struct tokenizer *tokenizer = gguf != NULL ? tokenizer_create(gguf, &err) : NULL;
    if (ok(tokenizer != NULL, "kerf's tokenizer reads it %s", err.text)) {
        size_t n_alike = 0;
        for (uint64_t i = 0; i < 300; i++) {
            world_document(world, 2, i, false, text);
            n_alike += encodes_alike(v, tokenizer, text);
        }
        ok(n_alike == 300, "both encode %zu of 300 documents alike", n_alike);
        ok(encodes_alike(v, tokenizer, "Never\tseen: \xc3\xa9t\xc3\xa9, Qwertyuiop!  42"),
           "and a text with signs that are no pieces");
    }
    size_t n_whole = 0;
    for (size_t i = 0; i < N_ITEMS; i++) /* every choice is a name never seen in training */
        n_whole += vocabulary_encode(v, items[i].choices[0] + 1, tokens) == 2;
    ok(n_whole == N_ITEMS, "unseen names are two pieces, cut at the syllable (%zu)", n_whole);
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    unlink(path);
    vocabulary_destroy(v);
}

/* The share of pieces that followed the same piece before: what looking back can know. */
static double known_share(const uint16_t *tokens, size_t n)
{
    size_t known = 0;
    for (size_t i = 1; i < n; i++) {
        size_t k = i - 1;
        while (k > 0 && !(tokens[k - 1] == tokens[i - 1] && tokens[k] == tokens[i]))
            k--;
        known += k > 0;
    }
    return (double)known / (double)n;
}

static void drills_check(void)
{
    enum { N = 4096, N_PIECES = 1536 };
    uint16_t tokens[2][N];
    bool in_range = true;
    for (int i = 0; i < 2; i++) {
        struct rng rng = rng_make(3, 4);
        drill_write(&rng, N_PIECES, tokens[i], N);
    }
    for (size_t i = 0; i < N; i++)
        in_range &= tokens[0][i] >= PIECE_FIRST_MERGE && tokens[0][i] < N_PIECES;
    double share = known_share(tokens[0], N);
    ok(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0, "drills follow from their seed");
    ok(in_range, "drills are of the vocabulary's own pieces");
    ok(share > 0.6 && share < 0.95, "most of a drill can be known by looking back (%.2f)", share);
}

int main(void)
{
    struct err err = {0};
    static struct world_item items[WORLD_N_TASKS][N_ITEMS];
    static struct side train, test;
    struct world *world = world_create(&err);
    if (!ok(world != NULL, "the world is drawn"))
        return tap_done();
    struct set towns = towns_of(world);
    size_t n_bytes = training_read(&train, world, &towns);
    ok(n_bytes > 4 << 20, "%zu bytes of training text are read", n_bytes);

    double chance = 0, guesses[N_GUESSES] = {0};
    for (int t = 0; t < WORLD_N_TASKS; t++) {
        enum world_task task = (enum world_task)t;
        int n_choices = world_task_n_choices(task);
        world_items(world, task, N_ITEMS, items[t]);
        ok(choices_are_sound(items[t], n_choices),
           "%s: %d different choices that begin with a space", world_task_name(task), n_choices);
        ok(answers_are_balanced(items[t]), "%s: the answer is in each place equally often",
           world_task_name(task));
        items_read(&test, &train, task, items[t], &towns);
        chance += 1.0 / n_choices / WORLD_N_TASKS;
        for (int g = 0; g < N_GUESSES; g++) {
            double score = guess_score(items[t], g, &train.words);
            printf("# %s: guess %d scores %.3f, chance is %.3f\n", world_task_name(task), g, score,
                   1.0 / n_choices);
            guesses[g] += score / WORLD_N_TASKS;
        }
    }
    splits_check(&train, &test);
    facts_check(&train, items[WORLD_FACTS]);
    ok(chance <= 0.40, "chance is %.3f on the mean", chance);
    for (int g = 0; g < N_GUESSES; g++)
        ok(guesses[g] <= 0.40, "guess %d scores %.3f on the mean", g, guesses[g]);

    vocabulary_check(world, items[WORLD_COREFERENCE]);

    /* The same document again, alone. */
    static char once[WORLD_TEXT_ROOM], again[WORLD_TEXT_ROOM];
    world_document(world, 1000, 77, false, once);
    world_document(world, 1000, 78, false, again);
    world_document(world, 1000, 77, false, again);
    is_text(again, once, "a document depends on its seed and index alone");
    drills_check();
    set_fini(&towns);
    side_fini(&train);
    side_fini(&test);
    world_destroy(world);
    return tap_done();
}
