/* hash.c - SHA-256 after FIPS 180-4, and hexadecimal names. */
#include "space/base/hash.h"

#include <string.h>

/* clang-format off */
/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
/* clang-format on */

static uint32_t sha_rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* The message schedule: 16 big-endian words of the block, then 48 mixed from those before. */
static void sha_schedule(const uint8_t *block, uint32_t w[64])
{
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = sha_rotr(w[i - 15], 7) ^ sha_rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = sha_rotr(w[i - 2], 17) ^ sha_rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

static void sha_compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64];
    uint32_t v[8]; /* a to h of the standard */

    sha_schedule(block, w);
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t sum1 = sha_rotr(v[4], 6) ^ sha_rotr(v[4], 11) ^ sha_rotr(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + sum1 + choice + sha_k[i] + w[i];
        uint32_t sum0 = sha_rotr(v[0], 2) ^ sha_rotr(v[0], 13) ^ sha_rotr(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t t2 = sum0 + majority;

        v[7] = v[6];
        v[6] = v[5];
        v[5] = v[4];
        v[4] = v[3] + t1;
        v[3] = v[2];
        v[2] = v[1];
        v[1] = v[0];
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void sha256_init(struct sha256 *sha)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memset(sha, 0, sizeof *sha);
    memcpy(sha->state, start, sizeof start);
}

void sha256_update(struct sha256 *sha, const void *data, size_t n_bytes)
{
    const uint8_t *bytes = data;
    size_t n_pending = sha->n_bytes % 64;

    if (n_bytes == 0)
        return;
    sha->n_bytes += n_bytes;
    if (n_pending > 0) {
        size_t n = 64 - n_pending < n_bytes ? 64 - n_pending : n_bytes;
        memcpy(sha->pending + n_pending, bytes, n);
        bytes += n;
        n_bytes -= n;
        if (n_pending + n < 64)
            return;
        sha_compress(sha->state, sha->pending);
    }
    for (; n_bytes >= 64; bytes += 64, n_bytes -= 64)
        sha_compress(sha->state, bytes);
    memcpy(sha->pending, bytes, n_bytes);
}

struct hash256 sha256_final(struct sha256 *sha)
{
    struct hash256 hash;
    uint64_t n_bits = sha->n_bytes * 8;
    size_t n_pending = sha->n_bytes % 64;
    uint8_t tail[72] = {0x80}; /* a one bit, zeros, and the length that ends a block */
    size_t n_zeros = (n_pending < 56 ? 56 : 120) - n_pending;

    for (int i = 0; i < 8; i++)
        tail[n_zeros + i] = (uint8_t)(n_bits >> (56 - 8 * i));
    sha256_update(sha, tail, n_zeros + 8);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++)
            hash.bytes[4 * i + j] = (uint8_t)(sha->state[i] >> (24 - 8 * j));
    return hash;
}

struct hash256 sha256_of(const void *data, size_t n_bytes)
{
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, data, n_bytes);
    return sha256_final(&sha);
}

struct id128 id128_of(struct hash256 hash)
{
    struct id128 id;

    memcpy(id.bytes, hash.bytes, sizeof id.bytes);
    return id;
}

bool id128_equal(struct id128 a, struct id128 b)
{
    return id128_compare(a, b) == 0;
}

int id128_compare(struct id128 a, struct id128 b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes);
}

static void hex_write(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++) {
        *text++ = "0123456789abcdef"[bytes[i] >> 4];
        *text++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *text = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Exactly 2 n digits and the end of the text; `bytes` is written only then. */
static int hex_read(const char *text, uint8_t *bytes, size_t n)
{
    if (strnlen(text, 2 * n + 1) != 2 * n)
        return -1;
    for (size_t i = 0; i < 2 * n; i++)
        if (hex_digit(text[i]) < 0)
            return -1;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return 0;
}

void hash256_hex(struct hash256 hash, char text[HASH256_HEX])
{
    hex_write(hash.bytes, sizeof hash.bytes, text);
}

void id128_hex(struct id128 id, char text[ID128_HEX])
{
    hex_write(id.bytes, sizeof id.bytes, text);
}

int id128_parse(const char *text, struct id128 *id)
{
    return hex_read(text, id->bytes, sizeof id->bytes);
}

int hash256_parse(const char *text, struct hash256 *hash)
{
    return hex_read(text, hash->bytes, sizeof hash->bytes);
}
