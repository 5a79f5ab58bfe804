/* show_heat.h - the heat map of show_sensitivity.h alone, without head and summary. */
#ifndef KERF_SHOW_HEAT_H
#define KERF_SHOW_HEAT_H

#include "results/sensitivity.h"

/* Groups of columns with their names, layer by layer, in as many bands as `width` asks for; then
 * the legend. */
void show_heat(FILE *out, const struct sensitivity *table, int width, bool colour);
/* '.' to '#', '?' for NAN. */
char show_heat_glyph(double kld);

#endif
