/* imatrix_gguf.c - an importance matrix as GGUF (layout in imatrix.h). */
#include "evaluator/compression/imatrix_parts.h"

#include "evaluator/formats/gguf.h"
#include "evaluator/formats/gguf_write.h"
#include "space/base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char sums_end[] = ".in_sum2", counts_end[] = ".counts";

/* The weight whose sums a tensor holds: true with its name. */
static bool weight_of(const struct gguf_tensor *tensor, char name[IMATRIX_NAME])
{
    size_t end = sizeof sums_end - 1, n = tensor->name.length;

    if (n <= end || n - end >= IMATRIX_NAME || memcmp(tensor->name.data + n - end, sums_end, end) != 0)
        return false;
    memcpy(name, tensor->name.data, n - end);
    name[n - end] = '\0';
    return true;
}

static int refuse(const char *path, const char *name, const char *why, struct err *err)
{
    err_set(err, ERR_DATA, "%s: %s: %s", path, name, why);
    return -1;
}

static int take_entry(struct imatrix *m, const struct gguf *gguf, const struct gguf_tensor *sums,
                      const char *name, const char *path, struct err *err)
{
    char full[IMATRIX_NAME + sizeof counts_end];
    float count;

    snprintf(full, sizeof full, "%s%s", name, counts_end);
    const struct gguf_tensor *counts = gguf_tensor_find(gguf, full);
    if (counts == NULL)
        return refuse(path, name, "sums without their counts", err);
    if (sums->format != FORMAT_F32 || counts->format != FORMAT_F32)
        return refuse(path, name, "sums and counts should be f32", err);
    if (counts->n_bytes != sizeof count || sums->n_bytes != sums->dims[0] * sizeof(float))
        return refuse(path, name, "sums of several matrices (experts) are not supported", err);
    memcpy(&count, counts->data, sizeof count);
    if (!(count >= 1 && count < 0x1p63f))
        return refuse(path, name, "counted no token: nothing is known of it", err);
    struct imatrix_entry *entry = imatrix_add(m, name, (size_t)sums->dims[0], err);
    if (entry == NULL)
        return -1;
    entry->n_tokens = (uint64_t)count;
    return imatrix_fill(entry, sums->data, (double)count, path, err);
}

static int take_keys(struct imatrix *m, const struct gguf *gguf, const char *path, struct err *err)
{
    struct gguf_text type, dataset;
    uint64_t chunk;

    int found = gguf_get_text(gguf, "general.type", &type, err);
    if (found < 0)
        return -1;
    if (found == 0 || type.length != 7 || memcmp(type.data, "imatrix", 7) != 0) {
        err_set(err, ERR_DATA, "%s: a GGUF, but no importance matrix (general.type)", path);
        return -1;
    }
    found = gguf_get_uint(gguf, "imatrix.chunk_size", &chunk, err);
    if (found < 0)
        return -1;
    if (found > 0 && chunk >= 1 && chunk <= INT32_MAX)
        m->chunk = (uint32_t)chunk;
    if (gguf_array_length(gguf, "imatrix.datasets") > 0 &&
        gguf_array_text(gguf, "imatrix.datasets", 0, &dataset, NULL) == 0 &&
        dataset.length < sizeof m->dataset) {
        memcpy(m->dataset, dataset.data, dataset.length);
        m->dataset[dataset.length] = '\0';
    }
    return 0;
}

int imatrix_gguf_parse(struct imatrix *m, const void *data, size_t n_bytes, const char *path,
                       struct err *err)
{
    struct gguf *gguf = gguf_open_memory(data, n_bytes, path, err);
    if (gguf == NULL)
        return -1;
    int status = take_keys(m, gguf, path, err);
    for (size_t i = 0; i < gguf_n_tensors(gguf) && status == 0; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        char name[IMATRIX_NAME];
        if (weight_of(tensor, name))
            status = take_entry(m, gguf, tensor, name, path, err);
    }
    gguf_close(gguf);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Sums and count of an entry; `sum` has room for n floats and one. */
static int put_entry(struct gguf_writer *writer, const struct imatrix_entry *entry, float *sum,
                     struct err *err)
{
    char full[IMATRIX_NAME + sizeof sums_end];

    sum[entry->n] = (float)entry->n_tokens;
    for (size_t i = 0; i < entry->n; i++)
        sum[i] = entry->mean_square[i] * sum[entry->n];
    snprintf(full, sizeof full, "%s%s", entry->name, sums_end);
    if (gguf_put_tensor(writer, full, FORMAT_F32, entry->n, 1, sum, err) != 0)
        return -1;
    snprintf(full, sizeof full, "%s%s", entry->name, counts_end);
    return gguf_put_tensor(writer, full, FORMAT_F32, 1, 1, sum + entry->n, err);
}

static int put_keys(struct gguf_writer *writer, const struct imatrix *m, struct err *err)
{
    const char *dataset = m->dataset;
    size_t length = strlen(dataset);
    uint64_t most = 0;

    for (size_t i = 0; i < m->n_entries; i++)
        most = m->entry[i].n_tokens > most ? m->entry[i].n_tokens : most;
    if (gguf_put_text(writer, "general.type", "imatrix", err) != 0 ||
        gguf_put_text_array(writer, "imatrix.datasets", &dataset, &length, 1, err) != 0 ||
        gguf_put_u32(writer, "imatrix.chunk_count", imatrix_n_chunks(m, most), err) != 0)
        return -1;
    return gguf_put_u32(writer, "imatrix.chunk_size", m->chunk, err);
}

int imatrix_gguf_write(const struct imatrix *m, const char *path, struct err *err)
{
    struct gguf_writer *writer = gguf_writer_create(err);
    size_t n_floats = 0;
    int status = -1;

    for (size_t i = 0; i < m->n_entries; i++)
        n_floats += m->entry[i].n + 1;
    float *sums = malloc((n_floats + 1) * sizeof *sums), *at = sums;
    if (sums == NULL)
        err_set(err, ERR_MEMORY, "importance matrix: out of memory");
    else if (writer != NULL)
        status = put_keys(writer, m, err);
    for (size_t i = 0; i < m->n_entries && status == 0; at += m->entry[i].n + 1, i++)
        status = put_entry(writer, &m->entry[i], at, err);
    if (status == 0)
        status = gguf_writer_save(writer, path, err);
    gguf_writer_destroy(writer);
    free(sums);
    return status;
}
