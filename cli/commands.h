/* commands.h - every subcommand of kerf, one file each (cmd_<name>.c). */
#ifndef KERF_COMMANDS_H
#define KERF_COMMANDS_H

#include "cli/option.h"

extern const struct command cmd_archive;
extern const struct command cmd_calibrate;
extern const struct command cmd_doctor;
extern const struct command cmd_export;
extern const struct command cmd_front;
extern const struct command cmd_init;
extern const struct command cmd_model;
extern const struct command cmd_peer;
extern const struct command cmd_polish;
extern const struct command cmd_probe;
extern const struct command cmd_query;
extern const struct command cmd_search;
extern const struct command cmd_sensitivity;
extern const struct command cmd_show;
extern const struct command cmd_status;
extern const struct command cmd_sweep;
extern const struct command cmd_verify;

/* The evaluator child: not for people, not in `kerf help`.  Branched to at the top of main, before
 * anything else is set up (mpi.md section 6). */
int cmd_evaluator(int argc, char **argv);
/* The timing child of kerf sweep, likewise. */
int cmd_stopwatch(int argc, char **argv);

#endif
