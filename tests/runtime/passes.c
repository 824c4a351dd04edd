/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden users through mts_forward (passes.h).
 */
#include "passes.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "model/dtype.h"

enum { ROWS = 640, CANDIDATES = 64, PAGES = GOLDEN_USERS * PASSES_USER_PAGES };

void passes_open(struct passes *p, struct mts_device *dev, const struct golden *g,
		 enum mts_dtype kv)
{
	struct mts_kv_layout y = {.layers = g->c->layers,
				  .heads = g->c->heads,
				  .dq = g->c->dq,
				  .dv = g->c->dv,
				  .page_tokens = PASSES_TOKENS,
				  .dtype = kv};
	struct mts_error err;

	*p = (struct passes){.dev = dev, .c = g->c, .seed = 1};
	ck_assert_msg(!mts_weights_open(dev, g->model, ROWS, CANDIDATES, 2, kv, &p->weights, &err),
		      "%s", err.text);
	p->kv = (struct mts_kv_pool){
		.layout = y, .pages = PAGES, .layer_stride = PAGES * mts_kv_page_bytes(&y)};
	ck_assert_int_eq(dev->ops->alloc(dev, y.layers * p->kv.layer_stride, &p->kv.base), 0);
}

void passes_close(struct passes *p)
{
	p->dev->ops->free(p->dev, p->kv.base, p->c->layers * p->kv.layer_stride);
	mts_weights_close(p->weights);
}

void passes_deal(struct passes *p, struct passes_pages *to, unsigned n)
{
	size_t bytes = p->c->layers * p->kv.layer_stride;
	uint32_t id[PAGES];
	void *stale = malloc(bytes);

	ck_assert_uint_le(n, GOLDEN_USERS);
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t j = (uint32_t)rand_r(&p->seed) % (i + 1);

		id[i] = id[j];
		id[j] = i;
	}
	for (uint32_t i = 0; i < n * PASSES_USER_PAGES; i++)
		to[i / PASSES_USER_PAGES].id[i % PASSES_USER_PAGES] = id[i];
	memset(stale, 0xff, bytes);
	ck_assert_int_eq(p->dev->ops->write(p->dev, p->kv.base, stale, bytes), 0);
	free(stale);
}

struct packed {
	struct mts_pass pass;
	struct mts_span span[ROWS];
	uint32_t item[ROWS], action[ROWS];
};

static void pack(struct packed *k, const struct part *p)
{
	struct mts_span *s = &k->span[k->pass.spans++];
	uint32_t row = k->pass.rows;

	*s = (struct mts_span){.row = row,
			       .history = p->history,
			       .candidates = p->candidates ? p->u->candidates : 0,
			       .begin = p->begin,
			       .v = p->candidates ? p->begin + p->history : p->u->v,
			       .pages = p->pages->id};
	k->pass.rows += s->history + s->candidates;
	k->pass.candidates += s->candidates;
	ck_assert_uint_le(k->pass.rows, ROWS);
	memcpy(k->item + row, p->u->items + p->begin, p->history * sizeof(k->item[0]));
	memcpy(k->action + row, p->u->actions + p->begin, p->history * sizeof(k->action[0]));
	memcpy(k->item + row + s->history, p->u->candidate, s->candidates * sizeof(k->item[0]));
	memset(k->action + row + s->history, 0, s->candidates * sizeof(k->action[0]));
}

int passes_run(struct passes *p, const struct part *part, unsigned parts,
	       struct mts_gate *const *ready, unsigned readies, float *scores, float *hidden)
{
	struct packed *k = calloc(1, sizeof(*k));
	struct mts_gate done;
	struct mts_forward f = {.pass = &k->pass,
				.kv = &p->kv,
				.ready = ready,
				.readies = readies,
				.done = &done,
				.scores = scores,
				.hidden = hidden,
				.slot = 1};
	int rc, error;

	k->pass.span = k->span;
	k->pass.item = k->item;
	k->pass.action = k->action;
	for (unsigned i = 0; i < parts; i++)
		pack(k, &part[i]);
	mts_gate_init(&done, 1);
	rc = mts_forward(p->weights, &f);
	if (rc == 0) {
		rc = mts_gate_wait(&done, -1);
		/* one arrival, not none and not two */
		ck_assert_int_eq(mts_gate_poll(&done, &error), 1);
	}
	free(k);
	return rc;
}

void passes_encode(struct passes *p, const struct golden_user *u, const struct passes_pages *pages,
		   uint32_t from, uint32_t to, uint32_t chunk)
{
	for (; from < to; from += chunk) {
		uint32_t n = to - from < chunk ? to - from : chunk;
		struct part part = {u, pages, from, n, 0};

		ck_assert_int_eq(passes_run(p, &part, 1, NULL, 0, NULL, NULL), 0);
	}
}

static char *key_at(const struct passes *p, const struct passes_pages *pages, uint32_t layer,
		    uint32_t t)
{
	char *page = mts_kv_page(&p->kv, layer, pages->id[t / PASSES_TOKENS]);

	return page + t % PASSES_TOKENS * mts_kv_k_bytes(&p->kv.layout);
}

static char *value_at(const struct passes *p, const struct passes_pages *pages, uint32_t layer,
		      uint32_t t)
{
	const struct mts_kv_layout *y = &p->kv.layout;
	char *page = mts_kv_page(&p->kv, layer, pages->id[t / PASSES_TOKENS]);

	return page + PASSES_TOKENS * mts_kv_k_bytes(y) + t % PASSES_TOKENS * mts_kv_v_bytes(y);
}

void passes_forget(struct passes *p, const struct passes_pages *pages, uint32_t from, uint32_t to)
{
	size_t k = mts_kv_k_bytes(&p->kv.layout), v = mts_kv_v_bytes(&p->kv.layout);
	char stale[4096];

	ck_assert(k <= sizeof(stale) && v <= sizeof(stale));
	memset(stale, 0xff, sizeof(stale));
	for (uint32_t l = 0; l < p->c->layers; l++) {
		for (uint32_t t = from; t < to; t++) {
			p->dev->ops->write(p->dev, key_at(p, pages, l, t), stale, k);
			p->dev->ops->write(p->dev, value_at(p, pages, l, t), stale, v);
		}
	}
}

static void read_rows(struct passes *p, const char *from, size_t n, float *to)
{
	uint16_t *half = malloc(n * sizeof(*half));

	if (p->kv.layout.dtype == MTS_F32) {
		ck_assert_int_eq(p->dev->ops->read(p->dev, to, from, n * sizeof(*to)), 0);
	} else {
		ck_assert_int_eq(p->dev->ops->read(p->dev, half, from, n * sizeof(*half)), 0);
		for (size_t i = 0; i < n; i++)
			to[i] = mts_bf16_to_f32(half[i]);
	}
	free(half);
}

void passes_read(struct passes *p, const struct passes_pages *pages, uint32_t layer, uint32_t v,
		 float *k, float *values)
{
	const struct mts_kv_layout *y = &p->kv.layout;
	size_t hdq = (size_t)y->heads * y->dq, hdv = (size_t)y->heads * y->dv;

	for (uint32_t t = 0; t < v; t++) {
		read_rows(p, key_at(p, pages, layer, t), hdq, k + t * hdq);
		read_rows(p, value_at(p, pages, layer, t), hdv, values + t * hdv);
	}
}
