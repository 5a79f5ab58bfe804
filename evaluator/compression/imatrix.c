/* imatrix.c - the entries of an importance matrix, and which form a file has. */
#include "evaluator/compression/imatrix_parts.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

void imatrix_fini(struct imatrix *m)
{
    for (size_t i = 0; i < m->n_entries; i++)
        free(m->entry[i].mean_square);
    free(m->entry);
    *m = (struct imatrix){0};
}

struct imatrix_entry *imatrix_add(struct imatrix *m, const char *name, size_t n, struct err *err)
{
    struct imatrix_entry *entry;

    /* Room doubles: it is full at each power of two. */
    if ((m->n_entries & (m->n_entries - 1)) == 0) {
        entry = reallocarray(m->entry, m->n_entries > 0 ? 2 * m->n_entries : 1, sizeof *entry);
        if (entry == NULL)
            goto no_memory;
        m->entry = entry;
    }
    entry = &m->entry[m->n_entries];
    *entry = (struct imatrix_entry){.n = n};
    strncpy(entry->name, name, sizeof entry->name - 1);
    entry->mean_square = calloc(n, sizeof *entry->mean_square);
    if (entry->mean_square == NULL)
        goto no_memory;
    m->n_entries++;
    return entry;

no_memory:
    err_set(err, ERR_MEMORY, "importance matrix: out of memory");
    return NULL;
}

int imatrix_fill(struct imatrix_entry *entry, const void *sum, double count, const char *path,
                 struct err *err)
{
    for (size_t i = 0; i < entry->n; i++) {
        float value;
        memcpy(&value, (const char *)sum + i * sizeof value, sizeof value);
        double mean = (double)value / count;
        if (!(mean >= 0 && mean <= FLT_MAX)) {
            err_set(err, ERR_DATA, "%s: %s: value %zu is %g, a mean square is 0 at least and finite",
                    path, entry->name, i, (double)value);
            return -1;
        }
        entry->mean_square[i] = (float)mean;
    }
    return 0;
}

uint32_t imatrix_n_chunks(const struct imatrix *m, uint64_t n_tokens)
{
    uint64_t n = (n_tokens + m->chunk - 1) / m->chunk;

    return n < INT32_MAX ? (uint32_t)n : INT32_MAX;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct imatrix_entry *)a)->name, ((const struct imatrix_entry *)b)->name);
}

bool imatrix_sort(struct imatrix *m)
{
    bool unique = true;

    if (m->n_entries > 0)
        qsort(m->entry, m->n_entries, sizeof *m->entry, by_name);
    for (size_t i = 1; i < m->n_entries; i++)
        unique = unique && strcmp(m->entry[i - 1].name, m->entry[i].name) != 0;
    return unique;
}

const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name)
{
    struct imatrix_entry key;

    if (strlen(name) >= sizeof key.name || m->n_entries == 0)
        return NULL;
    strcpy(key.name, name);
    return bsearch(&key, m->entry, m->n_entries, sizeof *m->entry, by_name);
}

int imatrix_parse(struct imatrix *matrix, const void *data, size_t n_bytes, const char *name,
                  struct err *err)
{
    struct imatrix m = {.chunk = IMATRIX_CHUNK};
    bool is_gguf = n_bytes >= 4 && memcmp(data, "GGUF", 4) == 0;

    if ((is_gguf ? imatrix_gguf_parse(&m, data, n_bytes, name, err)
                 : imatrix_dat_parse(&m, data, n_bytes, name, err)) != 0)
        goto undo;
    if (m.n_entries == 0) {
        err_set(err, ERR_DATA, "%s: an importance matrix without entries", name);
        goto undo;
    }
    if (!imatrix_sort(&m)) {
        err_set(err, ERR_DATA, "%s: an entry of the importance matrix comes twice", name);
        goto undo;
    }
    m.hash = sha256_of(data, n_bytes);
    *matrix = m;
    return 0;

undo:
    imatrix_fini(&m);
    return -1;
}

int imatrix_read(struct imatrix *matrix, const char *path, struct err *err)
{
    struct file_map map;

    if (file_map_open(&map, path, err) != 0)
        return -1;
    int status = imatrix_parse(matrix, map.data, map.size, path, err);
    file_map_close(&map);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n > k && strcmp(text + n - k, end) == 0;
}

bool imatrix_is_name(const char *path)
{
    return ends_with(path, ".gguf") || ends_with(path, ".dat");
}

int imatrix_check_name(const char *path, struct err *err)
{
    if (imatrix_is_name(path))
        return 0;
    err_set(err, ERR_USAGE,
            "%.200s: the name of an importance matrix ends in .gguf or, for older programs, .dat",
            path);
    return -1;
}

int imatrix_write(const struct imatrix *m, const char *path, struct err *err)
{
    if (imatrix_check_name(path, err) != 0)
        return -1;
    return ends_with(path, ".gguf") ? imatrix_gguf_write(m, path, err)
                                    : imatrix_dat_write(m, path, err);
}
