/* SPDX-License-Identifier: Apache-2.0 */
/* trace hints: where ends are told, which are left out, and that nothing else changes. */
#include "cmd/trace.h"
#include "trace_test.h"

#include <errno.h>

#define HEADER "time_ms,user_id,history,candidates\n"

static const struct mts_hints_options all = { .reliability = 1, .session_gap_ms = 60000,
					      .after_ms = 20000, .seed = 1 };

static char *hinted(const char *text, const struct mts_hints_options *o, struct mts_hints_result *r)
{
	struct mts_error err = { "" };

	ck_assert_msg(!mts_trace_hints(o, test_file("plain", text), test_path("hinted"), r, &err),
		      "%s", err.text);
	return test_read(test_path("hinted"));
}

/* User 1 is silent for 61 s, which ends a session; user 2 for 60, which does not. */
START_TEST(ends_after_sessions)
{
	struct mts_hints_result r;
	char *text = hinted(HEADER "0,1,5,9\n10000,2,5,9\n61001,1,6,9\n70000,2,6,9\n", &all, &r);

	ck_assert_str_eq(text, "time_ms,user_id,history,candidates,hint\n0,1,5,9,none\n"
			 "10000,2,5,9,none\n20000,1,0,0,end\n61001,1,6,9,none\n70000,2,6,9,none\n"
			 "81001,1,0,0,end\n90000,2,0,0,end\n");
	ck_assert_uint_eq(r.requests, 4);
	ck_assert_uint_eq(r.sessions, 3);
	ck_assert_uint_eq(r.hints, 3);
	free(text);
}
END_TEST

/* What is there already stays, and is no request. */
START_TEST(hints_that_are_there_stay)
{
	struct mts_hints_result r;
	char *text = hinted("time_ms,user_id,history,candidates,hint\n0,1,0,0,open\n1,1,5,9,none\n",
			    &all, &r);

	ck_assert_str_eq(text, "time_ms,user_id,history,candidates,hint\n0,1,0,0,open\n"
			 "1,1,5,9,none\n20001,1,0,0,end\n");
	ck_assert_uint_eq(r.requests, 1);
	free(text);
}
END_TEST

START_TEST(some_are_left_out)
{
	struct mts_hints_options o = all;
	struct mts_hints_result r;
	struct mts_trace_writer *w;

	ck_assert_int_eq(mts_trace_create(test_path("many"), MTS_TRACE_REQUESTS, &w, NULL), 0);
	for (uint64_t i = 0; i < 20000; i++)
		mts_trace_put(w, &(struct mts_trace_request){ .time_ms = i, .user = i, .history = 1,
							      .candidates = 1 });
	ck_assert_int_eq(mts_trace_commit(w, NULL), 0);
	for (uint64_t seed = 1; seed <= 5; seed++) {
		o.seed = seed;
		o.reliability = 0.9;
		ck_assert_int_eq(mts_trace_hints(&o, test_path("many"), test_path("out"), &r, NULL), 0);
		ck_assert_uint_eq(r.sessions, 20000);
		/* 18,000 expected, 42 is one standard deviation. */
		ck_assert(r.hints > 17750 && r.hints < 18250);
	}
	o.reliability = 0;
	ck_assert_int_eq(mts_trace_hints(&o, test_path("many"), test_path("out"), &r, NULL), 0);
	ck_assert_uint_eq(r.hints, 0);
}
END_TEST

START_TEST(wrong_use)
{
	struct mts_hints_options late = all;
	struct mts_hints_result r;
	struct mts_error err = { "" };

	late.after_ms = 60001;
	ck_assert_int_eq(mts_trace_hints(&late, test_file("plain", HEADER), test_path("out"), &r, &err),
			 -EINVAL);
	ck_assert_int_eq(mts_trace_hints(&all, test_path("missing"), test_path("out"), &r, &err),
			 -ENOENT);
	ck_assert_int_eq(mts_trace_hints(&all, test_file("plain", HEADER "5,1,1,1\n4,1,1,1\n"),
					 test_path("out"), &r, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "time_ms falls"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace hints");
	TCase *c = tcase_create("hints");

	tcase_add_test(c, ends_after_sessions);
	tcase_add_test(c, hints_that_are_there_stay);
	tcase_add_test(c, some_are_left_out);
	tcase_add_test(c, wrong_use);
	suite_add_tcase(s, c);
	return test_main(s);
}
