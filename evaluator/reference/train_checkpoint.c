/* train_checkpoint.c - see the header for the layout. */
#include "evaluator/reference/train_checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "evaluator/reference/train_optimizer.h"
#include "space/base/err.h"
#include "space/base/file.h"

static const char magic[8] = {'K', 'E', 'R', 'F', 'T', 'R', 'N', '1'};

enum { N_GEOMETRY = 10, N_HEADER = 14 };

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void geometry_fill(const struct train_geometry *g, uint64_t header[N_HEADER])
{
    const uint64_t fields[N_GEOMETRY] = {
        g->vocab,     g->dim, g->n_layers, g->n_heads,           g->n_kv_heads,
        g->head_size, g->ffn, g->context,  bits_of(g->norm_eps), bits_of(g->rope_base),
    };
    memcpy(header, fields, sizeof fields);
}

int train_checkpoint_save(const char *path, const struct train_geometry *g,
                          const struct train_optimizer *opt, const struct train_progress *at,
                          struct err *err)
{
    uint64_t header[N_HEADER];
    geometry_fill(g, header);
    header[10] = opt->n_steps;
    header[11] = at->seed;
    header[12] = at->n_windows;
    header[13] = bits_of(at->seconds);

    struct file_draft draft;
    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    const float *const vectors[] = {opt->weights, opt->average, opt->moment1, opt->moment2};
    size_t written = fwrite(magic, sizeof magic, 1, draft.stream);
    written += fwrite(header, sizeof header, 1, draft.stream);
    for (size_t i = 0; i < 4; i++)
        written += fwrite(vectors[i], opt->n_params * sizeof(float), 1, draft.stream);
    if (written != 6) {
        err_set_errno(err, errno, "%s: cannot write the checkpoint", path);
        file_draft_discard(&draft);
        return -1;
    }
    return file_draft_commit(&draft, err);
}

static int header_check(const char *path, const uint64_t header[N_HEADER],
                        const struct train_geometry *g, struct err *err)
{
    uint64_t want[N_HEADER];
    double seconds;
    geometry_fill(g, want);
    memcpy(&seconds, &header[13], sizeof seconds);
    if (memcmp(header, want, N_GEOMETRY * sizeof header[0]) != 0) {
        err_set(err, ERR_DATA, "%s: the checkpoint is of another geometry", path);
        return -1;
    }
    if (!(seconds >= 0) || !isfinite(seconds)) {
        err_set(err, ERR_DATA, "%s: the checkpoint's header is damaged", path);
        return -1;
    }
    return 0;
}

int train_checkpoint_load(const char *path, const struct train_geometry *g,
                          struct train_optimizer *opt, struct train_progress *at, struct err *err)
{
    struct file_map map;
    uint64_t header[N_HEADER];
    size_t vector = opt->n_params * sizeof(float);
    if (file_map_open(&map, path, err) != 0)
        return -1;
    int result = -1;
    if (map.size < sizeof magic + sizeof header || memcmp(map.data, magic, sizeof magic) != 0) {
        err_set(err, ERR_DATA, "%s: not a checkpoint of a training", path);
        goto done;
    }
    memcpy(header, map.data + sizeof magic, sizeof header);
    if (header_check(path, header, g, err) != 0)
        goto done;
    if (map.size != sizeof magic + sizeof header + 4 * vector) {
        err_set(err, ERR_DATA,
                "%s: %zu bytes, expected %zu: the checkpoint is cut short or damaged", path,
                map.size, sizeof magic + sizeof header + 4 * vector);
        goto done;
    }
    float *const vectors[] = {opt->weights, opt->average, opt->moment1, opt->moment2};
    for (size_t i = 0; i < 4; i++)
        memcpy(vectors[i], map.data + sizeof magic + sizeof header + i * vector, vector);
    opt->n_steps = header[10];
    at->seed = header[11];
    at->n_windows = header[12];
    memcpy(&at->seconds, &header[13], sizeof at->seconds);
    result = 0;
done:
    file_map_close(&map);
    return result;
}
