/* world_vocabulary.c - the reference model's vocabulary, learned on a stream of its own. */
#include "evaluator/reference/tokenizer_train.h"
#include "evaluator/reference/world.h"
#include "evaluator/reference/world_words.h"

#include <stdio.h>

#define N_PIECES               1536
#define N_VOCABULARY_DOCUMENTS 20000
#define SEED_VOCABULARY        1

/* Syllables come before all other merges: first the tails, then the heads, so that any name is cut
 * at its syllables, whether it was ever seen or not. */
static int syllables_add(struct word_bag *bag, struct err *err)
{
    char syllable[3], word[4];
    for (size_t i = 0; i < word_n_tails(); i++) {
        word_tail(i, syllable);
        if (word_bag_add(bag, syllable, 2, (uint64_t)1 << 50, err) != 0)
            return -1;
    }
    for (size_t i = 0; i < word_n_heads(); i++) {
        word_head(i, syllable);
        snprintf(word, sizeof word, " %s", syllable);
        if (word_bag_add(bag, word, 3, (uint64_t)1 << 40, err) != 0)
            return -1;
    }
    return 0;
}

struct vocabulary *world_vocabulary(const struct world *world, struct err *err)
{
    struct vocabulary *v = NULL;
    struct word_bag *bag = word_bag_create(err);
    if (bag == NULL)
        return NULL;
    if (syllables_add(bag, err) != 0)
        goto done;
    for (uint64_t i = 0; i < N_VOCABULARY_DOCUMENTS; i++) {
        char text[WORLD_TEXT_ROOM];
        world_document(world, SEED_VOCABULARY, i, true, text);
        if (word_bag_add_text(bag, text, err) != 0)
            goto done;
    }
    v = vocabulary_learn(bag, N_PIECES, err);
done:
    word_bag_destroy(bag);
    return v;
}
