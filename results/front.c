/* front.c - gathering the measured candidates, and who among them is beaten by nobody. */
#include "results/front.h"
#include "results/query.h"
#include "space/base/dominance.h"
#include "space/base/err.h"
#include "space/base/units.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTIVE_KLD, OBJECTIVE_DECODE, OBJECTIVE_PREFILL, OBJECTIVE_BYTES, N_OBJECTIVES };

/* A 95 % interval is so many standard errors wide. */
#define INTERVAL_SE 3.92

/* The origin of the parent, after those that a search names (corner, uniform, seed, child, random);
 * recorded as a number, and as such part of the archive's format. */
#define ORIGIN_PARENT 5

bool candidate_is_parent(const struct candidate *candidate)
{
    return candidate->origin == ORIGIN_PARENT && candidate->n_levels == 0;
}

/* --- gathering --- */

struct gathering {
    struct front *front;
    struct archive *archive;
    const struct geometry *geometry;
    struct id128 device;
    struct front_member *next; /* the one being read */
    size_t room;
    struct err *err;
};

static int read_genome(struct gathering *self, const struct id128 *id, struct genome *genome)
{
    char hex[ID128_HEX];
    struct err why = {0};
    char *text = archive_get_genome(self->archive, id, self->err);
    if (text == NULL)
        return -1;
    int status = genome_parse(text, genome, &why);
    if (status == 0 && genome->n_layers != self->geometry->n_layers) {
        err_set(&why, ERR_DATA, "%u layers, the parent has %u", genome->n_layers,
                self->geometry->n_layers);
        status = -1;
    }
    if (status == 0)
        status = genome_canonicalize(genome, self->geometry, &why);
    free(text);
    if (status == 0)
        return 0;
    id128_hex(*id, hex);
    err_set(self->err, ERR_DATA, "candidate %s: its genome does not fit the parent: %s", hex,
            why.text);
    return -1;
}

static int append(struct gathering *self)
{
    struct front *front = self->front;
    if (front->n_all == self->room) {
        size_t room = self->room > 0 ? 2 * self->room : 64;
        struct front_member *more = realloc(front->all, room * sizeof *more);
        if (more == NULL) {
            err_set(self->err, ERR_MEMORY, "front: out of memory");
            return -1;
        }
        front->all = more;
        self->room = room;
    }
    front->all[front->n_all++] = *self->next;
    return 0;
}

static int gather(void *arg, const struct candidate *candidate)
{
    struct gathering *self = arg;
    struct err why = {0};
    if (candidate->status != STATUS_DONE)
        return 0;
    if (archive_get_evaluation_on(self->archive, &candidate->id, &self->device,
                                  &self->next->evaluation, NULL, &why) != 0) {
        /* Measured on another class only: no part of this front. */
        if (why.code == ERR_MISSING)
            return 0;
        err_set(self->err, why.code, "%s", why.text);
        return -1;
    }
    self->next->candidate = *candidate;
    if (read_genome(self, &candidate->id, &self->next->genome) != 0)
        return -1;
    if (!candidate_is_parent(candidate))
        return append(self);
    self->front->parent = *self->next;
    self->front->has_parent = true;
    return 0;
}

static int compare_decode(const void *a, const void *b)
{
    const struct front_member *x = a, *y = b;
    double t = x->evaluation.decode.median_ns, u = y->evaluation.decode.median_ns;
    if (t != u)
        return t < u ? -1 : 1;
    return id128_compare(x->candidate.id, y->candidate.id);
}

/* --- ranking --- */

enum standing { OPEN, IN, OUT };

struct ranking {
    double (*point)[N_OBJECTIVES]; /* all, then the parent */
    double (*se)[N_OBJECTIVES];
    enum standing *standing;
    size_t n; /* with the parent */
};

static void rank_fill(struct ranking *ranking, size_t i, const struct evaluation *e)
{
    double *point = ranking->point[i], *se = ranking->se[i];
    point[OBJECTIVE_KLD] = e->kld;
    point[OBJECTIVE_DECODE] = e->decode.median_ns;
    point[OBJECTIVE_PREFILL] = e->prefill.median_ns;
    point[OBJECTIVE_BYTES] = (double)e->weight_bytes;
    se[OBJECTIVE_KLD] = e->kld_se;
    se[OBJECTIVE_DECODE] = (e->decode.hi_ns - e->decode.lo_ns) / INTERVAL_SE;
    se[OBJECTIVE_PREFILL] = (e->prefill.hi_ns - e->prefill.lo_ns) / INTERVAL_SE;
    se[OBJECTIVE_BYTES] = 0;
}

/* By another one that stands as `least` says or better: IN, or OPEN and IN. */
static bool is_beaten_noisily(const struct ranking *r, size_t i, enum standing least)
{
    for (size_t j = 0; j < r->n; j++)
        if (j != i && (r->standing[j] == IN || r->standing[j] == least) &&
            dominance_beats_noisy(r->point[j], r->se[j], r->point[i], r->se[i], N_OBJECTIVES, 1))
            return true;
    return false;
}

/* By another one of those in. */
static bool is_beaten_plainly(const struct ranking *r, size_t i)
{
    for (size_t j = 0; j < r->n; j++)
        if (j != i && r->standing[j] == IN &&
            dominance_beats(r->point[j], r->point[i], N_OBJECTIVES))
            return true;
    return false;
}

/* Who is beaten by nobody is in, who is beaten by one of those is out and beats nobody any more,
 * until nothing changes.  Else a vague candidate, itself beaten, would take with it what it merely
 * cannot be told from. */
static void settle(struct ranking *r, size_t n)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < n; i++)
            if (r->standing[i] == OPEN && !is_beaten_noisily(r, i, OPEN)) {
                r->standing[i] = IN;
                changed = true;
            }
        for (size_t i = 0; i < n && changed; i++)
            if (r->standing[i] == OPEN && is_beaten_noisily(r, i, IN))
                r->standing[i] = OUT;
    }
    for (size_t i = 0; i < n; i++) /* a circle */
        if (r->standing[i] == OPEN)
            r->standing[i] = IN;
}

static size_t rank(const struct front *front, struct ranking *r)
{
    size_t n_in = 0;
    for (size_t i = 0; i < front->n_all; i++)
        rank_fill(r, i, &front->all[i].evaluation);
    if (front->has_parent) {
        rank_fill(r, front->n_all, &front->parent.evaluation);
        r->standing[front->n_all] = IN;
    }
    settle(r, front->n_all);
    /* Whom somebody beats can be left out at once: beating is transitive on plain numbers. */
    for (size_t i = 0; i < front->n_all; i++)
        if (r->standing[i] == IN && is_beaten_plainly(r, i))
            r->standing[i] = OUT;
    for (size_t i = 0; i < front->n_all; i++)
        n_in += r->standing[i] == IN;
    return n_in;
}

static int select_members(struct front *front, struct err *err)
{
    struct ranking r = {.n = front->n_all + front->has_parent};
    int status = 0;
    if (front->n_all == 0)
        return 0;
    r.point = calloc(r.n, sizeof *r.point);
    r.se = calloc(r.n, sizeof *r.se);
    r.standing = calloc(r.n, sizeof *r.standing);
    if (r.point != NULL && r.se != NULL && r.standing != NULL) {
        size_t n = rank(front, &r);
        front->member = malloc((n > 0 ? n : 1) * sizeof *front->member);
    }
    if (front->member == NULL) {
        err_set(err, ERR_MEMORY, "front: out of memory");
        status = -1;
    } else {
        for (size_t i = 0; i < front->n_all; i++)
            if (r.standing[i] == IN)
                front->member[front->n++] = front->all[i];
    }
    free(r.point);
    free(r.se);
    free(r.standing);
    return status;
}

/* --- loading --- */

/* 1 the class is known, 0 nothing has been measured yet, -1 error. */
static int read_device(struct front *front, struct archive *archive, struct id128 *device,
                       struct err *err)
{
    char id[ID128_HEX + 8], cache[32] = "", calibration[32] = "";
    int there = archive_get_meta(archive, ARCHIVE_META_DEVICE_ID, id, sizeof id, err);
    if (there <= 0)
        return there;
    if (id128_parse(id, device) != 0) {
        err_set(err, ERR_DATA, "archive: '%.40s' is no device class", id);
        return -1;
    }
    if (archive_get_meta(archive, ARCHIVE_META_DEVICE, front->device, sizeof front->device, err) <
            0 ||
        archive_get_meta(archive, ARCHIVE_META_KERNELS, front->kernels, sizeof front->kernels,
                         err) < 0 ||
        archive_get_meta(archive, ARCHIVE_META_PRIVATE_CACHE, cache, sizeof cache, err) < 0 ||
        archive_get_meta(archive, ARCHIVE_META_CALIBRATION, calibration, sizeof calibration, err) <
            0)
        return -1;
    front->is_diagonal = strcmp(calibration, "diagonal") == 0;
    front->private_cache_bytes = strtoull(cache, NULL, 10);
    return 1;
}

int front_load(struct front *front, struct archive *archive, const struct geometry *geometry,
               struct err *err)
{
    struct gathering self = {.front = front, .archive = archive, .geometry = geometry, .err = err};
    memset(front, 0, sizeof *front);
    front->geometry = *geometry;
    int known = read_device(front, archive, &self.device, err);
    if (known <= 0)
        return known;
    self.next = malloc(sizeof *self.next);
    if (self.next == NULL) {
        err_set(err, ERR_MEMORY, "front: out of memory");
        return -1;
    }
    int status = archive_each_candidate(archive, gather, &self, err);
    free(self.next);
    if (status == 0 && front->n_all > 1)
        qsort(front->all, front->n_all, sizeof *front->all, compare_decode);
    if (status == 0)
        status = select_members(front, err);
    if (status != 0)
        front_fini(front);
    return status;
}

void front_fini(struct front *front)
{
    free(front->member);
    free(front->all);
    memset(front, 0, sizeof *front);
}

/* --- names --- */

static size_t best_index(const struct front *front)
{
    size_t best = 0;
    for (size_t i = 1; i < front->n; i++)
        if (front->member[i].evaluation.kld < front->member[best].evaluation.kld)
            best = i;
    return best;
}

static size_t smallest_index(const struct front *front)
{
    size_t least = 0;
    for (size_t i = 1; i < front->n; i++)
        if (front->member[i].evaluation.weight_bytes < front->member[least].evaluation.weight_bytes)
            least = i;
    return least;
}

size_t front_knee(const struct front *front)
{
    if (front->n < 3)
        return 0;
    size_t best = best_index(front), knee = 0;
    const struct evaluation *first = &front->member[0].evaluation;
    double dx = front->member[best].evaluation.decode.median_ns - first->decode.median_ns;
    double dy = front->member[best].evaluation.kld - first->kld;
    double farthest = -INFINITY;
    for (size_t i = 1; i < front->n; i++) {
        double x = front->member[i].evaluation.decode.median_ns - first->decode.median_ns;
        double y = front->member[i].evaluation.kld - first->kld;
        /* Twice the triangle's area, positive below the line; the scale of the axes drops out. */
        double below = x * dy - y * dx;
        if (i != best && below > farthest) {
            farthest = below;
            knee = i;
        }
    }
    return knee;
}

static const struct front_member *resolve_budget(const struct front *front, const char *text,
                                                 struct err *err)
{
    struct query query = {.max_loss = -1, .n = 1};
    struct query_answer answer;
    double seconds;
    if (units_parse_duration(text, &seconds, err) != 0)
        return NULL;
    query.budget_ns = seconds * 1e9;
    query_run(front, &query, &answer);
    if (answer.n_hits > 0)
        return answer.hit[0];
    err_set(err, ERR_MISSING, "@%s: no measured candidate within this budget", text);
    return NULL;
}

static const struct front_member *resolve_name(const struct front *front, const char *name,
                                               struct err *err)
{
    size_t index;
    if (strcmp(name, "@parent") == 0) {
        if (front->has_parent)
            return &front->parent;
        err_set(err, ERR_MISSING, "@parent: the parent has not been measured yet");
        return NULL;
    }
    if (name[1] >= '0' && name[1] <= '9')
        return resolve_budget(front, name + 1, err);
    if (strcmp(name, "@best") == 0)
        index = best_index(front);
    else if (strcmp(name, "@fastest") == 0)
        index = 0;
    else if (strcmp(name, "@smallest") == 0)
        index = smallest_index(front);
    else if (strcmp(name, "@knee") == 0)
        index = front_knee(front);
    else {
        err_set(err, ERR_USAGE,
                "%.40s: unknown name; @best @knee @fastest @smallest @parent or @30ms", name);
        return NULL;
    }
    if (front->n > 0)
        return &front->member[index];
    err_set(err, ERR_MISSING, "%s: no candidate has been measured yet", name);
    return NULL;
}

/* The candidate exists: say why it has no figures. */
static void tell_unmeasured(struct archive *archive, const struct id128 *id, struct err *err)
{
    struct candidate candidate;
    char hex[ID128_HEX];
    id128_hex(*id, hex);
    char *reason = archive_get_reason(archive, id, NULL);
    if (archive_get_candidate(archive, id, &candidate, err) != 0)
        ;
    else if (candidate.status == STATUS_QUARANTINED)
        err_set(err, ERR_MISSING, "candidate %s is quarantined: %.200s", hex,
                reason != NULL ? reason : "it failed");
    else
        err_set(err, ERR_MISSING, "candidate %s has not been measured on this device yet", hex);
    free(reason);
}

const struct front_member *front_resolve(const struct front *front, struct archive *archive,
                                         const char *name, struct err *err)
{
    struct id128 id;
    if (name[0] == '@')
        return resolve_name(front, name, err);
    if (archive_find(archive, name, &id, err) != 0)
        return NULL;
    for (size_t i = 0; i < front->n_all; i++)
        if (id128_equal(front->all[i].candidate.id, id))
            return &front->all[i];
    if (front->has_parent && id128_equal(front->parent.candidate.id, id))
        return &front->parent;
    tell_unmeasured(archive, &id, err);
    return NULL;
}
