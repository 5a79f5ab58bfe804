/* parent_states.c - the file of last hidden states: written in one go, mapped to be read.
 * It carries the tokens themselves, so that a set is known to be a beginning of it by comparison,
 * not by a hash that only the whole would have. */
#include "evaluator/quality/parent_states.h"

#include "space/base/arena.h"
#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STATES_VERSION = 1, STATES_BATCH = 256 };

static const char magic[8] = "KERFSTAT";

struct file_head {
    char magic[8];
    uint32_t version, d_model, n_tokens, n_sequences;
    uint8_t parent[32];
    uint64_t states_at; /* byte of the first state, a multiple of 64 */
};
_Static_assert(sizeof(struct file_head) == 64, "the head of a states file has no holes");

struct parent_states {
    struct file_map map;
    const float *state; /* [n_tokens][d_model] */
    uint32_t n_tokens, d_model;
};

/* head | tokens i32[n_tokens] | begin u32[n_sequences + 1] | zeros up to 64 | states f32 */
static uint64_t states_offset(uint64_t n_tokens, uint64_t n_sequences)
{
    return arena_rounded(sizeof(struct file_head) + 4 * n_tokens + 4 * (n_sequences + 1));
}

static void write_head(FILE *stream, const struct hash256 *parent, uint32_t d_model,
                       const struct token_set *set)
{
    static const char zeros[64];
    struct file_head head = {.version = STATES_VERSION,
                             .d_model = d_model,
                             .n_tokens = set->n_tokens,
                             .n_sequences = set->n_sequences,
                             .states_at = states_offset(set->n_tokens, set->n_sequences)};
    size_t used = sizeof head + 4 * (size_t)set->n_tokens + 4 * ((size_t)set->n_sequences + 1);

    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.parent, parent->bytes, sizeof head.parent);
    fwrite(&head, sizeof head, 1, stream);
    fwrite(set->tokens, sizeof *set->tokens, set->n_tokens, stream);
    fwrite(set->begin, sizeof *set->begin, (size_t)set->n_sequences + 1, stream);
    fwrite(zeros, 1, (size_t)head.states_at - used, stream);
}

/* States of one sequence, batch by batch. */
static int write_sequence(FILE *stream, struct forward *forward, const struct token_set *set,
                          uint32_t i, float *hidden, struct err *err)
{
    uint32_t begin, end, n_layers = forward_model(forward)->n_layers;
    size_t d_model = forward_model(forward)->geometry.d_model;

    token_set_sequence(set, i, &begin, &end);
    forward_reset(forward);
    for (uint32_t t = begin; t < end; t += STATES_BATCH) {
        uint32_t n = end - t < STATES_BATCH ? end - t : STATES_BATCH;
        if (forward_embed(forward, set->tokens + t, n, hidden, err) != 0)
            return -1;
        forward_layers(forward, hidden, n, 0, n_layers, true);
        for (size_t v = 0; v < n * d_model; v++) {
            if (isfinite(hidden[v]))
                continue;
            err_set(err, ERR_DATA,
                    "the parent's last hidden state of token %zu in sequence %u is not finite",
                    t - begin + v / d_model, i);
            return -1;
        }
        fwrite(hidden, sizeof *hidden, n * d_model, stream);
    }
    return 0;
}

int parent_states_make(const char *path, const struct hash256 *parent_hash,
                       const struct model *parent, const struct kernels *kernels, struct team *team,
                       const struct token_set *set, struct err *err)
{
    struct forward_options options = {.n_ctx = set->sequence, .n_batch = STATES_BATCH};
    uint32_t d_model = parent->geometry.d_model;
    struct file_draft draft;
    int status = -1;

    struct forward *forward = forward_create(parent, kernels, team, &options, err);
    if (forward == NULL)
        return -1;
    float *hidden = malloc((size_t)STATES_BATCH * d_model * sizeof *hidden);
    if (hidden == NULL) {
        err_set(err, ERR_MEMORY, "parent states: out of memory");
        goto done;
    }
    if (file_draft_open(&draft, path, err) != 0)
        goto done;
    write_head(draft.stream, parent_hash, d_model, set);
    for (uint32_t i = 0; i < set->n_sequences; i++) {
        if (write_sequence(draft.stream, forward, set, i, hidden, err) != 0) {
            file_draft_discard(&draft);
            goto done;
        }
    }
    status = file_draft_commit(&draft, err);
done:
    free(hidden);
    forward_destroy(forward);
    return status;
}

/* Whether `set` is a beginning of what the file holds; `what` names the first thing that is not. */
static bool head_agrees(const struct file_map *map, const struct hash256 *parent_hash,
                        const struct token_set *set, const char **what)
{
    struct file_head head;

    *what = "not a file of parent states, or cut short";
    if (map->size < sizeof head)
        return false;
    memcpy(&head, map->data, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0 || head.version != STATES_VERSION)
        return false;
    /* 32-bit counts: none of these products passes 64 bits. */
    uint64_t states_bytes = (uint64_t)head.n_tokens * head.d_model, size = map->size;
    if (head.states_at != states_offset(head.n_tokens, head.n_sequences) || head.states_at > size ||
        states_bytes > size || head.d_model == 0 || size - head.states_at != 4 * states_bytes)
        return false;

    *what = "made with another parent";
    if (memcmp(head.parent, parent_hash->bytes, sizeof head.parent) != 0)
        return false;
    *what = "made with another text or another length of sequences";
    const uint8_t *tokens = map->data + sizeof head, *begin = tokens + 4 * (size_t)head.n_tokens;
    return set->n_tokens <= head.n_tokens && set->n_sequences <= head.n_sequences &&
           memcmp(tokens, set->tokens, set->n_tokens * sizeof *set->tokens) == 0 &&
           memcmp(begin, set->begin, set->n_sequences * sizeof *set->begin) == 0;
}

struct parent_states *parent_states_open(const char *path, const struct hash256 *parent_hash,
                                         const struct token_set *set, struct err *err)
{
    struct parent_states *states = calloc(1, sizeof *states);
    struct file_head head;
    const char *what;

    if (states == NULL) {
        err_set(err, ERR_MEMORY, "parent states: out of memory");
        return NULL;
    }
    if (file_map_open(&states->map, path, err) != 0)
        goto undo;
    if (!head_agrees(&states->map, parent_hash, set, &what)) {
        size_t length = strlen(path);
        err_set(err, ERR_DATA, "%s: %s; remove it and it is made again",
                path + (length > 200 ? length - 200 : 0), what);
        goto undo;
    }
    memcpy(&head, states->map.data, sizeof head);
    /* Aligned: the map begins on a page, the states on a multiple of 64. */
    states->state = (const float *)(const void *)(states->map.data + head.states_at);
    states->n_tokens = head.n_tokens;
    states->d_model = head.d_model;
    return states;

undo:
    parent_states_close(states);
    return NULL;
}

void parent_states_close(struct parent_states *states)
{
    if (states == NULL)
        return;
    file_map_close(&states->map);
    free(states);
}

const float *parent_states_at(const struct parent_states *states, uint32_t token)
{
    assert(token < states->n_tokens);
    return states->state + (size_t)token * states->d_model;
}
