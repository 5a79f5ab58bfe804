/* imatrix.h - importance matrices as llama.cpp's tools exchange them: for the weights of a linear
 * layer the mean square of each of their inputs, which is the diagonal of H (hessian.h).
 *
 * Two forms, told apart by the first bytes when read and by the end of the name when written.
 *
 * NAME.gguf: general.type = "imatrix", imatrix.datasets (texts), imatrix.chunk_count and
 * imatrix.chunk_size (tokens), and for each weight two tensors of f32, the sums of squares
 * "<weight>.in_sum2" [n] and "<weight>.counts" [1], how many tokens they are over.  Other tensors
 * are passed over.
 *
 * NAME.dat, the older one, little-endian:
 *   i32 n_entries | per entry: i32 length, name, i32 n_calls, i32 n, f32 value[n] |
 *   i32 last chunk | i32 length, name of the text          (the last line may be missing)
 * The mean square is value / n_calls.  How many tokens a call had is not in the file: they are taken
 * as IMATRIX_CHUNK.
 *
 * Sums for several matrices of one tensor (experts) are refused, kerf has no such model.
 *
 * Files are untrusted: every count and length is held against the size of the file; a value that is
 * negative or not finite, a count that is 0, a name that comes twice is ERR_DATA, naming it. */
#ifndef KERF_IMATRIX_H
#define KERF_IMATRIX_H

#include "space/base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum { IMATRIX_CHUNK = 512, IMATRIX_NAME = 56 }; /* a tensor's name with ".in_sum2" has 63 bytes */

struct imatrix_entry {
    char name[IMATRIX_NAME]; /* "blk.3.attn_q.weight" */
    uint64_t n_tokens;
    size_t n;
    float *mean_square; /* [n] */
};

struct imatrix {
    struct imatrix_entry *entry; /* [n_entries], by name */
    size_t n_entries;
    uint32_t chunk; /* tokens of a chunk */
    char dataset[256];
    struct hash256 hash; /* of the file that was read */
};

int imatrix_read(struct imatrix *matrix, const char *path, struct err *err);
/* The same for a file in memory, aligned to 8 bytes; `name` stands for the path in messages. */
int imatrix_parse(struct imatrix *matrix, const void *data, size_t n_bytes, const char *name,
                  struct err *err);
void imatrix_fini(struct imatrix *matrix); /* a zeroed struct is fine */

/* NULL when there is no such entry. */
const struct imatrix_entry *imatrix_find(const struct imatrix *matrix, const char *name);
/* A new entry of n zeros; it stands at the end until imatrix_sort.  NULL without memory. */
struct imatrix_entry *imatrix_add(struct imatrix *matrix, const char *name, size_t n,
                                  struct err *err);
/* Bring the entries in order; false when two have one name. */
bool imatrix_sort(struct imatrix *matrix);

/* Whether a name ends in .gguf or .dat. */
bool imatrix_is_name(const char *path);
/* ERR_USAGE when it does not. */
int imatrix_check_name(const char *path, struct err *err);
/* Atomic.  ERR_USAGE for another ending of the name. */
int imatrix_write(const struct imatrix *matrix, const char *path, struct err *err);

#endif
