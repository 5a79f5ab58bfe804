/* workbench.h - what an evaluator child has in front of it: the frozen study, this machine with a
 * bound team of threads, the kernels, the parent, and, as far as they have been made, the tables of
 * the study.  Opened at the start of a work item, closed at its end; nothing is shared between
 * processes but read-only files. */
#ifndef KERF_WORKBENCH_H
#define KERF_WORKBENCH_H

#include "cluster/evaluation.h"
#include "evaluator/compression/workshop.h"
#include "evaluator/quality/quality.h"
#include "evaluator/tokenizer.h"
#include "latency_model/op_table.h"
#include "latency_model/stand.h"

struct err;

struct workbench {
    const struct study *study;
    const struct evaluation_place *place;
    struct stand stand;         /* on the place's cores */
    struct parent *parent;      /* before the tables are there; else the workshop's */
    struct model *parent_model; /* the parent as its file has it: the reference candidate */
    struct tokenizer *tokenizer;
    struct space *space;
    struct token_set heldout; /* final_tokens of it */

    /* Behind workbench_open_tables only. */
    struct workshop shop;
    struct parent_states *states;

    /* Behind workbench_open_latencies only. */
    struct op_table *ops;
    double reference_ns[2]; /* decode, prefill: of the parent, measured once a study */
    double rest_steps[2];   /* the same, in the units of sample_place; 0 where it is not known */
};

/* Machine, team, kernels, parent, tokenizer, held-out tokens. */
int workbench_open(struct workbench *bench, const struct study *study,
                   const struct evaluation_place *place, struct err *err);
/* Of the tables that WORK_PREPARE made those of the weights, and the store. */
int workbench_open_tables(struct workbench *bench, struct err *err);
/* Those of latencies. */
int workbench_open_latencies(struct workbench *bench, struct err *err);
void workbench_close(struct workbench *bench); /* a zeroed struct is fine */

/* A forward pass for `model` with room for sequences, prompts and contexts of this study. */
struct forward *workbench_forward(const struct workbench *bench, const struct model *model,
                                  struct err *err);

/* Probe `candidate` against `reference` on both workloads, alone on the node. */
struct probe_pair {
    struct probe_result reference, candidate;
};
int workbench_probe(struct workbench *bench, struct forward *reference, struct forward *candidate,
                    uint32_t rounds_min, uint32_t rounds_max, uint64_t stream,
                    struct probe_pair pair[2], struct err *err);

/* What `candidate` takes beside time (stand.h), alone on the node. */
int workbench_weigh(struct workbench *bench, struct forward *candidate, double seconds,
                    struct stand_needs *needs, struct err *err);

/* Names of the study's table files. */
#define TABLE_CALIBRATION "tables/calibration.bin"
#define TABLE_STATES      "tables/parent-states.bin"
#define TABLE_OPS         "tables/op-table.json"
#define TABLE_REFERENCE   "tables/reference.json"
#define TABLE_LATENCY     "tables/latency-model.json"

#endif
