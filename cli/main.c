/* main.c - kerf: one binary, git-like subcommands.  stdout carries results, stderr the talk;
 * exit codes are those of err.h. */
#include "cli/commands.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
    &cmd_doctor, &cmd_init,  &cmd_calibrate, &cmd_search, &cmd_sensitivity, &cmd_status,
    &cmd_front,  &cmd_query, &cmd_show,      &cmd_export, &cmd_polish,      &cmd_verify,
    &cmd_peer,   &cmd_model, &cmd_probe,     &cmd_sweep,  &cmd_archive,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static int print_overview(FILE *out)
{
    fputs("kerf finds out, by cutting and measuring, how much of a language model can be taken\n"
          "away on this machine: width, depth and bits by layer, against measured latency.\n\n"
          "  kerf init study --model model.gguf --calibration c.txt --heldout h.txt\n"
          "  kerf search -C study --time 10min\n"
          "  kerf front -C study\n"
          "  kerf query -C study --latency-budget 30ms\n"
          "  kerf export -C study @30ms small.gguf\n\ncommands:\n",
          out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-11s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nkerf COMMAND --help tells more; kerf --version names this build.\n", out);
    return 0;
}

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *known[N_COMMANDS + 1];
    for (size_t i = 0; i < N_COMMANDS; i++)
        known[i] = commands[i]->name;
    known[N_COMMANDS] = NULL;
    fprintf(stderr, "kerf: unknown command '%s', did you mean '%s'? See kerf help\n", name,
            config_json_nearest(name, known));
    return err_exit_status(ERR_USAGE);
}

int main(int argc, char **argv)
{
    /* The child first: no MPI, no topology, nothing set up that it does not need. */
    if (argc > 1 && strcmp(argv[1], "evaluator") == 0)
        return cmd_evaluator(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "stopwatch") == 0)
        return cmd_stopwatch(argc - 1, argv + 1);

    log_setup(LOG_INFO, -1);
    if (argc < 2)
        return print_overview(stdout);
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("kerf %s\n", KERF_VERSION);
        return 0;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        const struct command *command = argc > 2 ? command_find(argv[2]) : NULL;
        if (argc > 2 && command == NULL)
            return unknown_command(argv[2]);
        if (command == NULL)
            return print_overview(stdout);
        char option[] = "--help";
        char *help[] = {argv[2], option, NULL};
        return command->run(command, 2, help);
    }
    const struct command *command = command_find(name);
    if (command == NULL)
        return unknown_command(name);
    return command->run(command, argc - 1, argv + 1);
}
