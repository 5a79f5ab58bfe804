/* vector_set.h - level vectors, each once, numbered in the order in which they came.
 * Owns copies of them.  Never forgets one. */
#ifndef KERF_VECTOR_SET_H
#define KERF_VECTOR_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vector_set {
    uint32_t length; /* bytes of a vector */
    size_t n;        /* vectors */
    size_t capacity; /* of `levels`, in vectors */
    uint8_t *levels; /* [n][length] */
    uint32_t *slot;  /* [n_slots], number + 1; 0 is free */
    size_t n_slots;  /* a power of two, more than twice n */
};

#define VECTOR_NONE SIZE_MAX

void vector_set_init(struct vector_set *set, uint32_t length);
void vector_set_fini(struct vector_set *set); /* a zeroed struct is fine */
/* Its number, or VECTOR_NONE. */
size_t vector_set_find(const struct vector_set *set, const uint8_t *levels);
bool vector_set_has(const struct vector_set *set, const uint8_t *levels);
/* Number of the vector, new or not; VECTOR_NONE without memory. */
size_t vector_set_add(struct vector_set *set, const uint8_t *levels);
/* Borrowed until the next add. */
const uint8_t *vector_set_at(const struct vector_set *set, size_t number);

#endif
