/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench gemm: the product whose rows keep their bits, by number of rows, in the shapes of the
 * kuairand preset. Floor: cmd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/bench.h"
#include "cpu/cpu.h"

enum { WIDEST = 2048, LONGEST = 512, MOST = 1024 };

static const uint32_t nk[][2] = { { 2048, 512 }, { 512, 512 }, { 64, 512 } };
static const uint32_t rows[] = { 6, 106, 512, 1024 };

struct product {
	struct mts_cpu *cpu;
	struct mts_op_gemm op;
};

static int run(void *arg)
{
	struct product *p = arg;

	return mts_cpu_gemm(p->cpu, &p->op);
}

static int bench_shape(struct mts_bench *b, struct mts_sgemm *g, struct product *p, uint32_t m,
		       const uint32_t shape[2])
{
	char text[64];
	struct mts_bench_work w = { .shape = text, .fn = run, .arg = p };

	p->op.m = m;
	p->op.n = p->op.act_cols = shape[0];
	p->op.k = shape[1];
	w.flop = w.done = 2.0 * m * shape[0] * shape[1];
	snprintf(text, sizeof(text), "m %u n %u k %u silu", m, shape[0], shape[1]);
	return mts_bench_beside_sgemm(b, g, &w);
}

static int bench_shapes(struct mts_bench *b, struct mts_sgemm *g, struct mts_cpu *cpu)
{
	float *a = mts_bench_floats((size_t)MOST * LONGEST), *bias = mts_bench_floats(WIDEST);
	float *weight = mts_bench_floats((size_t)LONGEST * WIDEST);
	float *c = mts_bench_floats((size_t)MOST * WIDEST);
	struct product p = { cpu, { .a = a, .b = weight, .bias = bias, .c = c, .act = MTS_ACT_SILU } };
	int ret = a && bias && weight && c ? 0 : -ENOMEM;

	for (size_t s = 0; s < sizeof(nk) / sizeof(nk[0]); s++)
		for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]) && !ret; r++)
			ret = bench_shape(b, g, &p, rows[r], nk[s]);
	free(a);
	free(bias);
	free(weight);
	free(c);
	return ret;
}

int mts_bench_gemm(struct mts_bench *b, struct mts_error *err)
{
	struct mts_sgemm *g;
	struct mts_cpu *cpu;
	int ret = mts_cpu_open(b->o->threads, &cpu, err);

	if (ret)
		return ret;
	ret = mts_cpu_prepare(cpu, nk, sizeof(nk) / sizeof(nk[0]), err);
	if (!ret)
		ret = mts_sgemm_open(b->o->threads, &g, err);
	if (!ret) {
		ret = bench_shapes(b, g, cpu);
		mts_sgemm_close(g);
	}
	mts_cpu_close(cpu);
	return ret;
}
