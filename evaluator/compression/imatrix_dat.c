/* imatrix_dat.c - the older form of an importance matrix (layout in imatrix.h). */
#include "evaluator/compression/imatrix_parts.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <string.h>

/* What is left to read. */
struct cursor {
    const uint8_t *at;
    size_t left;
    size_t n_bytes; /* of the file */
    const char *path;
};

static int cut_short(const struct cursor *c, const char *what, struct err *err)
{
    err_set(err, ERR_DATA, "%s: at byte %zu: %s of the importance matrix cut short, or no such file",
            c->path, c->n_bytes - c->left, what);
    return -1;
}

static bool take(struct cursor *c, void *out, size_t n)
{
    if (n > c->left)
        return false;
    memcpy(out, c->at, n);
    c->at += n;
    c->left -= n;
    return true;
}

/* A count from `least` on. */
static bool take_count(struct cursor *c, int32_t least, int32_t *count)
{
    return take(c, count, sizeof *count) && *count >= least;
}

/* A text of `length` bytes that can be printed. */
static bool take_text(struct cursor *c, int32_t length, char *text, size_t room)
{
    if ((size_t)length >= room || !take(c, text, (size_t)length))
        return false;
    text[length] = '\0';
    for (const char *p = text; p < text + length; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            return false;
    return true;
}

static int take_entry(struct imatrix *m, struct cursor *c, struct err *err)
{
    char name[IMATRIX_NAME];
    int32_t length, n_calls, n;

    if (!take_count(c, 1, &length) || !take_text(c, length, name, sizeof name))
        return cut_short(c, "a name", err);
    if (!take(c, &n_calls, sizeof n_calls) || !take_count(c, 1, &n) ||
        (size_t)n > c->left / sizeof(float))
        return cut_short(c, "the values", err);
    if (n_calls < 1) {
        err_set(err, ERR_DATA, "%s: %s was counted %d times: nothing is known of it", c->path, name,
                n_calls);
        return -1;
    }
    struct imatrix_entry *entry = imatrix_add(m, name, (size_t)n, err);
    if (entry == NULL)
        return -1;
    entry->n_tokens = (uint64_t)n_calls * IMATRIX_CHUNK;
    if (imatrix_fill(entry, c->at, n_calls, c->path, err) != 0)
        return -1;
    c->at += (size_t)n * sizeof(float);
    c->left -= (size_t)n * sizeof(float);
    return 0;
}

int imatrix_dat_parse(struct imatrix *m, const uint8_t *data, size_t n_bytes, const char *name,
                      struct err *err)
{
    struct cursor c = {data, n_bytes, n_bytes, name};
    int32_t n_entries, last_chunk, length;

    if (!take_count(&c, 1, &n_entries))
        return cut_short(&c, "the count", err);
    for (int32_t i = 0; i < n_entries; i++)
        if (take_entry(m, &c, err) != 0)
            return -1;
    if (c.left == 0)
        return 0;
    if (!take(&c, &last_chunk, sizeof last_chunk))
        return cut_short(&c, "the end", err);
    if (c.left == 0)
        return 0;
    if (!take_count(&c, 0, &length) || (size_t)length != c.left)
        return cut_short(&c, "the name of the text", err);
    if (!take_text(&c, length, m->dataset, sizeof m->dataset))
        m->dataset[0] = '\0'; /* a long or odd path is no reason to refuse the figures */
    return 0;
}

static void put_i32(FILE *out, size_t value)
{
    int32_t word = (int32_t)value;

    fwrite(&word, sizeof word, 1, out);
}

static void put_text(FILE *out, const char *text)
{
    put_i32(out, strlen(text));
    fwrite(text, 1, strlen(text), out);
}

int imatrix_dat_write(const struct imatrix *m, const char *path, struct err *err)
{
    struct file_draft draft;
    uint32_t last = 0;

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    put_i32(draft.stream, m->n_entries);
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct imatrix_entry *entry = &m->entry[i];
        uint32_t n_calls = imatrix_n_chunks(m, entry->n_tokens);
        last = n_calls > last ? n_calls : last;
        put_text(draft.stream, entry->name);
        put_i32(draft.stream, n_calls);
        put_i32(draft.stream, entry->n);
        for (size_t k = 0; k < entry->n; k++) {
            float value = entry->mean_square[k] * (float)n_calls;
            fwrite(&value, sizeof value, 1, draft.stream);
        }
    }
    put_i32(draft.stream, last);
    put_text(draft.stream, m->dataset);
    return file_draft_commit(&draft, err);
}
