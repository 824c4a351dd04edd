/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Benches: how fast each part is, beside what bounds it, as JSON lines.
 *
 * Floor: cmd. One thread prints. The first line describes the machine:
 *
 *   {"machine": {"cpu", "cores", "memory_mib", "nodes", "kernel", "isa", "gemm"}, "mtserve", "clock_ns"}
 *
 * and each line after it one metric:
 *
 *   {"bench", "metric", "shape", "unit", "better", "p0", "p50", "p99", "p50_low", "p50_high", "runs"}
 *
 * or, where this machine cannot measure it, {"bench", "metric", "shape", "skipped": the reason}.
 *
 * p0 is the best sample, p99 that which 99 % are better than. p50_low and p50_high are the lowest and
 * highest median of up to eight parts of the run: how far the machine itself drifted. Where a goal
 * was set, "target" has it, and "met" says whether p50 is there.
 *
 * The cost of reading the clock ("clock_ns", measured at start) is taken off every time. Shares are
 * ratios of runs that follow each other, so that what else the machine does touches both.
 *
 *   bench.c            machine, samples, lines
 *   bench_sgemm.c      the rate of the machine: plain sgemm, and what is measured beside it
 *   bench_NAME.c       one bench each
 *   cmd_bench.c        options
 */
#ifndef MTS_BENCH_H
#define MTS_BENCH_H

#include <jansson.h>
#include <mtserve.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/park.h" /* mts_now */

struct mts_bench_options {
	const char *preset; /* forward */
	unsigned threads;   /* compute threads, 0 = all cores */
	unsigned runs;      /* samples of a metric, 0 = as many as fit into some seconds */
	uint64_t users;     /* plan: resident */
	uint64_t bytes;     /* arena: a multiple of 2 MiB */
};

struct mts_bench {
	const struct mts_bench_options *o;
	const char *name;  /* of the bench that runs */
	uint64_t clock_ns; /* of two readings with nothing between them */
};

/* Measures the clock and prints the machine's line. 0 or -errno with a message. */
int mts_bench_begin(struct mts_bench *b, struct mts_error *err);

/* ---- samples ---- */

/* Nanoseconds since `start` on the mts_now() clock, without the clock's own. At least 1. */
double mts_bench_since(const struct mts_bench *b, uint64_t start);
/* How many samples to take of something that lasts so long. */
unsigned mts_bench_runs(const struct mts_bench *b, double ns);

struct mts_metric {
	const char *name, *unit;
	bool higher;   /* is better */
	double target; /* 0: none */
};

/* Prints samples in the order they were taken. -ENOMEM, -EIO. */
int mts_bench_print(const struct mts_bench *b, const struct mts_metric *m, const char *shape,
		    const double *sample, unsigned n);
/* A single value. */
int mts_bench_print_one(const struct mts_bench *b, const struct mts_metric *m, const char *shape,
			double value);

/* n floats of no particular value, 64-byte aligned, for free(); NULL: no memory. */
float *mts_bench_floats(size_t n);

/* ---- beside sgemm ---- */

struct mts_sgemm;

int mts_sgemm_open(unsigned threads, struct mts_sgemm **out, struct mts_error *err);
void mts_sgemm_close(struct mts_sgemm *g);

/* What is measured: `flop` needed for a call of fn, of which `done` are carried out. */
struct mts_bench_work {
	const char *shape;
	double flop, done;
	double target; /* of the share; 0: none */
	int (*fn)(void *arg);
	void *arg;
};

/*
 * Runs fn and plain sgemm in turns. Prints the time, the rate, the share of sgemm's rate in the same
 * turn; the same share by CPU time, which other programs on the machine hardly touch; and, where
 * `done` differs from `flop`, the share counted by what is carried out.
 */
int mts_bench_beside_sgemm(const struct mts_bench *b, struct mts_sgemm *g,
			   const struct mts_bench_work *w);

struct mts_model;

/* A model of random weights in a preset's shape, for mts_model_close (bench_forward.c). */
int mts_bench_model(const char *preset, uint32_t items, uint32_t history, struct mts_model **out,
		    struct mts_error *err);

/* ---- the benches: 0, or -errno with a message ---- */

int mts_bench_ring(struct mts_bench *b, struct mts_error *err);
int mts_bench_plan(struct mts_bench *b, struct mts_error *err);
int mts_bench_copy(struct mts_bench *b, struct mts_error *err);
int mts_bench_gemm(struct mts_bench *b, struct mts_error *err);
int mts_bench_attention(struct mts_bench *b, struct mts_error *err);
int mts_bench_forward(struct mts_bench *b, struct mts_error *err);
/* b->o->threads is the most; 1, 2, 4 and so on come before. */
int mts_bench_arena(struct mts_bench *b, struct mts_error *err);

#endif
