/* train_main.c - the program kerf_train: trains the reference model from files of tokens. */
#include <signal.h>

#include "evaluator/reference/train_options.h"
#include "evaluator/reference/train_run.h"
#include "space/base/err.h"
#include "space/base/log.h"

static volatile sig_atomic_t stop;

static void ask_to_stop(int signal)
{
    (void)signal;
    stop = 1;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct train_options options;
    log_setup(LOG_INFO, -1);
    if (train_options_parse(&options, argc, (const char *const *)argv, &err) != 0) {
        log_error("train", "%s", err.text);
        return err_exit_status(err.code);
    }
    if (options.help) {
        train_options_help();
        return 0;
    }
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESTART | SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (train_run(&options, &stop, &err) != 0) {
        log_error("train", "%s", err.text);
        return err_exit_status(err.code);
    }
    return 0;
}
