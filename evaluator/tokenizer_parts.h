/* tokenizer_parts.h - the vocabulary, which tokenizer.c reads and tokenizer_encode.c searches.
 * For these two alone. */
#ifndef KERF_TOKENIZER_PARTS_H
#define KERF_TOKENIZER_PARTS_H

#include "evaluator/tokenizer.h"

/* The numbers of tokenizer.ggml.token_type. */
enum piece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN,
    PIECE_CONTROL,
    PIECE_USER_DEFINED,
    PIECE_UNUSED,
    PIECE_BYTE
};

/* U+2581, which stands for a space. */
#define SPACE_MARK       "\xe2\x96\x81"
#define SPACE_MARK_BYTES 3
#define NO_TOKEN         (-1)

struct piece {
    const char *text; /* in the pool, NUL-terminated */
    uint32_t length;
    float score;
    enum piece_type type;
    uint8_t byte; /* of a byte piece */
};

/* A slot of the hash table of pieces that text may become; open addressing, linear probing. */
struct slot {
    uint32_t hash;
    int32_t token; /* NO_TOKEN: free */
};

struct tokenizer {
    size_t n_vocab;
    struct piece *pieces;
    char *pool;
    struct slot *slots;
    size_t slot_mask; /* number of slots (a power of two) less one */
    uint32_t longest; /* bytes of the longest piece in the table */
    /* Bit (a << 8 | b): some piece of the table has byte b right behind byte a. */
    uint64_t meet[65536 / 64];
    int32_t byte_tokens[256];
    int32_t *user_tokens; /* [n_user], longest first */
    size_t n_user;
    int32_t bos, eos, unknown;
    bool adds_bos, adds_space;
};

/* The token that a text is as a whole, NO_TOKEN when there is none.  Control, unknown and byte
 * pieces are never found. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text, size_t length);

#endif
