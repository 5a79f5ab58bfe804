#include "cli/color.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool terminal_takes_color(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') && term != NULL &&
           term[0] != '\0' && strcmp(term, "dumb") != 0;
}

int color_choose(const struct options *options, bool *color, struct err *err)
{
    const char *when = option_text(options, "color");
    if (strcmp(when, "auto") == 0)
        *color = terminal_takes_color();
    else if (strcmp(when, "always") == 0 || strcmp(when, "never") == 0)
        *color = when[0] == 'a';
    else {
        err_set(err, ERR_USAGE, "--color %s: expected auto, always or never", when);
        return -1;
    }
    return 0;
}

int color_width(void)
{
    struct winsize size;
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        return size.ws_col;
    return 80;
}
