/* vector_set.c - open addressing with linear probing over FNV-1a. */
#include "search/vector_set.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void vector_set_init(struct vector_set *set, uint32_t length)
{
    *set = (struct vector_set){.length = length};
}

void vector_set_fini(struct vector_set *set)
{
    free(set->levels);
    free(set->slot);
    *set = (struct vector_set){0};
}

static uint64_t hash_of(const struct vector_set *set, const uint8_t *levels)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < set->length; i++)
        hash = (hash ^ levels[i]) * UINT64_C(0x100000001b3);
    /* The low bits of FNV hardly see the last bytes. */
    return hash ^ hash >> 29;
}

/* The slot of `levels`, or the free one where it belongs. */
static size_t slot_of(const struct vector_set *set, const uint8_t *levels)
{
    size_t at = (size_t)hash_of(set, levels) & (set->n_slots - 1);
    while (set->slot[at] != 0 &&
           memcmp(vector_set_at(set, set->slot[at] - 1), levels, set->length) != 0)
        at = (at + 1) & (set->n_slots - 1);
    return at;
}

/* Room for one more vector; -1 without memory, the set unchanged. */
static int make_room(struct vector_set *set)
{
    if (set->n == set->capacity) {
        size_t capacity = set->capacity > 0 ? 2 * set->capacity : 64;
        uint8_t *levels = realloc(set->levels, capacity * set->length);
        if (levels == NULL)
            return -1;
        set->levels = levels;
        set->capacity = capacity;
    }
    if (2 * (set->n + 1) < set->n_slots)
        return 0;
    size_t n_slots = set->n_slots > 0 ? 2 * set->n_slots : 256;
    uint32_t *slot = calloc(n_slots, sizeof *slot);
    if (slot == NULL || set->n >= UINT32_MAX - 1) {
        free(slot);
        return -1;
    }
    free(set->slot);
    set->slot = slot;
    set->n_slots = n_slots;
    for (size_t i = 0; i < set->n; i++)
        set->slot[slot_of(set, vector_set_at(set, i))] = (uint32_t)(i + 1);
    return 0;
}

size_t vector_set_find(const struct vector_set *set, const uint8_t *levels)
{
    if (set->n == 0)
        return VECTOR_NONE;
    uint32_t found = set->slot[slot_of(set, levels)];
    return found != 0 ? found - 1 : VECTOR_NONE;
}

bool vector_set_has(const struct vector_set *set, const uint8_t *levels)
{
    return vector_set_find(set, levels) != VECTOR_NONE;
}

size_t vector_set_add(struct vector_set *set, const uint8_t *levels)
{
    size_t found = vector_set_find(set, levels);
    if (found != VECTOR_NONE)
        return found;
    if (make_room(set) != 0)
        return VECTOR_NONE;
    set->slot[slot_of(set, levels)] = (uint32_t)(set->n + 1);
    memcpy(set->levels + set->n * set->length, levels, set->length);
    return set->n++;
}

const uint8_t *vector_set_at(const struct vector_set *set, size_t number)
{
    assert(number < set->n);
    return set->levels + number * set->length;
}
