/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server when more comes than it can serve at once: quick requests before slow ones and nobody
 * starves, a user's requests in order, deadlines refused or met; and the prices behind it. Whatever is
 * served has recompute's bits.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device_missing.h"
#include "engine/price.h"
#include "stream.h"

#define PATIENCE_NS 60000000000ll

static struct mts_event life[STREAM_LIFE];
static const uint32_t candidates[4] = { 3, 1, 4, 1 };
static float scores[300][16];

static struct mts_server *open_server(uint32_t pages, uint32_t queue)
{
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_error err;

	for (uint32_t i = 0; i < STREAM_LIFE; i++)
		life[i] = (struct mts_event){ i * 7 % STREAM_ITEMS, i % 256 };
	stream_config(&c, pages, 256);
	c.queue = queue;
	ck_assert_msg(!mts_server_open(&c, &v, &err), "%s", err.text);
	return v;
}

/* User's first n events, n at most H; scores go to the place of its user_data. */
static struct mts_request request_of(uint64_t user, uint32_t n, uint64_t user_data)
{
	return (struct mts_request){ .history = { user, n, 0, life, n, 0 }, .candidates = candidates,
				     .ncandidates = 4, .scores = scores[user_data % 300],
				     .user_data = user_data };
}

static struct mts_reply reap_one(struct mts_server *v)
{
	struct mts_reply r = { .result = -EAGAIN };

	ck_assert_int_eq(mts_server_reap(v, &r, 1, PATIENCE_NS), 1);
	return r;
}

static void serve_one(struct mts_server *v, uint64_t user, uint32_t n)
{
	struct mts_request r = request_of(user, n, 0);

	ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	ck_assert_int_eq(reap_one(v).result, 0);
}

/* ---- prices ---- */

START_TEST(a_price_is_learned)
{
	struct mts_price p = { 0 };
	uint64_t r = 5;

	ck_assert(!mts_price_known(&p));
	for (int i = 0; i < 400; i++) {
		double rows = 1 + (double)draw(&r, 2000), pairs = rows * (1 + (double)draw(&r, 2000));

		mts_price_pass(&p, rows, pairs, (uint64_t)(20000 + 3000 * rows + 2 * pairs));
	}
	ck_assert(mts_price_known(&p));
	ck_assert_double_eq_tol(p.pass.k[0], 20000, 2000);
	ck_assert_double_eq_tol(p.pass.k[1], 3000, 30);
	ck_assert_double_eq_tol(p.pass.k[2], 2, 0.02);
	/* What fits into a time costs that time. */
	for (uint32_t begin = 0; begin < 3000; begin += 500) {
		uint32_t rows = mts_price_fits(&p, begin, 1e7);

		ck_assert_double_eq_tol(mts_price_rows(&p, rows, mts_price_pairs(begin, rows, 0, 0)),
					1e7, 2e4);
	}
}
END_TEST

START_TEST(a_price_is_never_negative)
{
	struct mts_price p = { 0 };
	uint64_t r = 6;

	/* Times that fall with size, and no spread at all: whatever fits best, nothing is below 0. */
	for (int i = 0; i < 300; i++) {
		uint64_t rows = 1 + draw(&r, 100);

		mts_price_pass(&p, (double)rows, (double)rows * 10, 1000000 / rows);
		for (int k = 0; k < MTS_FIT_TERMS; k++)
			ck_assert_double_ge(p.pass.k[k], 0);
	}
	mts_price_pass(&p, 10, 100, 0);
	ck_assert_uint_eq(mts_price_fits(&(struct mts_price){ 0 }, 0, 1), 1000000000u);
}
END_TEST

START_TEST(a_link_is_learned)
{
	struct mts_price p = { 0 };
	uint64_t copies = 0, bytes = 0, busy = 0, r = 7;

	for (int i = 0; i < 200; i++) {
		uint64_t n = 1 + draw(&r, 8), size = 1000 + draw(&r, 1000000);

		copies += n;
		bytes += size;
		busy += 5000 * n + size / 5;
		mts_price_link(&p, copies, bytes, busy);
		mts_price_link(&p, copies + 1, bytes + 7, busy); /* not idle: nothing can be said */
	}
	ck_assert_double_eq_tol(mts_price_load(&p, 3, 1e6), 215000, 3000);
}
END_TEST

/* ---- order ---- */

START_TEST(quick_ones_go_before_a_slow_one)
{
	struct mts_server *v = open_server(200, 64);
	struct mts_request r[9];
	bool slow_over = false;

	for (uint64_t u = 1; u <= 8; u++)
		serve_one(v, u, 60);
	r[0] = request_of(100, 96, 0); /* three passes at least */
	for (uint64_t u = 1; u <= 8; u++)
		r[u] = request_of(u, 61, u);
	ck_assert_int_eq(mts_server_submit(v, r, 9), 9);
	for (int i = 0; i < 9; i++) {
		struct mts_reply reply = reap_one(v);

		ck_assert_int_eq(reply.result, 0);
		ck_assert(!slow_over);
		slow_over = reply.user_data == 0;
	}
	ck_assert(slow_over);
	mts_server_close(v);
}
END_TEST

/* However many quick requests come, the slow one is answered while they do. */
START_TEST(a_slow_one_does_not_starve)
{
	struct mts_server *v = open_server(200, 64);
	struct mts_request slow = request_of(100, 96, 299), r;
	uint32_t served = 0;
	bool over = false;

	for (uint64_t u = 1; u <= 16; u++)
		serve_one(v, u, 60);
	ck_assert_int_eq(mts_server_submit(v, &slow, 1), 1);
	for (uint64_t u = 1; u <= 16; u++) {
		r = request_of(u, 60, u);
		ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	}
	for (; !over; served++) {
		struct mts_reply reply = reap_one(v);

		over = reply.user_data == 299;
		ck_assert_uint_lt(served, 20000);
		if (over)
			break;
		r = request_of(reply.user_data, 60, reply.user_data);
		ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	}
	mts_server_close(v);
}
END_TEST

START_TEST(a_users_requests_keep_their_order)
{
	struct mts_server *v = open_server(40, 256);
	uint64_t next[5] = { 0 };
	struct mts_request r[200];

	/* Short and long ones mixed; each user's histories grow, so that all but the first are hits. */
	for (uint64_t i = 0; i < 200; i++)
		r[i] = request_of(i % 5, (uint32_t)(40 + i / 5), i);
	ck_assert_int_eq(mts_server_submit(v, r, 200), 200);
	for (int i = 0; i < 200; i++) {
		struct mts_reply reply = reap_one(v);

		ck_assert_int_eq(reply.result, 0);
		ck_assert_uint_eq(reply.user_data / 5, next[reply.user_data % 5]++);
		ck_assert_uint_eq(reply.flags & MTS_REPLY_FIRST_VISIT, reply.user_data < 5);
	}
	mts_server_close(v);
}
END_TEST

START_TEST(hints_keep_their_place_too)
{
	struct mts_server *v = open_server(40, 64);
	struct mts_request r[2] = { request_of(1, 90, 0), request_of(1, 90, 1) };

	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(mts_server_submit(v, r, 1), 1);
		ck_assert_int_eq(mts_server_session_end(v, 1), 0);
		ck_assert_int_eq(mts_server_prefetch(v, 1), 0);
		ck_assert_int_eq(mts_server_forget(v, 1), 0); /* after the request */
		ck_assert_int_eq(mts_server_submit(v, r + 1, 1), 1);
		ck_assert_int_eq(mts_server_forget(v, 1), 0);
		for (int k = 0; k < 2; k++) {
			struct mts_reply reply = reap_one(v);

			ck_assert_uint_eq(reply.user_data, (uint64_t)k);
			ck_assert_uint_eq(reply.flags, MTS_REPLY_FIRST_VISIT);
		}
	}
	mts_server_close(v);
}
END_TEST

/* ---- deadlines ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A backlog that no machine works off in time: who would be late is refused or expires, who is served
 * has the right bits, and what the server counts is what it replied. */
START_TEST(a_backlog_is_refused)
{
	struct mts_server *v = open_server(60, 512);
	uint32_t count[3] = { 0 };
	struct mts_counters n;

	for (uint64_t u = 1; u <= 4; u++) /* prices */
		for (uint32_t k = 0; k < 4; k++)
			serve_one(v, u, 60 + k);
	memset(scores, 0, sizeof(scores));
	for (uint64_t i = 0; i < 300; i++) {
		struct mts_request r = request_of(1000 + i, 96, i);

		r.deadline_ns = now_ns() + 4000000 * (1 + i % 3);
		ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	}
	for (int i = 0; i < 300; i++) {
		struct mts_reply r = reap_one(v);

		ck_assert_msg(!r.result || r.result == -EBUSY || r.result == -ETIME, "%d", r.result);
		count[r.result == -EBUSY ? 1 : r.result ? 2 : 0]++;
	}
	printf("# %u served, %u refused, %u expired\n", count[0], count[1], count[2]);
	ck_assert_uint_gt(count[1] + count[2], 0);
	mts_server_counters(v, &n);
	/* Counters are shown a turn later than replies. */
	for (int i = 0; i < 1000 && n.requests < 316; i++) {
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		mts_server_counters(v, &n);
	}
	ck_assert_uint_eq(n.refused, count[1]);
	ck_assert_uint_eq(n.failed, count[1] + count[2]);
	mts_server_close(v);
}
END_TEST

/* Requests with deadlines of all kinds among those without. */
START_TEST(what_is_served_has_the_right_bits)
{
	struct mts_server_config c;
	struct outcome o, truth;
	struct mts_server *v;
	struct mts_error err;
	struct stream s;
	uint64_t r = 11;
	uint32_t under_way = 0, right;

	stream_open(&s, setting("MTS_SEED", 1) + 500, scaled(600), STREAM_USERS, 20);
	outcome_open(&s, &o);
	outcome_open(&s, &truth);
	stream_config(&c, 18, 60);
	c.copy_us = 30;
	c.queue = s.n + 1;
	ck_assert_msg(!mts_server_open(&c, &v, &err), "%s", err.text);
	for (uint32_t i = 0; i < s.n; i++) {
		struct mts_request q = stream_request(&s, i, &o);

		if (s.ask[i].kind != ASK_REQUEST) {
			(void)mts_server_prefetch(v, q.history.user);
			continue;
		}
		if (draw(&r, 2))
			q.deadline_ns = now_ns() + 1 + draw(&r, 20000000);
		ck_assert_int_eq(mts_server_submit(v, &q, 1), 1);
		under_way++;
	}
	while (under_way--) {
		struct mts_reply reply = reap_one(v);

		o.reply[reply.user_data] = reply;
		ck_assert(!reply.result || reply.result == -EBUSY || reply.result == -ETIME);
	}
	mts_server_close(v);
	stream_recompute(&s, &truth, false);
	right = stream_compare(&s, &o, &truth);
	ck_assert_uint_gt(right, s.n / 4);
	outcome_close(&s, &truth);
	outcome_close(&s, &o);
	stream_close(&s);
}
END_TEST

/* ---- load or recompute ---- */

static const uint32_t plans[] = { MTS_PLAN_AUTO, MTS_PLAN_LOAD, MTS_PLAN_RECOMPUTE, MTS_PLAN_SPLIT };

/* Whichever way K/V comes back from the host, the scores have the same bits. */
START_TEST(every_plan_has_the_same_bits)
{
	uint32_t plan = plans[_i % 4];
	struct mts_server_config c;
	struct outcome o, truth;
	struct mts_counters n;
	struct mts_server *v;
	struct mts_error err;
	struct stream s;

	stream_open(&s, setting("MTS_SEED", 1) + 600 + (uint64_t)_i, scaled(500), STREAM_USERS, 20);
	outcome_open(&s, &o);
	outcome_open(&s, &truth);
	stream_config(&c, 0, 0);
	c.plan = plan;
	c.kv_bf16 = _i >= 4;
	c.device_bytes = 18 * stream_page_bytes(c.kv_bf16);
	c.host_bytes = 128 * stream_page_bytes(c.kv_bf16);
	c.step_tokens = _i % 2 ? 24 : 64; /* the recomputed part in several chunks, or in one */
	c.copy_us = _i < 4 ? 200 : 0;
	ck_assert_msg(!mts_server_open(&c, &v, &err), "%s", err.text);
	stream_serve(v, &s, &o, 6, false);
	mts_server_counters(v, &n);
	mts_server_close(v);
	stream_recompute(&s, &truth, c.kv_bf16);
	ck_assert_uint_gt(stream_compare(&s, &o, &truth), s.n / 2);
	printf("# plan %u: loaded %llu, recomputed %llu, split %llu\n", plan,
	       (unsigned long long)n.plan_load, (unsigned long long)n.plan_recompute,
	       (unsigned long long)n.plan_split);
	ck_assert_uint_gt(n.plan_load + n.plan_recompute + n.plan_split, 0);
	if (plan == MTS_PLAN_LOAD)
		ck_assert_uint_eq(n.plan_recompute + n.plan_split, 0);
	if (plan == MTS_PLAN_RECOMPUTE)
		ck_assert_uint_gt(n.plan_recompute, 0);
	if (plan == MTS_PLAN_RECOMPUTE)
		ck_assert_uint_eq(n.plan_split, 0);
	if (plan == MTS_PLAN_SPLIT)
		ck_assert_uint_gt(n.plan_split, 0);
	outcome_close(&s, &truth);
	outcome_close(&s, &o);
	stream_close(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("open");
	TCase *tc = tcase_create("open");
	SRunner *sr = srunner_create(s);
	int failed;

	setbuf(stdout, NULL);
	if (device_missing("cpu"))
		return EXIT_SUCCESS;
	stream_model_make();
	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, a_price_is_learned);
	tcase_add_test(tc, a_price_is_never_negative);
	tcase_add_test(tc, a_link_is_learned);
	tcase_add_test(tc, quick_ones_go_before_a_slow_one);
	tcase_add_test(tc, a_slow_one_does_not_starve);
	tcase_add_test(tc, a_users_requests_keep_their_order);
	tcase_add_test(tc, hints_keep_their_place_too);
	tcase_add_test(tc, a_backlog_is_refused);
	tcase_add_test(tc, what_is_served_has_the_right_bits);
	tcase_add_loop_test(tc, every_plan_has_the_same_bits, 0, 8);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	stream_model_remove();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
