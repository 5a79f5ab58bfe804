/* reading.h - what most commands begin with: the frozen study of -C, its archive opened for
 * reading (a search may be running), and its front. */
#ifndef KERF_READING_H
#define KERF_READING_H

#include "cli/option.h"
#include "results/front.h"
#include "results/show.h"
#include "space/study.h"

struct reading {
    struct study study;
    struct archive *archive;
    struct front front;
};

/* The rows every reading command has. */
#define READING_ROWS                                                                               \
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},                                    \
    {                                                                                              \
        "output", 'o', OPTION_TEXT, "FORMAT", "table, json or tsv", "table"                        \
    }

/* ERR_MISSING with the remedy when DIR is no study or has no archive yet. */
int reading_open(struct reading *reading, const char *dir, struct err *err);
void reading_close(struct reading *reading);

/* The -o of a command; ERR_USAGE when unknown. */
int reading_format(const struct options *options, enum show_format *format, struct err *err);

/* All that a command begins with which has nothing more to check: what option_parse returns, or -1
 * where -o or the study is no good. */
int reading_begin(struct reading *reading, struct options *options, enum show_format *format,
                  const struct command *command, int argc, char **argv, struct err *err);

/* Print "kerf: text" on stderr and return the exit status of err->code. */
int command_fail(const struct err *err);

#endif
