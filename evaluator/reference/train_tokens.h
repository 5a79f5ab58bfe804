/* train_tokens.h - files of tokens (16 bits each, little-endian, documents separated by the token
 * that begins one) and the windows that training cuts from them. */
#ifndef TRAIN_TOKENS_H
#define TRAIN_TOKENS_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct train_tokens;

/* Map the files.  Each must hold at least `window` tokens, all below `vocab`.  `bos` begins a
 * document.  NULL with `err` naming the file and the place. */
struct train_tokens *train_tokens_open(const char *const *paths, size_t n_paths, size_t window,
                                       size_t vocab, uint16_t bos, struct err *err);
void train_tokens_close(struct train_tokens *tokens); /* NULL is fine */
uint64_t train_tokens_count(const struct train_tokens *tokens);

/* Window number `index` of the endless random sequence that `seed` names; to[window].  Files are
 * drawn in proportion to their size.  Every second window begins with a document, so that the
 * model sees what users give it; the others begin anywhere, so that ends of long documents count.
 */
void train_tokens_draw(const struct train_tokens *tokens, uint64_t seed, uint64_t index,
                       uint16_t *to);

/* Window `index` of `n` spread evenly over all tokens. */
void train_tokens_spread(const struct train_tokens *tokens, uint64_t index, uint64_t n,
                         uint16_t *to);

#endif
