/* tokenizer.h - text to tokens and back, for GGUF's `llama` kind of vocabulary: pieces with scores,
 * spaces written as U+2581, bytes as a fallback.  Encoding merges, as long as any is possible, the
 * neighbouring pair whose joined piece has the highest score (leftmost first on ties), in
 * O(n log n).  It follows llama.cpp with parse_special off: control pieces are not looked for in
 * text, user-defined ones are, longest first, and what follows one begins with a space again where
 * the vocabulary asks for spaces; tokenizer.ggml.remove_extra_whitespaces means nothing here.
 * A tokenizer is read-only once created: threads may share it. */
#ifndef KERF_TOKENIZER_H
#define KERF_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct gguf;
struct tokenizer;

/* Reads tokenizer.ggml.*; pieces are copied, the file may be closed afterwards.  ERR_DATA when the
 * model is not `llama`, tokens, scores and token_type are not of one length, or a byte piece lacks
 * and there is no unknown piece. */
struct tokenizer *tokenizer_create(const struct gguf *gguf, struct err *err);
void tokenizer_destroy(struct tokenizer *tokenizer); /* NULL is fine */

size_t tokenizer_n_vocab(const struct tokenizer *tokenizer);
int32_t tokenizer_bos(const struct tokenizer *tokenizer); /* -1 when there is none */
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
/* What tokenizer.ggml.add_bos_token says (default for this kind: yes). */
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);

/* Encode `length` bytes of UTF-8 (invalid bytes become byte pieces).  A space is put in front when
 * `space_prefix` and the vocabulary asks for it (tokenizer.ggml.add_space_prefix, default yes);
 * an empty text has no tokens.  No BOS is added.  *tokens is allocated (yours to free, also when
 * the number is 0); returns their number, or -1 (ERR_MEMORY; ERR_DATA beyond 512 MiB). */
int64_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                         bool space_prefix, int32_t **tokens, struct err *err);

/* The piece of a token as it is kept (U+2581 for a space); borrowed. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t token, size_t *length);
/* Decode to text, NUL-terminated, yours to free.  Control and unknown pieces vanish.  Literal: a
 * space that encoding put in front is still there, so pieces of a text decode to what they
 * concatenate to.  ERR_DATA for a token beyond the vocabulary. */
char *tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *tokens, size_t n,
                       struct err *err);

#endif
