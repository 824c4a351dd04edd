/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of the machine: plain sgemm calls on all threads at once, shared out as the kernels share
 * theirs, and work measured beside it in turns (bench.h). Floor: cmd.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cmd/bench.h"
#include "cpu/blas.h"
#include "cpu/pool.h"
#include "error.h"

enum { M = 256, N = 1024, K = 512, TASKS = 4 /* of a thread */, REPEATS = 16 /* at most */ };
enum { TRIALS = 5 };

/* Below this, caches decide: the first of two calls in a row is not timed. */
#define SHORT_NS 2e7

struct mts_sgemm {
	const struct mts_blas *blas;
	struct mts_pool *pool;
	float *a, *b, *c;
	unsigned repeats;
};

static void task(void *arg, unsigned t, unsigned worker)
{
	struct mts_sgemm *g = arg;

	g->blas->sgemm(MTS_BLAS_ROW_MAJOR, MTS_BLAS_NO_TRANS, MTS_BLAS_NO_TRANS, M, N, K, 1, g->a, K,
		       g->b, N, 0, g->c + (size_t)t * M * N, N);
}

static unsigned tasks(const struct mts_sgemm *g)
{
	return TASKS * mts_pool_threads(g->pool);
}

/* Floating-point operations of one repeat. */
static double once(const struct mts_sgemm *g)
{
	return 2.0 * tasks(g) * M * N * K;
}

static int run_sgemm(void *arg)
{
	struct mts_sgemm *g = arg;

	for (unsigned i = 0; i < g->repeats; i++)
		mts_pool_run(g->pool, task, g, tasks(g));
	return 0;
}

/* The fastest library there is sets the mark. */
static int choose(struct mts_sgemm *g, struct mts_error *err)
{
	const struct mts_blas *best = NULL;
	uint64_t start, ns, best_ns = UINT64_MAX;

	for (enum mts_blas_id id = 0; id < MTS_BLAS_COUNT; id++) {
		g->blas = mts_blas_get(id);
		for (int i = 0; g->blas->sgemm && i < TRIALS; i++) {
			start = mts_now();
			run_sgemm(g);
			ns = mts_now() - start;
			if (ns < best_ns) {
				best_ns = ns;
				best = g->blas;
			}
		}
	}
	if (!best)
		mts_error_set(err, "no BLAS library: %s", g->blas->why_not);
	g->blas = best;
	return best ? 0 : -ENODEV;
}

int mts_sgemm_open(unsigned threads, struct mts_sgemm **out, struct mts_error *err)
{
	struct mts_sgemm *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return -ENOMEM;
	g->repeats = 1;
	ret = mts_pool_open(threads, &g->pool);
	if (!ret) {
		g->a = mts_bench_floats((size_t)M * K);
		g->b = mts_bench_floats((size_t)N * K);
		g->c = mts_bench_floats((size_t)tasks(g) * M * N);
		ret = g->a && g->b && g->c ? 0 : -ENOMEM;
	}
	if (!ret)
		ret = choose(g, err);
	if (ret)
		mts_sgemm_close(g);
	else
		*out = g;
	return ret;
}

void mts_sgemm_close(struct mts_sgemm *g)
{
	if (g->pool)
		mts_pool_close(g->pool);
	free(g->a);
	free(g->b);
	free(g->c);
	free(g);
}

/* How long something took: by the clock, and of all threads together on a core. */
struct cost {
	double ns, cpu_ns;
};

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static int timed(const struct mts_bench *b, int (*fn)(void *), void *arg, bool twice,
		 struct cost *out)
{
	int ret = twice ? fn(arg) : 0;
	double cpu = cpu_now();
	uint64_t start = mts_now();

	if (!ret)
		ret = fn(arg);
	out->ns = mts_bench_since(b, start);
	out->cpu_ns = cpu_now() - cpu;
	return ret;
}

enum { TIME, RATE, SHARE, CPU_SHARE, DONE, METRICS };

static int print_all(const struct mts_bench *b, const struct mts_bench_work *w, double *v[METRICS],
		     unsigned n)
{
	const struct mts_metric metrics[METRICS] = {
		[TIME] = { "time", "us", false, 0 },
		[RATE] = { "rate", "GFLOP/s", true, 0 },
		[SHARE] = { "share of sgemm", "1", true, w->target },
		[CPU_SHARE] = { "share of sgemm, by CPU time", "1", true, 0 },
		[DONE] = { "share of sgemm, work carried out", "1", true, 0 },
	};
	int ret = 0;

	for (int m = 0; m < METRICS && !ret; m++)
		if (m != DONE || w->done != w->flop)
			ret = mts_bench_print(b, &metrics[m], w->shape, v[m], n);
	return ret;
}

static int take_turns(const struct mts_bench *b, struct mts_sgemm *g, const struct mts_bench_work *w,
		      bool twice, double *v[METRICS], unsigned n)
{
	double flop = g->repeats * once(g);
	struct cost plain, work;
	int ret = 0;

	for (unsigned i = 0; i < n && !ret; i++) {
		ret = timed(b, run_sgemm, g, twice, &plain);
		if (!ret)
			ret = timed(b, w->fn, w->arg, twice, &work);
		v[TIME][i] = work.ns * 1e-3;
		v[RATE][i] = w->flop / work.ns;
		v[SHARE][i] = w->flop / work.ns / (flop / plain.ns);
		v[CPU_SHARE][i] = w->flop / work.cpu_ns / (flop / plain.cpu_ns);
		v[DONE][i] = v[SHARE][i] * w->done / w->flop;
	}
	return ret;
}

int mts_bench_beside_sgemm(const struct mts_bench *b, struct mts_sgemm *g,
			   const struct mts_bench_work *w)
{
	double *all, *v[METRICS];
	struct cost work, plain;
	unsigned n;
	int ret = timed(b, w->fn, w->arg, true, &work);

	if (ret)
		return ret;
	g->repeats = 1;
	(void)timed(b, run_sgemm, g, true, &plain);
	/* About as long as the work itself, so that what else the machine does weighs the same. */
	g->repeats = work.ns < 2 * plain.ns ? 1 : (unsigned)(work.ns / plain.ns);
	g->repeats = g->repeats > REPEATS ? REPEATS : g->repeats;
	n = mts_bench_runs(b, work.ns);
	all = malloc(METRICS * n * sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (int m = 0; m < METRICS; m++)
		v[m] = all + m * n;
	ret = take_turns(b, g, w, work.ns < SHORT_NS, v, n);
	if (!ret)
		ret = print_all(b, w, v, n);
	free(all);
	return ret;
}
