/* token_set.h - a fixed set of tokens that quality rests on, cut into sequences.
 *
 * The text is split into documents (separator, may be ""), white space around each is dropped, and
 * each is encoded with BOS in front (where the vocabulary adds one).  A document is a sequence; one
 * of more than `sequence` tokens is cut into several, of which only the first has the BOS.  The
 * context is reset at each sequence, so documents are independent of each other, which is what the
 * standard errors clustered by sequence rest on.  The first token of a sequence is context only,
 * every other one is predicted; a piece of one token predicts nothing and is left out.
 *
 * Sets are nested: the set of n tokens is the first n of the text, so a higher fidelity contains
 * the lower ones. */
#ifndef KERF_TOKEN_SET_H
#define KERF_TOKEN_SET_H

#include "evaluator/tokenizer.h"
#include "space/base/hash.h"

struct err;

struct token_set {
    int32_t *tokens; /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t sequence; /* most tokens in a sequence; none has fewer than 2 */
    uint32_t n_sequences;
    uint32_t *begin;     /* [n_sequences + 1], the first token of each, n_tokens at the end */
    struct hash256 hash; /* over tokens and where sequences begin */
};

/* The first `max_tokens` tokens of the file.  ERR_DATA when the text yields fewer than
 * `min_tokens`: says how many there are and which key to change.  The codes of file_read. */
int token_set_read(struct token_set *set, const struct tokenizer *tokenizer, const char *path,
                   const char *separator, uint32_t sequence, uint64_t max_tokens,
                   uint64_t min_tokens, struct err *err);
/* The same for a text in memory; `name` stands for the path in messages. */
int token_set_parse(struct token_set *set, const struct tokenizer *tokenizer, const char *name,
                    const char *text, size_t length, const char *separator, uint32_t sequence,
                    uint64_t max_tokens, uint64_t min_tokens, struct err *err);
/* Tokens that are there already (copied), as one document. */
int token_set_of(struct token_set *set, const int32_t *tokens, uint32_t n_tokens, uint32_t sequence,
                 struct err *err);
void token_set_fini(struct token_set *set); /* a zeroed struct is fine */

/* Tokens [*begin, *end) of sequence i. */
void token_set_sequence(const struct token_set *set, uint32_t i, uint32_t *begin, uint32_t *end);
/* Number of predicted tokens: n_tokens - n_sequences. */
uint32_t token_set_n_predicted(const struct token_set *set);
/* How many whole sequences have at most `tokens` tokens together; at least one. */
uint32_t token_set_n_within(const struct token_set *set, uint32_t tokens);

#endif
