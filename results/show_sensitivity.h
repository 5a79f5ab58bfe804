/* show_sensitivity.h - a table of sensitivities for people and programs: as a heat map in the
 * terminal, one line a row as tsv, and as JSON the very file (results/sensitivity.h), fit to be
 * given to another study.
 *
 * Heat map: a line for each layer, a column for each level of each kind of gene but the finest, and
 * below a line for the genes that all layers share.  A cell says how much the KLD rises when that
 * gene alone takes that level, in half decades:
 *
 *   . below 1e-5 nats   0 from there   1 from 3.2e-5   2 from 1e-4   ...   9 from 0.32   # from 1
 *
 * '?' is not measured yet, a blank is no choice.  Colours, where they are wanted, repeat the glyphs
 * and say nothing of their own. */
#ifndef KERF_SHOW_SENSITIVITY_H
#define KERF_SHOW_SENSITIVITY_H

#include "results/sensitivity.h"
#include "results/show.h"

struct show_heat {
    int width;   /* columns of the terminal; groups of columns that do not fit follow below */
    bool colour; /* 256-colour backgrounds */
};

void show_sensitivity(FILE *out, enum show_format format, const struct study *study,
                      const struct sensitivity *table, const struct show_heat *heat);

#endif
