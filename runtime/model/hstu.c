/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HSTU forward pass as a sequence of device operations. Floor: model. Owner's thread;
 * everything launched here runs later, in order, on the device's compute queue.
 *
 * Every operation works row by row and GEMM keeps a row's bits at any position, so a row's result
 * does not depend on which rows share its pass: that is what lets a cached prefix, a chunk or a
 * batch leave scores unchanged.
 *
 *   embed  { norm  gemm  append  attention  modulate  gemm } x layers  norm  gemm  score
 *
 * Nothing reads a history row after its last K/V is stored. In the last layer the rest of the layer
 * therefore runs over candidate rows alone, gathered by pick into the `tail` pass of the slot.
 */
#include <errno.h>

#include "model/weights.h"

struct run {
	struct mts_weights *w;
	const struct mts_forward *f;
	struct mts_activations *slot;
	const struct mts_device_ops *ops;
};

/* The rows an operation works on: the whole pass, or its candidates alone. */
struct rows {
	const struct mts_pass *pass;
	float *x, *n, *z;
};

static struct rows all_rows(const struct run *r)
{
	return (struct rows){r->f->pass, r->slot->x, r->slot->n, r->slot->z};
}

static struct rows tail_rows(const struct run *r)
{
	return (struct rows){&r->slot->tail, r->slot->tail_x, r->slot->tail_n, r->slot->tail_z};
}

static int embed(const struct run *r)
{
	const struct mts_op_embed op = {
		.pass = r->f->pass,
		.items = mts_weights_get(r->w, MTS_W_ITEMS, 0),
		.actions = mts_weights_get(r->w, MTS_W_ACTIONS, 0),
		.positions = mts_weights_get(r->w, MTS_W_POSITIONS, 0),
		.d = r->w->config.d,
		.max_positions = r->w->config.positions,
		.x = r->slot->x,
	};

	return r->ops->embed(r->w->dev, &op);
}

/* n = LayerNorm(x) with the weights of `role` and the bias that follows it in the list. */
static int norm(const struct run *r, const struct rows *rows, enum mts_weight role, uint32_t layer)
{
	const struct mts_op_norm op = {
		.rows = rows->pass->rows,
		.d = r->w->config.d,
		.eps = r->w->config.eps,
		.x = rows->x,
		.weight = mts_weights_get(r->w, role, layer),
		.bias = mts_weights_get(r->w, role + 1, layer),
		.y = rows->n,
	};

	return r->ops->norm(r->w->dev, &op);
}

static int project(const struct run *r, const struct rows *rows, uint32_t layer)
{
	const struct mts_model_config *c = &r->w->config;
	const struct mts_op_gemm op = {
		.m = rows->pass->rows,
		.n = mts_config_zcols(c),
		.k = c->d,
		.a = rows->n,
		.b = mts_weights_get(r->w, MTS_W_UVQK_WEIGHT, layer),
		.bias = mts_weights_get(r->w, MTS_W_UVQK_BIAS, layer),
		.c = rows->z,
		.act = MTS_ACT_SILU,
		.act_cols = c->act_all ? mts_config_zcols(c) : mts_config_hdv(c),
	};

	return r->ops->gemm(r->w->dev, &op);
}

static int append(const struct run *r, uint32_t layer)
{
	const struct mts_op_append op = {
		.pass = r->f->pass,
		.kv = r->f->kv,
		.layer = layer,
		.z = r->slot->z,
		.own = r->slot->own,
	};

	return r->ops->append(r->w->dev, &op);
}

static int attention(const struct run *r, const struct rows *rows, uint32_t layer)
{
	const struct mts_op_attention op = {
		.pass = rows->pass,
		.kv = r->f->kv,
		.layer = layer,
		.z = rows->z,
		.own = r->slot->own,
		.scale_len = r->w->config.scale_len,
		.window = r->w->config.window,
		.o = r->slot->o,
	};

	return r->ops->attention(r->w->dev, &op);
}

static int modulate(const struct run *r, const struct rows *rows, uint32_t layer)
{
	const struct mts_model_config *c = &r->w->config;
	const struct mts_op_modulate op = {
		.rows = rows->pass->rows,
		.hdv = mts_config_hdv(c),
		.zcols = mts_config_zcols(c),
		.eps = c->eps,
		.z = rows->z,
		.o = r->slot->o,
		.weight = mts_weights_get(r->w, MTS_W_OUT_NORM_WEIGHT, layer),
		.bias = mts_weights_get(r->w, MTS_W_OUT_NORM_BIAS, layer),
		.concat = (int)c->concat,
		.out = r->slot->y,
	};

	return r->ops->modulate(r->w->dev, &op);
}

static int add_output(const struct run *r, const struct rows *rows, uint32_t layer)
{
	const struct mts_op_gemm op = {
		.m = rows->pass->rows,
		.n = r->w->config.d,
		.k = mts_config_ycols(&r->w->config),
		.a = r->slot->y,
		.b = mts_weights_get(r->w, MTS_W_OUT_WEIGHT, layer),
		.c = rows->x,
		.accumulate = 1,
	};

	return r->ops->gemm(r->w->dev, &op);
}

static int pick(const struct run *r, uint32_t columns, const float *from, float *to)
{
	const struct mts_op_pick op = {r->f->pass, columns, from, to};

	return r->ops->pick(r->w->dev, &op);
}

/*
 * Norm, projection, K/V into the pages. The wait stands before append, not after it: a load may
 * bring a partly filled last page in one copy, and must not land on the rows that append puts
 * behind its end. What precedes it, the projection, is the part worth overlapping.
 */
static int store_keys(const struct run *r, uint32_t layer)
{
	const struct rows all = all_rows(r);
	int rc = norm(r, &all, MTS_W_IN_NORM_WEIGHT, layer);

	if (rc == 0)
		rc = project(r, &all, layer);
	for (unsigned i = 0; i < r->f->readies && rc == 0; i++)
		rc = r->ops->wait(r->w->dev, &r->f->ready[i][layer]);
	return rc ? rc : append(r, layer);
}

static int attend(const struct run *r, const struct rows *rows, uint32_t layer)
{
	int rc = attention(r, rows, layer);

	if (rc == 0)
		rc = modulate(r, rows, layer);
	return rc ? rc : add_output(r, rows, layer);
}

static int last_layer_of_candidates(const struct run *r)
{
	const struct rows tail = tail_rows(r);
	int rc = pick(r, r->w->config.d, r->slot->x, tail.x);

	if (rc == 0)
		rc = pick(r, mts_config_zcols(&r->w->config), r->slot->z, tail.z);
	return rc ? rc : attend(r, &tail, r->w->config.layers - 1);
}

static int layers(const struct run *r)
{
	const struct rows all = all_rows(r);
	uint32_t last = r->w->config.layers - 1;
	int rc = 0;

	for (uint32_t l = 0; l <= last && rc == 0; l++) {
		rc = store_keys(r, l);
		if (rc == 0 && (l < last || r->f->hidden))
			rc = attend(r, &all, l);
	}
	if (rc || !r->f->pass->candidates)
		return rc;
	if (r->f->hidden)
		return pick(r, r->w->config.d, r->slot->x, r->slot->tail_x);
	return last_layer_of_candidates(r);
}

static int project_head(const struct run *r, const struct rows *tail)
{
	const struct mts_op_gemm op = {
		.m = tail->pass->rows,
		.n = r->w->config.head_hidden,
		.k = r->w->config.d,
		.a = tail->n,
		.b = mts_weights_get(r->w, MTS_W_HEAD0_WEIGHT, 0),
		.bias = mts_weights_get(r->w, MTS_W_HEAD0_BIAS, 0),
		.c = r->slot->head,
		.act = MTS_ACT_SILU,
		.act_cols = r->w->config.head_hidden,
	};

	return r->ops->gemm(r->w->dev, &op);
}

static int score(const struct run *r, uint32_t rows)
{
	const struct mts_op_score op = {
		.rows = rows,
		.k = r->w->config.head_hidden,
		.tasks = r->w->config.tasks,
		.a = r->slot->head,
		.w = mts_weights_get(r->w, MTS_W_HEAD1_WEIGHT, 0),
		.bias = mts_weights_get(r->w, MTS_W_HEAD1_BIAS, 0),
		.scores = r->slot->scores,
	};

	return r->ops->score(r->w->dev, &op);
}

static int head(const struct run *r)
{
	const struct rows tail = tail_rows(r);
	size_t bytes = (size_t)tail.pass->rows * r->w->config.tasks * sizeof(float);
	int rc = norm(r, &tail, MTS_W_HEAD_NORM_WEIGHT, 0);

	if (rc == 0)
		rc = project_head(r, &tail);
	if (rc == 0)
		rc = score(r, tail.pass->rows);
	return rc ? rc : r->ops->fetch(r->w->dev, r->f->scores, r->slot->scores, bytes);
}

static int launch(const struct run *r)
{
	const struct mts_pass *pass = r->f->pass;
	size_t bytes = (size_t)pass->rows * r->w->config.d * sizeof(float);
	int rc = pass->rows ? embed(r) : 0;

	if (rc == 0 && pass->rows)
		rc = layers(r);
	if (rc == 0 && pass->candidates)
		rc = head(r);
	if (rc == 0 && pass->rows && r->f->hidden)
		rc = r->ops->fetch(r->w->dev, r->f->hidden, r->slot->x, bytes);
	return rc;
}

/* The candidates of the pass as a pass of their own: no history rows, every key cached. */
static void make_tail(const struct mts_pass *pass, struct mts_activations *slot)
{
	uint32_t rows = 0, spans = 0;

	for (uint32_t i = 0; i < pass->spans; i++) {
		const struct mts_span *s = &pass->span[i];

		if (!s->candidates)
			continue;
		slot->span[spans++] = (struct mts_span){
			.row = rows,
			.candidates = s->candidates,
			.begin = s->v,
			.v = s->v,
			.pages = s->pages,
		};
		rows += s->candidates;
	}
	slot->tail = (struct mts_pass){
		.rows = rows, .spans = spans, .candidates = rows, .span = slot->span};
}

static int check_span(const struct mts_span *s, uint32_t row, uint32_t rows)
{
	uint64_t count = (uint64_t)s->history + s->candidates;
	uint64_t end = (uint64_t)s->begin + s->history;

	if (s->row != row || count > rows - row || end > s->v)
		return -EINVAL;
	if (s->candidates && end != s->v)
		return -EINVAL;
	return s->v && !s->pages ? -EINVAL : 0;
}

/* Spans cover the rows in order; ids lie inside the tables that embed reads. */
static int check_pass(const struct mts_weights *w, const struct mts_pass *p)
{
	uint32_t row = 0, candidates = 0;

	if (p->rows > w->rows || p->candidates > w->candidates)
		return -E2BIG;
	for (uint32_t i = 0; i < p->spans; i++) {
		if (check_span(&p->span[i], row, p->rows))
			return -EINVAL;
		row += p->span[i].history + p->span[i].candidates;
		candidates += p->span[i].candidates;
	}
	if (row != p->rows || candidates != p->candidates)
		return -EINVAL;
	for (row = 0; row < p->rows; row++)
		if (p->item[row] >= w->config.items || p->action[row] >= w->config.actions)
			return -ERANGE;
	return 0;
}

static int check_forward(const struct mts_weights *w, const struct mts_forward *f)
{
	const struct mts_kv_layout *y = &f->kv->layout;
	const struct mts_model_config *c = &w->config;

	if (f->slot >= w->slots || !f->done || (f->pass->candidates && !f->scores))
		return -EINVAL;
	if (y->layers != c->layers || y->heads != c->heads || y->dq != c->dq || y->dv != c->dv ||
	    y->dtype != w->kv)
		return -EINVAL;
	return check_pass(w, f->pass);
}

int mts_forward(struct mts_weights *w, const struct mts_forward *f)
{
	struct run r = {w, f, NULL, w->dev->ops};
	int rc = check_forward(w, f);

	if (rc)
		return rc;
	r.slot = &w->slot[f->slot];
	make_tail(f->pass, r.slot);
	rc = launch(&r);
	if (rc) {
		/*
		 * What was launched before may still run, so `done` must come behind it, and with
		 * the error: a failed gate in the queue does both.
		 */
		mts_gate_init(&r.slot->broken, 1);
		mts_gate_arrive(&r.slot->broken, rc);
		r.ops->wait(w->dev, &r.slot->broken);
	}
	/* the gate gets its arrival whatever this returns (device.h) */
	r.ops->signal(w->dev, f->done);
	return 0;
}
