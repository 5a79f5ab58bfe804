/* additive_grid.c - the levels that the additive prior looks at and the numbering of their
 * combinations.  Genes of contexts and a unit's own genes are numbered apart. */
#include "search/additive_parts.h"

#include <stdlib.h>
#include <string.h>

static void grid_set(struct additive *a, uint32_t gene, const uint8_t *levels, uint32_t n)
{
    uint8_t *row = a->grid_level + (size_t)gene * ADDITIVE_GRID_ROW;
    uint8_t *back = a->on_grid + (size_t)gene * ADDITIVE_GRID_ROW;
    memmove(row, levels, n);
    a->n_grid[gene] = n;
    for (uint32_t level = 0, at = 0; level < a->problem->n_levels[gene]; level++) {
        while (at + 1 < n && abs((int)row[at + 1] - (int)level) <= abs((int)row[at] - (int)level))
            at++;
        /* Level 0 may drop a part: nothing else counts as that, nor that as anything else. */
        back[level] = (uint8_t)(at == 0 && level > 0 && n > 1 ? 1 : at);
    }
}

void additive_grid_all(struct additive *a, uint32_t gene)
{
    uint8_t levels[ADDITIVE_GRID_ROW];
    for (uint32_t i = 0; i < a->problem->n_levels[gene]; i++)
        levels[i] = (uint8_t)i;
    grid_set(a, gene, levels, a->problem->n_levels[gene]);
}

/* Leave out every second level between the first and the last; of two keep the finer, which only
 * units of more than a dozen genes come to. */
static void grid_halve(struct additive *a, uint32_t gene)
{
    uint8_t *row = a->grid_level + (size_t)gene * ADDITIVE_GRID_ROW, levels[ADDITIVE_GRID_ROW];
    uint32_t n = 0, last = a->n_grid[gene] - 1;
    if (last > 1)
        levels[n++] = row[0];
    for (uint32_t i = 2 - last % 2; i < last; i += 2)
        levels[n++] = row[i];
    levels[n++] = row[last];
    grid_set(a, gene, levels, n);
}

uint32_t additive_grid_thin(struct additive *a, uint32_t unit, bool context, uint32_t limit)
{
    for (;;) {
        double product = 1;
        uint32_t first = a->map->first[unit], widest = first, n_widest = 0;
        for (uint32_t g = first; g < first + a->map->count[unit]; g++) {
            if (a->is_context[g] != context)
                continue;
            product *= a->n_grid[g];
            if (a->n_grid[g] >= n_widest) {
                n_widest = a->n_grid[g];
                widest = g;
            }
        }
        if (product <= limit || n_widest <= 1)
            return (uint32_t)product;
        grid_halve(a, widest);
    }
}

uint32_t additive_combination(const struct additive *a, const uint8_t *levels, uint32_t unit,
                              bool context)
{
    uint32_t number = 0, first = a->map->first[unit];
    for (uint32_t g = first; g < first + a->map->count[unit]; g++)
        if (a->is_context[g] == context)
            number = number * a->n_grid[g] + a->on_grid[(size_t)g * ADDITIVE_GRID_ROW + levels[g]];
    return number;
}

void additive_set_combination(const struct additive *a, uint32_t unit, bool context,
                              uint32_t number, uint8_t *levels)
{
    uint32_t first = a->map->first[unit];
    for (uint32_t g = first + a->map->count[unit]; g-- > first;) {
        if (a->is_context[g] != context)
            continue;
        levels[g] = a->grid_level[(size_t)g * ADDITIVE_GRID_ROW + number % a->n_grid[g]];
        number /= a->n_grid[g];
    }
}

/* --- contexts --- */

uint32_t additive_context_of(const struct additive *a, const uint8_t *levels)
{
    return a->n_contexts > 1 ? additive_combination(a, levels, a->problem->n_units - 1, true) : 0;
}

void additive_set_context(const struct additive *a, uint32_t context, uint8_t *levels)
{
    if (a->n_contexts > 1)
        additive_set_combination(a, a->problem->n_units - 1, true, context, levels);
}

uint32_t additive_n_contexts(const struct additive *a)
{
    return a->n_contexts;
}
