/* hash.h - content identity: SHA-256 (FIPS 180-4) and the 128-bit ids cut from it. */
#ifndef KERF_HASH_H
#define KERF_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash256 {
    uint8_t bytes[32];
};

/* The first 128 bits of a SHA-256; the name of a candidate or a variant. */
struct id128 {
    uint8_t bytes[16];
};

#define HASH256_HEX 65 /* room for the hexadecimal text and its NUL */
#define ID128_HEX 33

struct sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t pending[64];
};

void sha256_init(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *data, size_t n_bytes);
struct hash256 sha256_final(struct sha256 *sha);
/* Hash of one buffer. */
struct hash256 sha256_of(const void *data, size_t n_bytes);

struct id128 id128_of(struct hash256 hash);
bool id128_equal(struct id128 a, struct id128 b);
int id128_compare(struct id128 a, struct id128 b); /* byte order, as memcmp */

/* Lower-case hexadecimal, NUL-terminated. */
void hash256_hex(struct hash256 hash, char text[HASH256_HEX]);
void id128_hex(struct id128 id, char text[ID128_HEX]);
/* 0, or -1 when `text` is not exactly 32 (64) hexadecimal digits. */
int id128_parse(const char *text, struct id128 *id);
int hash256_parse(const char *text, struct hash256 *hash);

#endif
