#include "tests/bench/variant_list.h"

#include "space/base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

    /* --- the keys --------------------------------------------------------------------------------- */

    static bool key_equal(const struct variant_key *a, const struct variant_key *b)
{
    return a->part == b->part && a->layer == b->layer && a->kept == b->kept &&
           a->heads_per_group == b->heads_per_group && a->format == b->format;
}

static int add_key(struct variant_list *list, struct variant_key key, struct err *err)
{
    for (size_t i = 0; i < list->n; i++)
        if (key_equal(&list->key[i], &key))
            return 0;
    if (list->n == list->room) {
        size_t room = list->room > 0 ? 2 * list->room : 64;
        struct variant_key *grown = realloc(list->key, room * sizeof *grown);
        if (grown == NULL) {
            err_set(err, ERR_MEMORY, "variant list: out of memory");
            return -1;
        }
        list->key = grown;
        list->room = room;
    }
    list->key[list->n++] = key;
    return 0;
}

static int add_part(struct variant_list *list, const struct genome *genome, enum part part,
                    uint32_t layer, struct err *err)
{
    struct variant_key key;

    return stitch_key(genome, part, layer, &key) ? add_key(list, key, err) : 0;
}

int variant_list_of_genome(struct variant_list *list, const struct genome *genome,
                           const struct geometry *parent, struct err *err)
{
    *list = (struct variant_list){0};
    for (uint32_t l = 0; l < genome->n_layers; l++)
        for (int part = PART_QKV; part <= PART_DOWN; part++)
            if (add_part(list, genome, (enum part)part, l, err) != 0)
                return -1;
    if (add_part(list, genome, PART_EMBD, 0, err) != 0)
        return -1;
    return genome_geometry(genome, parent).tied ? 0 : add_part(list, genome, PART_HEAD, 0, err);
}

/* A part of a layer is shaped by one width gene and one format gene: all pairs of those are walked,
 * every other gene at its finest. */
static int add_pairs(struct variant_list *list, const struct space *space, enum part part,
                     uint32_t layer, const enum gene_kind kind[2], uint8_t *levels,
                     struct genome *genome, struct err *err)
{
    int32_t w = space_gene_of(space, kind[0], (int32_t)layer);
    int32_t f = space_gene_of(space, kind[1], (int32_t)layer);
    uint32_t n_widths = w >= 0 ? space->gene[w].n_levels : 1;
    uint32_t n_formats = f >= 0 ? space->gene[f].n_levels : 1;

    for (uint32_t i = 0; i < n_widths; i++) {
        for (uint32_t j = 0; j < n_formats; j++) {
            for (uint32_t g = 0; g < space->n_genes; g++)
                levels[g] = (uint8_t)(space->gene[g].n_levels - 1);
            if (w >= 0)
                levels[w] = (uint8_t)i;
            if (f >= 0)
                levels[f] = (uint8_t)j;
            space_genome(space, levels, genome);
            if (add_part(list, genome, part, layer, err) != 0)
                return -1;
        }
    }
    return 0;
}

int variant_list_of_space(struct variant_list *list, const struct space *space, struct err *err)
{
    static const enum gene_kind kinds[N_PARTS][2] = {
        [PART_QKV] = {GENE_KV_GROUPS, GENE_QKV},
        [PART_O] = {GENE_KV_GROUPS, GENE_O},
        [PART_GATE_UP] = {GENE_FFN_WIDTH, GENE_GATE_UP},
        [PART_DOWN] = {GENE_FFN_WIDTH, GENE_DOWN},
        [PART_EMBD] = {GENE_EMBD, GENE_EMBD},
        [PART_HEAD] = {GENE_EMBD, GENE_EMBD}};
    uint8_t *levels = malloc(SPACE_MAX_GENES);
    struct genome *genome = malloc(sizeof *genome);
    int status = 0;

    *list = (struct variant_list){0};
    if (levels == NULL || genome == NULL) {
        err_set(err, ERR_MEMORY, "variant list: out of memory");
        status = -1;
    }
    for (int p = 0; p < N_PARTS; p++) {
        if (p == PART_HEAD && space->geometry.tied)
            continue;
        uint32_t n = p == PART_EMBD || p == PART_HEAD ? 1 : space->geometry.n_layers;
        for (uint32_t l = 0; l < n && status == 0; l++)
            status = add_pairs(list, space, (enum part)p, l, kinds[p], levels, genome, err);
    }
    free(genome);
    free(levels);
    return status;
}

void variant_list_fini(struct variant_list *list)
{
    free(list->key);
    *list = (struct variant_list){0};
}

/* --- building --------------------------------------------------------------------------------- */

struct building {
    const struct variant_list *list;
    const struct variant_source *source;
    struct store *store;
    atomic_size_t next;
    pthread_mutex_t lock; /* over the first failure */
    size_t failed;        /* list->n: none */
    struct err err;
};

static void build_some(void *arg, unsigned member, unsigned n_members)
{
    struct building *b = arg;
    struct variant variant;
    struct err err = {0};
    size_t i;

    (void)member, (void)n_members;
    while ((i = atomic_fetch_add(&b->next, 1)) < b->list->n) {
        if (store_get(b->store, b->source, &b->list->key[i], &variant, &err) == 0)
            continue;
        pthread_mutex_lock(&b->lock);
        if (i < b->failed) {
            b->failed = i;
            b->err = err;
        }
        pthread_mutex_unlock(&b->lock);
    }
}

int variant_list_build(const struct variant_list *list, const struct variant_source *source,
                       struct store *store, struct team *team, struct err *err)
{
    struct building b = {.list = list, .source = source, .store = store, .failed = list->n};

    pthread_mutex_init(&b.lock, NULL);
    team_run(team, build_some, &b);
    pthread_mutex_destroy(&b.lock);
    if (b.failed < list->n && err != NULL)
        *err = b.err;
    return b.failed < list->n ? -1 : 0;
}
