/* test_hash.c - SHA-256 against the answers of FIPS 180-4's examples, ids and their text. */
#include "space/base/hash.h"
#include "tests/tap.h"

#include <stdlib.h>

static const char *hex_of(struct hash256 hash)
{
    static char text[HASH256_HEX];

    hash256_hex(hash, text);
    return text;
}

static void test_known(void)
{
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    char *million = malloc(1000000);

    is_text(hex_of(sha256_of("", 0)),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "the hash of nothing");
    is_text(hex_of(sha256_of("abc", 3)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "one block");
    is_text(hex_of(sha256_of(two, strlen(two))),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", "two blocks");
    memset(million, 'a', 1000000);
    is_text(hex_of(sha256_of(million, 1000000)),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            "a million letters");
    free(million);
}

static void test_pieces(void)
{
    uint8_t data[300];
    int n_wrong = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37 + 11);
    /* Every length around the padding's corners, cut in two at every place. */
    for (size_t n = 0; n <= 200; n++) {
        struct hash256 whole = sha256_of(data, n);
        for (size_t cut = 0; cut <= n; cut++) {
            struct sha256 sha;
            sha256_init(&sha);
            sha256_update(&sha, data, cut);
            sha256_update(&sha, data + cut, n - cut);
            struct hash256 pieces = sha256_final(&sha);
            n_wrong += memcmp(whole.bytes, pieces.bytes, 32) != 0;
        }
    }
    ok(n_wrong == 0, "pieces hash as the whole, wherever it is cut");
    /* 55, 56, 63 and 64 bytes stand on either side of the length field; answers by sha256sum. */
    memset(data, 'a', sizeof data);
    is_text(hex_of(sha256_of(data, 55)),
            "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318", "55 letters");
    is_text(hex_of(sha256_of(data, 56)),
            "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a", "56 letters");
    is_text(hex_of(sha256_of(data, 64)),
            "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb", "64 letters");
}

static void test_ids(void)
{
    struct hash256 hash = sha256_of("abc", 3), back;
    struct id128 id = id128_of(hash), other = id, parsed = {{0}};
    char text[ID128_HEX];

    id128_hex(id, text);
    is_text(text, "ba7816bf8f01cfea414140de5dae2223", "an id is the first half of the hash");
    ok(id128_parse(text, &parsed) == 0 && id128_equal(parsed, id), "its text reads back");
    ok(id128_parse("BA7816BF8F01CFEA414140DE5DAE2223", &parsed) == 0 && id128_equal(parsed, id),
       "upper case reads as well");
    other.bytes[15] ^= 0x80;
    ok(!id128_equal(id, other) && id128_compare(id, other) < 0 && id128_compare(other, id) > 0,
       "ids differ in their last byte, in byte order");
    ok(hash256_parse(hex_of(hash), &back) == 0 && memcmp(&back, &hash, sizeof hash) == 0,
       "a whole hash reads back");

    parsed = other;
    ok(id128_parse("", &parsed) == -1, "no digits are no id");
    ok(id128_parse("ba7816bf8f01cfea414140de5dae222", &parsed) == -1, "31 digits are no id");
    ok(id128_parse("ba7816bf8f01cfea414140de5dae22230", &parsed) == -1, "33 digits are no id");
    ok(id128_parse("ba7816bf8f01cfea414140de5dae222g", &parsed) == -1, "g is no digit");
    ok(id128_equal(parsed, other), "a refused text leaves the id alone");
    ok(hash256_parse(text, &back) == -1, "an id is no hash");
}

int main(void)
{
    test_known();
    test_pieces();
    test_ids();
    return tap_done();
}
