/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reply tells of the request's way: points in time in their order, and how long the compute
 * queue stood still for its loads and worked on its passes. No figure depends on the machine's speed.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "device_missing.h"
#include "stream.h"

enum { EVENTS = 90, PAGES = (EVENTS + STREAM_T - 1) / STREAM_T, CANDIDATES = 5, USERS = 7 };

static struct mts_event events[EVENTS];
static const uint32_t candidates[CANDIDATES] = { 1, 2, 3, 4, 5 };

static struct mts_server *open_server(uint32_t pages, double copy_us)
{
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_error err;

	stream_config(&c, pages, 20 * PAGES);
	c.copy_us = copy_us;
	ck_assert_msg(!mts_server_open(&c, &v, &err), "%s", err.text);
	return v;
}

static struct mts_request request(uint64_t user, uint32_t n, float *scores)
{
	return (struct mts_request){
		.history = { user, n, 0, events, n, 0 },
		.candidates = candidates,
		.ncandidates = CANDIDATES,
		.scores = scores,
	};
}

static struct mts_reply ask(struct mts_server *v, uint64_t user, uint32_t n)
{
	static float scores[CANDIDATES * 4];
	struct mts_request r = request(user, n, scores);
	struct mts_reply reply;

	ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	ck_assert_int_eq(mts_server_reap(v, &reply, 1, -1), 1);
	ck_assert_int_eq(reply.result, 0);
	return reply;
}

static void check_order(const struct mts_reply *r)
{
	ck_assert_uint_gt(r->submitted_ns, 0);
	ck_assert_uint_le(r->submitted_ns, r->admitted_ns);
	ck_assert_uint_le(r->admitted_ns, r->launched_ns);
	ck_assert_uint_lt(r->launched_ns, r->computed_ns);
	ck_assert_uint_le(r->computed_ns, r->replied_ns);
	ck_assert_uint_gt(r->run_ns, 0);
	ck_assert_uint_le(r->wait_ns + r->run_ns, r->computed_ns - r->launched_ns);
}

START_TEST(nothing_to_load_means_no_wait)
{
	struct mts_server *v = open_server(4 * PAGES, 0);
	struct mts_reply r = ask(v, 1, 60);

	check_order(&r);
	ck_assert_uint_eq(r.wait_ns, 0);
	r = ask(v, 1, 66);
	check_order(&r);
	ck_assert_uint_eq(r.device_tokens, 60);
	ck_assert_uint_eq(r.wait_ns, 0);
	mts_server_close(v);
}
END_TEST

/* The pool holds one window, so the second user pushes the first one out. */
START_TEST(a_slow_load_is_waited_for)
{
	struct mts_server *v = open_server(PAGES, 30000);
	struct mts_reply r;

	ask(v, 1, EVENTS);
	ask(v, 2, EVENTS);
	r = ask(v, 1, EVENTS);
	ck_assert_uint_gt(r.host_tokens, 0);
	check_order(&r);
	ck_assert_uint_gt(r.wait_ns, 0);
	mts_server_close(v);
}
END_TEST

/* Chunks of several users in one pass after the other. */
START_TEST(passes_that_are_shared)
{
	struct mts_server *v = open_server(20 * PAGES, 0);
	float scores[USERS][CANDIDATES * 4];
	struct mts_request r[USERS];
	struct mts_reply reply;

	for (uint64_t u = 0; u < USERS; u++)
		r[u] = request(u, EVENTS, scores[u]);
	ck_assert_int_eq(mts_server_submit(v, r, USERS), USERS);
	for (int i = 0; i < USERS; i++) {
		ck_assert_int_eq(mts_server_reap(v, &reply, 1, -1), 1);
		ck_assert_int_eq(reply.result, 0);
		ck_assert_uint_gt(reply.passes, 1);
		check_order(&reply);
	}
	mts_server_close(v);
}
END_TEST

START_TEST(what_never_ran_has_no_times)
{
	struct mts_server *v = open_server(4 * PAGES, 0);
	struct mts_request r = request(1, 60, NULL);
	struct mts_reply reply;

	ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
	ck_assert_int_eq(mts_server_reap(v, &reply, 1, -1), 1);
	ck_assert_int_eq(reply.result, -EINVAL);
	ck_assert_uint_eq(reply.launched_ns, 0);
	ck_assert_uint_eq(reply.computed_ns, 0);
	ck_assert_uint_eq(reply.wait_ns + reply.run_ns, 0);
	ck_assert_uint_le(reply.submitted_ns, reply.replied_ns);
	mts_server_close(v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("server_times");
	TCase *c = tcase_create("times");
	SRunner *r;
	int failed;

	setbuf(stdout, NULL);
	if (device_missing("cpu"))
		return EXIT_SUCCESS;
	for (uint32_t i = 0; i < EVENTS; i++)
		events[i] = (struct mts_event){ i * 7 % STREAM_ITEMS, i % 5 };
	stream_model_make();
	tcase_set_timeout(c, 60);
	tcase_add_test(c, nothing_to_load_means_no_wait);
	tcase_add_test(c, a_slow_load_is_waited_for);
	tcase_add_test(c, passes_that_are_shared);
	tcase_add_test(c, what_never_ran_has_no_times);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	stream_model_remove();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
