/* show_parts.h - what the files of show share: facts about a member that are derived and not
 * measured, numbers as text, and a table of cells.
 *   show.c            dispatch by format, facts, numbers
 *   show_table.c      front, answer and list for people; show_candidate.c one candidate
 *   show_json.c, show_tsv.c, show_plot.c, show_svg.c   one format each */
#ifndef KERF_SHOW_PARTS_H
#define KERF_SHOW_PARTS_H

#include "results/show.h"

/* What can be said of a member without measuring. */
struct show_facts {
    uint32_t layers;           /* that keep a unit */
    uint32_t ffn_min, ffn_max; /* kept widths; 0 and 0 when no FFN is left */
    double bits;               /* mean per weight */
    bool thinner;              /* fewer units, fewer heads or narrower than the parent */
    bool coarser;              /* some matrix in fewer bits than the parent's */
    bool verified;             /* measured at the final rung */
    bool exceeds_cache;        /* its weights are larger than the cache a core owns */
};

/* Thinner and coarser at once: what only a joint search finds. */
static inline bool show_is_joint(const struct show_facts *facts)
{
    return facts->thinner && facts->coarser;
}

/* `front` may be NULL: then the parent counts as 16-bit and the cache is not known. */
void show_facts(const struct front_member *member, const struct geometry *geometry,
                const struct front *front, struct show_facts *facts);

bool show_is_on_front(const struct front *front, const struct front_member *member);
const char *show_origin(uint32_t origin); /* "child", "parent"; "?" */

/* "8b0c91f2": enough of an id to be typed. */
#define SHOW_ID_DIGITS 8
const char *show_id(const struct id128 *id, char text[ID128_HEX]);

/* "0.512 +-0.004": as many digits as the half-width of the interval leaves meaning to; without one
 * (0 or NAN) four significant digits, "-" for NAN; "0" where both are below a billionth. */
#define SHOW_NUMBER 48
const char *show_interval(double value, double half, char text[SHOW_NUMBER]);
/* A median in ms with half of its 95 % interval. */
const char *show_latency(const struct measured *measured, char text[SHOW_NUMBER]);
/* 95 % half-width of a standard error. */
double show_half(double se);
/* "Q2_K Q3_K", "" for none. */
const char *show_formats(uint32_t set, char text[128]);
/* "" , "1024" or "512-1024" ("-" when no FFN is left). */
const char *show_ffn(const struct show_facts *facts, char text[32]);

/* The option that leads a later command to the study: "", or " -C DIR" as short as it can be said
 * from the working folder. */
const char *show_study_option(const struct study *study, char text[STUDY_PATH_MAX + 8]);

/* Lines that head every answer for people: device, workloads, geometry, weights against cache. */
void show_head(FILE *out, const struct study *study, const struct front *front);
/* "its 15.2 MB of weights exceed the 2.1 MB of cache that a core owns"; "" when not known. */
const char *show_cache_note(const struct study *study, const struct front *front, char text[160]);

/* Cells that are collected first and printed aligned. */
struct show_cells {
    char (*text)[SHOW_NUMBER + 16];
    size_t n_columns, n, room;
    bool failed; /* out of memory: printing says so */
};
void show_cell(struct show_cells *cells, const char *text);
void show_cells_print(FILE *out, struct show_cells *cells); /* and free */

/* Per format. */
void show_front_table(FILE *out, const struct study *study, const struct front *front);
void show_front_json(FILE *out, const struct study *study, const struct front *front);
void show_front_tsv(FILE *out, const struct study *study, const struct front *front);

void show_all_table(FILE *out, const struct study *study, const struct front *front);
void show_all_json(FILE *out, const struct study *study, const struct front *front);
void show_all_tsv(FILE *out, const struct study *study, const struct front *front);

struct cJSON;

/* A number, left out where it is not finite; and the keys that every answer begins with, front NULL
 * where there is none. */
void put_number(struct cJSON *node, const char *name, double value);
void show_json_head(struct cJSON *root, const struct study *study, const struct front *front);

/* A rank correlation, "not defined" for NAN; the pair of decode and prefill as "spearman". */
const char *show_rank(double rho, char text[32]);
void put_ranks(struct cJSON *node, const double rho[2]);

void show_answer_table(FILE *out, const struct study *study, const struct front *front,
                       const struct query *query, const char *question,
                       const struct query_answer *answer);
void show_answer_json(FILE *out, const struct study *study, const struct front *front,
                      const struct query *query, const char *question,
                      const struct query_answer *answer);
void show_answer_tsv(FILE *out, const struct study *study, const struct front *front,
                     const struct query *query, const char *question,
                     const struct query_answer *answer);

void show_candidate_table(FILE *out, const struct study *study, const struct front_member *member,
                          const char *details);
void show_candidate_json(FILE *out, const struct study *study, const struct front_member *member,
                         const char *details);
void show_candidate_tsv(FILE *out, const struct study *study, const struct front_member *member,
                        const char *details);

/* The name of a metric as the user gave it, and the question in words:
 * "tpot_ms.p50 <= 5 ms, size <= 1.2 MB". */
const char *show_metric(enum query_metric metric);
const char *show_question(const struct query *query, const char *budget, char text[200]);

/* Axes of the two pictures: the range of decode latency (ms) and KLD over the front (and the parent
 * on the first axis), widened to decent ends.  False when there is nothing to draw. */
struct show_range {
    double x0, x1, y0, y1;
};
#define SHOW_KLD_MIN 1e-7
bool show_range(const struct front *front, struct show_range *range);
double show_kld_drawn(const struct front_member *member); /* at least SHOW_KLD_MIN */
/* Round numbers within [low, high], at most `room` of them (and 32) and as many as that allows;
 * returns their number. */
size_t show_ticks(double low, double high, size_t room, double ticks[32]);

#endif
