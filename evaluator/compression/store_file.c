/* store_file.c - the page that tells what a file holds, and the checks that it does. */
#include "evaluator/compression/store_file.h"

#include "space/base/err.h"
#include "space/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORE_VERSION = 3, STORE_PAGE = 512 };

static const char magic[8] = "KERFVARI";

/* The first page of a variant's file, zeros up to 512 bytes. */
struct store_page {
    char magic[8];
    uint32_t version, part, layer, kept, heads_per_group, ggml_type, n_matrices;
    uint16_t compress_order, biased;
    uint64_t n_bytes; /* of the payload */
    double error, fallback;
    struct {
        uint64_t offset, n_bytes;
        uint32_t n_out, n_in;
    } matrix[3];
    uint8_t identity[32]; /* of the source */
    uint8_t payload[32];  /* SHA-256 */
    uint8_t page[32];     /* SHA-256 of what stands before it */
};
_Static_assert(sizeof(struct store_page) == 8 + 32 + 24 + 72 + 96, "the page has no holes");

static struct store_page page_of(const struct variant_source *source, const struct variant_key *key,
                                 const struct variant *layout)
{
    struct store_page page = {.version = STORE_VERSION,
                              .part = (uint32_t)key->part,
                              .layer = key->layer,
                              .kept = key->kept,
                              .heads_per_group = key->heads_per_group,
                              .ggml_type = format_to_ggml(key->format),
                              .n_matrices = layout->n_matrices,
                              .compress_order = (uint16_t)source->compress_order,
                              .biased = layout->biased,
                              .n_bytes = layout->n_bytes};

    memcpy(page.magic, magic, sizeof magic);
    memcpy(page.identity, source->identity.bytes, sizeof page.identity);
    for (uint32_t m = 0; m < layout->n_matrices; m++) {
        page.matrix[m].offset = layout->matrix[m].offset;
        page.matrix[m].n_bytes = layout->matrix[m].n_bytes;
        page.matrix[m].n_out = layout->matrix[m].n_out;
        page.matrix[m].n_in = layout->matrix[m].n_in;
    }
    return page;
}

static struct hash256 page_sum(const struct store_page *page)
{
    return sha256_of(page, offsetof(struct store_page, page));
}

/* What is wrong with a mapped file that should hold the variant; NULL when nothing is. */
static const char *find_flaw(const struct file_map *map, const struct store_page *want,
                             struct variant *found)
{
    struct store_page page;

    if (map->size != STORE_PAGE + want->n_bytes)
        return "has the wrong length";
    memcpy(&page, map->data, sizeof page);
    struct hash256 sum = page_sum(&page);
    if (memcmp(sum.bytes, page.page, sizeof page.page) != 0)
        return "has a damaged head";
    struct hash256 payload = sha256_of(map->data + STORE_PAGE, map->size - STORE_PAGE);
    if (memcmp(payload.bytes, page.payload, sizeof page.payload) != 0)
        return "has damaged weights";
    /* Sound, but is it ours?  Everything but losses and sums is known beforehand. */
    found->error = page.error;
    found->fallback = page.fallback;
    found->payload = payload;
    page.error = page.fallback = 0;
    memset(page.payload, 0, sizeof page.payload);
    memset(page.page, 0, sizeof page.page);
    if (memcmp(&page, want, sizeof page) != 0)
        return "is another variant's";
    return NULL;
}

size_t store_file_size(const struct variant *layout)
{
    return STORE_PAGE + layout->n_bytes;
}

/* Check a mapped file and point `variant` into it; what is wrong with it otherwise. */
static const char *adopt(const struct file_map *map, const struct variant_source *source,
                         const struct variant_key *key, struct variant *variant)
{
    struct store_page want = page_of(source, key, variant);
    struct variant found = *variant;
    const char *flaw = find_flaw(map, &want, &found);

    if (flaw == NULL) {
        *variant = found;
        variant->data = map->data + STORE_PAGE;
    }
    return flaw;
}

int store_file_open(const char *path, const struct variant_source *source,
                    const struct variant_key *key, struct variant *variant, struct file_map *map,
                    struct err *err)
{
    struct err why = {0};

    if (!file_exists(path))
        return 0;
    if (file_map_open(map, path, &why) != 0) {
        if (!file_exists(path))
            return 0; /* evicted in this very moment */
        if (err != NULL)
            *err = why;
        return -1;
    }
    const char *flaw = adopt(map, source, key, variant);
    if (flaw != NULL) {
        log_warn("store", "%s %s: it is built anew", path, flaw);
        file_map_close(map);
        unlink(path);
        return 0;
    }
    utimensat(AT_FDCWD, path, NULL, 0); /* a store that is only read forgets its uses */
    return 1;
}

/* All bytes of the draft, to the last buffer. */
static int write_all(struct file_draft *draft, const uint8_t *first, const uint8_t *payload,
                     size_t n_bytes, struct err *err)
{
    errno = 0;
    if (fwrite(first, 1, STORE_PAGE, draft->stream) == STORE_PAGE &&
        fwrite(payload, 1, n_bytes, draft->stream) == n_bytes && fflush(draft->stream) == 0 &&
        fsync(fileno(draft->stream)) == 0)
        return 0;
    err_set(err, ERR_IO, "cannot write %s: %s", draft->path,
            errno != 0 ? strerror(errno) : "the disk is full or failing");
    return -1;
}

int store_file_write(struct file_draft *draft, const struct variant_source *source,
                     const struct variant_key *key, const uint8_t *payload, struct variant *variant,
                     struct file_map *map, struct err *err)
{
    uint8_t first[STORE_PAGE] = {0};
    struct store_page page = page_of(source, key, variant);
    struct hash256 sum = sha256_of(payload, variant->n_bytes);

    page.error = variant->error;
    page.fallback = variant->fallback;
    memcpy(page.payload, sum.bytes, sizeof page.payload);
    sum = page_sum(&page);
    memcpy(page.page, sum.bytes, sizeof page.page);
    memcpy(first, &page, sizeof page);

    /* Mapped before it has its name: under it, it may be evicted at once. */
    if (write_all(draft, first, payload, variant->n_bytes, err) != 0 ||
        file_map_open(map, draft->temp, err) != 0)
        return -1;
    if (adopt(map, source, key, variant) == NULL)
        return 0;
    err_set(err, ERR_IO, "%s was written but does not read back the same", draft->path);
    file_map_close(map);
    return -1;
}
