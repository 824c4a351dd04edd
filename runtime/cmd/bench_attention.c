/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench attention: the CPU's attention alone, on pages that lie in no order. Only needed work
 * counts: pairs of a row and a key it sees. Floor: cmd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/bench.h"
#include "cpu/cpu.h"

/* One span behind `begin` cached keys. */
struct work {
	struct mts_cpu *cpu;
	struct mts_kv_layout y;
	struct mts_span span;
	struct mts_pass pass;
	struct mts_kv_pool kv;
	uint32_t *table;
	float *z, *own, *o;
};

struct shape {
	uint32_t dim; /* of 4 heads */
	enum mts_dtype kv;
	uint32_t cached, fresh, candidates;
	double target;
};

static const struct shape shapes[] = {
	{ 128, MTS_BF16, 4032, 64, 0, 0.5 },
	{ 128, MTS_BF16, 4096, 0, 64, 0 },
	{ 128, MTS_BF16, 4090, 6, 100, 0 },
	{ 128, MTS_BF16, 4090, 6, 0, 0 },
	{ 128, MTS_BF16, 0, 1024, 100, 0 },
	{ 128, MTS_BF16, 0, 4096, 100, 0 },
	{ 128, MTS_F32, 4032, 64, 0, 0 },
	{ 64, MTS_BF16, 2042, 6, 100, 0 },
	{ 64, MTS_BF16, 0, 1536, 100, 0 },
	{ 256, MTS_BF16, 4032, 64, 0, 0 },
};

static void fill_pages(struct work *w, size_t bytes)
{
	uint16_t *half = w->kv.base;

	/* Any bits but those of NaN and of denormals do. */
	for (size_t i = 0; half && w->y.dtype == MTS_BF16 && i < bytes / 2; i++)
		half[i] = 0x3c00 + i % 251;
}

static int open_work(struct work *w, struct mts_cpu *cpu, const struct shape *s)
{
	uint32_t v = s->cached + s->fresh, rows = s->fresh + s->candidates, pages, zcols;
	size_t bytes;

	*w = (struct work){ .cpu = cpu, .y = { 1, 4, s->dim, s->dim, 64, s->kv } };
	pages = v / w->y.page_tokens + 1;
	zcols = 2 * w->y.heads * (w->y.dq + w->y.dv);
	bytes = pages * mts_kv_page_bytes(&w->y);
	w->table = calloc(pages, sizeof(*w->table));
	for (uint32_t i = 0; w->table && i < pages; i++)
		w->table[i] = i * 7919 % pages;
	w->span = (struct mts_span){ 0, s->fresh, s->candidates, s->cached, v, w->table };
	w->pass = (struct mts_pass){ rows, 1, s->candidates, &w->span, NULL, NULL };
	w->kv = (struct mts_kv_pool){ w->y, pages, bytes, mts_bench_floats(bytes / 4) };
	fill_pages(w, bytes);
	w->z = mts_bench_floats((size_t)rows * zcols);
	w->own = mts_bench_floats((size_t)(s->candidates + 1) * zcols);
	w->o = mts_bench_floats((size_t)rows * w->y.heads * w->y.dv);
	return w->table && w->kv.base && w->z && w->own && w->o ? 0 : -ENOMEM;
}

static void close_work(struct work *w)
{
	free(w->table);
	free(w->kv.base);
	free(w->z);
	free(w->own);
	free(w->o);
}

static int run(void *arg)
{
	struct work *w = arg;
	struct mts_op_attention op = { &w->pass, &w->kv, 0, w->z, w->own, 2304.0f, 0, w->o };

	return mts_cpu_attention(w->cpu, &op);
}

static int bench_shape(struct mts_bench *b, struct mts_cpu *cpu, struct mts_sgemm *g,
		       const struct shape *s)
{
	double pairs = (double)s->candidates * (s->cached + s->fresh + 1);
	char text[96];
	struct work w;
	struct mts_bench_work measure = { .shape = text, .target = s->target, .fn = run, .arg = &w };
	int ret = open_work(&w, cpu, s);

	for (uint32_t i = 0; i < s->fresh; i++)
		pairs += s->cached + i + 1;
	measure.flop = measure.done = 2 * pairs * 4 * (s->dim + s->dim);
	snprintf(text, sizeof(text), "4 x %u %s, %u cached, %u new, %u candidates", s->dim,
		 s->kv == MTS_F32 ? "f32" : "bf16", s->cached, s->fresh, s->candidates);
	if (!ret)
		ret = mts_bench_beside_sgemm(b, g, &measure);
	close_work(&w);
	return ret;
}

int mts_bench_attention(struct mts_bench *b, struct mts_error *err)
{
	struct mts_sgemm *g;
	struct mts_cpu *cpu;
	int ret = mts_cpu_open(b->o->threads, &cpu, err);

	if (ret)
		return ret;
	ret = mts_sgemm_open(b->o->threads, &g, err);
	if (!ret) {
		for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && !ret; i++)
			ret = bench_shape(b, cpu, g, &shapes[i]);
		mts_sgemm_close(g);
	}
	mts_cpu_close(cpu);
	return ret;
}
