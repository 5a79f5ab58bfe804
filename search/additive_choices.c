/* additive_choices.c - the lists of choices that a sweep picks from. */
#include "search/additive_parts.h"

#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

static bool takes_units_along(const struct additive *a, const uint8_t *levels, uint32_t unit)
{
    for (uint32_t u = 0; u < a->problem->n_units; u++) {
        int32_t owner = a->map->unit_owner[u];
        if (owner >= 0 && a->problem->unit[owner] == unit && levels[owner] == 0)
            return true;
    }
    return false;
}

static bool choice_beats(const struct choice *x, const struct choice *y, uint32_t n_cost)
{
    if (x->loss > y->loss)
        return false;
    for (uint32_t j = 0; j < n_cost; j++)
        if (x->cost[j] > y->cost[j])
            return false;
    return true;
}

/* Enter it unless beaten; drop those that it beats.  One that takes other units along is compared
 * with nobody: its own figures do not tell what it saves. */
static void list_offer(struct choice_list *list, const struct choice *offered, uint32_t n_cost)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->n && !offered->takes_along; i++)
        if (!list->choice[i].takes_along && choice_beats(&list->choice[i], offered, n_cost))
            return;
    for (size_t i = 0; i < list->n; i++) {
        bool falls = !offered->takes_along && !list->choice[i].takes_along &&
                     choice_beats(offered, &list->choice[i], n_cost);
        if (!falls)
            list->choice[kept++] = list->choice[i];
    }
    list->choice[kept] = *offered;
    list->n = kept + 1;
}

int additive_fill_list(struct additive *a, uint32_t context, uint32_t unit, uint8_t *levels,
                       struct err *err)
{
    struct choice_list *list = &a->lists[(size_t)context * a->problem->n_units + unit];
    uint32_t n_own = a->classes[a->class_of[unit]].n_own, count = a->map->count[unit];
    list->levels = malloc((size_t)n_own * count + 1);
    list->choice = malloc(n_own * sizeof *list->choice);
    bool *seen = calloc(n_own, sizeof *seen);
    if (list->levels == NULL || list->choice == NULL || seen == NULL) {
        free(seen);
        err_set(err, ERR_MEMORY, "search: out of memory");
        return -1;
    }
    /* From the finest down, so that of equal ones the finer stays. */
    for (uint32_t own = n_own; own-- > 0;) {
        struct choice choice = {.levels = list->levels + (size_t)own * count};
        additive_moved(a, context, unit, own, levels);
        uint32_t canonical = additive_combination(a, levels, unit, false);
        if (seen[canonical])
            continue;
        seen[canonical] = true;
        memcpy(list->levels + (size_t)own * count, levels + a->map->first[unit], count);
        choice.loss = additive_unit_loss(a, levels, unit);
        choice.takes_along = takes_units_along(a, levels, unit);
        const double *cost = additive_unit_costs(a, levels, context, unit);
        for (uint32_t j = 0; j < a->n_cost; j++)
            choice.cost[j] = cost[j] / a->total[j];
        list_offer(list, &choice, a->n_cost);
    }
    free(seen);
    struct choice *fitted = realloc(list->choice, list->n * sizeof *fitted);
    list->choice = fitted != NULL ? fitted : list->choice;
    return 0;
}

const struct choice *additive_choices(const struct additive *a, uint32_t context, uint32_t unit,
                                      size_t *n)
{
    const struct choice_list *list = &a->lists[(size_t)context * a->problem->n_units + unit];
    *n = list->n;
    return list->choice;
}
