/* bench_kernels - how fast the matrix kernels are on this core, one thread, and what memory allows.
 *
 *   bench_kernels [--isa NAME] [--rounds N] [--small MB] [--large MB] [--cols N] [FORMAT...]
 *   bench_kernels --batches MB ...
 *
 * Decode: GB/s of weight bytes over a working set of each size, beside the rate at which the same
 * bytes can merely be read; both are sampled in turn, round after round, so that other load meets
 * both.  Prefill: 10^9 operations a second, a multiplication and an addition counting two, and for
 * float activations the share of what multiply-adds do in registers alone, likewise in turn.
 * With --batches instead: decode of 1, 2, ... columns over one working set, and how many times as
 * long as one column each takes; what memory alone decides would take as long.
 * Figures are medians over the rounds; the spread is the distance of the quartiles in per cent of
 * the median.  Pin the program (taskset) and keep the machine quiet, or the figures mean little. */
#include "evaluator/kernels/kernels.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "tests/bench/fma_rate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_IN = 2048, PREFILL_ROWS = 512, MAX_ROUNDS = 1000 };

struct options {
    const struct kernels *set;
    size_t rounds, cols;
    size_t megabytes[2]; /* working sets of decode */
    size_t batches;      /* that of --batches; 0: not asked for */
    bool wanted[N_FORMATS];
};

struct figure {
    double median, spread_percent;
};

static struct figure figure_of(double *sample, size_t n)
{
    stats_sort(sample, n);
    double median = stats_quantile(sample, n, 0.5);
    double width = stats_quantile(sample, n, 0.75) - stats_quantile(sample, n, 0.25);
    return (struct figure){median, 100 * width / median};
}

static void *get_memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p == NULL) {
        fprintf(stderr, "bench_kernels: out of memory for %zu bytes\n", bytes);
        exit(70);
    }
    return p;
}

/* Ordinary bytes: no NaN or subnormal factors, which would be slow for reasons of their own. */
static void fill_rows(void *w, enum format format, size_t n_rows, size_t n_in)
{
    struct rng rng = rng_make(1, 1);
    size_t block = format_block(format), bytes = format_block_bytes(format);
    bool last = format == FORMAT_Q2_K || format == FORMAT_Q3_K || format == FORMAT_Q6_K;
    bool two = format == FORMAT_Q2_K || format == FORMAT_Q4_K || format == FORMAT_Q5_K;
    uint16_t d = kernels_f32_to_f16(0.003f);
    for (size_t b = 0; b < n_rows * n_in / block; b++) {
        uint8_t *p = (uint8_t *)w + b * bytes;
        float value = (float)(int32_t)rng_u32(&rng) * 0x1p-31f;
        uint16_t half =
            format == FORMAT_F16 ? kernels_f32_to_f16(value) : kernels_f32_to_bf16(value);
        if (block == 1) {
            memcpy(p, bytes == 2 ? (void *)&half : (void *)&value, bytes);
            continue;
        }
        for (size_t i = 0; i + 4 <= bytes; i += 4) {
            uint32_t r = rng_u32(&rng);
            memcpy(p + i, &r, sizeof r);
        }
        uint8_t *factor = last ? p + bytes - (two ? 4 : 2) : p;
        memcpy(factor, &d, sizeof d);
        if (two)
            memcpy(factor + 2, &d, sizeof d);
    }
}

/* `n_cols` packed columns of ordinary activations. */
static char *make_columns(const struct kernels *set, enum format format, enum act_format act,
                          size_t n_cols)
{
    struct rng rng = rng_make(2, 1);
    size_t act_bytes = kernels_act_bytes(format, act, N_IN);
    char *packed = get_memory(act_bytes * n_cols);
    float x[N_IN];
    for (size_t c = 0; c < n_cols; c++) {
        for (size_t i = 0; i < N_IN; i++)
            x[i] = (float)(int32_t)rng_u32(&rng) * 0x1p-31f;
        set->pack[format][act](x, N_IN, packed + c * act_bytes);
    }
    return packed;
}

static volatile uint64_t sink; /* keeps reads from being optimized away */

/* Decode and plain reading of the same bytes, in turn. */
static void bench_decode(const struct options *o, enum format format, enum act_format act,
                         size_t megabytes, struct figure *decode, struct figure *read)
{
    size_t row_bytes = format_row_bytes(format, N_IN);
    size_t n_rows = megabytes * 1000000 / row_bytes, bytes = n_rows * row_bytes;
    size_t repeats = 1 + 50000000 / bytes;
    char *w = get_memory(bytes), *x = make_columns(o->set, format, act, 1);
    float *out = get_memory(n_rows * sizeof *out);
    double sample[2][MAX_ROUNDS];
    fill_rows(w, format, n_rows, N_IN);
    for (size_t round = 0; round <= o->rounds; round++) {
        int64_t start = clock_now_ns();
        for (size_t i = 0; i < repeats; i++)
            o->set->matmul[format][act](w, row_bytes, n_rows, N_IN, x,
                                        kernels_act_bytes(format, act, N_IN), 1, out, n_rows);
        int64_t middle = clock_now_ns();
        for (size_t i = 0; i < repeats; i++)
            sink ^= o->set->read(w, bytes);
        int64_t end = clock_now_ns();
        if (round == 0)
            continue; /* warm-up */
        sample[0][round - 1] = (double)(bytes * repeats) / (double)(middle - start);
        sample[1][round - 1] = (double)(bytes * repeats) / (double)(end - middle);
    }
    *decode = figure_of(sample[0], o->rounds);
    *read = figure_of(sample[1], o->rounds);
    free(out);
    free(x);
    free(w);
}

/* Few columns and plain reading of the same bytes, in turn. */
static void bench_batches(const struct options *o, enum format format, enum act_format act)
{
    enum { N_BATCHES = 8 };
    static const size_t batches[N_BATCHES] = {1, 2, 3, 4, 6, 8, 12, 16};
    size_t row_bytes = format_row_bytes(format, N_IN);
    size_t n_rows = o->batches * 1000000 / row_bytes, bytes = n_rows * row_bytes;
    size_t repeats = 1 + 50000000 / bytes;
    double sample[N_BATCHES][MAX_ROUNDS], ratio[N_BATCHES][MAX_ROUNDS], read[MAX_ROUNDS];
    if (o->set->matmul[format][act] == NULL)
        return;
    char *w = get_memory(bytes), *x = make_columns(o->set, format, act, batches[N_BATCHES - 1]);
    float *out = get_memory(batches[N_BATCHES - 1] * n_rows * sizeof *out);
    fill_rows(w, format, n_rows, N_IN);
    for (size_t round = 0; round <= o->rounds; round++) {
        size_t at = round > 0 ? round - 1 : 0; /* the first is warm-up */
        int64_t start = clock_now_ns(), end;
        for (size_t i = 0; i < repeats; i++)
            sink ^= o->set->read(w, bytes);
        read[at] = (double)(bytes * repeats) / (double)(clock_now_ns() - start);
        for (size_t b = 0; b < N_BATCHES; b++) {
            start = clock_now_ns();
            for (size_t i = 0; i < repeats; i++)
                o->set->matmul[format][act](w, row_bytes, n_rows, N_IN, x,
                                            kernels_act_bytes(format, act, N_IN), batches[b], out,
                                            n_rows);
            end = clock_now_ns();
            sample[b][at] = (double)(bytes * repeats) / (double)(end - start);
            ratio[b][at] = sample[0][at] / sample[b][at];
        }
    }
    printf("%-7s %-3s | read %5.1f |", format_name(format), act_format_name(act),
           figure_of(read, o->rounds).median);
    for (size_t b = 0; b < N_BATCHES; b++) {
        struct figure speed = figure_of(sample[b], o->rounds);
        struct figure longer = figure_of(ratio[b], o->rounds);
        printf(" %zu: %.1f x%.2f (%.0f%%)", batches[b], speed.median, longer.median,
               longer.spread_percent);
    }
    printf("\n");
    fflush(stdout);
    free(out);
    free(x);
    free(w);
}

/* Prefill and multiply-adds in registers, in turn; the latter 0 where they are not known. */
static void bench_prefill(const struct options *o, enum format format, enum act_format act,
                          struct figure *prefill, struct figure *peak)
{
    size_t row_bytes = format_row_bytes(format, N_IN);
    char *w = get_memory(PREFILL_ROWS * row_bytes), *x = make_columns(o->set, format, act, o->cols);
    float *out = get_memory(PREFILL_ROWS * o->cols * sizeof *out);
    double sample[2][MAX_ROUNDS], operations = 2.0 * PREFILL_ROWS * N_IN * (double)o->cols;
    fill_rows(w, format, PREFILL_ROWS, N_IN);
    for (size_t round = 0; round <= o->rounds; round++) {
        int64_t start = clock_now_ns();
        o->set->matmul[format][act](w, row_bytes, PREFILL_ROWS, N_IN, x,
                                    kernels_act_bytes(format, act, N_IN), o->cols, out,
                                    PREFILL_ROWS);
        int64_t middle = clock_now_ns();
        double burst = fma_burst(o->set->isa, operations);
        int64_t end = clock_now_ns();
        if (round == 0)
            continue; /* warm-up */
        sample[0][round - 1] = operations / (double)(middle - start);
        sample[1][round - 1] = burst / (double)(end - middle);
    }
    *prefill = figure_of(sample[0], o->rounds);
    *peak = figure_of(sample[1], o->rounds);
    free(out);
    free(x);
    free(w);
}

static void bench_format(const struct options *o, enum format format, enum act_format act)
{
    struct figure prefill, peak;
    if (o->set->matmul[format][act] == NULL)
        return;
    printf("%-7s %-3s", format_name(format), act_format_name(act));
    for (int size = 0; size < 2; size++) {
        struct figure decode, read;
        bench_decode(o, format, act, o->megabytes[size], &decode, &read);
        double share = 100 * decode.median / read.median;
        printf(" | %6.1f (%2.0f%%) %6.1f (%2.0f%%) %4.0f%%%s", decode.median, decode.spread_percent,
               read.median, read.spread_percent, share, share < 60 ? "*" : " ");
    }
    bench_prefill(o, format, act, &prefill, &peak);
    printf(" | %6.0f (%2.0f%%)", prefill.median, prefill.spread_percent);
    if (act == ACT_FLOAT && peak.median > 0)
        printf(" %6.0f (%2.0f%%) %4.0f%%", peak.median, peak.spread_percent,
               100 * prefill.median / peak.median);
    printf("\n");
    fflush(stdout);
}

static int usage(void)
{
    fprintf(stderr, "usage: bench_kernels [--isa NAME] [--rounds N] [--small MB] [--large MB]"
                    " [--cols N] [--batches MB] [FORMAT...]\n");
    return 2;
}

static const struct kernels *set_named(const char *name)
{
    struct err err;
    enum isa isa = isa_parse(name);
    const struct kernels *set = isa == N_ISAS ? NULL : kernels_for(isa, &err);
    if (set == NULL)
        fprintf(stderr, "bench_kernels: %s: %s\n", name,
                isa == N_ISAS ? "unknown instruction set" : err.text);
    return set;
}

/* Options come in pairs; what is left are formats. */
static int parse(int argc, char **argv, struct options *o)
{
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        size_t value = strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--isa") == 0)
            o->set = set_named(argv[i + 1]);
        else if (strcmp(argv[i], "--rounds") == 0 && value >= 1 && value <= MAX_ROUNDS)
            o->rounds = value;
        else if (strcmp(argv[i], "--small") == 0 && value >= 1)
            o->megabytes[0] = value;
        else if (strcmp(argv[i], "--large") == 0 && value >= 1)
            o->megabytes[1] = value;
        else if (strcmp(argv[i], "--cols") == 0 && value >= 1)
            o->cols = value;
        else if (strcmp(argv[i], "--batches") == 0 && value >= 1)
            o->batches = value;
        else
            return -1;
    }
    bool all = i == argc;
    for (int f = 0; f < N_FORMATS; f++)
        o->wanted[f] = all;
    for (; i < argc; i++) {
        enum format format = format_parse(argv[i]);
        if (format == FORMAT_NONE)
            return -1;
        o->wanted[format] = true;
    }
    return o->set != NULL ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct options o = {.set = kernels_select(), .rounds = 7, .cols = 128, .megabytes = {9, 200}};
    if (parse(argc, argv, &o) != 0)
        return usage();
    printf("kernels %s, 1 thread, rows of %d, %zu rounds, median (spread)\n", o.set->name, N_IN,
           o.rounds);
    if (o.batches > 0) {
        printf("%zu MB of weights in GB/s, for columns: times as long as one (spread)\n\n",
               o.batches);
        for (int act = N_ACT_FORMATS - 1; act >= 0; act--)
            for (int f = 0; f < N_FORMATS; f++)
                if (o.wanted[f])
                    bench_batches(&o, (enum format)f, (enum act_format)act);
        return 0;
    }
    printf("decode and read in GB/s, * below 60%% of reading; prefill of %zu columns in GOP/s\n"
           "beside multiply-adds of floats in registers alone\n\n",
           o.cols);
    printf("%-11s | %4zu MB: decode    read           | %4zu MB: decode    read           |"
           " prefill      in registers\n",
           "format", o.megabytes[0], o.megabytes[1]);
    for (int act = N_ACT_FORMATS - 1; act >= 0; act--)
        for (int f = 0; f < N_FORMATS; f++)
            if (o.wanted[f])
                bench_format(&o, (enum format)f, (enum act_format)act);
    return 0;
}
