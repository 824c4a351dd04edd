/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generator: the statistics it is calibrated on, the same rows for the same seed, rows that
 * ascend, windows cut out of the same days, hints that fit the sessions.
 */
#include "cmd/trace.h"
#include "cmd/trace_random.h"
#include "trace_test.h"

#include <errno.h>
#include <math.h>
#include <xxhash.h>

static const struct mts_gen_options small = { .users = 200, .days = 1, .seed = 7,
					      .request_every = 6, .candidates = 100 };

static struct mts_gen *open_gen(const struct mts_gen_options *o)
{
	struct mts_error err = { "" };
	struct mts_gen *g;

	ck_assert_msg(mts_gen_open(o, &g, &err) == 0, "%s", err.text);
	return g;
}

/* Over all rows; hashed by field, so that padding does not count. */
static uint64_t fingerprint(const struct mts_gen_options *o, uint64_t *rows)
{
	struct mts_gen *g = open_gen(o);
	struct mts_trace_request r;
	uint64_t hash = 0;

	for (*rows = 0; mts_gen_next(g, &r, NULL) == 1; ++*rows) {
		uint64_t fields[] = { r.time_ms, r.user, r.history, r.candidates, r.hint };

		hash = XXH64(fields, sizeof(fields), hash);
	}
	mts_gen_close(g);
	return hash;
}

START_TEST(same_seed_same_rows)
{
	struct mts_gen_options other = small;
	uint64_t rows, more, hash = fingerprint(&small, &rows);

	ck_assert_uint_gt(rows, 5000);
	ck_assert_uint_eq(fingerprint(&small, &more), hash);
	ck_assert_uint_eq(more, rows);
	other.seed++;
	ck_assert_uint_ne(fingerprint(&other, &more), hash);
}
END_TEST

/* Times go through libm and may differ by 1 ms between machines once in 10^10; integers may not. */
START_TEST(random_numbers_are_fixed)
{
	struct mts_random r = { 1234567 };

	/* The first outputs of SplitMix64 for this seed, as published with it. */
	ck_assert_uint_eq(mts_random_u64(&r), 6457827717110365317ULL);
	ck_assert_uint_eq(mts_random_u64(&r), 3203168211198807973ULL);
	ck_assert_uint_eq(mts_random_u64(&r), 9817491932198370423ULL);
}
END_TEST

START_TEST(deviates_have_their_moments)
{
	struct mts_random r = mts_random_stream(1, 2, 3, 4);
	double normal = 0, square = 0, gamma = 0, gamma2 = 0, poisson = 0, poisson2 = 0;
	const int n = 200000;

	for (int i = 0; i < n; i++) {
		double z = mts_random_normal(&r), g = mts_random_gamma2(&r);
		double k = mts_random_poisson(&r, 50);

		normal += z;
		square += z * z;
		gamma += g;
		gamma2 += g * g;
		poisson += k;
		poisson2 += k * k;
	}
	ck_assert_double_eq_tol(normal / n, 0, 0.01);
	ck_assert_double_eq_tol(square / n, 1, 0.02);
	ck_assert_double_eq_tol(gamma / n, 1, 0.01);
	ck_assert_double_eq_tol(gamma2 / n, 1.5, 0.03);
	ck_assert_double_eq_tol(poisson / n, 50, 0.1);
	ck_assert_double_eq_tol(poisson2 / n - 2500, 50, 3);
}
END_TEST

static void check_user_row(uint64_t *history, const struct mts_trace_request *r, uint32_t every)
{
	uint64_t last = history[r->user];

	ck_assert_uint_ge(r->history, last);
	if (last && r->hint != MTS_TRACE_HINT_END)
		ck_assert_uint_le(r->history, last + every);
	history[r->user] = r->history;
}

START_TEST(rows_ascend)
{
	uint64_t *history = calloc(small.users + 1, sizeof(*history)), last = 0, rows = 0;
	struct mts_gen *g = open_gen(&small);
	struct mts_trace_request r;

	while (mts_gen_next(g, &r, NULL) == 1) {
		ck_assert_uint_ge(r.time_ms, last);
		ck_assert_uint_lt(r.time_ms, 86400000);
		ck_assert(r.user >= 1 && r.user <= small.users);
		ck_assert_uint_eq(r.candidates, 100);
		ck_assert_uint_eq(r.hint, MTS_TRACE_HINT_NONE);
		check_user_row(history, &r, small.request_every);
		last = r.time_ms;
		rows++;
	}
	ck_assert_uint_gt(rows, 5000);
	mts_gen_close(g);
	free(history);
}
END_TEST

/* Per user: open, requests, end, open, ...; without the hints, the same requests as before. */
START_TEST(hints_frame_sessions)
{
	struct mts_gen_options hinted = small;
	uint8_t *open = calloc(small.users + 1, 1); /* 1 open, 2 ended */
	struct mts_trace_request r, want;
	struct mts_gen *g, *plain;
	uint64_t ends = 0;

	hinted.hints = true;
	g = open_gen(&hinted);
	plain = open_gen(&small);
	while (mts_gen_next(g, &r, NULL) == 1) {
		if (r.hint == MTS_TRACE_HINT_NONE) {
			ck_assert_int_eq(mts_gen_next(plain, &want, NULL), 1);
			ck_assert(r.time_ms == want.time_ms && r.user == want.user &&
				  r.history == want.history);
			ck_assert_int_ne(open[r.user], 2);
			continue;
		}
		ck_assert(mts_trace_hint_only(&r));
		if (r.hint == MTS_TRACE_HINT_OPEN)
			ck_assert_int_ne(open[r.user], 1);
		else
			ck_assert_int_ne(open[r.user], 2);
		open[r.user] = r.hint == MTS_TRACE_HINT_OPEN ? 1 : 2;
		ends += r.hint == MTS_TRACE_HINT_END;
	}
	ck_assert_int_eq(mts_gen_next(plain, &want, NULL), 0);
	ck_assert_uint_gt(ends, 100);
	mts_gen_close(g);
	mts_gen_close(plain);
	free(open);
}
END_TEST

/* An evening's window holds the very requests of the whole day's trace at that time. */
START_TEST(window_is_a_cut)
{
	struct mts_gen_options cut = small;
	struct mts_trace_request r, want;
	struct mts_gen *whole = open_gen(&small), *g;
	uint64_t rows = 0;

	cut.start_hour = 20;
	cut.days = 2.0 / 24;
	g = open_gen(&cut);
	while (mts_gen_next(whole, &want, NULL) == 1) {
		if (want.time_ms < 20 * 3600000 || want.time_ms >= 22 * 3600000)
			continue;
		ck_assert_int_eq(mts_gen_next(g, &r, NULL), 1);
		ck_assert(r.time_ms == want.time_ms && r.user == want.user);
		rows++;
	}
	ck_assert_int_eq(mts_gen_next(g, &r, NULL), 0);
	ck_assert_uint_gt(rows, 500);
	mts_gen_close(g);
	mts_gen_close(whole);
}
END_TEST

/* The draw of an earlier history has its law's median and spread. */
START_TEST(earlier_history)
{
	static const double median[] = { 8327, 600 }, sigma[] = { 0.85, 1.25 };
	enum mts_gen_profile profile = (enum mts_gen_profile)_i;
	double sum = 0, square = 0;
	const int n = 20000;

	for (int user = 0; user < n; user++) {
		double d = log((double)mts_gen_earlier(profile, (uint64_t)user) / median[_i]);

		sum += d;
		square += d * d;
	}
	ck_assert_double_eq_tol(sum / n, 0, 0.03);
	ck_assert_double_eq_tol(sqrt(square / n), sigma[_i], 0.03);
}
END_TEST

/* A trace of one hour finds its users in mid life. */
START_TEST(users_start_in_mid_life)
{
	struct mts_gen_options o = { .users = 5000, .days = 1.0 / 24, .start_hour = 20, .seed = 3,
				     .request_every = 6, .candidates = 1 };
	bool *seen = calloc(o.users + 1, sizeof(*seen));
	struct mts_gen *g = open_gen(&o);
	struct mts_trace_request r;
	uint64_t users = 0, long_lives = 0;

	while (mts_gen_next(g, &r, NULL) == 1) {
		if (seen[r.user])
			continue;
		seen[r.user] = true;
		users++;
		long_lives += r.history > 8327;
	}
	/* Active users are seen more often, so more than half of those seen lie past the median. */
	ck_assert_double_gt((double)long_lives / (double)users, 0.6);
	ck_assert_double_lt((double)long_lives / (double)users, 0.9);
	mts_gen_close(g);
	free(seen);
}
END_TEST

/* Without an earlier history, a user's history is what the trace has shown of that user. */
START_TEST(no_earlier_history)
{
	struct mts_gen_options o = small;
	bool *seen = calloc(o.users + 1, sizeof(*seen));
	struct mts_trace_request r;
	struct mts_gen *g;
	uint64_t at_zero = 0, users = 0;

	o.no_earlier = true;
	g = open_gen(&o);
	while (mts_gen_next(g, &r, NULL) == 1) {
		if (!seen[r.user]) {
			users++;
			at_zero += r.history == 0;
			/* Else a session was running at midnight, less than one request old. */
			ck_assert_uint_lt(r.history, o.request_every);
		}
		seen[r.user] = true;
	}
	ck_assert_uint_gt(at_zero, users * 8 / 10);
	mts_gen_close(g);
	free(seen);
}
END_TEST

static struct mts_trace_stat stat_of(const struct mts_gen_options *o, uint64_t session_gap_ms)
{
	struct mts_stat_options so = { .max_history = 2048, .slide = 1024,
				       .session_gap_ms = session_gap_ms };
	struct mts_gen *g = open_gen(o);
	struct mts_trace_writer *w;
	struct mts_trace_request r;
	struct mts_trace_stat s;

	ck_assert_int_eq(mts_trace_create(test_path("stat"), MTS_TRACE_REQUESTS, &w, NULL), 0);
	while (mts_gen_next(g, &r, NULL) == 1)
		mts_trace_put(w, &r);
	mts_gen_close(g);
	ck_assert_int_eq(mts_trace_commit(w, NULL), 0);
	ck_assert_int_eq(mts_trace_stat(test_path("stat"), &so, &s, NULL), 0);
	return s;
}

/*
 * 1,000 users, 31 days, against the published statistics of the data: the tolerances are three
 * standard errors of a sample of 1,000 users for the counts, and what the seeds 1 to 5 spread over
 * for the rest.
 */
START_TEST(short_video_statistics)
{
	struct mts_gen_options o = { .users = 1000, .days = 31, .seed = 2, .request_every = 6,
				     .candidates = 100 };
	struct mts_trace_stat s = stat_of(&o, 6 * 60000);

	ck_assert_uint_eq(s.users, 1000);
	ck_assert_double_eq_tol((double)s.new_events.p10, 1998, 400);
	ck_assert_double_eq_tol((double)s.new_events.p50, 8327, 1000);
	ck_assert_double_eq_tol((double)s.new_events.p90, 24418, 3600);
	ck_assert_double_eq_tol(s.new_events.mean, 11713, 1100);
	ck_assert_double_eq_tol((double)s.requests, 1.9e6, 0.2e6);
	ck_assert_double_eq_tol(s.again_5min, 0.93, 0.01);
	ck_assert_double_eq_tol(s.again_1h, 0.97, 0.01);
	ck_assert_double_eq_tol(s.back_1h, 0.43, 0.05);
	ck_assert_double_eq_tol(s.back_1d, 0.93, 0.02);
	ck_assert_double_eq_tol(s.open_mean, 75, 8);
	ck_assert_double_eq_tol((double)s.open_p99, 126, 14);
}
END_TEST

START_TEST(shop_statistics)
{
	struct mts_gen_options o = { .profile = MTS_GEN_SHOP, .users = 2000, .days = 31, .seed = 2,
				     .request_every = 6, .candidates = 100 };
	struct mts_trace_stat s = stat_of(&o, 30 * 60000);

	/* 0.5 * exp(1.08^2 / 2) sessions a day of 4 requests, 1.7 events after each. */
	ck_assert_double_eq_tol((double)s.requests, 2000 * 31 * 0.896 * 4, 25000);
	ck_assert_double_eq_tol(s.new_events.mean, 31 * 0.896 * 4 * 1.7, 21);
	ck_assert_double_eq_tol((double)s.requests / (double)s.sessions, 4, 0.6);
}
END_TEST

START_TEST(other_horizons_scale)
{
	struct mts_gen_options o = { .users = 3000, .days = 1, .seed = 5, .request_every = 6,
				     .candidates = 100 };
	double week, day = stat_of(&o, 1).requests;

	o.days = 7;
	week = stat_of(&o, 1).requests;
	/* Monday's factor is 0.96; a week's mean is 0.999. */
	ck_assert_double_eq_tol(week / day, 7 / 0.96, 0.6);
}
END_TEST

static const struct {
	struct mts_gen_options o;
	const char *message;
} bad[] = {
	{ { .users = 0, .days = 1, .request_every = 6 }, "users is 0" },
	{ { .users = 1, .days = 0, .request_every = 6 }, "days is 0" },
	{ { .users = 1, .days = -1, .request_every = 6 }, "days is -1" },
	{ { .users = 1, .days = 1e9, .request_every = 6 }, "days is 1e+09" },
	{ { .users = 1, .days = NAN, .request_every = 6 }, "days is" },
	{ { .users = 1, .days = 1, .start_hour = 168, .request_every = 6 }, "start hour is 168" },
	{ { .users = 1, .days = 1, .request_every = 0 }, "a request every 0 events" },
	{ { .users = 1, .days = 1, .request_every = 6, .candidates = 65537 },
	  "candidates is 65537" },
	{ { .profile = 9, .users = 1, .days = 1, .request_every = 6 }, "unknown profile 9" },
};

START_TEST(bad_options)
{
	struct mts_error err = { "" };
	struct mts_gen *g;

	ck_assert_int_eq(mts_gen_open(&bad[_i].o, &g, &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text, bad[_i].message, strlen(bad[_i].message)), "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace generator");
	TCase *tc = tcase_create("rows");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, same_seed_same_rows);
	tcase_add_test(tc, random_numbers_are_fixed);
	tcase_add_test(tc, deviates_have_their_moments);
	tcase_add_test(tc, rows_ascend);
	tcase_add_test(tc, hints_frame_sessions);
	tcase_add_test(tc, window_is_a_cut);
	tcase_add_loop_test(tc, earlier_history, 0, 2);
	tcase_add_test(tc, users_start_in_mid_life);
	tcase_add_test(tc, no_earlier_history);
	tcase_add_test(tc, short_video_statistics);
	tcase_add_test(tc, shop_statistics);
	tcase_add_test(tc, other_horizons_scale);
	tcase_add_loop_test(tc, bad_options, 0, (int)(sizeof(bad) / sizeof(bad[0])));
	suite_add_tcase(s, tc);
	return test_main(s);
}
