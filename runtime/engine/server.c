/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's public calls: open, submit, reap, hints, counters, close.
 *
 * Floor: engine. Any thread but for open and close. Jobs are allocated once, at open: they go from
 * the free list through the inbox to the engine thread and come back through the outbox.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/engine.h"
#include "error.h"

const char *mts_version(void)
{
	return MTS_VERSION;
}

void mts_server_ring(struct mts_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->rings++;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void ring(void *server)
{
	mts_server_ring(server);
}

/* ---- open ---- */

static int set_defaults(struct mts_server_config *c, struct mts_error *err)
{
	if (c->size != sizeof(*c)) {
		mts_error_set(err, "server: size: expected sizeof(struct mts_server_config)");
		return -EINVAL;
	}
	if (!c->page_tokens)
		c->page_tokens = 64;
	if (!c->batch)
		c->batch = 8;
	if (!c->step_tokens)
		c->step_tokens = 2048;
	if (!c->queue)
		c->queue = 1024;
	if (c->plan > MTS_PLAN_SPLIT) {
		mts_error_set(err, "server: plan %u: expected one of MTS_PLAN_*", c->plan);
		return -EINVAL;
	}
	if (c->batch > 1024 || c->step_tokens < 16 || c->step_tokens > 1u << 20 ||
	    c->queue > 1u << 20) {
		mts_error_set(err, "server: batch %u, step_tokens %u, queue %u: expected 1..1024, "
			      "16..2^20, 1..2^20", c->batch, c->step_tokens, c->queue);
		return -EINVAL;
	}
	return 0;
}

/* Everything that can change a stored bit or a score goes into the cache's key. */
static void make_version(struct mts_server *s, uint64_t version[2])
{
	const struct mts_model_config *c = mts_model_get_config(s->model);
	struct mts_device_info info;
	XXH128_hash_t h;
	char text[512];
	uint64_t file[2];
	int n;

	mts_model_hash(s->model, file);
	s->dev->ops->info(s->dev, &info);
	n = snprintf(text, sizeof(text), "%016llx%016llx H=%u S=%u kv=%u T=%u %s %s",
		     (unsigned long long)file[1], (unsigned long long)file[0], c->max_history,
		     c->slide, s->cfg.kv_bf16, s->cfg.page_tokens, s->dev->ops->name,
		     info.numerics);
	h = XXH3_128bits(text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
	version[0] = h.low64;
	version[1] = h.high64;
	memcpy(s->numerics, info.numerics, sizeof(s->numerics));
}

static int open_tier(struct mts_server *s, struct mts_error *err)
{
	const struct mts_model_config *c = mts_model_get_config(s->model);
	struct mts_tier_config tc = {
		.size = sizeof(tc),
		.layers = c->layers,
		.heads = c->heads,
		.d_qk = c->dq,
		.d_v = c->dv,
		.kv_bf16 = s->cfg.kv_bf16,
		.page_tokens = s->cfg.page_tokens,
		.max_history = c->max_history,
		.slide = c->slide,
		.device_bytes = s->cfg.device_bytes,
		.host_bytes = s->cfg.no_cache ? 0 : s->cfg.host_bytes,
		.arena = s->cfg.arena,
		.node = s->cfg.node,
		.leases = 2 * MTS_STEPS * s->cfg.batch,
		.no_cache = s->cfg.no_cache,
		.policy = s->cfg.policy,
	};
	int ret;

	make_version(s, tc.version);
	ret = mts_tier_open_on(&tc, s->dev, NULL, NULL, &s->tier, err);
	if (!ret && s->tier->transfer)
		mts_transfer_notify(s->tier->transfer, ring, s);
	return ret;
}

static int open_step(struct mts_server *s, struct mts_step *step)
{
	uint32_t rows = s->cfg.step_tokens, batch = s->cfg.batch;

	step->span = calloc(batch, sizeof(*step->span));
	step->part = calloc(batch, sizeof(*step->part));
	step->ready = calloc(batch, sizeof(*step->ready));
	step->item = calloc(rows, sizeof(*step->item));
	step->action = calloc(rows, sizeof(*step->action));
	step->scores = calloc((size_t)rows * s->tasks, sizeof(*step->scores));
	if (!step->span || !step->part || !step->ready || !step->item || !step->action ||
	    !step->scores)
		return -ENOMEM;
	step->pass.span = step->span;
	step->pass.item = step->item;
	step->pass.action = step->action;
	return 0;
}

static int open_jobs(struct mts_server *s)
{
	s->jobs = calloc(s->cfg.queue, sizeof(*s->jobs));
	if (!s->jobs)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->cfg.queue; i++)
		TAILQ_INSERT_TAIL(&s->free, &s->jobs[i], link);
	return 0;
}

static int open_parts(struct mts_server *s, struct mts_error *err)
{
	const struct mts_model_config *c = mts_model_get_config(s->model);
	int ret = 0;

	s->tasks = c->tasks;
	if (!s->weights) {
		ret = mts_weights_open(s->dev, s->model, s->cfg.step_tokens, s->cfg.step_tokens,
				       MTS_STEPS, s->cfg.kv_bf16 ? MTS_BF16 : MTS_F32,
				       &s->weights, err);
		s->own_weights = !ret;
	}
	if (!ret)
		ret = open_tier(s, err);
	if (!ret)
		ret = open_jobs(s);
	for (int i = 0; i < MTS_STEPS && !ret; i++)
		ret = open_step(s, &s->step[i]);
	if (!ret)
		ret = -pthread_create(&s->thread, NULL, mts_engine_main, s);
	s->started = !ret;
	return ret;
}

int mts_server_open_on(const struct mts_server_config *cfg, struct mts_device *dev,
		       struct mts_model *m, struct mts_weights *weights, struct mts_server **out,
		       struct mts_error *err)
{
	struct mts_server *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	s->dev = dev;
	s->model = m;
	s->weights = weights;
	pthread_mutex_init(&s->lock, NULL);
	init_monotonic(&s->wake);
	init_monotonic(&s->replied);
	TAILQ_INIT(&s->free);
	TAILQ_INIT(&s->inbox);
	TAILQ_INIT(&s->outbox);
	TAILQ_INIT(&s->fresh);
	for (int i = 0; i < MTS_PACES; i++)
		TAILQ_INIT(&s->waiting[i]);
	TAILQ_INIT(&s->active);
	TAILQ_INIT(&s->erasing);
	TAILQ_INIT(&s->replies);
	s->deadline_ns = s->wake_ns = UINT64_MAX;
	if (err)
		err->text[0] = '\0';
	ret = set_defaults(&s->cfg, err);
	if (!ret)
		ret = open_parts(s, err);
	if (ret) {
		if (err && !err->text[0])
			mts_error_set(err, "server: %s", strerror(-ret));
		mts_server_close(s);
		return ret;
	}
	*out = s;
	return 0;
}

static int open_device(const struct mts_server_config *cfg, struct mts_device **dev,
		       struct mts_error *err)
{
	const char *name = cfg->device ? cfg->device : "cpu";
	const struct mts_device_ops *ops = mts_device_find(name);
	struct mts_device_config dc = {
		.index = cfg->device_index,
		.threads = cfg->threads,
		.link_gbps = cfg->link_gbps,
		.copy_us = cfg->copy_us,
	};

	if (!ops) {
		mts_error_set(err, "device \"%s\": not in this build, expected cpu or nil", name);
		return -ENODEV;
	}
	return ops->open(&dc, dev, err);
}

int mts_server_open(const struct mts_server_config *cfg, struct mts_server **out,
		    struct mts_error *err)
{
	struct mts_device *dev;
	struct mts_model *m;
	int ret;

	if (cfg->size != sizeof(*cfg) || !cfg->model) {
		mts_error_set(err, "server: expected size and a model path in the configuration");
		return -EINVAL;
	}
	ret = mts_model_open(cfg->model, &m, err);
	if (ret)
		return ret;
	ret = open_device(cfg, &dev, err);
	if (ret) {
		mts_model_close(m);
		return ret;
	}
	ret = mts_server_open_on(cfg, dev, m, NULL, out, err);
	if (ret) {
		dev->ops->close(dev);
		mts_model_close(m);
		return ret;
	}
	(*out)->own_device = (*out)->own_model = true;
	return 0;
}

/* ---- close ---- */

static void free_step(struct mts_step *step)
{
	free(step->span);
	free(step->part);
	free(step->ready);
	free(step->item);
	free(step->action);
	free(step->scores);
}

static void stop(struct mts_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_mutex_unlock(&s->lock);
	mts_server_ring(s);
	pthread_join(s->thread, NULL);
}

void mts_server_close(struct mts_server *s)
{
	if (!s)
		return;
	if (s->started)
		stop(s);
	mts_tier_close(s->tier);
	if (s->own_weights)
		mts_weights_close(s->weights);
	for (int i = 0; i < MTS_STEPS; i++)
		free_step(&s->step[i]);
	free(s->jobs);
	if (s->own_device)
		s->dev->ops->close(s->dev);
	if (s->own_model)
		mts_model_close(s->model);
	pthread_cond_destroy(&s->replied);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- submit and reap ---- */

static struct mts_job *take_free(struct mts_server *s)
{
	struct mts_job *j = TAILQ_FIRST(&s->free);

	if (!j || s->closing)
		return NULL;
	TAILQ_REMOVE(&s->free, j, link);
	memset(j, 0, sizeof(*j));
	return j;
}

int mts_server_submit(struct mts_server *s, const struct mts_request *req, unsigned n)
{
	uint64_t now = mts_now();
	struct mts_job *j;
	unsigned taken;

	pthread_mutex_lock(&s->lock);
	for (taken = 0; taken < n; taken++) {
		j = take_free(s);
		if (!j)
			break;
		j->kind = MTS_JOB_REQUEST;
		j->req = req[taken];
		j->reply.submitted_ns = now;
		TAILQ_INSERT_TAIL(&s->inbox, j, link);
	}
	if (taken) {
		s->rings++;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
	return taken || !n ? (int)taken : -EAGAIN;
}

static int hint(struct mts_server *s, enum mts_job_kind kind, uint64_t user, struct mts_gate *done)
{
	struct mts_job *j;

	pthread_mutex_lock(&s->lock);
	j = take_free(s);
	if (j) {
		j->kind = kind;
		j->req.history.user = user;
		j->done = done;
		TAILQ_INSERT_TAIL(&s->inbox, j, link);
		s->rings++;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
	return j ? 0 : -EAGAIN;
}

int mts_server_session_end(struct mts_server *s, uint64_t user)
{
	return hint(s, MTS_JOB_SESSION_END, user, NULL);
}

int mts_server_prefetch(struct mts_server *s, uint64_t user)
{
	return hint(s, MTS_JOB_PREFETCH, user, NULL);
}

int mts_server_forget(struct mts_server *s, uint64_t user)
{
	struct mts_gate done;
	int ret;

	mts_gate_init(&done, 1);
	ret = hint(s, MTS_JOB_FORGET, user, &done);
	return ret ? ret : mts_gate_wait(&done, -1);
}

/* Sleeps until there is a reply, at most timeout_ns; the lock is held. */
static void wait_reply(struct mts_server *s, int64_t timeout_ns)
{
	struct timespec until;
	uint64_t t;

	if (timeout_ns < 0) {
		while (TAILQ_EMPTY(&s->outbox))
			pthread_cond_wait(&s->replied, &s->lock);
		return;
	}
	t = mts_now() + (uint64_t)timeout_ns;
	until = (struct timespec){ (time_t)(t / 1000000000u), (long)(t % 1000000000u) };
	while (TAILQ_EMPTY(&s->outbox))
		if (pthread_cond_timedwait(&s->replied, &s->lock, &until) == ETIMEDOUT)
			return;
}

int mts_server_reap(struct mts_server *s, struct mts_reply *out, unsigned max, int64_t timeout_ns)
{
	unsigned n = 0;
	struct mts_job *j;

	pthread_mutex_lock(&s->lock);
	if (TAILQ_EMPTY(&s->outbox) && timeout_ns && max)
		wait_reply(s, timeout_ns);
	while (n < max && (j = TAILQ_FIRST(&s->outbox))) {
		TAILQ_REMOVE(&s->outbox, j, link);
		out[n++] = j->reply;
		TAILQ_INSERT_TAIL(&s->free, j, link);
	}
	pthread_mutex_unlock(&s->lock);
	return (int)n;
}

/* ---- what is there ---- */

static void arena_info(struct mts_arena *a, struct mts_server_info *out)
{
	struct mts_error lost;
	int error = mts_arena_lost(a, &lost);

	out->host_bytes = mts_arena_end(a);
	out->host_ready = mts_arena_ready(a);
	snprintf(out->arena, sizeof(out->arena), "%s", a->info.provider);
	snprintf(out->arena_note, sizeof(out->arena_note), "%s", error ? lost.text : a->info.note);
}

void mts_server_info(struct mts_server *s, struct mts_server_info *out)
{
	const struct mts_model_config *c = mts_model_get_config(s->model);
	const struct mts_kv_layout *y = &s->tier->kv.layout;
	struct mts_device_info dev;

	s->dev->ops->info(s->dev, &dev);
	*out = (struct mts_server_info){
		.size = sizeof(*out),
		.tasks = c->tasks,
		.max_history = c->max_history,
		.slide = c->slide,
		.items = c->items,
		.actions = c->actions,
		.device_pages = s->tier->kv.pages,
		.page_bytes = mts_kv_page_bytes(y) * y->layers,
	};
	snprintf(out->device, sizeof(out->device), "%s", dev.name);
	snprintf(out->numerics, sizeof(out->numerics), "%s", s->numerics);
	if (s->tier->arena)
		arena_info(s->tier->arena, out);
}

void mts_server_counters(struct mts_server *s, struct mts_counters *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->published;
	out->plan_ns_p50 = mts_histogram_quantile(&s->plan, 0.5);
	out->plan_ns_p99 = mts_histogram_quantile(&s->plan, 0.99);
	pthread_mutex_unlock(&s->lock);
}
