/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench forward: the whole forward pass of one user on the CPU device, from events to scores, in
 * passes as large as the server's. Floor: cmd.
 *
 * Needed work: every product of every row in every layer, and attention over the pairs of a row and
 * a key it sees, in every layer. Carried out is less: nothing reads a history row after its last K/V
 * is stored, so the rest of the last layer runs over candidates alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/bench.h"
#include "error.h"
#include "model/model.h"
#include "model/spec.h"

enum { CANDIDATES = 100, STEP = 2048, PAGE = 64, HISTORY = 4096, ITEMS = 10000 };

struct forward {
	struct mts_device *dev;
	const struct mts_model_config *c;
	struct mts_weights *weights;
	struct mts_kv_pool kv;
	uint32_t *table, *item, *action; /* [pages]; [HISTORY + CANDIDATES] */
	float *scores;
	uint32_t begin, history; /* what run() computes: [begin, begin + history) and candidates */
};

/* ---- one pass after the other ---- */

static int run_pass(struct forward *f, const struct mts_span *span)
{
	struct mts_pass pass = {
		.rows = span->history + span->candidates,
		.spans = 1,
		.candidates = span->candidates,
		.span = span,
		.item = f->item + span->begin,
		.action = f->action + span->begin,
	};
	struct mts_gate done;
	struct mts_forward forward = { .pass = &pass, .kv = &f->kv, .done = &done,
				       .scores = f->scores };
	int ret;

	mts_gate_init(&done, 1);
	ret = mts_forward(f->weights, &forward);
	return ret ? ret : mts_gate_drain(&done, -1);
}

static int run(void *arg)
{
	struct forward *f = arg;
	uint32_t end = f->begin + f->history;
	int ret = 0;

	for (uint32_t at = f->begin, n; !ret && at <= end; at += n) {
		struct mts_span span = { .begin = at, .v = end, .pages = f->table };
		bool last = end - at + CANDIDATES <= STEP;

		n = last || end - at < STEP ? end - at : STEP;
		span.history = n;
		span.candidates = last ? CANDIDATES : 0;
		ret = run_pass(f, &span);
		if (last)
			break;
	}
	return ret;
}

/* ---- what it takes ---- */

static void count_work(const struct forward *f, struct mts_bench_work *w)
{
	const struct mts_model_config *c = f->c;
	double in = 2.0 * c->d * mts_config_zcols(c), out = 2.0 * c->d * mts_config_ycols(c);
	double pair = 2.0 * c->heads * (c->dq + c->dv);
	double head = 2.0 * CANDIDATES * c->head_hidden * (c->d + c->tasks);
	double of_candidates = (double)CANDIDATES * (f->begin + f->history + 1), of_history = 0;

	for (uint32_t i = 0; i < f->history; i++)
		of_history += f->begin + i + 1;
	w->flop = head + c->layers * ((f->history + CANDIDATES) * (in + out) +
				      pair * (of_history + of_candidates));
	w->done = w->flop - f->history * out - pair * of_history;
}

static int bench_shape(struct mts_bench *b, struct mts_sgemm *g, struct forward *f, uint32_t begin,
		       uint32_t history, double target)
{
	char shape[96];
	struct mts_bench_work w = { .shape = shape, .target = target, .fn = run, .arg = f };

	f->begin = begin;
	f->history = history;
	count_work(f, &w);
	snprintf(shape, sizeof(shape), "%s, history %u, %u cached, %u candidates", b->o->preset,
		 begin + history, begin, CANDIDATES);
	return mts_bench_beside_sgemm(b, g, &w);
}

static int bench_shapes(struct mts_bench *b, struct mts_sgemm *g, struct forward *f)
{
	int ret = bench_shape(b, g, f, 0, 1024, 0.6);

	if (!ret)
		ret = bench_shape(b, g, f, 1018, 6, 0.4);
	if (!ret)
		ret = bench_shape(b, g, f, 0, 4096, 0.6);
	if (!ret) /* the pages are full from the whole forward before */
		ret = bench_shape(b, g, f, 4090, 6, 0.4);
	return ret;
}

/* ---- set-up ---- */

static int open_pages(struct forward *f)
{
	uint32_t pages = HISTORY / PAGE;
	size_t page;

	f->kv.layout = (struct mts_kv_layout){ f->c->layers, f->c->heads, f->c->dq, f->c->dv, PAGE,
					       MTS_BF16 };
	page = mts_kv_page_bytes(&f->kv.layout);
	f->kv.pages = pages;
	f->kv.layer_stride = pages * page;
	f->table = calloc(pages, sizeof(*f->table));
	f->item = calloc(HISTORY + CANDIDATES, sizeof(*f->item));
	f->action = calloc(HISTORY + CANDIDATES, sizeof(*f->action));
	f->scores = calloc((size_t)CANDIDATES * f->c->tasks, sizeof(*f->scores));
	if (!f->table || !f->item || !f->action || !f->scores)
		return -ENOMEM;
	for (uint32_t i = 0; i < pages; i++)
		f->table[i] = i * 37 % pages; /* odd: a permutation of 64 pages */
	for (uint32_t i = 0; i < HISTORY + CANDIDATES; i++)
		f->item[i] = i * 2654435761u % ITEMS;
	return f->dev->ops->alloc(f->dev, f->kv.layer_stride * f->c->layers, &f->kv.base);
}

static void close_pages(struct forward *f)
{
	if (f->kv.base)
		f->dev->ops->free(f->dev, f->kv.base, f->kv.layer_stride * f->c->layers);
	free(f->table);
	free(f->item);
	free(f->action);
	free(f->scores);
}

static int bench_device(struct mts_bench *b, const struct mts_model *m, struct mts_device *dev,
			struct mts_error *err)
{
	struct forward f = { .dev = dev, .c = mts_model_get_config(m) };
	struct mts_sgemm *g;
	int ret = mts_weights_open(dev, m, STEP, CANDIDATES, 1, MTS_BF16, &f.weights, err);

	if (ret)
		return ret;
	ret = open_pages(&f);
	if (!ret)
		ret = mts_sgemm_open(b->o->threads, &g, err);
	if (!ret) {
		ret = bench_shapes(b, g, &f);
		mts_sgemm_close(g);
	}
	close_pages(&f);
	mts_weights_close(f.weights);
	return ret;
}

int mts_bench_model(const char *preset, uint32_t items, uint32_t history, struct mts_model **out,
		    struct mts_error *err)
{
	const struct mts_preset_options po = { .items = items, .max_history = history };
	const char *dir = getenv("TMPDIR");
	struct mts_model_config c;
	char path[256];
	int ret = mts_preset_config(preset, &po, &c, err), fd;

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/mtserve-bench-XXXXXX", dir && *dir ? dir : "/tmp");
	fd = mkstemp(path);
	if (fd < 0) {
		mts_error_set(err, "%s: %s", path, strerror(errno));
		return -errno;
	}
	close(fd);
	ret = mts_model_generate(&c, MTS_F32, 1, path, err);
	if (!ret)
		ret = mts_model_open(path, out, err);
	unlink(path);
	return ret;
}

int mts_bench_forward(struct mts_bench *b, struct mts_error *err)
{
	struct mts_device_config dc = { .threads = b->o->threads };
	struct mts_device *dev;
	struct mts_model *m;
	int ret = mts_bench_model(b->o->preset, ITEMS, HISTORY, &m, err);

	if (ret)
		return ret;
	ret = mts_device_cpu.open(&dc, &dev, err);
	if (!ret) {
		ret = bench_device(b, m, dev, err);
		dev->ops->close(dev);
	}
	mts_model_close(m);
	return ret;
}
