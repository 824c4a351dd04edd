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

/* One span behind `begin` cached keys, in pages that lie in no order. */
struct work {
	struct mts_cpu *cpu;
	struct mts_kv_layout y;
	struct mts_span span;
	struct mts_pass pass;
	struct mts_kv_pool kv;
	uint32_t *table;
	float *z, *own, *o;
	double pairs; /* of a row and a key it sees */
};

static void work_init(struct work *w, struct mts_cpu *cpu, const struct mts_kv_layout *y,
		      uint32_t begin, uint32_t history, uint32_t candidates)
{
	uint32_t v = begin + history, pages = v / y->page_tokens + 1;
	uint32_t rows = history + candidates, zcols = 2 * y->heads * (y->dq + y->dv);
	size_t bytes = pages * mts_kv_page_bytes(y);

	*w = (struct work){ .cpu = cpu, .y = *y };
	w->table = calloc(pages, sizeof(*w->table));
	if (!w->table)
		exit(EXIT_FAILURE);
	for (uint32_t i = 0; i < pages; i++)
		w->table[i] = i * 7919 % pages;
	w->span = (struct mts_span){ 0, history, candidates, begin, v, w->table };
	w->pass = (struct mts_pass){ rows, 1, candidates, &w->span, NULL, NULL };
	w->kv = (struct mts_kv_pool){ *y, pages, bytes, floats(bytes / 4) };
	if (y->dtype == MTS_BF16) /* any bits but NaN do */
		for (size_t i = 0; i < bytes / 2; i++)
			((uint16_t *)w->kv.base)[i] = 0x3c00 + i % 251;
	w->z = floats((size_t)rows * zcols);
	w->own = floats((size_t)(candidates + 1) * zcols);
	w->o = floats((size_t)rows * y->heads * y->dv);
	w->pairs = (double)candidates * (v + 1);
	for (uint32_t i = 0; i < history; i++)
		w->pairs += begin + i + 1;
}

static void work_free(struct work *w)
{
	free(w->table);
	free(w->kv.base);
	free(w->z);
	free(w->own);
	free(w->o);
}

static double attention_flop(const struct work *w)
{
	return 2 * w->pairs * w->y.heads * (w->y.dq + w->y.dv);
}

static int run_attention(void *arg)
{
	struct work *w = arg;
	struct mts_op_attention op = { &w->pass, &w->kv, 0, w->z, w->own, 2304.0f, 0, w->o };

	return mts_cpu_attention(w->cpu, &op);
}

static void bench_attention(struct mts_cpu *cpu, const struct mts_kv_layout *y, uint32_t begin,
			    uint32_t history, uint32_t candidates)
{
	char shape[96];
	struct work w;

	work_init(&w, cpu, y, begin, history, candidates);
	snprintf(shape, sizeof(shape), "%u x %u/%u %s, %u cached, %u new, %u candidates", y->heads,
		 y->dq, y->dv, y->dtype == MTS_F32 ? "f32" : "bf16", begin, history, candidates);
	measure("attention", shape, mts_cpu_threads(cpu), attention_flop(&w), run_attention, &w);
	work_free(&w);
}

/* ---- a whole layer: norm, product, append, attention, modulate, product ---- */

struct layer {
	struct work w;
	uint32_t d;
	float *x, *n, *weight, *uvqk, *out; /* weight serves as every norm's weight and bias */
};

static int run_layer(void *arg)
{
	struct layer *l = arg;
	struct work *w = &l->w;
	uint32_t rows = w->pass.rows, hdv = w->y.heads * w->y.dv;
	uint32_t zcols = 2 * (hdv + w->y.heads * w->y.dq);
	struct mts_op_norm norm = { rows, l->d, 1e-5f, l->x, l->weight, l->weight, l->n };
	struct mts_op_gemm in = { rows, zcols, l->d, l->n, l->uvqk, l->weight, w->z, MTS_ACT_SILU,
				  zcols, 0 };
	struct mts_op_append append = { &w->pass, &w->kv, 0, w->z, w->own };
	struct mts_op_modulate modulate = { rows, hdv, zcols, 1e-5f, w->z, w->o, l->weight,
					    l->weight, 0, l->n };
	struct mts_op_gemm out = { rows, l->d, hdv, l->n, l->out, NULL, l->x, MTS_ACT_NONE, 0, 1 };

	mts_cpu_norm(w->cpu, &norm);
	if (mts_cpu_gemm(w->cpu, &in))
		return -1;
	mts_cpu_append(w->cpu, &append);
	if (run_attention(w))
		return -1;
	mts_cpu_modulate(w->cpu, &modulate);
	return mts_cpu_gemm(w->cpu, &out);
}

/* hdv == d, as in every preset */
static void bench_layer(struct mts_cpu *cpu, const struct mts_kv_layout *y, uint32_t begin,
			uint32_t history, uint32_t candidates)
{
	uint32_t rows = history + candidates, d = y->heads * y->dv;
	struct layer l = { .d = d, .x = floats((size_t)rows * d), .n = floats((size_t)rows * d),
			   .weight = floats(4 * d), .uvqk = floats((size_t)d * 4 * d),
			   .out = floats((size_t)d * d) };
	char shape[96];

	work_init(&l.w, cpu, y, begin, history, candidates);
	snprintf(shape, sizeof(shape), "d %u, %u x %u, %u cached, %u new, %u candidates", d,
		 y->heads, y->dv, begin, history, candidates);
	measure("layer", shape, mts_cpu_threads(cpu),
		attention_flop(&l.w) + 2.0 * rows * d * 5 * d, run_layer, &l);
	work_free(&l.w);
	free(l.x);
	free(l.n);
	free(l.weight);
	free(l.uvqk);
	free(l.out);
}

static void bench_layers(struct mts_cpu *cpu)
{
	struct mts_kv_layout y = { 1, 4, 128, 128, 32, MTS_BF16 };

	bench_layer(cpu, &y, 0, 1024, 100);
	bench_layer(cpu, &y, 0, 4096, 100);
	bench_layer(cpu, &y, 1018, 6, 100);
	bench_layer(cpu, &y, 4090, 6, 100);
	y.dq = y.dv = 64;
	bench_layer(cpu, &y, 0, 1536, 100);
	bench_layer(cpu, &y, 1530, 6, 100);
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
	printf("{\"bench\": \"prepare\", \"ms\": %.1f, \"numerics\": \"%s\", "
	       "\"refused\": \"%s\"}\n",
	       1e3 * (now() - start), numerics, mts_cpu_refused(cpu));
	bench_plain(threads);
	bench_attentions(cpu);
	bench_layers(cpu);
	for (uint32_t m = 6; m <= 1024; m = m == 6 ? 106 : m == 106 ? 512 : m * 2) {
		bench_gemm(cpu, m, 2048, 512, MTS_ACT_SILU);
		bench_gemm(cpu, m, 512, 512, MTS_ACT_NONE);
	}
	bench_gemm(cpu, 100, 64, 512, MTS_ACT_SILU);
	mts_cpu_close(cpu);
	return EXIT_SUCCESS;
}
