/* tokenizer_train.h - learns the reference model's vocabulary and writes token files with it.
 *
 * The vocabulary is of GGUF's `llama` kind: <unk>, <s>, </s>, 256 byte pieces, then the pieces that
 * byte-pair merging (Sennrich et al., ACL 2016) found, in the order found, then single characters.
 * A piece's score is minus its place in that order; U+2581 stands for a space and can only begin
 * a piece.  Encoding puts a space before the text and merges, again and again, the neighbours
 * whose joined text is the piece of the highest score (the leftmost of equals), as users of such
 * vocabularies do; what is left and no piece becomes bytes. */
#ifndef TOKENIZER_TRAIN_H
#define TOKENIZER_TRAIN_H

#include <stddef.h>
#include <stdint.h>

struct err;

enum piece_type { PIECE_NORMAL = 1, PIECE_UNKNOWN = 2, PIECE_CONTROL = 3, PIECE_BYTE = 6 };
enum { PIECE_UNK = 0, PIECE_BOS = 1, PIECE_EOS = 2, PIECE_FIRST_BYTE = 3, PIECE_FIRST_MERGE = 259 };

#define PIECE_ROOM 32

struct piece {
    float score;
    uint32_t type;
    uint32_t n; /* bytes of text */
    char text[PIECE_ROOM];
};

/* ---- learning ---- */

struct word_bag; /* words and how often each was seen */

struct word_bag *word_bag_create(struct err *err);
void word_bag_destroy(struct word_bag *bag);
/* A string that no merge will cross the borders of, seen `count` times; a space in it is a real
 * one. */
int word_bag_add(struct word_bag *bag, const char *word, size_t n, uint64_t count, struct err *err);
/* Split a document at spaces, at WORD_SYLLABLE_MARK and between letters and other signs. */
int word_bag_add_text(struct word_bag *bag, const char *text, struct err *err);

struct vocabulary;

/* Exactly `n_pieces` pieces, or NULL with `err` when the words do not give as many. */
struct vocabulary *vocabulary_learn(const struct word_bag *bag, size_t n_pieces, struct err *err);

/* ---- using ---- */

void vocabulary_destroy(struct vocabulary *v); /* NULL is fine */
size_t vocabulary_size(const struct vocabulary *v);
const struct piece *vocabulary_piece(const struct vocabulary *v, size_t i); /* borrowed */
/* A GGUF file without tensors that holds the keys tokenizer.*, to be copied into the model. */
int vocabulary_save(const struct vocabulary *v, const char *path, struct err *err);

/* Tokens of a text, BOS not among them.  `tokens` has room for 4 * strlen(text) + 8.  Words once
 * encoded are remembered inside `v`: not thread-safe. */
size_t vocabulary_encode(struct vocabulary *v, const char *text, uint16_t *tokens);

#endif
