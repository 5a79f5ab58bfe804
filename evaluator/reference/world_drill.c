/* world_drill.c - repeated rows, and keys with their values. */
#include "evaluator/reference/world_drill.h"

#include "evaluator/reference/tokenizer_train.h"
#include "evaluator/reference/world_words.h"
#include "space/base/rng.h"

#include <stdbool.h>

/* Where the drill goes, and what its pieces are drawn from. */
struct slate {
    struct rng *rng;
    uint16_t *tokens;
    size_t at, n;
    size_t first, n_pieces; /* pieces [first, first + n_pieces) */
};

static size_t between(struct slate *s, size_t low, size_t high)
{
    return low + (size_t)rng_below(s->rng, high - low + 1);
}

static void put(struct slate *s, const uint16_t *row, size_t n)
{
    for (size_t i = 0; i < n && s->at < s->n; i++)
        s->tokens[s->at++] = row[i];
}

static void row_draw(struct slate *s, uint16_t *row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] = (uint16_t)(s->first + rng_below(s->rng, s->n_pieces));
}

/* A row of pieces, said again and again. */
static void repeat_write(struct slate *s)
{
    enum { LONGEST = 24 };
    uint16_t row[LONGEST];
    size_t n = between(s, 2, LONGEST);
    row_draw(s, row, n);
    for (size_t times = between(s, 4, 12); times > 0; times--)
        put(s, row, n);
}

/* Ways to say key and value: which comes first, and what stands between them. */
enum { JOINT = 4 };
struct phrase {
    bool turned; /* the value first */
    size_t n;
    uint16_t joint[JOINT];
};

static void phrase_draw(struct slate *s, bool turned, struct phrase *phrase)
{
    phrase->turned = turned;
    phrase->n = between(s, 0, JOINT);
    row_draw(s, phrase->joint, JOINT);
}

/* Keys told with their values, then asked again and again in other orders: forwards, or backwards
 * from the value, each time in one of a few phrases. */
static void lookup_write(struct slate *s)
{
    enum { MOST = 6, KEY = 2, PHRASES = 3 };
    uint16_t keys[MOST][KEY], values[MOST], stop;
    struct phrase phrases[2][PHRASES]; /* forwards, backwards */
    size_t order[MOST], n = between(s, 2, MOST), n_key = between(s, 1, KEY);
    size_t n_phrases = between(s, 1, PHRASES);
    for (size_t i = 0; i < 2 * PHRASES; i++)
        phrase_draw(s, i >= PHRASES, &phrases[i / PHRASES][i % PHRASES]);
    row_draw(s, &stop, 1);
    for (size_t i = 0; i < n; i++) {
        row_draw(s, keys[i], KEY);
        row_draw(s, &values[i], 1);
        order[i] = i;
    }
    for (size_t round = between(s, 4, 10); round > 0; round--) {
        size_t turned = rng_below(s->rng, 3) == 0;
        for (size_t i = 0; i < n; i++) {
            const struct phrase *p = &phrases[turned][rng_below(s->rng, n_phrases)];
            put(s, p->turned ? &values[order[i]] : keys[order[i]], p->turned ? 1 : n_key);
            put(s, p->joint, p->n);
            put(s, p->turned ? keys[order[i]] : &values[order[i]], p->turned ? n_key : 1);
            put(s, &stop, 1);
        }
        rng_shuffle(s->rng, order, n, sizeof order[0]);
    }
}

void drill_write(struct rng *rng, size_t n_pieces, uint16_t *tokens, size_t n)
{
    struct slate s = {.rng = rng, .tokens = tokens, .n = n};
    while (s.at < n) {
        /* The first merges are the syllables of names: half of the drills are of them alone. */
        bool of_names = rng_below(rng, 2) == 0;
        s.first = PIECE_FIRST_MERGE;
        s.n_pieces = of_names ? word_n_tails() + word_n_heads() : n_pieces - s.first;
        if (rng_below(rng, 2) == 0)
            repeat_write(&s);
        else
            lookup_write(&s);
    }
}
