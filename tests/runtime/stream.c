/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of requests (stream.h).
 */
#include "stream.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/dtype.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1
#endif

/* ck_assert writes a mark to a file each time, and allocates: too much for what is done often here. */
#define must(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

char stream_model[64];

uint64_t draw(uint64_t *state, uint64_t below)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

uint32_t scaled(uint32_t n)
{
#ifdef SLOW
	return n / 2 + 1;
#else
	return n;
#endif
}

void stream_model_make(void)
{
	const struct mts_preset_options o = { .items = STREAM_ITEMS, .max_history = STREAM_H,
					      .slide = STREAM_S };
	struct mts_model_config c;
	struct mts_error err = { "" };

	snprintf(stream_model, sizeof(stream_model), "/tmp/mtserve-stream-%d.safetensors", (int)getpid());
	if (mts_preset_config("tiny", &o, &c, &err) ||
	    mts_model_generate(&c, MTS_F32, 3, stream_model, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(EXIT_FAILURE);
	}
}

void stream_model_remove(void)
{
	unlink(stream_model);
}

/* ---- drawing ---- */

#define APPENDERS 3 /* users whose histories only grow, and who say so */

struct person {
	uint32_t n;
	struct mts_event life[STREAM_LIFE];
};

static struct mts_event draw_event(uint64_t *r)
{
	return (struct mts_event){ (uint32_t)draw(r, STREAM_ITEMS), (uint32_t)draw(r, 256) };
}

static void grow_life(struct person *p, uint64_t *r)
{
	uint32_t grow = (uint32_t)draw(r, draw(r, 8) ? 9 : 70);

	while (grow-- && p->n < STREAM_LIFE)
		p->life[p->n++] = draw_event(r);
}

static void change_life(struct person *p, uint64_t *r)
{
	uint32_t at;

	switch (draw(r, 16)) {
	case 0: /* events deleted at the end */
		p->n -= (uint32_t)draw(r, p->n + 1) / 3;
		break;
	case 1: /* one rewritten */
		if (p->n)
			p->life[draw(r, p->n)] = draw_event(r);
		break;
	case 2: /* one deleted from the middle */
		if (!p->n)
			break;
		at = (uint32_t)draw(r, p->n);
		memmove(&p->life[at], &p->life[at + 1], (p->n - at - 1) * sizeof(p->life[0]));
		p->n--;
		break;
	case 3:
	case 4: /* a page reload */
		break;
	default:
		grow_life(p, r);
	}
	if (p->n == STREAM_LIFE)
		p->n = (uint32_t)draw(r, 40);
}

static void draw_request(struct ask *a, const struct person *p, uint64_t user, uint64_t *r,
			 uint32_t candidates_max)
{
	uint32_t start = p->n > STREAM_H ? (p->n - STREAM_H + STREAM_S - 1) / STREAM_S * STREAM_S : 0;
	uint32_t first = start - (uint32_t)draw(r, start + 1) / 2; /* more than is visible */
	uint32_t count = p->n - first, *candidate;
	struct mts_event *e = malloc(count * sizeof(*e) + !count);

	memcpy(e, p->life + first, count * sizeof(*e));
	a->visible = p->n - start;
	a->req.history = (struct mts_history){ user, p->n, first, e, count, 0 };
	a->req.ncandidates = draw(r, 8) ? 1 + (uint32_t)draw(r, candidates_max) : 0;
	candidate = malloc(a->req.ncandidates * sizeof(*candidate) + 1);
	for (uint32_t i = 0; i < a->req.ncandidates; i++)
		candidate[i] = (uint32_t)draw(r, STREAM_ITEMS);
	a->req.candidates = candidate;
}

static void draw_ask(struct ask *a, struct person *person, uint32_t users, uint64_t *r,
		     uint32_t candidates_max)
{
	static const enum ask_kind hints[] = { ASK_PREFETCH, ASK_PREFETCH, ASK_PREFETCH,
					       ASK_SESSION_END, ASK_SESSION_END, ASK_FORGET };
	static const struct person stranger;
	uint64_t user = draw(r, users);

	a->kind = draw(r, 10) ? ASK_REQUEST : hints[draw(r, 6)];
	if (a->kind != ASK_REQUEST) {
		a->req.history.user = user;
	} else if (!draw(r, 30)) { /* somebody without a history */
		draw_request(a, &stranger, 1000 + draw(r, 5), r, candidates_max);
	} else if (user < APPENDERS) {
		if (draw(r, 4))
			grow_life(&person[user], r);
		draw_request(a, &person[user], user, r, candidates_max);
		a->req.history.flags = MTS_HISTORY_APPENDS;
	} else {
		change_life(&person[user], r);
		draw_request(a, &person[user], user, r, candidates_max);
	}
}

void stream_open(struct stream *s, uint64_t seed, uint32_t n, uint32_t users,
		 uint32_t candidates_max)
{
	struct person *person = calloc(STREAM_USERS, sizeof(*person));
	uint64_t r = seed;

	printf("# seed %llu\n", (unsigned long long)seed);
	*s = (struct stream){ .n = n, .ask = calloc(n, sizeof(*s->ask)), .tasks = 4 };
	for (uint32_t i = 0; i < n; i++) {
		draw_ask(&s->ask[i], person, users, &r, candidates_max);
		s->ask[i].req.user_data = i;
	}
	free(person);
}

void stream_close(struct stream *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		free((void *)s->ask[i].req.history.events);
		free((void *)s->ask[i].req.candidates);
	}
	free(s->ask);
}

void outcome_open(const struct stream *s, struct outcome *o)
{
	o->scores = calloc(s->n, sizeof(*o->scores));
	o->reply = calloc(s->n, sizeof(*o->reply));
	for (uint32_t i = 0; i < s->n; i++)
		o->scores[i] = calloc(s->ask[i].req.ncandidates * s->tasks + 1, sizeof(float));
}

void outcome_clear(const struct stream *s, struct outcome *o)
{
	memset(o->reply, 0, s->n * sizeof(*o->reply));
	for (uint32_t i = 0; i < s->n; i++)
		memset(o->scores[i], 0, s->ask[i].req.ncandidates * s->tasks * sizeof(float));
}

void outcome_close(const struct stream *s, struct outcome *o)
{
	for (uint32_t i = 0; i < s->n; i++)
		free(o->scores[i]);
	free(o->scores);
	free(o->reply);
}

/* ---- serving ---- */

size_t stream_page_bytes(bool kv_bf16)
{
	return 2u * STREAM_T * 2 * 64 * (kv_bf16 ? 2 : 4); /* layers, K and V, 2 heads of 32 */
}

void stream_config(struct mts_server_config *c, uint32_t device_pages, uint32_t host_pages)
{
	*c = (struct mts_server_config){
		.size = sizeof(*c),
		.model = stream_model,
		.threads = 2,
		.page_tokens = STREAM_T,
		.batch = 3,
		.step_tokens = 40,
		.device_bytes = device_pages * stream_page_bytes(false),
		.host_bytes = host_pages * stream_page_bytes(false),
		.arena = "plain",
		.node = -1,
		.queue = 64,
		.plan = MTS_PLAN_LOAD, /* a test says if it wants another: AUTO depends on speed */
	};
}

struct mts_request stream_request(const struct stream *s, uint32_t i, const struct outcome *o)
{
	struct mts_request r = s->ask[i].req;

	r.scores = o->scores[i];
	return r;
}

static void reap_one(struct mts_server *v, const struct stream *s, struct outcome *o)
{
	struct mts_reply r;

	must(mts_server_reap(v, &r, 1, 60 * 1000000000ll) == 1);
	must(r.user_data < s->n);
	must(!o->reply[r.user_data].replied_ns); /* one reply each */
	must(r.replied_ns);
	o->reply[r.user_data] = r;
}

static int give_hint(struct mts_server *v, const struct ask *a)
{
	if (a->kind == ASK_PREFETCH)
		return mts_server_prefetch(v, a->req.history.user);
	if (a->kind == ASK_SESSION_END)
		return mts_server_session_end(v, a->req.history.user);
	return mts_server_forget(v, a->req.history.user);
}

void stream_serve(struct mts_server *v, const struct stream *s, struct outcome *o,
		  unsigned inflight, bool backwards)
{
	unsigned under_way = 0;

	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t i = backwards ? s->n - 1 - k : k;
		struct mts_request r = stream_request(s, i, o);

		if (s->ask[i].kind != ASK_REQUEST) {
			(void)give_hint(v, &s->ask[i]);
			continue;
		}
		must(mts_server_submit(v, &r, 1) == 1);
		for (under_way++; under_way >= inflight; under_way--)
			reap_one(v, s, o);
	}
	while (under_way--)
		reap_one(v, s, o);
}

void stream_recompute(const struct stream *s, struct outcome *o, bool kv_bf16)
{
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_error err;

	stream_config(&c, 200, 0);
	c.no_cache = 1;
	c.kv_bf16 = kv_bf16;
	c.batch = 7;
	c.step_tokens = 333;
	ck_assert_msg(!mts_server_open(&c, &v, &err), "%s", err.text);
	stream_serve(v, s, o, 23, true);
	mts_server_close(v);
	for (uint32_t i = 0; i < s->n; i++)
		ck_assert_int_eq(o->reply[i].result, 0);
}

uint32_t stream_compare(const struct stream *s, const struct outcome *o,
			const struct outcome *truth)
{
	uint32_t right = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct mts_reply *r = &o->reply[i];
		size_t bytes = s->ask[i].req.ncandidates * s->tasks * sizeof(float);

		if (s->ask[i].kind != ASK_REQUEST || r->result)
			continue;
		must(r->visible == s->ask[i].visible);
		must(r->device_tokens + r->host_tokens <= r->visible);
		if (r->flags & MTS_REPLY_RETRIED) /* without the cache */
			must(!r->device_tokens && !r->host_tokens);
		if (memcmp(o->scores[i], truth->scores[i], bytes))
			ck_abort_msg("request %u: other bits than recompute, %u device and %u "
				     "host tokens of %u", i, r->device_tokens, r->host_tokens,
				     r->visible);
		right++;
	}
	return right;
}
