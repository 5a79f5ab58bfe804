/* fuzz_imatrix.c - an importance matrix from a stranger, in either form: read, every value used.  A
 * refusal has to be ERR_DATA in one line; the sanitizers judge the rest.
 * The input is one file behind another, so that one run tries both: u32 bytes of the first. */
#include "evaluator/compression/imatrix.h"
#include "space/base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/gguf_bytes.h"

#include <math.h>
#include <stdio.h>

static void must(bool held, const struct err *err, const char *what)
{
    if (held)
        return;
    fprintf(stderr, "fuzz_imatrix: %s: %s '%s'\n", what, err_name(err->code), err->text);
    abort();
}

static void try_file(const uint8_t *data, size_t n_bytes, bool is_sample)
{
    struct imatrix m = {0};
    struct err err = {0};
    /* An exact copy, so that a read behind the end is seen. */
    uint8_t *copy = malloc(n_bytes > 0 ? n_bytes : 1);

    if (copy == NULL)
        return;
    if (n_bytes > 0)
        memcpy(copy, data, n_bytes);
    if (imatrix_parse(&m, copy, n_bytes, "fuzz", &err) != 0) {
        must(!is_sample && err.code == ERR_DATA && err.text[0] != '\0' &&
                 strchr(err.text, '\n') == NULL,
             &err, "file");
    } else {
        must(m.n_entries > 0, &err, "entries");
        for (size_t i = 0; i < m.n_entries; i++) {
            must(imatrix_find(&m, m.entry[i].name) == &m.entry[i], &err, "name");
            for (size_t k = 0; k < m.entry[i].n; k++)
                must(m.entry[i].mean_square[k] >= 0 && isfinite(m.entry[i].mean_square[k]), &err,
                     "value");
        }
    }
    imatrix_fini(&m);
    free(copy);
}

static struct gguf_bytes dat_sample(void)
{
    static const float value[3] = {1, 2, 3};
    struct gguf_bytes b = {0};

    bytes_u32(&b, 2);
    for (int i = 0; i < 2; i++) {
        bytes_u32(&b, 19);
        bytes_put(&b, i == 0 ? "blk.0.ffn_up.weight" : "blk.1.ffn_up.weight", 19);
        bytes_u32(&b, 4);
        bytes_u32(&b, 3);
        bytes_put(&b, value, sizeof value);
    }
    bytes_u32(&b, 4);
    bytes_u32(&b, 5);
    bytes_put(&b, "c.txt", 5);
    return b;
}

static struct gguf_bytes gguf_sample(void)
{
    static const char *const text = "c.txt";
    static const uint64_t three[2] = {3, 1}, one[2] = {1, 1};
    static const float sums[3] = {1, 2, 3}, count = 4;
    const uint32_t chunk = 2;
    struct gguf_bytes b = {0};

    bytes_head(&b, 3, 2, 4);
    bytes_key_text(&b, "general.type", "imatrix");
    bytes_key_texts(&b, "imatrix.datasets", &text, 1);
    bytes_key(&b, "imatrix.chunk_count", GGUF_U32, &chunk, 4);
    bytes_key(&b, "imatrix.chunk_size", GGUF_U32, &chunk, 4);
    bytes_tensor(&b, "blk.0.ffn_up.weight.in_sum2", 2, three, 0, 0);
    bytes_tensor(&b, "blk.0.ffn_up.weight.counts", 2, one, 0, 32);
    bytes_pad(&b, 32);
    bytes_put(&b, sums, sizeof sums);
    bytes_pad(&b, 32);
    bytes_put(&b, &count, sizeof count);
    return b;
}

/* A sample that is refused itself would have all its mutations refused at the same place. */
uint8_t *fuzz_sample(size_t *n_bytes)
{
    struct gguf_bytes dat = dat_sample(), gguf = gguf_sample(), both = {0};

    try_file(dat.data, dat.n, true);
    try_file(gguf.data, gguf.n, true);
    bytes_u32(&both, (uint32_t)dat.n);
    bytes_put(&both, dat.data, dat.n);
    bytes_put(&both, gguf.data, gguf.n);
    free(dat.data);
    free(gguf.data);
    *n_bytes = both.n;
    return both.data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    uint32_t first = 0;

    if (n_bytes < sizeof first)
        return 0;
    memcpy(&first, data, sizeof first);
    data += sizeof first;
    n_bytes -= sizeof first;
    first = first < n_bytes ? first : (uint32_t)n_bytes;
    try_file(data, first, false);
    try_file(data + first, n_bytes - first, false);
    return 0;
}
