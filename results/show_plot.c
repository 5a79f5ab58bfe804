/* show_plot.c - the front as a scatter of characters, decode latency to the right and KLD upwards,
 * both logarithmic. */
#include "results/show_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LABEL 9 /* columns left of the frame */

struct canvas {
    char *cell;
    int width, height;
    struct show_range range;
};

static int column_of(const struct canvas *canvas, double ms)
{
    const struct show_range *r = &canvas->range;
    return (int)lround(log(ms / r->x0) / log(r->x1 / r->x0) * (canvas->width - 1));
}

/* Row 0 is the top. */
static int row_of(const struct canvas *canvas, double kld)
{
    const struct show_range *r = &canvas->range;
    return (int)lround(log(r->y1 / kld) / log(r->y1 / r->y0) * (canvas->height - 1));
}

static void put(struct canvas *canvas, int column, int row, char mark)
{
    if (column < 0 || column >= canvas->width || row < 0 || row >= canvas->height)
        return;
    char *cell = &canvas->cell[row * canvas->width + column];
    /* A joint candidate is never hidden by another. */
    if (*cell != '#')
        *cell = mark;
}

static void draw_points(struct canvas *canvas, const struct front *front)
{
    for (size_t i = 0; i < front->n; i++) {
        const struct front_member *member = &front->member[i];
        struct show_facts facts;
        show_facts(member, &front->geometry, front, &facts);
        put(canvas, column_of(canvas, member->evaluation.decode.median_ns * 1e-6),
            row_of(canvas, show_kld_drawn(member)), show_is_joint(&facts) ? '#' : 'o');
    }
    if (front->has_parent)
        put(canvas, column_of(canvas, front->parent.evaluation.decode.median_ns * 1e-6),
            canvas->height - 1, 'P');
}

static void print_rows(FILE *out, const struct canvas *canvas)
{
    double ticks[32];
    size_t n = show_ticks(canvas->range.y0, canvas->range.y1, (size_t)canvas->height / 3, ticks);
    for (int row = 0; row < canvas->height; row++) {
        char label[16] = "";
        for (size_t i = 0; i < n; i++)
            if (row_of(canvas, ticks[i]) == row)
                snprintf(label, sizeof label, "%.3g", ticks[i]);
        fprintf(out, "%*s %c", LABEL - 2, label, label[0] != '\0' ? '+' : '|');
        int last = canvas->width;
        const char *line = canvas->cell + row * canvas->width;
        while (last > 0 && line[last - 1] == ' ')
            last--;
        fprintf(out, "%.*s\n", last, line);
    }
}

static void print_x_axis(FILE *out, const struct canvas *canvas)
{
    double ticks[32];
    size_t n = show_ticks(canvas->range.x0, canvas->range.x1, (size_t)canvas->width / 10, ticks);
    char *line = malloc((size_t)canvas->width + 16);
    if (line == NULL)
        return;
    memset(line, '-', (size_t)canvas->width);
    for (size_t i = 0; i < n; i++)
        line[column_of(canvas, ticks[i])] = '+';
    fprintf(out, "%*s+%.*s\n", LABEL - 1, "", canvas->width, line);
    memset(line, ' ', (size_t)canvas->width + 16);
    int end = 0;
    for (size_t i = 0; i < n; i++) {
        char label[16];
        int length = snprintf(label, sizeof label, "%.3g", ticks[i]);
        int at = column_of(canvas, ticks[i]) - length / 2;
        at = at < 0 ? 0 : at;
        if ((i > 0 && at <= end) || at + length > canvas->width + 15)
            continue;
        memcpy(line + at, label, (size_t)length);
        end = at + length;
    }
    fprintf(out, "%*s%.*s\n", LABEL, "", end, line);
    free(line);
}

void show_plot(FILE *out, const struct front *front, int width, int height)
{
    struct canvas canvas = {.width = width > LABEL + 20 ? width - LABEL : 20,
                            .height = height > 8 ? height - 4 : 4};
    if (!show_range(front, &canvas.range)) {
        fprintf(out, "no candidate has been measured yet\n");
        return;
    }
    canvas.cell = malloc((size_t)canvas.width * (size_t)canvas.height);
    if (canvas.cell == NULL) {
        fprintf(out, "out of memory\n");
        return;
    }
    memset(canvas.cell, ' ', (size_t)canvas.width * (size_t)canvas.height);
    draw_points(&canvas, front);
    fprintf(out, "KLD to the parent, nats per token (log)  %.*s\n", width > 50 ? width - 42 : 8,
            front->device);
    print_rows(out, &canvas);
    print_x_axis(out, &canvas);
    fprintf(out, "%*stpot_ms p50, ms (log)   # joint  o other%s\n", LABEL, "",
            front->has_parent ? "  P parent (KLD 0)" : "");
    free(canvas.cell);
}
