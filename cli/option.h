/* option.h - one table of options per command gives parsing, --help and usage errors.
 *
 *     static const struct option_row rows[] = {
 *         {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
 *         {"latency-budget", 0, OPTION_TEXT, "TIME", "largest latency, with its unit", NULL},
 *         {0}};
 *
 * A row's last field is the default shown in --help and returned when the option is absent. */
#ifndef KERF_OPTION_H
#define KERF_OPTION_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum option_kind { OPTION_FLAG, OPTION_TEXT };

struct option_row {
    const char *name; /* long name without dashes; NULL ends the table */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *value;    /* "DIR": what stands for the value in --help; NULL for a flag */
    const char *help;     /* one line: meaning, unit */
    const char *standard; /* default, may be NULL */
};

struct command {
    const char *name;    /* "query" */
    const char *summary; /* one line for `kerf help` */
    const char *usage;   /* "kerf query -C DIR --latency-budget TIME" */
    const char *example; /* one or two lines that work */
    const struct option_row *rows;
    uint32_t min_args, max_args; /* positional ones */
    int (*run)(const struct command *command, int argc, char **argv);
};

#define OPTION_MAX 32

struct options {
    const struct option_row *rows;
    const char *text[OPTION_MAX]; /* by row: given or default; "1" for a flag that is set */
    bool given[OPTION_MAX];
    const char *arg[64]; /* positional */
    uint32_t n_args;
};

/* argv[0] is the command's name.  1: go on; 0: --help was printed (exit 0); -1: ERR_USAGE. */
int option_parse(const struct command *command, int argc, char **argv, struct options *options,
                 struct err *err);
const char *option_text(const struct options *options, const char *name); /* NULL when absent */
bool option_flag(const struct options *options, const char *name);
/* Whole numbers such as --evals; ERR_USAGE names the option. */
int option_count(const struct options *options, const char *name, uint64_t *count, struct err *err);
/* Sizes such as --max-disk, with their unit; 0 when absent. */
int option_size(const struct options *options, const char *name, uint64_t *n_bytes,
                struct err *err);

#endif
