/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request and event files: what is written is read back, what is wrong is refused with file, line
 * and what was expected, and no bytes make a reader crash.
 */
#include "cmd/trace.h"
#include "trace_test.h"

#include <errno.h>
#include <inttypes.h>

#define HEADER "time_ms,user_id,history,candidates\n"

static const struct {
	const char *name, *text, *message; /* message after the path */
} bad[] = {
	{ "empty", "", ": empty, expected the header time_ms,user_id,history,candidates" },
	{ "no header", "1,2,3,4\n", ":1: unknown column \"1\"" },
	{ "unknown column", "time_ms,user_id,history,candidates,colour\n",
	  ":1: unknown column \"colour\"" },
	{ "missing column", "time_ms,user_id,candidates\n", ":1: no column history" },
	{ "column twice", "time_ms,user_id,history,candidates,time_ms\n",
	  ":1: column time_ms twice" },
	{ "falling time", HEADER "5,1,1,1\n4,1,1,1\n",
	  ":3: time_ms falls from 5 to 4, expected rows to ascend" },
	{ "negative history", HEADER "5,1,-1,1\n",
	  ":2: history is \"-1\", expected a whole number from 0 to 1000000000" },
	{ "absurd history", HEADER "5,1,1000000001,1\n", ":2: history is \"1000000001\"" },
	{ "absurd time", HEADER "253402300800000,1,1,1\n", ":2: time_ms is" },
	{ "absurd candidates", HEADER "5,1,1,65537\n", ":2: candidates is \"65537\"" },
	{ "user beyond 64 bits", HEADER "5,18446744073709551616,1,1\n", ":2: user_id is" },
	{ "not a number", HEADER "5,x,1,1\n", ":2: user_id is \"x\"" },
	{ "fraction", HEADER "5,1,1.5,1\n", ":2: history is \"1.5\"" },
	{ "blank before", HEADER " 5,1,1,1\n", ":2: time_ms is \" 5\"" },
	{ "plus sign", HEADER "+5,1,1,1\n", ":2: time_ms is \"+5\"" },
	{ "empty field", HEADER "5,,1,1\n", ":2: user_id is \"\"" },
	{ "missing field", HEADER "5,1,1\n", ":2: 3 fields, expected the header's 4" },
	{ "field too many", HEADER "5,1,1,1,1\n", ":2: 5 fields, expected the header's 4" },
	{ "empty line", HEADER "\n5,1,1,1\n", ":2: 0 fields" },
	{ "cut row", HEADER "5,1,1,1\n6,1", ":3: 2 fields" },
	{ "bad hint", "hint,time_ms,user_id,history,candidates\nmaybe,5,1,1,1\n",
	  ":2: hint is \"maybe\", expected none, end or open" },
};

/* Reads a file to its end; the result of the last call. */
static int read_all(const char *path, uint64_t *rows, struct mts_error *err)
{
	struct mts_trace_request r;
	struct mts_trace *t;
	int ret = mts_trace_open(path, &t, err);

	*rows = 0;
	if (ret)
		return ret;
	while ((ret = mts_trace_next(t, &r, err)) > 0)
		++*rows;
	mts_trace_close(t);
	return ret;
}

START_TEST(bad_file)
{
	const char *path = test_file("bad", bad[_i].text);
	struct mts_error err = { "" };
	uint64_t rows;

	ck_assert_msg(read_all(path, &rows, &err) == -EINVAL, "%s was accepted", bad[_i].name);
	ck_assert_msg(!strncmp(err.text, path, strlen(path)), "%s: no path: %s", bad[_i].name,
		      err.text);
	ck_assert_msg(!strncmp(err.text + strlen(path), bad[_i].message, strlen(bad[_i].message)),
		      "%s: %s", bad[_i].name, err.text);
}
END_TEST

START_TEST(line_too_long)
{
	static const size_t lengths[] = { 4080, 70000, 200000 };
	struct mts_error err = { "" };
	uint64_t rows;
	char *text = malloc(300000);

	for (int i = 0; i < 3; i++) {
		strcpy(text, HEADER "5,1,1,");
		memset(text + strlen(text), '0', lengths[i]);
		strcpy(text + strlen(HEADER "5,1,1,") + lengths[i], "1\n");
		ck_assert_int_eq(read_all(test_file("long", text), &rows, &err),
				 i ? -EINVAL : 0);
		if (i)
			ck_assert_ptr_nonnull(strstr(err.text, ":2: line too long"));
	}
	free(text);
}
END_TEST

START_TEST(unreadable)
{
	struct mts_error err = { "" };
	struct mts_trace *t;

	ck_assert_int_eq(mts_trace_open(test_path("absent"), &t, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "absent: No such file"));
	ck_assert_int_eq(mts_trace_open(test_dir, &t, &err), -EISDIR);
	ck_assert_ptr_nonnull(strstr(err.text, "Is a directory"));
}
END_TEST

START_TEST(columns_in_any_order)
{
	const char *path = test_file("order", "candidates,hint,history,user_id,time_ms\r\n"
				     "7,open,300,18446744073709551615,42\r\n0,end,0,0,42\r\n"
				     "1,,9,9,253402300799999");
	struct mts_trace_request r;
	struct mts_trace *t;

	ck_assert_int_eq(mts_trace_open(path, &t, NULL), 0);
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 1);
	ck_assert(r.time_ms == 42 && r.user == UINT64_MAX && r.history == 300 &&
		  r.candidates == 7 && r.hint == MTS_TRACE_HINT_OPEN && !mts_trace_hint_only(&r));
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 1);
	ck_assert(r.hint == MTS_TRACE_HINT_END && mts_trace_hint_only(&r));
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 1);
	ck_assert(r.hint == MTS_TRACE_HINT_NONE && r.time_ms == MTS_TRACE_TIME_MAX);
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 0);
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 0);
	mts_trace_close(t);
}
END_TEST

START_TEST(byte_order_mark)
{
	uint64_t rows;
	const char *path = test_file("mark", "\xef\xbb\xbf" HEADER "5,1,1,1\n");

	ck_assert_int_eq(read_all(path, &rows, NULL), 0);
	ck_assert_uint_eq(rows, 1);
}
END_TEST

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static struct mts_trace_request draw_request(uint64_t *state, uint64_t *time, bool hinted)
{
	/* Narrow and wide numbers, so that lines of all lengths cross the reader's buffer. */
	*time += draw(state) % (draw(state) % 2 ? 10 : 100000000);
	return (struct mts_trace_request){
		.time_ms = *time,
		.user = draw(state) >> draw(state) % 64,
		.history = draw(state) % (MTS_TRACE_HISTORY_MAX + 1),
		.candidates = (uint32_t)(draw(state) % (MTS_TRACE_CANDIDATES_MAX + 1)),
		.hint = hinted ? draw(state) % 3 : 0,
	};
}

/* Writes random requests, reads them back: the same. */
START_TEST(round_trip)
{
	uint64_t seed = 0x9e3779b97f4a7c15ULL * (uint64_t)(_i + 1), state, time = 0;
	uint32_t n = _i ? (uint32_t)(seed % 20000) : 0;
	bool hinted = _i % 2;
	struct mts_trace_request r, want;
	struct mts_trace_writer *w;
	struct mts_trace *t;

	printf("# seed %" PRIu64 ", %u rows\n", seed, n);
	ck_assert_int_eq(mts_trace_create(test_path("trip"),
					  hinted ? MTS_TRACE_HINTED : MTS_TRACE_REQUESTS, &w, NULL),
			 0);
	state = seed;
	for (uint32_t i = 0; i < n; i++) {
		r = draw_request(&state, &time, hinted);
		mts_trace_put(w, &r);
	}
	ck_assert_int_eq(mts_trace_commit(w, NULL), 0);
	ck_assert_int_eq(mts_trace_open(test_path("trip"), &t, NULL), 0);
	state = seed;
	time = 0;
	for (uint32_t i = 0; i < n; i++) {
		want = draw_request(&state, &time, hinted);
		ck_assert_int_eq(mts_trace_next(t, &r, NULL), 1);
		ck_assert(r.time_ms == want.time_ms && r.user == want.user &&
			  r.history == want.history && r.candidates == want.candidates &&
			  r.hint == want.hint);
	}
	ck_assert_int_eq(mts_trace_next(t, &r, NULL), 0);
	mts_trace_close(t);
}
END_TEST

/* Any bytes: an answer or a message, never a crash (the sanitizers watch). */
START_TEST(mutations)
{
	static const char valid[] = "time_ms,user_id,history,candidates,hint\n1,2,3,4,none\n"
				    "10,18446744073709551615,30,40,end\n11,2,33,44,open\n";
	static const char useful[] = ",\n\r0123456789-\0\xff";
	uint64_t state = 0x853c49e6748fea9bULL, rows, accepted = 0;
	struct mts_error err;

	for (int i = 0; i < 4000; i++) {
		char text[sizeof(valid)];
		size_t n = sizeof(valid) - 1;
		const char *path;

		memcpy(text, valid, sizeof(valid));
		for (uint64_t k = draw(&state) % 4; k > 0; k--)
			text[draw(&state) % n] = useful[draw(&state) % (sizeof(useful) - 1)];
		if (draw(&state) % 4 == 0)
			n = draw(&state) % n;
		path = test_file_bytes("mutated", text, n);
		err.text[0] = '\0';
		if (read_all(path, &rows, &err) == 0)
			accepted++;
		else
			ck_assert_msg(strstr(err.text, path) == err.text, "no path: %s", err.text);
	}
	ck_assert_uint_gt(accepted, 100);
	ck_assert_uint_lt(accepted, 3900);
}
END_TEST

START_TEST(full_disk)
{
	struct mts_trace_request r = { 1, 2, 3, 4, 0 };
	struct mts_trace_writer *w;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_trace_create("/dev/full", MTS_TRACE_REQUESTS, &w, &err), 0);
	for (int i = 0; i < _i; i++)
		mts_trace_put(w, &r);
	ck_assert_int_eq(mts_trace_commit(w, &err), -ENOSPC);
	ck_assert_str_eq(err.text, "/dev/full: cannot write: No space left on device");
	ck_assert_int_eq(access("/dev/full", F_OK), 0);
}
END_TEST

START_TEST(no_such_folder)
{
	struct mts_trace_writer *w;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_trace_create(test_path("absent/x"), MTS_TRACE_REQUESTS, &w, &err),
			 -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "absent/x: cannot write: No such file"));
}
END_TEST

START_TEST(discard_removes)
{
	struct mts_trace_writer *w;

	ck_assert_int_eq(mts_trace_create(test_path("gone"), MTS_TRACE_REQUESTS, &w, NULL), 0);
	mts_trace_discard(w);
	ck_assert_int_ne(access(test_path("gone"), F_OK), 0);
}
END_TEST

/*
 * The mapping is part of the format: replays elsewhere must rebuild the same history. The numbers
 * were computed apart, from the description of XXH64.
 */
START_TEST(event_hash)
{
	struct mts_trace_item log = { 5543, 255 };
	uint32_t item, action, seen = 0;

	mts_trace_event(7, 0, UINT32_MAX, 256, &item, &action);
	ck_assert_uint_eq(item, 2374261961u);
	ck_assert_uint_eq(action, 139);
	ck_assert_uint_eq(mts_trace_candidate(7, 1, 2, UINT32_MAX), 85762303u);
	mts_trace_map(&log, 1000, 256, &item, &action);
	ck_assert_uint_eq(action, 1);
	ck_assert_uint_lt(item, 1000);
	for (uint64_t i = 0; i < 1000; i++) {
		mts_trace_event(i, i, 3, 2, &item, &action);
		ck_assert_uint_lt(item, 3);
		ck_assert_uint_eq(action, 1);
		seen |= 1u << item;
	}
	ck_assert_uint_eq(seen, 7);
}
END_TEST

START_TEST(events_by_user)
{
	const char *path = test_file("events", "user_id,time_ms,action,item_id\n9,1,1,100\n"
				     "8,1,2,200\n9,2,3,18446744073709551615\n");
	const struct mts_trace_item *e;
	struct mts_events *events;
	uint64_t n;

	ck_assert_int_eq(mts_events_load(path, &events, NULL), 0);
	e = mts_events_of(events, 9, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert(e[0].item == 100 && e[0].action == 1);
	ck_assert(e[1].item == UINT64_MAX && e[1].action == 3);
	ck_assert_ptr_nonnull(mts_events_of(events, 8, &n));
	ck_assert_uint_eq(n, 1);
	ck_assert_ptr_null(mts_events_of(events, 7, &n));
	ck_assert_uint_eq(n, 0);
	mts_events_free(events);
}
END_TEST

static const struct {
	const char *text, *message;
} bad_events[] = {
	{ "", ": empty, expected the header time_ms,user_id,item_id,action" },
	{ HEADER, ":1: unknown column \"history\"" },
	{ "time_ms,user_id,item_id,action\n2,1,1,1\n1,1,1,1\n", ":3: time_ms falls from 2 to 1" },
	{ "time_ms,user_id,item_id,action\n2,1,1,4294967296\n", ":2: action is \"4294967296\"" },
	{ "time_ms,user_id,item_id,action\n2,1,1\n", ":2: 3 fields, expected the header's 4" },
};

START_TEST(bad_event_file)
{
	const char *path = test_file("bad-events", bad_events[_i].text);
	struct mts_events *events;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_events_load(path, &events, &err), -EINVAL);
	ck_assert_msg(!strncmp(err.text + strlen(path), bad_events[_i].message,
			       strlen(bad_events[_i].message)), "%s", err.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace files");
	TCase *tc = tcase_create("requests");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, bad_file, 0, (int)(sizeof(bad) / sizeof(bad[0])));
	tcase_add_test(tc, line_too_long);
	tcase_add_test(tc, unreadable);
	tcase_add_test(tc, columns_in_any_order);
	tcase_add_test(tc, byte_order_mark);
	tcase_add_loop_test(tc, round_trip, 0, 8);
	tcase_add_test(tc, mutations);
	tcase_add_loop_test(tc, full_disk, 0, 2);
	tcase_add_test(tc, no_such_folder);
	tcase_add_test(tc, discard_removes);
	suite_add_tcase(s, tc);
	tc = tcase_create("events");
	tcase_add_test(tc, event_hash);
	tcase_add_test(tc, events_by_user);
	tcase_add_loop_test(tc, bad_event_file, 0,
			    (int)(sizeof(bad_events) / sizeof(bad_events[0])));
	suite_add_tcase(s, tc);
	return test_main(s);
}
