/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importers: each format on a small made-up log, the grouping rules, the draw of users and of
 * earlier history, and refusals.
 */
#include "cmd/trace.h"
#include "trace_test.h"

#include <errno.h>
#include <inttypes.h>

#define KUAIRAND                                                                                   \
	"user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"  \
	"is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"          \
	"is_profile_enter,is_rand,tab\n"

static struct mts_import_options plain(const char *format)
{
	return (struct mts_import_options){ .format = format, .session_gap_ms = 30 * 60000,
					    .request_every = 6, .earlier = MTS_EARLIER_NONE,
					    .candidates = 10 };
}

static void import(const struct mts_import_options *o, const char *const *files, int n,
		   struct mts_import_result *result)
{
	struct mts_error err = { "" };
	int ret = mts_import(o, files, n, test_path("requests"), test_path("events"), result, &err);

	ck_assert_msg(ret == 0, "%s", err.text);
}

static void check_file(const char *name, const char *want)
{
	char *got = test_read(test_path(name));

	ck_assert_str_eq(got, want);
	free(got);
}

/* Imports one file and compares both outputs. */
static void check_import(const struct mts_import_options *o, const char *log, const char *requests,
			 const char *events)
{
	const char *file = test_file("log", log);
	struct mts_import_result result;

	import(o, &file, 1, &result);
	check_file("requests", requests);
	if (events)
		check_file("events", events);
}

/* Rows sorted by user, not by time. */
START_TEST(kuairand)
{
	struct mts_import_options o = plain("kuairand");

	check_import(&o, KUAIRAND "3,71,20220430,1800,2000,1,0,1,0,0,0,1,8,30,0,0,1,1,1\n"
		     "3,72,20220430,1800,4000,0,1,0,1,1,1,0,8,30,0,0,0,1,1\n"
		     "5,73,20220430,1800,1000,0,0,0,0,0,0,0,8,30,0,0,0,1,1\n",
		     "time_ms,user_id,history,candidates\n1000,5,0,10\n2000,3,0,10\n",
		     "time_ms,user_id,item_id,action\n1000,5,73,0\n2000,3,71,197\n4000,3,72,58\n");
}
END_TEST

START_TEST(kuairand_in_several_files)
{
	const char *files[2] = {
		test_file("one", KUAIRAND "3,71,0,0,5000,1,0,0,0,0,0,0,0,0,0,0,0,0,0\n"),
		test_file("two", KUAIRAND "3,72,0,0,4000,0,1,0,0,0,0,0,0,0,0,0,0,0,0\n"),
	};
	struct mts_import_options o = plain("kuairand");
	struct mts_import_result result;

	import(&o, files, 2, &result);
	ck_assert(result.events == 2 && result.users == 1 && result.requests == 1);
	check_file("events", "time_ms,user_id,item_id,action\n4000,3,72,2\n5000,3,71,1\n");
}
END_TEST

static const struct {
	const char *log;
} movielens[] = {
	{ "1::1193::5::978300760\n2::661::3::978302109\n" },
	{ "1\t1193\t5\t978300760\n2\t661\t3\t978302109\n" },
	{ "userId,movieId,rating,timestamp\n1,1193,5.0,978300760\n2,661,3.0,978302109\n" },
};

START_TEST(movielens_in_three_dresses)
{
	struct mts_import_options o = plain("movielens");

	check_import(&o, movielens[_i].log,
		     "time_ms,user_id,history,candidates\n978300760000,1,0,10\n"
		     "978302109000,2,0,10\n",
		     "time_ms,user_id,item_id,action\n978300760000,1,1193,10\n"
		     "978302109000,2,661,6\n");
}
END_TEST

START_TEST(retailrocket)
{
	struct mts_import_options o = plain("retailrocket");

	check_import(&o, "timestamp,visitorid,event,itemid,transactionid\n"
		     "1433221332117,257597,view,355908,\n1433221332118,257597,addtocart,355909,\n"
		     "1433221332119,257597,transaction,355909,4000\n",
		     "time_ms,user_id,history,candidates\n1433221332117,257597,0,10\n",
		     "time_ms,user_id,item_id,action\n1433221332117,257597,355908,1\n"
		     "1433221332118,257597,355909,2\n1433221332119,257597,355909,3\n");
}
END_TEST

START_TEST(taobao)
{
	struct mts_import_options o = plain("taobao");

	check_import(&o, "7,70,1,pv,10\n7,71,1,cart,11\n8,72,1,fav,9\n8,73,1,buy,12\n",
		     "time_ms,user_id,history,candidates\n9000,8,0,10\n10000,7,0,10\n",
		     "time_ms,user_id,item_id,action\n9000,8,72,3\n10000,7,70,1\n11000,7,71,2\n"
		     "12000,8,73,4\n");
}
END_TEST

/* Eight events a second apart, then one after the gap and one after just less than it. */
#define TEN_EVENTS                                                                                 \
	"1,1,1,pv,0\n1,2,1,pv,1\n1,3,1,pv,2\n1,4,1,pv,3\n1,5,1,pv,4\n1,6,1,pv,5\n"                \
	"1,7,1,pv,6\n1,8,1,pv,7\n1,9,1,pv,1808\n1,10,1,pv,3608\n"

START_TEST(a_request_every_n_events_and_after_a_silence)
{
	struct mts_import_options o = plain("taobao");

	check_import(&o, TEN_EVENTS, "time_ms,user_id,history,candidates\n0,1,0,10\n6000,1,6,10\n"
		     "1808000,1,8,10\n", NULL);
	o.request_every = 1;
	o.session_gap_ms = 0;
	check_import(&o, "1,1,1,pv,0\n1,2,1,pv,0\n",
		     "time_ms,user_id,history,candidates\n0,1,0,10\n0,1,1,10\n", NULL);
}
END_TEST

START_TEST(one_request_a_minute)
{
	struct mts_import_options o = plain("taobao");

	o.mtserve_rule = true;
	check_import(&o, "1,1,1,pv,0\n1,2,1,pv,59\n1,3,1,pv,60\n1,4,1,pv,119\n1,4,1,pv,121\n",
		     "time_ms,user_id,history,candidates\n0,1,0,10\n60000,1,2,10\n121000,1,4,10\n",
		     NULL);
}
END_TEST

/* Events at the same time stay in the order of the file. */
START_TEST(equal_times_keep_their_order)
{
	struct mts_import_options o = plain("taobao");

	check_import(&o, "1,5,1,pv,3\n1,4,1,pv,3\n1,9,1,pv,3\n1,1,1,pv,2\n",
		     "time_ms,user_id,history,candidates\n2000,1,0,10\n",
		     "time_ms,user_id,item_id,action\n2000,1,1,1\n3000,1,5,1\n3000,1,4,1\n"
		     "3000,1,9,1\n");
}
END_TEST

START_TEST(earlier_history_by_user)
{
	struct mts_import_options o = plain("taobao");
	struct mts_import_result result;
	const char *file = test_file("log", "7,70,1,pv,10\n");
	char want[100];

	o.earlier = MTS_EARLIER_FORMAT; /* a shop's, for this format */
	import(&o, &file, 1, &result);
	snprintf(want, sizeof(want), "time_ms,user_id,history,candidates\n10000,7,%" PRIu64 ",10\n",
		 mts_gen_earlier(MTS_GEN_SHOP, 7));
	check_file("requests", want);
	o.earlier = MTS_EARLIER_SHORTVIDEO;
	import(&o, &file, 1, &result);
	snprintf(want, sizeof(want), "time_ms,user_id,history,candidates\n10000,7,%" PRIu64 ",10\n",
		 mts_gen_earlier(MTS_GEN_SHORTVIDEO, 7));
	check_file("requests", want);
}
END_TEST

static char *many_users(void)
{
	char *log = malloc(200 * 32), *end = log;

	for (int user = 0; user < 200; user++)
		end += sprintf(end, "%d,1,1,pv,%d\n", user % 100, user);
	return log;
}

/* The same users for the same seed, others for another; each with all of its events. */
START_TEST(users_drawn_by_seed)
{
	struct mts_import_options o = plain("taobao");
	struct mts_import_result result;
	char *log = many_users(), *first, *again, *other;
	const char *file = test_file("log", log);

	o.users = 10;
	o.seed = 1;
	import(&o, &file, 1, &result);
	ck_assert(result.users == 10 && result.events == 20);
	first = test_read(test_path("events"));
	import(&o, &file, 1, &result);
	again = test_read(test_path("events"));
	o.seed = 2;
	import(&o, &file, 1, &result);
	other = test_read(test_path("events"));
	ck_assert_str_eq(first, again);
	ck_assert_str_ne(first, other);
	o.users = 1000;
	import(&o, &file, 1, &result);
	ck_assert(result.users == 100 && result.events == 200);
	free(log);
	free(first);
	free(again);
	free(other);
}
END_TEST

static const struct {
	const char *format, *log, *message;
} bad[] = {
	{ "taobao", "", ": no event" },
	{ "taobao", "1,2,3,pv\n", ":1: 4 fields, expected 5" },
	{ "taobao", "1,2,3,look,5\n", ":1: behaviour is \"look\", expected pv, cart" },
	{ "taobao", "1,2,3,pv,5\n1,2,3,pv,-5\n", ":2: time is \"-5\"" },
	{ "taobao", "x,2,3,pv,5\n", ":1: user is \"x\"" },
	{ "taobao", "1,,3,pv,5\n", ":1: item is \"\"" },
	{ "taobao", "1,2,3,pv,253402300800\n", ":1: time is \"253402300800\"" },
	{ "kuairand", "user_id,video_id\n", ":1: no column time_ms" },
	{ "kuairand", KUAIRAND "3,71,0,0,5000,2,0,0,0,0,0,0,0,0,0,0,0,0,0\n",
	  ":2: is_click is \"2\", expected a whole number from 0 to 1" },
	{ "kuairand", KUAIRAND "3,71,0,0,5000\n", ":2: 5 fields, expected the header's 19" },
	{ "movielens", "1 2 3 4\n", ":1: expected user::item::rating::time" },
	{ "movielens", "1::2::6::4\n", ":1: rating is \"6\"" },
	{ "movielens", "1::2::0::4\n", ":1: rating is \"0\"" },
	{ "movielens", "1::2::4.7::4\n", ":1: rating is \"4.7\"" },
	{ "movielens", "1::2::3\n", ":1: 3 fields, expected 4" },
	{ "retailrocket", "timestamp,visitorid,event,itemid\n1,2,click,4\n",
	  ":2: event is \"click\", expected view, addtocart" },
};

START_TEST(bad_log)
{
	struct mts_import_options o = plain(bad[_i].format);
	const char *file = test_file("log", bad[_i].log);
	struct mts_import_result result;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_import(&o, &file, 1, test_path("refused"), NULL, &result, &err),
			 -EINVAL);
	ck_assert_msg(!strncmp(err.text, file, strlen(file)), "%s", err.text);
	ck_assert_msg(!strncmp(err.text + strlen(file), bad[_i].message, strlen(bad[_i].message)),
		      "%s", err.text);
	ck_assert_int_ne(access(test_path("refused"), F_OK), 0);
}
END_TEST

START_TEST(bad_rows_skipped_on_demand)
{
	struct mts_import_options o = plain("taobao");
	const char *file = test_file("log", "1,2,3,pv,5\n1,2,3,pv,-5\nnonsense\n1,2,3,pv,6\n");
	struct mts_import_result result;

	o.skip_bad = true;
	import(&o, &file, 1, &result);
	ck_assert(result.events == 2 && result.skipped == 2);
}
END_TEST

START_TEST(unknown_format)
{
	struct mts_import_options o = plain("netflix");
	const char *file = test_file("log", "");
	struct mts_import_result result;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_import(&o, &file, 1, "-", NULL, &result, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, mts_import_formats()));
}
END_TEST

/* Nothing is left of the requests when the events cannot be written. */
START_TEST(full_disk)
{
	struct mts_import_options o = plain("taobao");
	const char *file = test_file("log", "1,2,3,pv,5\n");
	struct mts_import_result result;
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_import(&o, &file, 1, test_path("half"), "/dev/full", &result, &err),
			 -ENOSPC);
	ck_assert_int_ne(access(test_path("half"), F_OK), 0);
	ck_assert_int_eq(mts_import(&o, &file, 1, "/dev/full", test_path("half"), &result, &err),
			 -ENOSPC);
}
END_TEST

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static const struct {
	const char *format, *log;
} valid[] = {
	{ "taobao", "1,2,3,pv,5\n1,2,3,buy,6\n" },
	{ "kuairand", KUAIRAND "3,71,0,0,5000,1,0,0,0,0,0,0,0,0,0,0,0,0,0\n" },
	{ "movielens", "1::2::3::4\n1::2::3::4\n" },
	{ "movielens", "userId,movieId,rating,timestamp\n1,2,3.5,4\n" },
	{ "retailrocket", "timestamp,visitorid,event,itemid,transactionid\n1,2,view,3,\n" },
};

/* Any bytes: an answer or a message, never a crash (the sanitizers watch). */
START_TEST(mutations)
{
	static const char useful[] = ",:\t\n\r.0123456789-\0\xff";
	struct mts_import_options o = plain(valid[_i].format);
	uint64_t state = 0x2545f4914f6cdd1dULL + (uint64_t)_i, accepted = 0;
	struct mts_import_result result;
	struct mts_error err;

	for (int i = 0; i < 1000; i++) {
		size_t n = strlen(valid[_i].log);
		char text[512];
		const char *file;

		memcpy(text, valid[_i].log, n);
		for (uint64_t k = draw(&state) % 4; k > 0; k--)
			text[draw(&state) % n] = useful[draw(&state) % (sizeof(useful) - 1)];
		file = test_file_bytes("log", text, draw(&state) % 4 ? n : draw(&state) % n);
		o.skip_bad = draw(&state) % 2;
		accepted += mts_import(&o, &file, 1, "/dev/null", NULL, &result, &err) == 0;
	}
	ck_assert_uint_gt(accepted, 10);
	ck_assert_uint_lt(accepted, 990);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace import");
	TCase *tc = tcase_create("logs");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, kuairand);
	tcase_add_test(tc, kuairand_in_several_files);
	tcase_add_loop_test(tc, movielens_in_three_dresses, 0, 3);
	tcase_add_test(tc, retailrocket);
	tcase_add_test(tc, taobao);
	tcase_add_test(tc, a_request_every_n_events_and_after_a_silence);
	tcase_add_test(tc, one_request_a_minute);
	tcase_add_test(tc, equal_times_keep_their_order);
	tcase_add_test(tc, earlier_history_by_user);
	tcase_add_test(tc, users_drawn_by_seed);
	tcase_add_loop_test(tc, bad_log, 0, (int)(sizeof(bad) / sizeof(bad[0])));
	tcase_add_test(tc, bad_rows_skipped_on_demand);
	tcase_add_test(tc, unknown_format);
	tcase_add_test(tc, full_disk);
	tcase_add_loop_test(tc, mutations, 0, (int)(sizeof(valid) / sizeof(valid[0])));
	suite_add_tcase(s, tc);
	return test_main(s);
}
