/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server through its public calls: scores are bit for bit those of recompute, whatever tier,
 * batch, chunk or eviction lay between; any thread may call; wrong requests get their errno; close at
 * any time.
 *
 *   MTS_SEED=N   another seed        MTS_STEPS=N   more requests (default 500 per variant)
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_missing.h"
#include "stream.h"

static struct mts_server *open_server(const struct mts_server_config *c)
{
	struct mts_server *v;
	struct mts_error err;

	ck_assert_msg(!mts_server_open(c, &v, &err), "%s", err.text);
	return v;
}

/* ---- the bits ---- */

static const struct shape {
	const char *name;
	uint32_t pages, host_pages, batch, step_tokens;
	double copy_us;
} shapes[] = {
	{ "tight device, short passes", 14, 128, 3, 24, 0 },
	{ "tight device and host", 16, 32, 4, 64, 0 },
	{ "tight device, slow link", 20, 128, 2, 128, 300 },
	{ "room for all", 200, 256, 8, 48, 0 },
	{ "no host", 16, 0, 3, 40, 0 },
};

/* The test must have met what it is about. */
static void check_met(const struct shape *x, const struct mts_counters *n)
{
	ck_assert_uint_eq(n->failed, 0);
	ck_assert_uint_gt(n->tokens_device, 0);
	ck_assert_uint_gt(n->window_moves, 0);
	ck_assert_uint_gt(n->divergences, 0);
	ck_assert_uint_gt(n->first_visits, 0);
	if (x->pages < 100)
		ck_assert_uint_gt(n->device_evictions, 0);
	if (x->pages < 100 && x->host_pages)
		ck_assert_uint_gt(n->requests_host, 0);
	if (x->host_pages && x->host_pages < 100)
		ck_assert_uint_gt(n->host_evictions, 0);
}

static uint32_t count_partial_tails(const struct stream *s, const struct outcome *o)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		n += o->reply[i].host_tokens &&
		     (o->reply[i].device_tokens + o->reply[i].host_tokens) % STREAM_T;
	return n;
}

START_TEST(same_bits_as_recompute)
{
	const struct shape *x = &shapes[_i / 2];
	bool bf16 = _i % 2;
	struct mts_server_config c;
	struct mts_counters n;
	struct mts_server *v;
	struct stream s;
	struct outcome o, truth;

	printf("# %s, K/V in %s\n", x->name, bf16 ? "bf16" : "f32");
	stream_open(&s, setting("MTS_SEED", 1) + (uint64_t)_i, scaled((uint32_t)setting("MTS_STEPS", 500)),
		    STREAM_USERS, 20);
	outcome_open(&s, &o);
	outcome_open(&s, &truth);
	stream_config(&c, x->pages, x->host_pages);
	c.device_bytes = x->pages * stream_page_bytes(bf16);
	c.host_bytes = x->host_pages * stream_page_bytes(bf16);
	c.kv_bf16 = bf16;
	c.batch = x->batch;
	c.step_tokens = x->step_tokens;
	c.copy_us = x->copy_us;
	v = open_server(&c);
	stream_serve(v, &s, &o, 5, false);
	mts_server_counters(v, &n);
	mts_server_close(v);
	stream_recompute(&s, &truth, bf16);
	ck_assert_uint_gt(stream_compare(&s, &o, &truth), s.n / 2);
	check_met(x, &n);
	if (x->pages < 100 && x->host_pages)
		ck_assert_uint_gt(count_partial_tails(&s, &o), 0);
	outcome_close(&s, &truth);
	outcome_close(&s, &o);
	stream_close(&s);
}
END_TEST

/* ---- threads ---- */

struct crowd {
	struct mts_server *v;
	const struct stream *s;
	struct outcome *o;
	_Atomic uint32_t next, reaped, refused;
	uint32_t requests;
};

static void pause_briefly(void)
{
	const struct timespec t = { 0, 200000 };

	nanosleep(&t, NULL);
}

static void submit_patiently(struct crowd *w, uint32_t i)
{
	struct mts_request r = stream_request(w->s, i, w->o);

	while (mts_server_submit(w->v, &r, 1) == -EAGAIN) {
		w->refused++;
		pause_briefly();
	}
}

static void *submitter(void *arg)
{
	struct crowd *w = arg;
	uint32_t i;

	while ((i = w->next++) < w->s->n) {
		uint64_t user = w->s->ask[i].req.history.user;

		switch (w->s->ask[i].kind) {
		case ASK_REQUEST:
			submit_patiently(w, i);
			break;
		case ASK_PREFETCH:
			(void)mts_server_prefetch(w->v, user);
			break;
		case ASK_SESSION_END:
			(void)mts_server_session_end(w->v, user);
			break;
		case ASK_FORGET:
			while (mts_server_forget(w->v, user) == -EAGAIN)
				pause_briefly();
		}
	}
	return NULL;
}

static void *reaper(void *arg)
{
	struct crowd *w = arg;
	struct mts_reply r[4];
	int n;

	while (w->reaped < w->requests) {
		n = mts_server_reap(w->v, r, 4, 20000000);
		for (int i = 0; i < n; i++)
			w->o->reply[r[i].user_data] = r[i];
		w->reaped += (uint32_t)n;
	}
	return NULL;
}

START_TEST(any_thread_submits_and_reaps)
{
	struct mts_server_config c;
	struct outcome o, truth;
	struct stream s;
	struct crowd w = { .s = &s, .o = &o };
	pthread_t thread[6];

	stream_open(&s, setting("MTS_SEED", 1) + 100, scaled((uint32_t)setting("MTS_STEPS", 500)),
		    STREAM_USERS, 12);
	outcome_open(&s, &o);
	outcome_open(&s, &truth);
	for (uint32_t i = 0; i < s.n; i++)
		w.requests += s.ask[i].kind == ASK_REQUEST;
	stream_config(&c, 20, 40);
	c.queue = 6;
	w.v = open_server(&c);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, i < 4 ? submitter : reaper, &w), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(w.reaped, w.requests);
	ck_assert_uint_gt(w.refused, 0);
	mts_server_close(w.v);
	stream_recompute(&s, &truth, false);
	ck_assert_uint_eq(stream_compare(&s, &o, &truth), w.requests);
	outcome_close(&s, &truth);
	outcome_close(&s, &o);
	stream_close(&s);
}
END_TEST

/* ---- wrong requests ---- */

static struct mts_event good_events[STREAM_H];

static struct mts_reply ask_one(struct mts_server *v, const struct mts_request *r)
{
	struct mts_reply reply;

	ck_assert_int_eq(mts_server_submit(v, r, 1), 1);
	ck_assert_int_eq(mts_server_reap(v, &reply, 1, -1), 1);
	return reply;
}

START_TEST(wrong_requests_get_their_errno)
{
	static const uint32_t good[3] = { 1, 2, 3 }, beyond[3] = { 1, STREAM_ITEMS, 3 };
	static struct mts_event bad_item[20], bad_action[20];
	static float scores[3 * 4];
	const struct {
		struct mts_history h;
		const uint32_t *candidates;
		uint64_t deadline_ns;
		int result;
	} cases[] = {
		{ { 1, 20, 0, good_events, 20, 0 }, good, 0, 0 },
		{ { 1, 20, 0, bad_item, 20, 0 }, good, 0, -ERANGE },
		{ { 1, 20, 0, bad_action, 20, 0 }, good, 0, -ERANGE },
		{ { 1, 20, 0, good_events, 20, 0 }, beyond, 0, -ERANGE },
		{ { 1, 20, 0, good_events, 19, 0 }, good, 0, -EINVAL },
		{ { 1, 20, 21, good_events, 20, 0 }, good, 0, -EINVAL },
		{ { 1, 20, 0, NULL, 20, 0 }, good, 0, -EINVAL },
		{ { 1, 20, 0, good_events, 20, 1u << 9 }, good, 0, -EINVAL },
		{ { 1, 20, 1, good_events, 19, 0 }, good, 0, -EINVAL }, /* start(20) is 0 */
		{ { 1, STREAM_H + 1, STREAM_S + 1, good_events, STREAM_H - STREAM_S, 0 }, good, 0,
		  -EINVAL },
		{ { 1, 20, 0, good_events, 20, 0 }, good, 1, -ETIME },
		{ { 1, UINT64_MAX, UINT64_MAX - 4, good_events, 4, 0 }, good, 0, -EINVAL },
		{ { 1, 20, 0, good_events, 20, 0 }, NULL, 0, -EINVAL },
		{ { 1, 0, 0, NULL, 0, 0 }, good, 0, 0 },
	};
	struct mts_server_config c;
	struct mts_server *v;

	bad_item[19].item = STREAM_ITEMS;
	bad_action[7].action = 256;
	stream_config(&c, 20, 40);
	v = open_server(&c);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mts_request r = { .history = cases[i].h, .candidates = cases[i].candidates,
					 .ncandidates = 3, .scores = scores, .user_data = i,
					 .deadline_ns = cases[i].deadline_ns };
		struct mts_reply reply = ask_one(v, &r);

		ck_assert_msg(reply.result == cases[i].result, "case %zu: %d", i, reply.result);
		ck_assert_uint_eq(reply.user_data, i);
		r.history = cases[0].h; /* and the next one is served */
		r.candidates = good;
		r.deadline_ns = 0;
		ck_assert_int_eq(ask_one(v, &r).result, 0);
	}
	mts_server_close(v);
}
END_TEST

START_TEST(missing_arrays_are_refused)
{
	static const uint32_t good[1] = { 1 };
	struct mts_request r = { .history = { 1, 0, 0, NULL, 0, 0 }, .candidates = good,
				 .ncandidates = 1 };
	static float scores[4];
	struct mts_server_config c;
	struct mts_server *v;

	stream_config(&c, 20, 40);
	v = open_server(&c);
	ck_assert_int_eq(ask_one(v, &r).result, -EINVAL); /* nowhere to put the scores */
	r.scores = scores;
	r.reserved = 1;
	ck_assert_int_eq(ask_one(v, &r).result, -EINVAL);
	r.reserved = 0;
	ck_assert_int_eq(ask_one(v, &r).result, 0);
	mts_server_close(v);
}
END_TEST

START_TEST(a_window_larger_than_the_pool)
{
	struct mts_request r = { .history = { 1, 60, 0, good_events, 60, 0 } };
	struct mts_server_config c;
	struct mts_server *v;

	stream_config(&c, 3, 40);
	v = open_server(&c);
	ck_assert_int_eq(ask_one(v, &r).result, -ENOSPC);
	r.history.n = r.history.count = 48;
	ck_assert_int_eq(ask_one(v, &r).result, 0);
	mts_server_close(v);
}
END_TEST

START_TEST(a_full_queue_says_so)
{
	struct mts_request r[8];
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_reply reply[8];
	int got = 0;

	stream_config(&c, 20, 40);
	c.queue = 5;
	v = open_server(&c);
	for (int i = 0; i < 8; i++)
		r[i] = (struct mts_request){ .history = { (uint64_t)i, 8, 0, good_events, 8, 0 } };
	/* Replies not yet reaped count too. */
	ck_assert_int_eq(mts_server_submit(v, r, 8), 5);
	ck_assert_int_eq(mts_server_submit(v, r + 5, 3), -EAGAIN);
	ck_assert_int_eq(mts_server_prefetch(v, 1), -EAGAIN);
	ck_assert_int_eq(mts_server_forget(v, 1), -EAGAIN);
	ck_assert_int_eq(mts_server_submit(v, r, 0), 0);
	while (got < 5)
		got += mts_server_reap(v, reply, 8, -1);
	ck_assert_int_eq(mts_server_reap(v, reply, 8, 0), 0);
	ck_assert_int_eq(mts_server_reap(v, reply, 8, 1000000), 0);
	ck_assert_int_eq(mts_server_submit(v, r + 5, 3), 3);
	mts_server_close(v);
}
END_TEST

START_TEST(wrong_configurations_are_told)
{
	static const struct {
		size_t at;
		uint32_t value;
		int result;
		const char *names;
	} cases[] = {
		{ offsetof(struct mts_server_config, page_tokens), 24, -EINVAL, "page_tokens" },
		{ offsetof(struct mts_server_config, batch), 5000, -EINVAL, "batch" },
		{ offsetof(struct mts_server_config, step_tokens), 3, -EINVAL, "step_tokens" },
		{ offsetof(struct mts_server_config, queue), UINT32_MAX, -EINVAL, "queue" },
		{ offsetof(struct mts_server_config, size), 8, -EINVAL, "size" },
	};
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_error err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		stream_config(&c, 20, 40);
		memcpy((char *)&c + cases[i].at, &cases[i].value, sizeof(uint32_t));
		ck_assert_int_eq(mts_server_open(&c, &v, &err), cases[i].result);
		ck_assert_msg(strstr(err.text, cases[i].names), "%s", err.text);
	}
	stream_config(&c, 0, 40);
	ck_assert_int_eq(mts_server_open(&c, &v, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, "device memory"), "%s", err.text);
	stream_config(&c, 20, 40);
	c.device = "abacus";
	ck_assert_int_eq(mts_server_open(&c, &v, &err), -ENODEV);
	ck_assert_msg(strstr(err.text, "abacus"), "%s", err.text);
	stream_config(&c, 20, 40);
	c.model = "no such model";
	ck_assert_int_lt(mts_server_open(&c, &v, &err), 0);
	ck_assert_msg(strstr(err.text, "no such model"), "%s", err.text);
}
END_TEST

/* ---- close ---- */

/* Closed with requests waiting, in passes and replied to but not reaped; nothing leaks, nothing hangs. */
START_TEST(close_with_requests_under_way)
{
	struct mts_server_config c;
	struct mts_server *v;
	struct outcome o;
	struct stream s;

	stream_open(&s, 7, 60, STREAM_USERS, 12);
	stream_config(&c, 20, 40);
	c.copy_us = 100;
	for (uint32_t many = 1; many <= 56; many += 5) {
		outcome_open(&s, &o);
		v = open_server(&c);
		for (uint32_t i = 0; i < many; i++) {
			struct mts_request r = stream_request(&s, i, &o);

			if (s.ask[i].kind == ASK_REQUEST)
				ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
			else
				ck_assert_int_eq(mts_server_prefetch(v, r.history.user), 0);
		}
		for (uint32_t i = 0; i < _i * many / 4; i++)
			ck_assert_int_ge(mts_server_reap(v, o.reply, 1, 1000000), 0);
		mts_server_close(v);
		outcome_close(&s, &o);
	}
	stream_close(&s);
}
END_TEST

START_TEST(forgotten_users_are_strangers)
{
	struct mts_request r = { .history = { 5, 40, 0, good_events, 40, 0 } };
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_reply reply;

	stream_config(&c, 20, 40);
	v = open_server(&c);
	ck_assert_int_eq(mts_server_forget(v, 5), 0); /* never heard of */
	ck_assert_uint_eq(ask_one(v, &r).flags, MTS_REPLY_FIRST_VISIT);
	reply = ask_one(v, &r);
	ck_assert_uint_eq(reply.device_tokens, 40);
	ck_assert_uint_eq(reply.flags, 0);
	ck_assert_int_eq(mts_server_forget(v, 5), 0);
	reply = ask_one(v, &r);
	ck_assert_uint_eq(reply.device_tokens + reply.host_tokens, 0);
	ck_assert_uint_eq(reply.flags, MTS_REPLY_FIRST_VISIT);
	mts_server_close(v);
}
END_TEST

/* Encoded before, pushed off the device, warmed up again: it then is on the device. */
START_TEST(warming_up_brings_a_user_near)
{
	struct mts_request r = { .history = { 1, 90, 0, good_events, 90, 0 } };
	struct mts_server_config c;
	struct mts_counters n;
	struct mts_server *v;
	struct mts_reply reply;
	uint32_t tokens = 0;

	stream_config(&c, 13, 64);
	v = open_server(&c);
	for (r.history.user = 1; r.history.user <= 4; r.history.user++)
		ck_assert_int_eq(ask_one(v, &r).result, 0);
	ck_assert_int_eq(mts_server_forget(v, 4), 0); /* free pages: a guess pushes nobody out */
	r.history.user = 1;
	for (int i = 0; i < 10000 && tokens < 90; i++) {
		reply = ask_one(v, &r);
		ck_assert_int_eq(reply.result, 0);
		tokens = reply.device_tokens;
	}
	ck_assert_uint_eq(tokens, 90);
	mts_server_counters(v, &n);
	ck_assert_uint_gt(n.bytes_h2d, 0);
	mts_server_close(v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("server");
	TCase *tc = tcase_create("server");
	SRunner *sr = srunner_create(s);
	int failed;

	setbuf(stdout, NULL);
	if (device_missing("cpu"))
		return EXIT_SUCCESS;
	stream_model_make();
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, same_bits_as_recompute, 0, 2 * sizeof(shapes) / sizeof(shapes[0]));
	tcase_add_test(tc, any_thread_submits_and_reaps);
	tcase_add_test(tc, wrong_requests_get_their_errno);
	tcase_add_test(tc, missing_arrays_are_refused);
	tcase_add_test(tc, a_window_larger_than_the_pool);
	tcase_add_test(tc, a_full_queue_says_so);
	tcase_add_test(tc, wrong_configurations_are_told);
	tcase_add_loop_test(tc, close_with_requests_under_way, 0, 3);
	tcase_add_test(tc, forgotten_users_are_strangers);
	tcase_add_test(tc, warming_up_brings_a_user_near);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	stream_model_remove();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
