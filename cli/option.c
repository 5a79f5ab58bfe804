#include "cli/option.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/units.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

static int row_by_name(const struct option_row *rows, const char *name, size_t length)
{
    for (int i = 0; rows[i].name != NULL; i++)
        if (strlen(rows[i].name) == length && strncmp(rows[i].name, name, length) == 0)
            return i;
    return -1;
}

static int row_by_letter(const struct option_row *rows, char letter)
{
    for (int i = 0; rows[i].name != NULL; i++)
        if (rows[i].letter == letter && letter != 0)
            return i;
    return -1;
}

static void print_help(const struct command *command)
{
    printf("%s\n\nusage: %s\n\n", command->summary, command->usage);
    for (const struct option_row *row = command->rows; row->name != NULL; row++) {
        char left[80];
        snprintf(left, sizeof left, "%c%c%c --%s%s%s", row->letter ? '-' : ' ',
                 row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->name,
                 row->value ? " " : "", row->value ? row->value : "");
        printf("  %-28s %s%s%s%s\n", left, row->help, row->standard ? " [" : "",
               row->standard ? row->standard : "", row->standard ? "]" : "");
    }
    printf("  %-28s %s\n", "-h,  --help", "this text");
    if (command->example != NULL)
        printf("\nexample:\n  %s\n", command->example);
}

static int unknown_option(const struct command *command, const char *word, struct err *err)
{
    const char *known[OPTION_MAX + 1];
    size_t n = 0;
    for (const struct option_row *row = command->rows; row->name != NULL; row++)
        known[n++] = row->name;
    known[n] = NULL;
    const char *nearest = n > 0 ? config_json_nearest(word, known) : NULL;
    err_set(err, ERR_USAGE, "kerf %s: unknown option --%s%s%s; see kerf %s --help", command->name,
            word, nearest ? ", did you mean --" : "", nearest ? nearest : "", command->name);
    return -1;
}

/* One "--name", "--name=value", "--name value", "-x" or "-x value"; *i moves past its value. */
static int parse_one(const struct command *command, int argc, char **argv, int *i,
                     struct options *options, struct err *err)
{
    const char *word = argv[*i];
    const char *value = NULL;
    int row;
    if (word[1] == '-') {
        const char *name = word + 2;
        size_t length = strcspn(name, "=");
        row = row_by_name(command->rows, name, length);
        if (row < 0) {
            char cut[64];
            snprintf(cut, sizeof cut, "%.*s", (int)length, name);
            return unknown_option(command, cut, err);
        }
        if (name[length] == '=')
            value = name + length + 1;
    } else {
        row = row_by_letter(command->rows, word[1]);
        if (row < 0) {
            err_set(err, ERR_USAGE, "kerf %s: unknown option %s; see kerf %s --help", command->name,
                    word, command->name);
            return -1;
        }
        if (word[2] != '\0')
            value = word + 2;
    }
    if (command->rows[row].kind == OPTION_FLAG) {
        if (value != NULL) {
            err_set(err, ERR_USAGE, "kerf %s: --%s takes no value", command->name,
                    command->rows[row].name);
            return -1;
        }
        value = "1";
    } else if (value == NULL) {
        if (*i + 1 >= argc) {
            err_set(err, ERR_USAGE, "kerf %s: --%s needs a value (%s)", command->name,
                    command->rows[row].name, command->rows[row].value);
            return -1;
        }
        value = argv[++*i];
    }
    options->text[row] = value;
    options->given[row] = true;
    return 0;
}

int option_parse(const struct command *command, int argc, char **argv, struct options *options,
                 struct err *err)
{
    memset(options, 0, sizeof *options);
    options->rows = command->rows;
    int n_rows = 0;
    for (; command->rows[n_rows].name != NULL; n_rows++)
        options->text[n_rows] = command->rows[n_rows].standard;
    assert(n_rows <= OPTION_MAX);

    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_args || word[0] != '-' || word[1] == '\0') {
            if (options->n_args >= command->max_args) {
                err_set(err, ERR_USAGE, "kerf %s: unexpected argument '%s'; usage: %s",
                        command->name, word, command->usage);
                return -1;
            }
            options->arg[options->n_args++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_args = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(command);
            return 0;
        } else if (parse_one(command, argc, argv, &i, options, err) != 0) {
            return -1;
        }
    }
    if (options->n_args < command->min_args) {
        err_set(err, ERR_USAGE, "kerf %s: missing argument; usage: %s", command->name,
                command->usage);
        return -1;
    }
    return 1;
}

const char *option_text(const struct options *options, const char *name)
{
    int row = row_by_name(options->rows, name, strlen(name));
    assert(row >= 0);
    return options->text[row];
}

bool option_flag(const struct options *options, const char *name)
{
    return option_text(options, name) != NULL;
}

int option_count(const struct options *options, const char *name, uint64_t *count, struct err *err)
{
    const char *text = option_text(options, name);
    *count = 0;
    if (text == NULL)
        return 0;
    if (units_parse_count(text, count, err) != 0) {
        err_prefix(err, "--%s", name);
        return -1;
    }
    return 0;
}

int option_size(const struct options *options, const char *name, uint64_t *n_bytes, struct err *err)
{
    const char *text = option_text(options, name);
    *n_bytes = 0;
    if (text == NULL)
        return 0;
    if (units_parse_size(text, n_bytes, err) != 0) {
        err_prefix(err, "--%s", name);
        return -1;
    }
    return 0;
}
