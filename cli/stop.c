#include "cli/stop.h"

#include <unistd.h>

static volatile sig_atomic_t n_stops;

static void on_stop(int signal)
{
    (void)signal;
    if (++n_stops >= 3)
        _exit(75);
}

void stop_catch(void)
{
    struct sigaction action = {.sa_handler = on_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

const volatile sig_atomic_t *stop_requests(void)
{
    return &n_stops;
}
