/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast attention and GEMM are, beside plain sgemm calls in the same run. JSON lines:
 * {"bench", "shape", "threads", "gflops": {"p0", "p50", "p99"}, "share"}: p0 is the fastest run,
 * share is p50 over the p50 of sgemm. Only needed work counts: pairs of a row and a key it sees.
 *
 *   bench_kernels [THREADS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "cpu/pool.h"
#include "error.h"

enum { RUNS = 25 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double sgemm_rate; /* p50, GFLOP/s */

/* Runs fn RUNS times and prints a line; the p50 rate in GFLOP/s. */
static double measure(const char *bench, const char *shape, unsigned threads, double flop,
		      int (*fn)(void *), void *arg)
{
	double s[RUNS], p50;

	for (int i = -2; i < RUNS; i++) {
		double start = now();

		if (fn(arg))
			exit(EXIT_FAILURE);
		if (i >= 0)
			s[i] = now() - start;
	}
	qsort(s, RUNS, sizeof(s[0]), by_value);
	p50 = flop / s[RUNS / 2] / 1e9;
	if (!sgemm_rate)
		sgemm_rate = p50;
	printf("{\"bench\": \"%s\", \"shape\": \"%s\", \"threads\": %u, \"gflops\": {\"p0\": %.1f, "
	       "\"p50\": %.1f, \"p99\": %.1f}, \"us\": %.0f, \"share\": %.3f}\n",
	       bench, shape, threads, flop / s[0] / 1e9, p50, flop / s[RUNS - 1] / 1e9,
	       s[RUNS / 2] * 1e6, p50 / sgemm_rate);
	fflush(stdout);
	return p50;
}

static float *floats(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof(*p) + 63) / 64 * 64);

	if (!p)
		exit(EXIT_FAILURE);
	for (size_t i = 0; i < n; i++)
		p[i] = (float)((i * 2654435761u >> 8) % 65536) / 65536 - 0.5f;
	return p;
}

/* ---- plain sgemm: one large call per thread ---- */

struct plain {
	const struct mts_blas *blas;
	struct mts_pool *pool;
	float *a, *b, *c;
};

enum { PLAIN_M = 512, PLAIN_N = 2048, PLAIN_K = 512 };

static void plain_task(void *arg, unsigned task, unsigned worker)
{
	struct plain *p = arg;

	p->blas->sgemm(MTS_BLAS_ROW_MAJOR, MTS_BLAS_NO_TRANS, MTS_BLAS_NO_TRANS, PLAIN_M, PLAIN_N,
		       PLAIN_K, 1, p->a, PLAIN_K, p->b, PLAIN_N, 0,
		       p->c + (size_t)task * PLAIN_M * PLAIN_N, PLAIN_N);
}

static int run_plain(void *arg)
{
	struct plain *p = arg;

	mts_pool_run(p->pool, plain_task, p, mts_pool_threads(p->pool));
	return 0;
}

static void bench_plain(unsigned threads)
{
	struct plain p = { .blas = mts_blas_get(MTS_OPENBLAS) };
	char shape[64];

	if (!p.blas->sgemm || mts_pool_open(threads, &p.pool))
		exit(EXIT_FAILURE);
	threads = mts_pool_threads(p.pool);
	p.a = floats((size_t)PLAIN_M * PLAIN_K);
	p.b = floats((size_t)PLAIN_N * PLAIN_K);
	p.c = floats((size_t)threads * PLAIN_M * PLAIN_N);
	snprintf(shape, sizeof(shape), "m %d n %d k %d", PLAIN_M, PLAIN_N, PLAIN_K);
	measure("sgemm", shape, threads, 2.0 * threads * PLAIN_M * PLAIN_N * PLAIN_K, run_plain,
		&p);
	mts_pool_close(p.pool);
	free(p.a);
	free(p.b);
	free(p.c);
}

/* ---- gemm ---- */

struct product {
	struct mts_cpu *cpu;
	struct mts_op_gemm op;
};

static int run_gemm(void *arg)
{
	struct product *p = arg;

	return mts_cpu_gemm(p->cpu, &p->op);
}

static void bench_gemm(struct mts_cpu *cpu, uint32_t m, uint32_t n, uint32_t k, enum mts_act act)
{
	struct product p = { cpu, { m, n, k, floats((size_t)m * k), floats((size_t)k * n),
				    floats(n), floats((size_t)m * n), act, n, 0 } };
	char shape[64];

	snprintf(shape, sizeof(shape), "m %u n %u k %u%s", m, n, k, act ? " silu" : "");
	measure("gemm", shape, mts_cpu_threads(cpu), 2.0 * m * n * k, run_gemm, &p);
	free((float *)p.op.a);
	free((float *)p.op.b);
	free((float *)p.op.bias);
	free(p.op.c);
}

/* ---- attention ---- */

struct attention {
	struct mts_cpu *cpu;
	struct mts_op_attention op;
};

static int run_attention(void *arg)
{
	struct attention *a = arg;

	return mts_cpu_attention(a->cpu, &a->op);
}

/* one span behind `begin` cached keys */
static void bench_attention(struct mts_cpu *cpu, const struct mts_kv_layout *y, uint32_t begin,
			    uint32_t history, uint32_t candidates)
{
	uint32_t v = begin + history, pages = v / y->page_tokens + 1;
	uint32_t *table = calloc(pages, sizeof(*table));
	uint32_t rows = history + candidates, zcols = 2 * y->heads * (y->dq + y->dv);
	struct mts_span span = { 0, history, candidates, begin, v, table };
	struct mts_pass pass = { rows, 1, candidates, &span, NULL, NULL };
	size_t bytes = pages * mts_kv_page_bytes(y);
	struct mts_kv_pool kv = { *y, pages, bytes, floats(bytes / 4) };
	float *z = floats((size_t)rows * zcols), *own = floats((size_t)(candidates + 1) * zcols);
	float *o = floats((size_t)rows * y->heads * y->dv);
	struct attention a = { cpu, { &pass, &kv, 0, z, own, 2304.0f, 0, o } };
	double pairs = (double)candidates * (v + 1);
	char shape[96];

	if (!table)
		exit(EXIT_FAILURE);
	for (uint32_t i = 0; i < pages; i++)
		table[i] = i * 7919 % pages;
	if (y->dtype == MTS_BF16) /* any bits but NaN do */
		for (size_t i = 0; i < bytes / 2; i++)
			((uint16_t *)kv.base)[i] = 0x3c00 + i % 251;
	for (uint32_t i = 0; i < history; i++)
		pairs += begin + i + 1;
	snprintf(shape, sizeof(shape), "%u x %u/%u %s, %u cached, %u new, %u candidates", y->heads,
		 y->dq, y->dv, y->dtype == MTS_F32 ? "f32" : "bf16", begin, history, candidates);
	measure("attention", shape, mts_cpu_threads(cpu), 2 * pairs * y->heads * (y->dq + y->dv),
		run_attention, &a);
	free(table);
	free(kv.base);
	free(z);
	free(own);
	free(o);
}

static void bench_attentions(struct mts_cpu *cpu)
{
	struct mts_kv_layout y = { 1, 4, 128, 128, 32, MTS_BF16 };

	bench_attention(cpu, &y, 4032, 64, 0);
	bench_attention(cpu, &y, 4096, 0, 64);
	bench_attention(cpu, &y, 4090, 6, 100);
	bench_attention(cpu, &y, 4090, 6, 0);
	bench_attention(cpu, &y, 0, 1024, 100);
	bench_attention(cpu, &y, 0, 4096, 100);
	y.dtype = MTS_F32;
	bench_attention(cpu, &y, 4032, 64, 0);
	y.dq = y.dv = 64;
	y.dtype = MTS_BF16;
	bench_attention(cpu, &y, 2042, 6, 100);
	bench_attention(cpu, &y, 0, 1536, 100);
	y.dq = y.dv = 256;
	bench_attention(cpu, &y, 4032, 64, 0);
}

int main(int argc, char **argv)
{
	static const uint32_t nk[][2] = { { 2048, 512 }, { 512, 512 }, { 64, 512 }, { 512, 1536 },
					  { 1024, 256 }, { 256, 256 } };
	unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	struct mts_error err = { "" };
	struct mts_cpu *cpu;
	char numerics[160];
	double start;

	if (mts_cpu_open(threads, &cpu, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return EXIT_FAILURE;
	}
	start = now();
	if (mts_cpu_prepare(cpu, nk, sizeof(nk) / sizeof(nk[0]), &err)) {
		fprintf(stderr, "%s\n", err.text);
		return EXIT_FAILURE;
	}
	mts_cpu_describe(cpu, numerics, sizeof(numerics));
	printf("{\"bench\": \"prepare\", \"ms\": %.1f, \"numerics\": \"%s\", \"refused\": \"%s\"}\n",
	       1e3 * (now() - start), numerics, mts_cpu_refused(cpu));
	bench_plain(threads);
	bench_attentions(cpu);
	for (uint32_t m = 6; m <= 1024; m = m == 6 ? 106 : m == 106 ? 512 : m * 2) {
		bench_gemm(cpu, m, 2048, 512, MTS_ACT_SILU);
		bench_gemm(cpu, m, 512, 512, MTS_ACT_NONE);
	}
	bench_gemm(cpu, 100, 64, 512, MTS_ACT_SILU);
	mts_cpu_close(cpu);
	return EXIT_SUCCESS;
}
