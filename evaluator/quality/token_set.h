/* token_set.h - a fixed set of tokens that quality rests on, cut into sequences.
 * The text is split into documents (separator, may be ""), each document encoded with BOS in front
 * (where the vocabulary adds one) and all of them joined into one stream, which is cut into
 * sequences of `sequence` tokens; the context is reset at each.  The first token of a sequence is
 * context only, every other one is predicted.  Sets are nested: the set of n tokens is the first n
 * of the text, so a higher fidelity contains the lower ones. */
#ifndef KERF_TOKEN_SET_H
#define KERF_TOKEN_SET_H

#include "evaluator/tokenizer.h"
#include "space/base/hash.h"

struct err;

struct token_set {
    int32_t *tokens;        /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t sequence;      /* tokens per sequence; the last may be shorter, never shorter than 2 */
    uint32_t n_sequences;
    struct hash256 hash;    /* over tokens and sequence */
};

/* The first `max_tokens` tokens of the file.  ERR_DATA when the text yields fewer than
 * `min_tokens`: says how many there are and which key to change. */
int token_set_read(struct token_set *set, const struct tokenizer *tokenizer, const char *path,
                   const char *separator, uint32_t sequence, uint64_t max_tokens,
                   uint64_t min_tokens, struct err *err);
void token_set_fini(struct token_set *set);

/* Tokens [*begin, *end) of sequence i. */
void token_set_sequence(const struct token_set *set, uint32_t i, uint32_t *begin, uint32_t *end);
/* Number of predicted tokens: n_tokens - n_sequences. */
uint32_t token_set_n_predicted(const struct token_set *set);

#endif
