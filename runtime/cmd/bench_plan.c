/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench plan: what a batch of eight costs before anything runs: look up, plan, reserve, submit, fill
 * the pass. Floor: cmd.
 *
 * The whole server over a device that does nothing, in the shape of the kuairand preset (6 KiB a
 * token). The device is full: `users` of 2,048 tokens; behind them more users have their K/V on the
 * host alone. Every request has six new events and 100 candidates. Users are drawn at random, so that
 * neither their state nor their events are in a cache. Who is where is up to the policy: the tier is
 * asked before each part of the run, and a batch that was not what it should be does not count.
 *
 *   on the device   all eight have all they had on the device
 *   two on host     two of eight load 2,048 tokens, for which others are evicted
 *   verified        on the device, but every visible event is hashed again; beside it XXH3 over as
 *                   many bytes, which lay in memory as well
 *
 * Arena and device are address space alone, so that 100,000 users fit anywhere.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cmd/bench.h"
#include "engine/engine.h"
#include "error.h"

enum { BATCH = 8, FIRST = 2048, FRESH = 6, LONGEST = FIRST + 512, CANDIDATES = 100, PAGE = 64 };
enum { LIVES = 8192, ITEMS = 1024, HISTORY = 4096, ROUNDS = 8, BATCHES = 2000 };

#define SETTLE_NS 20000000

enum { ON_DEVICE, ON_HOST, VERIFIED, HASHED, TURN, WAYS };

struct world {
	struct mts_bench *b;
	struct mts_device *dev;
	struct mts_model *model;
	struct mts_server *server;
	uint64_t users, all; /* on the device; of all */
	uint32_t *near, *far; /* users who are all on the device, all on the host, when last asked */
	uint32_t nears, fars;
	uint32_t *n;         /* [all] events of each */
	struct mts_event *life; /* [LIVES][LONGEST]; user u has that of u % LIVES */
	uint32_t candidate[CANDIDATES];
	float *scores;
	uint64_t random;
	uint64_t plan_ns; /* spent on planning so far */
	size_t heap_before;
	double *sample[WAYS];
	unsigned batches; /* of each way */
};

static uint64_t draw(struct world *w, uint64_t below)
{
	/* SplitMix64 */
	uint64_t z = (w->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static const struct mts_event *life(const struct world *w, uint64_t user)
{
	return w->life + user % LIVES * LONGEST;
}

static struct mts_request request(struct world *w, uint64_t user, unsigned i, uint32_t flags)
{
	return (struct mts_request){
		.history = { user, w->n[user], 0, life(w, user), w->n[user], flags },
		.candidates = w->candidate,
		.ncandidates = CANDIDATES,
		.scores = w->scores + (size_t)i * CANDIDATES * 4,
		.user_data = user,
	};
}

/* ---- filling ---- */

static int reap_some(struct world *w, uint64_t *left, struct mts_error *err)
{
	struct mts_reply r[2 * BATCH];
	int n = mts_server_reap(w->server, r, 2 * BATCH, -1);

	for (int i = 0; i < n; i++)
		if (r[i].result) {
			mts_error_set(err, "plan: user %llu: %s", (unsigned long long)r[i].user_data,
				      strerror(-r[i].result));
			return r[i].result;
		}
	*left -= (uint64_t)n;
	return 0;
}

/* Encodes everybody once, so that the last `users` are on the device and all are on the host. */
static int fill(struct world *w, struct mts_error *err)
{
	uint64_t under_way = 0;
	int ret = 0;

	for (uint64_t u = 0; u < w->all && !ret; u++) {
		struct mts_request q = request(w, u, 0, MTS_HISTORY_APPENDS);

		q.ncandidates = 0;
		while (!ret && mts_server_submit(w->server, &q, 1) < 0)
			ret = reap_some(w, &under_way, err);
		under_way++;
		while (!ret && under_way >= 2 * BATCH)
			ret = reap_some(w, &under_way, err);
	}
	while (!ret && under_way)
		ret = reap_some(w, &under_way, err);
	return ret;
}

static size_t heap(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static int print_metadata(struct world *w)
{
	const struct mts_metric share = { "metadata per K/V byte on the device", "1", false, 0.01 };
	const struct mts_metric each = { "metadata of a user", "bytes", false, 0 };
	double kv = (double)w->users * FIRST *
		    (double)mts_model_token_bytes(mts_model_get_config(w->model), MTS_BF16);
	double bytes = (double)(heap() - w->heap_before);
	char shape[64];
	int ret;

	snprintf(shape, sizeof(shape), "%llu users x %u tokens x 6 KiB, %llu more on the host",
		 (unsigned long long)w->users, FIRST, (unsigned long long)(w->all - w->users));
	ret = mts_bench_print_one(w->b, &share, shape, bytes / kv);
	return ret ? ret : mts_bench_print_one(w->b, &each, shape, bytes / (double)w->all);
}

/* ---- one batch ---- */

/* Waits until no write-back is under way: the engine sleeps, and the tier is this thread's to read. */
static void settle(struct world *w)
{
	struct mts_counters before, now = { .size = sizeof(now) };

	do {
		before = now;
		mts_sleep_until(mts_now() + SETTLE_NS);
		mts_server_counters(w->server, &now);
	} while (now.bytes_d2h != before.bytes_d2h || now.bytes_h2d != before.bytes_h2d);
}

static int survey(struct world *w)
{
	struct mts_match m;
	int ret;

	settle(w);
	w->nears = w->fars = 0;
	for (uint64_t u = 0; u < w->all; u++) {
		struct mts_request q = request(w, u, 0, MTS_HISTORY_APPENDS);

		ret = mts_tier_lookup(w->server->tier, &q.history, &m);
		if (ret)
			return ret;
		if (w->n[u] + FRESH > LONGEST)
			continue;
		if (m.device_tokens == w->n[u])
			w->near[w->nears++] = (uint32_t)u;
		else if (!m.device_tokens && m.host_tokens == w->n[u])
			w->far[w->fars++] = (uint32_t)u;
	}
	return w->nears < 2 * BATCH || w->fars < BATCH ? -EPROTO : 0;
}

/* Takes one of a list, so that nobody is drawn twice. */
static uint64_t pick(struct world *w, uint32_t *list, uint32_t *n)
{
	uint32_t i = (uint32_t)draw(w, *n), user = list[i];

	list[i] = list[--*n];
	return user;
}

/* Waits for a batch: 1: `far` of its users came from the host, all others from the device; 0: not so. */
static int finish_batch(struct world *w, unsigned far)
{
	struct mts_reply r[BATCH];
	unsigned left = BATCH, device = 0, host = 0;
	int n, ret = 0;

	while (left) {
		n = mts_server_reap(w->server, r, left, -1);
		for (int i = 0; i < n; i++) {
			ret = ret ? ret : r[i].result;
			device += r[i].device_tokens + FRESH == r[i].visible;
			host += r[i].host_tokens + FRESH == r[i].visible;
		}
		left -= (unsigned)n;
	}
	return ret ? ret : host == far && device + host == BATCH;
}

/* What the server spent on planning since the last call, over all passes a batch took. */
static double take_plan(struct world *w)
{
	struct mts_server *s = w->server;
	uint64_t total, spent;

	pthread_mutex_lock(&s->lock);
	total = s->plan.sum;
	pthread_mutex_unlock(&s->lock);
	spent = total - w->plan_ns;
	w->plan_ns = total;
	return (double)spent - (double)w->b->clock_ns;
}

/* 1: it counts; 0: it was not what it should have been. */
static int run_batch(struct world *w, int way, unsigned i)
{
	unsigned far = way == ON_HOST ? 2 : 0;
	struct mts_request q[BATCH];
	uint64_t start;
	int ret;

	if (w->nears < BATCH || w->fars < BATCH) {
		ret = survey(w);
		if (ret)
			return ret;
	}
	for (unsigned k = 0; k < BATCH; k++) {
		uint64_t user = k < far ? pick(w, w->far, &w->fars) : pick(w, w->near, &w->nears);

		w->n[user] += FRESH;
		q[k] = request(w, user, k, way == VERIFIED ? 0 : MTS_HISTORY_APPENDS);
	}
	(void)take_plan(w);
	start = mts_now();
	ret = mts_server_submit(w->server, q, BATCH);
	if (ret != BATCH)
		return ret < 0 ? ret : -EAGAIN;
	ret = finish_batch(w, far);
	if (ret > 0 && way == ON_DEVICE)
		w->sample[TURN][i] = mts_bench_since(w->b, start) * 1e-3;
	w->sample[way][i] = take_plan(w) * 1e-3;
	return ret;
}

/* Batches until `to` - `from` of them counted. */
static int run_way(struct world *w, int way, unsigned from, unsigned to)
{
	unsigned misses = 0;
	int ret = survey(w);

	for (unsigned i = from; i < to && ret >= 0;) {
		ret = run_batch(w, way, i);
		if (ret > 0)
			i++;
		else if (!ret && ++misses > 10 * (to - from))
			ret = -EPROTO;
	}
	return ret < 0 ? ret : 0;
}

/* As many bytes as a batch's histories, of other users, in one call each. */
static void hash_batch(struct world *w, unsigned i)
{
	uint64_t user[BATCH], start, sum = 0;

	for (int k = 0; k < BATCH; k++)
		user[k] = w->all - 1 - draw(w, w->users / 2);
	start = mts_now();
	for (int k = 0; k < BATCH; k++)
		sum += XXH3_64bits(life(w, user[k]), w->n[user[k]] * sizeof(struct mts_event));
	w->sample[HASHED][i] = mts_bench_since(w->b, start) * 1e-3;
	w->random += sum & 1; /* so that it is computed at all */
}

static int measure(struct world *w, struct mts_error *err)
{
	int ret = 0;

	for (unsigned r = 0; r < ROUNDS; r++) {
		unsigned from = w->batches * r / ROUNDS, to = w->batches * (r + 1) / ROUNDS;

		for (int way = ON_DEVICE; way <= VERIFIED && !ret; way++)
			ret = run_way(w, way, from, to);
		for (unsigned i = from; i < to; i++)
			hash_batch(w, i);
	}
	if (ret == -EPROTO)
		mts_error_set(err, "plan: too few users are on the device or on the host alone");
	return ret;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What verifying adds, over what hashing takes, round by round. */
static int print_overhead(struct world *w)
{
	const struct mts_metric m = { "verification, share of XXH3's time", "1", false, 1.0 };
	double ratio[ROUNDS], p50[WAYS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		unsigned from = w->batches * r / ROUNDS, to = w->batches * (r + 1) / ROUNDS;

		for (int way = 0; way < WAYS; way++) {
			qsort(w->sample[way] + from, to - from, sizeof(double), by_value);
			p50[way] = w->sample[way][(from + to) / 2];
		}
		ratio[r] = (p50[VERIFIED] - p50[ON_DEVICE]) / p50[HASHED];
	}
	return mts_bench_print(w->b, &m, "whole histories, batch of 8", ratio, ROUNDS);
}

static int print_ways(struct world *w)
{
	static const struct mts_metric metrics[WAYS] = {
		[ON_DEVICE] = { "plan, callers append, all on the device", "us", false, 20 },
		[ON_HOST] = { "plan, callers append, two of eight on the host", "us", false, 100 },
		[VERIFIED] = { "plan, whole histories verified, all on the device", "us", false, 0 },
		[HASHED] = { "XXH3 over the same number of bytes", "us", false, 0 },
		[TURN] = { "submit to last reply, all on the device", "us", false, 0 },
	};
	char shape[64];
	int ret = 0;

	snprintf(shape, sizeof(shape), "batch of %u, %llu users resident", BATCH,
		 (unsigned long long)w->users);
	for (int way = 0; way < WAYS && !ret; way++)
		ret = mts_bench_print(w->b, &metrics[way], shape, w->sample[way], w->batches);
	return ret ? ret : print_overhead(w);
}

/* ---- set-up ---- */

static int make_callers(struct world *w)
{
	bool ok;

	w->n = malloc(w->all * sizeof(*w->n));
	w->near = malloc(w->all * sizeof(*w->near));
	w->far = malloc(w->all * sizeof(*w->far));
	w->life = malloc((size_t)LIVES * LONGEST * sizeof(*w->life));
	w->scores = calloc((size_t)BATCH * CANDIDATES * 4, sizeof(*w->scores));
	ok = w->n && w->near && w->far && w->life && w->scores;
	for (int way = 0; way < WAYS; way++) {
		w->sample[way] = calloc(w->batches, sizeof(double));
		ok = ok && w->sample[way];
	}
	if (!ok)
		return -ENOMEM;
	for (uint64_t u = 0; u < w->all; u++)
		w->n[u] = FIRST;
	for (size_t i = 0; i < (size_t)LIVES * LONGEST; i++)
		w->life[i] = (struct mts_event){ (uint32_t)draw(w, ITEMS), (uint32_t)(i % 7) };
	for (uint32_t i = 0; i < CANDIDATES; i++)
		w->candidate[i] = i;
	return 0;
}

static void free_callers(struct world *w)
{
	free(w->n);
	free(w->near);
	free(w->far);
	free(w->life);
	free(w->scores);
	for (int way = 0; way < WAYS; way++)
		free(w->sample[way]);
}

static int open_server(struct world *w, struct mts_error *err)
{
	uint64_t page = PAGE * mts_model_token_bytes(mts_model_get_config(w->model), MTS_BF16);
	struct mts_server_config cfg = {
		.size = sizeof(cfg),
		.page_tokens = PAGE,
		.batch = BATCH,
		.step_tokens = BATCH * FIRST,
		.kv_bf16 = 1,
		.device_bytes = w->users * (FIRST / PAGE) * page,
		.host_bytes = w->all * (2 * FIRST / PAGE) * page,
		.arena = "none",
		.node = -1,
		.queue = 4 * BATCH,
	};

	w->heap_before = heap();
	return mts_server_open_on(&cfg, w->dev, w->model, NULL, &w->server, err);
}

static int bench_world(struct world *w, struct mts_error *err)
{
	int ret = make_callers(w);

	if (!ret)
		ret = open_server(w, err);
	if (!ret)
		ret = fill(w, err);
	if (!ret)
		ret = print_metadata(w);
	if (!ret)
		ret = measure(w, err);
	if (!ret)
		ret = print_ways(w);
	mts_server_close(w->server);
	free_callers(w);
	return ret;
}

int mts_bench_plan(struct mts_bench *b, struct mts_error *err)
{
	struct world w = { .b = b, .users = b->o->users, .random = 1 };
	struct mts_device_config dc = { 0 };
	int ret = mts_bench_model("kuairand", ITEMS, HISTORY, &w.model, err);

	if (ret)
		return ret;
	w.batches = b->o->runs ? b->o->runs : BATCHES;
	w.batches = w.batches < ROUNDS ? ROUNDS : w.batches;
	w.all = w.users + 2 * w.batches + 2 * BATCH;
	ret = mts_device_nil.open(&dc, &w.dev, err);
	if (!ret) {
		ret = bench_world(&w, err);
		w.dev->ops->close(w.dev);
	}
	mts_model_close(w.model);
	return ret;
}
