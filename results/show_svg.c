/* show_svg.c - the front as one SVG file that needs nothing else: decode latency to the right, KLD
 * upwards, both logarithmic, with 95 % intervals.  Colours follow the reader's light or dark scheme
 * and stay apart for the colour-blind; shape says the same as colour. */
#include "results/show_parts.h"
#include "space/account.h"
#include "space/base/units.h"
#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The drawing, in pixels: the frame and what stands around it. */
#define WIDTH  760
#define HEIGHT 520
#define LEFT   84
#define RIGHT  (WIDTH - 24)
#define TOP    64
#define BOTTOM (HEIGHT - 118)
#define CAP    3 /* half a whisker's end */
#define MARKER 6 /* half a member's marker */
#define DOT    2 /* radius of a beaten one */

/* The most that 13 px text takes: a viewer's font is not known here. */
#define GLYPH   7.5
#define ASCENT  12
#define DESCENT 4

/* Plain colours and no variables: some viewers know no more of CSS than that. */
static const char style[] =
    "<style>\n"
    "svg{background:#ffffff}text{font:13px system-ui,sans-serif;fill:#1b1f24}"
    "text.title{font-size:16px;font-weight:600}text.soft{fill:#5c6670}\n"
    ".paper{fill:#ffffff}.grid{stroke:#e3e7eb}.frame{stroke:#5c6670;fill:none}"
    ".rest{fill:#b8c0c8}.mark{fill:#5c6670}.parent{stroke:#5c6670;stroke-dasharray:5 4}\n"
    ".bits{fill:#0072b2;stroke:#0072b2}.joint{fill:#d55e00;stroke:#d55e00}"
    ".open{fill:#ffffff;stroke-width:1.6}.bar{fill:none;stroke-width:1.2}\n"
    "@media (prefers-color-scheme:dark){svg{background:#14181c}text{fill:#e6eaee}"
    "text.soft{fill:#9aa5b0}.paper{fill:#14181c}.grid{stroke:#2c343c}.frame{stroke:#9aa5b0}"
    ".rest{fill:#4a545e}.mark{fill:#9aa5b0}.parent{stroke:#9aa5b0}"
    ".bits{fill:#56b4e9;stroke:#56b4e9}.joint{fill:#f0a33c;stroke:#f0a33c}"
    ".open{fill:#14181c}.bar{fill:none}}\n"
    "</style>\n";

struct picture {
    FILE *out;
    const struct study *study;
    const struct front *front;
    struct show_range range;
};

/* Device names and paths come from outside. */
static void put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '&')
            fputs("&amp;", out);
        else if (c == '<')
            fputs("&lt;", out);
        else if (c == '>')
            fputs("&gt;", out);
        else if (c == '"')
            fputs("&quot;", out);
        else
            fputc(c < ' ' ? ' ' : c, out);
    }
}

static double x_of(const struct picture *p, double ms)
{
    double share = log(ms / p->range.x0) / log(p->range.x1 / p->range.x0);
    return LEFT + fmin(fmax(share, 0), 1) * (RIGHT - LEFT);
}

static double y_of(const struct picture *p, double kld)
{
    double share = log(fmax(kld, SHOW_KLD_MIN) / p->range.y0) / log(p->range.y1 / p->range.y0);
    return BOTTOM - fmin(fmax(share, 0), 1) * (BOTTOM - TOP);
}

/* --- axes --- */

static void draw_axes(const struct picture *p)
{
    double ticks[32];
    size_t n = show_ticks(p->range.x0, p->range.x1, 9, ticks);
    for (size_t i = 0; i < n; i++) {
        double x = x_of(p, ticks[i]);
        fprintf(p->out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", x,
                TOP, x, BOTTOM);
        fprintf(p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.3g</text>\n", x,
                BOTTOM + 18, ticks[i]);
    }
    n = show_ticks(p->range.y0, p->range.y1, 8, ticks);
    for (size_t i = 0; i < n; i++) {
        double y = y_of(p, ticks[i]);
        fprintf(p->out, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n",
                LEFT, y, RIGHT, y);
        fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT - 8,
                y + 4, ticks[i]);
    }
    fprintf(p->out, "<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", LEFT,
            TOP, RIGHT - LEFT, BOTTOM - TOP);
    fprintf(p->out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">decode latency, ms per token, median "
            "(log scale)</text>\n",
            (LEFT + RIGHT) / 2, BOTTOM + 38);
    fprintf(p->out,
            "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">KL divergence "
            "to the parent, nats per token (log scale)</text>\n",
            (TOP + BOTTOM) / 2);
}

/* --- points --- */

static void draw_marker(const struct picture *p, double x, double y, bool joint, bool verified)
{
    const char *class = joint ? "joint" : "bits", *open = verified ? "" : " open";
    if (joint)
        fprintf(p->out, "<path class=\"%s%s\" d=\"M%.1f %.1fl5.5 5.5l-5.5 5.5l-5.5 -5.5z\"", class,
                open, x, y - 5.5);
    else
        fprintf(p->out, "<circle class=\"%s%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"", class, open, x,
                y);
}

static void draw_bars(const struct picture *p, const struct evaluation *e, const char *class)
{
    double half = show_half(e->kld_se), x = x_of(p, e->decode.median_ns * 1e-6),
           y = y_of(p, e->kld);
    double left = x_of(p, e->decode.lo_ns * 1e-6), right = x_of(p, e->decode.hi_ns * 1e-6);
    double low = y_of(p, e->kld - half), high = y_of(p, e->kld + half);
    fprintf(p->out, "<path class=\"bar %s\" d=\"M%.1f %.1fV%.1fM%.1f %.1fH%.1fM%.1f %.1fV%.1f",
            class, left, y - CAP, y + CAP, left, y, right, right, y - CAP, y + CAP);
    fprintf(p->out, "M%.1f %.1fH%.1fM%.1f %.1fV%.1fM%.1f %.1fH%.1f\"/>\n", x - CAP, low, x + CAP, x,
            low, high, x - CAP, high, x + CAP);
}

/* What a reader sees when pointing at a marker. */
static void put_tip(const struct picture *p, const struct front_member *member,
                    const struct show_facts *facts)
{
    char hex[ID128_HEX], latency[SHOW_NUMBER], kld[SHOW_NUMBER], size[32];
    const struct evaluation *e = &member->evaluation;
    fprintf(p->out, "><title>%s: %s ms per token, KLD %s, %s, %.2f bits, %u of %u layers%s</title>",
            show_id(&e->candidate, hex), show_latency(&e->decode, latency),
            show_interval(e->kld, show_half(e->kld_se), kld),
            units_format_size((double)e->weight_bytes, size), facts->bits, facts->layers,
            p->study->geometry.n_layers, facts->verified ? "" : ", unverified");
}

static void draw_member(const struct picture *p, const struct front_member *member)
{
    const struct evaluation *e = &member->evaluation;
    struct show_facts facts;
    show_facts(member, &p->study->geometry, p->front, &facts);
    bool joint = show_is_joint(&facts);
    draw_bars(p, e, joint ? "joint" : "bits");
    draw_marker(p, x_of(p, e->decode.median_ns * 1e-6), y_of(p, e->kld), joint, facts.verified);
    put_tip(p, member, &facts);
    fprintf(p->out, "</%s>\n", joint ? "path" : "circle");
}

/* The dominated ones give the front its background; those outside the frame are left out. */
static bool is_beaten_inside(const struct picture *p, const struct front_member *member)
{
    double ms = member->evaluation.decode.median_ns * 1e-6, kld = show_kld_drawn(member);
    return ms >= p->range.x0 && ms <= p->range.x1 && kld >= p->range.y0 && kld <= p->range.y1 &&
           !show_is_on_front(p->front, member);
}

static void draw_rest(const struct picture *p)
{
    for (size_t i = 0; i < p->front->n_all; i++) {
        const struct front_member *member = &p->front->all[i];
        if (is_beaten_inside(p, member))
            fprintf(p->out, "<circle class=\"rest\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>\n",
                    x_of(p, member->evaluation.decode.median_ns * 1e-6),
                    y_of(p, show_kld_drawn(member)), DOT);
    }
}

/* --- the parent --- */

struct box {
    double left, top, right, bottom;
};

static bool boxes_meet(struct box a, struct box b)
{
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/* How many marks lie in a box: a member's marker and its two bars count each. */
static size_t count_marks(const struct picture *p, struct box box)
{
    size_t n = 0;
    for (size_t i = 0; i < p->front->n; i++) {
        const struct evaluation *e = &p->front->member[i].evaluation;
        double half = show_half(e->kld_se), x = x_of(p, e->decode.median_ns * 1e-6),
               y = y_of(p, e->kld);
        n += boxes_meet(box, (struct box){x - MARKER, y - MARKER, x + MARKER, y + MARKER});
        n += boxes_meet(box, (struct box){x_of(p, e->decode.lo_ns * 1e-6), y - CAP,
                                          x_of(p, e->decode.hi_ns * 1e-6), y + CAP});
        n += boxes_meet(
            box, (struct box){x - CAP, y_of(p, e->kld + half), x + CAP, y_of(p, e->kld - half)});
    }
    for (size_t i = 0; i < p->front->n_all; i++) {
        const struct front_member *member = &p->front->all[i];
        double x = x_of(p, member->evaluation.decode.median_ns * 1e-6),
               y = y_of(p, show_kld_drawn(member));
        n += is_beaten_inside(p, member) &&
             boxes_meet(box, (struct box){x - DOT, y - DOT, x + DOT, y + DOT});
    }
    return n;
}

struct place {
    double x;
    int y;      /* of the baseline */
    bool ahead; /* the text ends at x, not begins there */
};

/* Beside the parent's line at `x`: from the bottom up, on the side with more room first, the first
 * place where the text covers no mark; where there is none, the one with the fewest. */
static struct place place_label(const struct picture *p, double x, size_t n_glyphs)
{
    struct place best = {x, BOTTOM - 12, false};
    double width = (double)n_glyphs * GLYPH;
    size_t fewest = SIZE_MAX;
    for (int y = BOTTOM - 12; y - ASCENT > TOP && fewest > 0; y -= ASCENT + DESCENT)
        for (int turn = 0; turn < 2; turn++) {
            bool ahead = (x > (LEFT + RIGHT) / 2.0) == (turn == 0);
            struct place place = {ahead ? x - 8 : x + 8, y, ahead};
            struct box box = {ahead ? place.x - width : place.x, y - ASCENT,
                              ahead ? place.x : place.x + width, y + DESCENT};
            if (box.left < LEFT || box.right > RIGHT)
                continue;
            size_t n = count_marks(p, box);
            if (n < fewest) {
                fewest = n;
                best = place;
            }
        }
    return best;
}

static void draw_parent(const struct picture *p)
{
    const struct evaluation *e = &p->front->parent.evaluation;
    char label[64];
    if (!p->front->has_parent)
        return;
    double x = x_of(p, e->decode.median_ns * 1e-6);
    fprintf(p->out, "<line class=\"parent\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", x,
            TOP, x, BOTTOM);
    fprintf(p->out, "<rect class=\"mark\" x=\"%.1f\" y=\"%d\" width=\"9\" height=\"9\"/>\n",
            x - 4.5, BOTTOM - 5);
    int n = snprintf(label, sizeof label, "parent, %.3g ms, KLD 0", e->decode.median_ns * 1e-6);
    struct place place = place_label(p, x, (size_t)n);
    fprintf(p->out, "<text class=\"soft\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n",
            place.x, place.y, place.ahead ? "end" : "start", label);
}

/* --- words --- */

static void draw_legend(const struct picture *p)
{
    fprintf(p->out, "<g transform=\"translate(%d %d)\">\n", LEFT, TOP - 14);
    draw_marker(p, 6, -4, true, true);
    fputs("/>\n<text x=\"18\">fewer or narrower layers and fewer bits</text>\n", p->out);
    draw_marker(p, 290, -4, false, true);
    fputs("/>\n<text x=\"302\">one of the two</text>\n", p->out);
    draw_marker(p, 410, -4, false, false);
    fputs("/>\n<text x=\"422\">unverified</text>\n", p->out);
    fputs("<circle class=\"rest\" cx=\"514\" cy=\"-4\" r=\"2\"/>\n<text x=\"522\">beaten</text>\n",
          p->out);
    fputs("</g>\n", p->out);
}

static void put_line(const struct picture *p, int y, const char *text)
{
    fprintf(p->out, "<text class=\"soft\" x=\"%d\" y=\"%d\">", LEFT, y);
    put_escaped(p->out, text);
    fputs("</text>\n", p->out);
}

static void draw_caption(const struct picture *p)
{
    char line[512], shape[160], decode[32], note[160];
    snprintf(line, sizeof line, "Parent: %s.", geometry_describe(&p->study->geometry, shape));
    put_line(p, HEIGHT - 56, line);
    show_cache_note(p->study, p->front, note);
    note[0] = (char)toupper((unsigned char)note[0]);
    snprintf(line, sizeof line, "%s%sBars: 95 %% intervals.", note, note[0] != '\0' ? ". " : "");
    put_line(p, HEIGHT - 38, line);
    snprintf(line, sizeof line, "Device: %.120s, %u thread%s; workload %s.", p->front->device,
             p->study->threads, p->study->threads == 1 ? "" : "s",
             workload_format(&p->study->decode, decode));
    put_line(p, HEIGHT - 20, line);
}

void show_svg(FILE *out, const struct study *study, const struct front *front)
{
    struct picture p = {.out = out, .study = study, .front = front};
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" role=\"img\" aria-label=\"Measured front: decode latency against KL "
            "divergence\">\n%s",
            WIDTH, HEIGHT, WIDTH, HEIGHT, style);
    fprintf(out, "<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", WIDTH, HEIGHT);
    fprintf(out,
            "<text class=\"title\" x=\"%d\" y=\"28\">%zu of %zu measured candidates are beaten "
            "by nobody</text>\n",
            LEFT, front->n, front->n_all);
    if (show_range(front, &p.range)) {
        draw_legend(&p);
        draw_axes(&p);
        draw_rest(&p);
        draw_parent(&p);
        for (size_t i = 0; i < front->n; i++)
            draw_member(&p, &front->member[i]);
    } else {
        put_line(&p, TOP + 20, "No candidate has been measured yet.");
    }
    draw_caption(&p);
    fputs("</svg>\n", out);
}
