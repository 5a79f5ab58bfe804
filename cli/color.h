/* color.h - whether a command may colour its output: --color=auto|always|never.  auto wants a
 * terminal on stdout that is no dumb one, and respects NO_COLOR (set and not empty). */
#ifndef KERF_COLOR_H
#define KERF_COLOR_H

#include "cli/option.h"

struct err;

/* The row of such a command. */
#define COLOR_ROW                                                                                  \
    {                                                                                              \
        "color", 0, OPTION_TEXT, "WHEN", "auto, always or never", "auto"                           \
    }

/* ERR_USAGE for another word. */
int color_choose(const struct options *options, bool *color, struct err *err);

/* Columns of the terminal on stdout; 80 where there is none. */
int color_width(void);

#endif
