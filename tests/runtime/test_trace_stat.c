/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace stat: every number of a small trace worked out by hand, and the streaming count of open
 * sessions against one that keeps the whole trace.
 */
#include "cmd/trace.h"
#include "trace_test.h"

#include <errno.h>
#include <inttypes.h>

#define HEADER "time_ms,user_id,history,candidates,hint\n"

static const struct mts_stat_options capped = { .max_history = 100, .slide = 50,
						.session_gap_ms = 1000 };

static struct mts_trace_stat stat_of(const char *text, const struct mts_stat_options *o)
{
	struct mts_error err = { "" };
	struct mts_trace_stat s;

	ck_assert_msg(mts_trace_stat(test_file("stat", text), o, &s, &err) == 0, "%s", err.text);
	return s;
}

START_TEST(empty_trace)
{
	struct mts_trace_stat s = stat_of(HEADER, &capped);

	ck_assert(s.users == 0 && s.requests == 0 && s.sessions == 0 && s.footprint_tokens == 0);
	ck_assert_double_eq(s.open_mean, 0);
	ck_assert_double_eq(s.again_1h, 0);
}
END_TEST

START_TEST(users_and_histories)
{
	struct mts_trace_stat s = stat_of(HEADER "0,1,10,5,none\n100,2,20,5,none\n200,1,16,5,end\n"
					  "300,1,16,0,end\n400,2,18,5,\n", &capped);

	ck_assert_uint_eq(s.users, 2);
	ck_assert_uint_eq(s.requests, 4);
	ck_assert_uint_eq(s.hints, 2);
	ck_assert_uint_eq(s.first_ms, 0);
	ck_assert_uint_eq(s.last_ms, 400);
	ck_assert_double_eq(s.history.mean, (10 + 20 + 16 + 18) / 4.0);
	ck_assert_uint_eq(s.history.max, 20);
	/* User 1 gained 6 events, user 2 lost two, which counts as none. */
	ck_assert_double_eq(s.new_events.mean, 3);
	ck_assert_double_eq(s.interval_ms.mean, 250);
	ck_assert_double_eq(s.again_5min, 0.5);
}
END_TEST

/* H = 100, S = 50: histories 100, 101, 150, 151 start at 0, 50, 50, 100. */
START_TEST(windows)
{
	struct mts_trace_stat s = stat_of(HEADER "0,1,100,1,\n1,1,101,1,\n2,1,150,1,\n3,1,151,1,\n"
					  "4,2,1000,1,\n5,1,151,1,\n6,1,90,1,\n", &capped);

	ck_assert_uint_eq(s.past_cap, 5);
	ck_assert_uint_eq(s.window_moves, 3); /* 100 -> 101, 150 -> 151, 151 -> 90 */
	ck_assert_uint_eq(s.footprint_tokens, 100 + 100);
}
END_TEST

START_TEST(no_cap)
{
	struct mts_stat_options o = { .session_gap_ms = 1000 };
	struct mts_trace_stat s = stat_of(HEADER "0,1,100,1,\n1,1,101,1,\n4,2,1000,1,\n", &o);

	ck_assert_uint_eq(s.past_cap, 0);
	ck_assert_uint_eq(s.window_moves, 0);
	ck_assert_uint_eq(s.footprint_tokens, 1101);
}
END_TEST

/* User 1: 0..800 and 3000..3500; user 2: 500..1500. Open: 1 for 1800, 2 for 300, 0 for 1500 ms. */
START_TEST(sessions)
{
	struct mts_trace_stat s = stat_of(HEADER "0,1,1,1,\n500,2,1,1,\n800,1,1,1,\n1500,2,1,1,\n"
					  "3000,1,1,1,\n3500,1,1,1,\n", &capped);

	ck_assert_uint_eq(s.sessions, 3);
	ck_assert_double_eq_tol(s.open_mean, (800 + 1000 + 500) / 3500.0, 1e-9);
	ck_assert_uint_eq(s.open_p99, 2);
	ck_assert_double_eq_tol(s.back_1h, 1 / 3.0, 1e-9);
	ck_assert_double_eq_tol(s.back_1d, 1 / 3.0, 1e-9);
}
END_TEST

/* A silence of exactly the gap goes on with the session; a longer one ends it. */
START_TEST(gap_is_inclusive)
{
	ck_assert_uint_eq(stat_of(HEADER "0,1,1,1,\n1000,1,1,1,\n", &capped).sessions, 1);
	ck_assert_uint_eq(stat_of(HEADER "0,1,1,1,\n1001,1,1,1,\n", &capped).sessions, 2);
}
END_TEST

#define USERS 40
#define ROWS  3000

struct span {
	uint64_t user, begin, end;
};

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The plain way: all sessions in memory. */
static uint32_t add_to_spans(struct span *spans, uint32_t n, uint64_t user, uint64_t time,
			     uint64_t gap)
{
	for (uint32_t i = n; i-- > 0;)
		if (spans[i].user == user) {
			if (time - spans[i].end > gap)
				break;
			spans[i].end = time;
			return n;
		}
	spans[n] = (struct span){ user, time, time };
	return n + 1;
}

START_TEST(open_sessions_as_counted_plainly)
{
	struct mts_stat_options o = { .session_gap_ms = 1u << _i };
	struct span *spans = calloc(ROWS, sizeof(*spans));
	uint64_t state = 88172645463325252ULL + (uint64_t)_i, time = 0, total = 0;
	uint32_t n = 0;
	struct mts_trace_writer *w;
	struct mts_trace_stat s;

	printf("# seed %" PRIu64 "\n", state);
	ck_assert_int_eq(mts_trace_create(test_path("many"), MTS_TRACE_REQUESTS, &w, NULL), 0);
	for (int i = 0; i < ROWS; i++) {
		struct mts_trace_request r = { .user = draw(&state) % USERS, .candidates = 1 };

		time += draw(&state) % 4 ? draw(&state) % 10 : draw(&state) % 1000;
		r.time_ms = time;
		mts_trace_put(w, &r);
		n = add_to_spans(spans, n, r.user, time, o.session_gap_ms);
	}
	ck_assert_int_eq(mts_trace_commit(w, NULL), 0);
	ck_assert_int_eq(mts_trace_stat(test_path("many"), &o, &s, NULL), 0);
	for (uint32_t i = 0; i < n; i++)
		total += spans[i].end - spans[i].begin;
	ck_assert_uint_eq(s.sessions, n);
	ck_assert_double_eq_tol(s.open_mean, (double)total / (double)(s.last_ms - s.first_ms),
				1e-9);
	free(spans);
}
END_TEST

START_TEST(bad_slide)
{
	struct mts_stat_options o = { .max_history = 100, .slide = 30 };
	struct mts_error err = { "" };
	struct mts_trace_stat s;

	ck_assert_int_eq(mts_trace_stat(test_file("stat", HEADER), &o, &s, &err), -EINVAL);
	ck_assert_str_eq(err.text, "slide is 30, expected a divisor of the max history 100");
}
END_TEST

START_TEST(bad_trace)
{
	struct mts_error err = { "" };
	struct mts_trace_stat s;
	const char *path = test_file("stat", HEADER "1,1,1,1,\n2,1,1,1,\n1,1,1,1,\n");

	ck_assert_int_eq(mts_trace_stat(path, &capped, &s, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, ":4: time_ms falls from 2 to 1"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace stat");
	TCase *tc = tcase_create("numbers");

	tcase_add_test(tc, empty_trace);
	tcase_add_test(tc, users_and_histories);
	tcase_add_test(tc, windows);
	tcase_add_test(tc, no_cap);
	tcase_add_test(tc, sessions);
	tcase_add_test(tc, gap_is_inclusive);
	tcase_add_loop_test(tc, open_sessions_as_counted_plainly, 0, 14);
	tcase_add_test(tc, bad_slide);
	tcase_add_test(tc, bad_trace);
	suite_add_tcase(s, tc);
	return test_main(s);
}
