/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification (verify.h). Floor: cmd. One thread, which owns the tier.
 *
 * The device pool holds the largest window and no page more, so that a request of another user
 * pushes everything out to the host: that is how a prefix is made to come from there.
 */
#include "cmd/verify.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/tier.h"
#include "cmd/expect.h"
#include "error.h"
#include "model/dtype.h"

enum { USER = 1, OTHER = 2, PAGE_TOKENS = 16 };

struct mts_verify {
	struct mts_model *model;
	const struct mts_model_config *c;
	struct mts_expect *expect;
	struct mts_verify_bounds bounds;
	struct mts_device *dev;
	struct mts_weights *weights;
	struct mts_tier *tier;
	const struct mts_expect_user *longest;
	uint32_t rows;           /* most of one user */
	uint32_t *item, *action; /* [rows] of the pass under way */
	float *whole, *scores;   /* [rows, tasks] */
	float *hidden;           /* [rows, d] */
	float *kv;               /* one row of K or V */
	void *raw;               /* the same as stored */
};

/* One part of a user's rows. */
struct part {
	const struct mts_expect_user *u;
	struct mts_lease *lease;
	uint32_t begin, history;
	int candidates;
};

struct mts_verify_bounds mts_verify_bounds_of(enum mts_dtype kv, uint32_t layers)
{
	struct mts_verify_bounds b = {.scores = 2e-6, .hidden = 2e-5, .kv = 2e-5};
	const double unit = 0x1p-8; /* the largest relative error of rounding to bfloat16 */

	if (kv == MTS_BF16) {
		b.scores += unit / 2 * layers;
		b.hidden += 6 * unit * layers;
		b.kv_layer = 6 * unit;
		b.kv_relative = unit;
	}
	return b;
}

/* What is not a number, on either side, counts as infinite: every comparison with NaN is false. */
static double or_infinite(double x)
{
	return isnan(x) ? (double)INFINITY : x;
}

static void note(double *most, double *of_bound, double difference, double bound)
{
	double size = or_infinite(fabs(difference)), share = or_infinite(size / bound);

	if (size > *most)
		*most = size;
	if (share > *of_bound)
		*of_bound = share;
}

static void fill(struct mts_verify *v, const struct part *p, struct mts_pass *pass)
{
	const struct mts_event *e = p->u->events + (p->u->n - p->u->v) + p->begin;
	uint32_t n = p->candidates ? p->u->candidates : 0;

	for (uint32_t i = 0; i < p->history; i++) {
		v->item[i] = e[i].item;
		v->action[i] = e[i].action;
	}
	for (uint32_t i = 0; i < n; i++) {
		v->item[p->history + i] = p->u->candidate[i];
		v->action[p->history + i] = 0;
	}
	pass->rows = p->history + n;
	pass->candidates = n;
}

/* Runs one pass and waits for it. */
static int run(struct mts_verify *v, const struct part *p, float *scores, float *hidden)
{
	struct mts_gate *const ready[] = {p->lease->gates};
	struct mts_span span = {.history = p->history,
				.candidates = p->candidates ? p->u->candidates : 0,
				.begin = p->begin,
				.v = p->u->v,
				.pages = mts_lease_pages(p->lease)};
	struct mts_pass pass = {.spans = 1, .span = &span, .item = v->item, .action = v->action};
	struct mts_gate done;
	struct mts_forward f = {.pass = &pass,
				.kv = &v->tier->kv,
				.ready = ready,
				.readies = p->lease->loading,
				.done = &done,
				.scores = scores,
				.hidden = hidden};
	int rc;

	fill(v, p, &pass);
	mts_gate_init(&done, 1);
	rc = mts_forward(v->weights, &f);
	return rc ? rc : mts_gate_drain(&done, -1);
}

static int reserve(struct mts_verify *v, const struct mts_expect_user *u, uint64_t user,
		   struct mts_lease **out)
{
	const struct mts_history h = {.user = user, .n = u->n, .events = u->events, .count = u->n};

	return mts_tier_reserve(v->tier, &h, out);
}

/* Until no copy is under way and none is about to start. */
static void settle(struct mts_verify *v)
{
	const struct timespec nap = {.tv_nsec = 20000};

	while (mts_tier_poll(v->tier) || mts_tier_outstanding(v->tier))
		nanosleep(&nap, NULL);
}

static int forget(struct mts_verify *v)
{
	int rc;

	settle(v);
	while ((rc = mts_tier_forget(v->tier, USER)) == -EINPROGRESS)
		settle(v);
	return rc;
}

/* Leaves K/V of visible positions [0, n) in the cache. */
static int encode_prefix(struct mts_verify *v, const struct mts_expect_user *u, uint32_t n)
{
	struct part p = {.u = u, .history = n};
	int rc = n ? reserve(v, u, USER, &p.lease) : 0;

	if (rc || !n)
		return rc;
	rc = run(v, &p, NULL, NULL);
	if (rc == 0)
		rc = mts_tier_commit(v->tier, p.lease, n);
	mts_tier_release(v->tier, p.lease);
	settle(v);
	return rc;
}

/* A request of somebody else, who needs the whole pool. */
static int push_out(struct mts_verify *v)
{
	struct mts_lease *l;
	int rc = reserve(v, v->longest, OTHER, &l);

	if (rc == 0)
		mts_tier_release(v->tier, l);
	return rc;
}

static void read_row(struct mts_verify *v, const void *from, size_t n)
{
	enum mts_dtype type = v->tier->kv.layout.dtype;
	const uint16_t *half = v->raw;

	if (v->dev->ops->read(v->dev, v->raw, from, n * mts_dtype_bytes(type)))
		memset(v->raw, 0xff, n * mts_dtype_bytes(type));
	if (type == MTS_F32)
		memcpy(v->kv, v->raw, n * sizeof(v->kv[0]));
	for (size_t i = 0; type == MTS_BF16 && i < n; i++)
		v->kv[i] = mts_bf16_to_f32(half[i]);
}

static void compare_row(struct mts_verify *v, const float *expected, size_t n, uint32_t layer,
			double *most, double *of_bound)
{
	const struct mts_verify_bounds *b = &v->bounds;

	for (size_t i = 0; i < n; i++)
		note(most, of_bound, (double)v->kv[i] - (double)expected[i],
		     b->kv + b->kv_layer * layer + b->kv_relative * fabs((double)expected[i]));
}

static void compare_kv(struct mts_verify *v, const struct part *p, struct mts_verify_error *e)
{
	const struct mts_kv_pool *kv = &v->tier->kv;
	const struct mts_kv_layout *y = &kv->layout;
	size_t hdq = (size_t)y->heads * y->dq, hdv = (size_t)y->heads * y->dv;
	const uint32_t *pages = mts_lease_pages(p->lease);

	for (uint32_t l = 0; l < y->layers; l++) {
		for (uint32_t t = 0; t < p->u->v; t++) {
			uint32_t at = t % y->page_tokens;
			char *k = mts_kv_page(kv, l, pages[t / y->page_tokens]);
			char *values = k + y->page_tokens * mts_kv_k_bytes(y);

			read_row(v, k + at * mts_kv_k_bytes(y), hdq);
			compare_row(v, p->u->k[l] + t * hdq, hdq, l, &e->k, &e->of_bound);
			read_row(v, values + at * mts_kv_v_bytes(y), hdv);
			compare_row(v, p->u->v_[l] + t * hdv, hdv, l, &e->v, &e->of_bound);
		}
	}
}

static void compare_scores(struct mts_verify *v, const struct mts_expect_user *u,
			   struct mts_verify_error *e)
{
	size_t n = (size_t)u->candidates * v->c->tasks;

	for (size_t i = 0; i < n; i++)
		note(&e->scores, &e->of_bound, (double)v->scores[i] - (double)u->scores[i],
		     v->bounds.scores);
	e->splits++;
	if (memcmp(v->scores, v->whole, n * sizeof(v->whole[0])))
		e->other_bits++;
}

static void compare_hidden(struct mts_verify *v, const struct mts_expect_user *u,
			   struct mts_verify_error *e)
{
	size_t n = ((size_t)u->v + u->candidates) * v->c->d;

	for (size_t i = 0; i < n; i++)
		note(&e->hidden, &e->of_bound, (double)v->hidden[i] - (double)u->hidden[i],
		     v->bounds.hidden);
}

/* Everything in one pass: as served, and once more with hidden states, which takes another path. */
static int run_whole(struct mts_verify *v, const struct mts_expect_user *u,
		     struct mts_verify_error *e)
{
	struct part p = {.u = u, .history = u->v, .candidates = 1};
	int rc = reserve(v, u, USER, &p.lease);

	if (rc)
		return rc;
	rc = run(v, &p, v->whole, NULL);
	if (rc == 0)
		compare_kv(v, &p, e);
	if (rc == 0)
		rc = run(v, &p, v->scores, v->hidden);
	mts_tier_release(v->tier, p.lease);
	if (rc == 0) {
		compare_scores(v, u, e);
		compare_hidden(v, u, e);
	}
	return rc ? rc : forget(v);
}

/* The match must be what was arranged, or the test would not test what it says. */
static int check_match(const struct mts_match *m, enum mts_verify_source source, uint32_t prefix,
		       struct mts_error *err)
{
	uint32_t device = source == MTS_FROM_DEVICE ? prefix : 0;

	if (m->device_tokens == device && m->host_tokens == prefix - device)
		return 0;
	mts_error_set(err, "of a prefix of %u, %u tokens are on the device and %u on the host",
		      prefix, m->device_tokens, m->host_tokens);
	return -EUCLEAN;
}

static int run_rest(struct mts_verify *v, const struct mts_expect_user *u, uint32_t prefix,
		    enum mts_verify_source source, struct mts_verify_error *e,
		    struct mts_error *err)
{
	struct part p = {.u = u, .begin = prefix, .history = u->v - prefix, .candidates = 1};
	int rc = reserve(v, u, USER, &p.lease);

	if (rc)
		return rc;
	rc = check_match(mts_lease_match(p.lease), source, prefix, err);
	if (rc == 0)
		rc = mts_tier_onload(v->tier, p.lease, 0);
	if (rc == 0)
		rc = run(v, &p, v->scores, NULL);
	if (rc == 0) {
		settle(v);
		compare_kv(v, &p, e);
		compare_scores(v, u, e);
	}
	mts_tier_release(v->tier, p.lease);
	return rc;
}

static int run_split(struct mts_verify *v, const struct mts_expect_user *u, uint32_t prefix,
		     enum mts_verify_source source, struct mts_verify_error *e,
		     struct mts_error *err)
{
	int rc = encode_prefix(v, u, prefix);

	if (rc == 0 && source == MTS_FROM_HOST)
		rc = push_out(v);
	if (rc == 0)
		rc = run_rest(v, u, prefix, source, e, err);
	return rc ? rc : forget(v);
}

int mts_verify_run(struct mts_verify *v, unsigned user, struct mts_verify_user *out,
		   struct mts_error *err)
{
	const struct mts_expect_user *u = &v->expect->user[user];
	struct mts_error why = {.text = ""};
	int rc;

	*out = (struct mts_verify_user){
		.events = u->n, .visible = u->v, .candidates = u->candidates};
	rc = run_whole(v, u, &out->by[MTS_FROM_NOTHING]);
	for (int s = MTS_FROM_DEVICE; s < MTS_VERIFY_SOURCES; s++)
		for (uint32_t at = s == MTS_FROM_HOST; at <= u->v && rc == 0; at++)
			rc = run_split(v, u, at, (enum mts_verify_source)s, &out->by[s], &why);
	if (rc)
		mts_error_set(err, "user %u: %s", user, why.text[0] ? why.text : strerror(-rc));
	return rc;
}

/* ---- opening ---- */

static void measure(struct mts_verify *v)
{
	v->longest = &v->expect->user[0];
	v->rows = 1;
	for (unsigned i = 0; i < v->expect->users; i++) {
		const struct mts_expect_user *u = &v->expect->user[i];

		if (u->v + u->candidates > v->rows)
			v->rows = u->v + u->candidates;
		if (u->v > v->longest->v)
			v->longest = u;
	}
}

static int allocate(struct mts_verify *v)
{
	size_t head = v->c->dq > v->c->dv ? v->c->dq : v->c->dv, row = v->c->heads * head;

	v->item = calloc(v->rows, sizeof(v->item[0]));
	v->action = calloc(v->rows, sizeof(v->action[0]));
	v->whole = calloc((size_t)v->rows * v->c->tasks, sizeof(v->whole[0]));
	v->scores = calloc((size_t)v->rows * v->c->tasks, sizeof(v->scores[0]));
	v->hidden = calloc((size_t)v->rows * v->c->d, sizeof(v->hidden[0]));
	v->kv = calloc(row, sizeof(v->kv[0]));
	v->raw = calloc(row, sizeof(float));
	return v->item && v->action && v->whole && v->scores && v->hidden && v->kv && v->raw
		       ? 0
		       : -ENOMEM;
}

static int open_device(struct mts_verify *v, const struct mts_verify_options *o,
		       struct mts_error *err)
{
	const struct mts_device_config cfg = {.threads = o->threads};
	const struct mts_device_ops *ops = mts_device_find(o->device);

	if (!ops) {
		mts_error_set(err, "device \"%.40s\" is not in this build", o->device);
		return -ENODEV;
	}
	return ops->open(&cfg, &v->dev, err);
}

static int open_tier(struct mts_verify *v, enum mts_dtype kv, struct mts_error *err)
{
	const struct mts_model_config *c = v->c;
	uint64_t pages = (v->longest->v + PAGE_TOKENS - 1) / PAGE_TOKENS + !v->longest->v;
	uint64_t bytes = pages * PAGE_TOKENS * mts_model_token_bytes(c, kv);
	const struct mts_tier_config cfg = {.size = sizeof(cfg),
					    .layers = c->layers,
					    .heads = c->heads,
					    .d_qk = c->dq,
					    .d_v = c->dv,
					    .kv_bf16 = kv == MTS_BF16,
					    .page_tokens = PAGE_TOKENS,
					    .max_history = c->max_history,
					    .slide = c->slide,
					    .device_bytes = bytes,
					    .host_bytes = 4 * bytes,
					    .node = -1};

	return mts_tier_open_on(&cfg, v->dev, &mts_policy_lru, NULL, &v->tier, err);
}

static int open_all(struct mts_verify *v, const struct mts_verify_options *o, struct mts_error *err)
{
	int rc = mts_model_open(o->model, &v->model, err);

	if (rc)
		return rc;
	v->c = mts_model_get_config(v->model);
	v->bounds = mts_verify_bounds_of(o->kv, v->c->layers);
	rc = mts_expect_open(o->expect, v->c, &v->expect, err);
	if (rc)
		return rc;
	measure(v);
	rc = allocate(v);
	if (rc == 0)
		rc = open_device(v, o, err);
	if (rc == 0)
		rc = mts_weights_open(v->dev, v->model, v->rows, v->rows, 1, o->kv, &v->weights,
				      err);
	return rc ? rc : open_tier(v, o->kv, err);
}

int mts_verify_open(const struct mts_verify_options *o, struct mts_verify **out,
		    struct mts_error *err)
{
	struct mts_verify *v = calloc(1, sizeof(*v));
	int rc;

	mts_error_set(err, "out of memory");
	if (!v)
		return -ENOMEM;
	rc = open_all(v, o, err);
	if (rc)
		mts_verify_close(v);
	else
		*out = v;
	return rc;
}

void mts_verify_close(struct mts_verify *v)
{
	if (!v)
		return;
	mts_tier_close(v->tier);
	mts_weights_close(v->weights);
	if (v->dev)
		v->dev->ops->close(v->dev);
	mts_expect_close(v->expect);
	mts_model_close(v->model);
	free(v->item);
	free(v->action);
	free(v->whole);
	free(v->scores);
	free(v->hidden);
	free(v->kv);
	free(v->raw);
	free(v);
}

unsigned mts_verify_users(const struct mts_verify *v)
{
	return v->expect->users;
}

const struct mts_model_config *mts_verify_config(const struct mts_verify *v)
{
	return v->c;
}
