/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates: open on the last arrival, fail on the first error, wake who sleeps, fire watches once.
 */
#include "memory/device.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

START_TEST(opens_on_the_last_arrival)
{
	struct mts_gate g;
	int error = 1;

	mts_gate_init(&g, 2);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 0);
	ck_assert_int_eq(mts_gate_wait(&g, 0), -ETIME);
	mts_gate_expect(&g, 1);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 0);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 1);
	ck_assert_int_eq(error, 0);
	ck_assert_int_eq(mts_gate_wait(&g, -1), 0);
}
END_TEST

START_TEST(nothing_expected_is_open)
{
	struct mts_gate g;

	mts_gate_init(&g, 0);
	ck_assert_int_eq(mts_gate_wait(&g, -1), 0);
	ck_assert_int_eq(mts_gate_drain(&g, -1), 0);
}
END_TEST

START_TEST(keeps_the_first_error)
{
	struct mts_gate g;
	int error;

	mts_gate_init(&g, 3);
	mts_gate_arrive(&g, -EIO);
	ck_assert_int_eq(mts_gate_wait(&g, -1), -EIO);
	mts_gate_arrive(&g, -ETIME);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 0);
	ck_assert_int_eq(mts_gate_drain(&g, 1000), -ETIME);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 1);
	ck_assert_int_eq(error, -EIO);
	ck_assert_int_eq(mts_gate_drain(&g, -1), -EIO);
}
END_TEST

START_TEST(failing_lets_go_and_still_counts)
{
	struct mts_gate g;
	int error;

	mts_gate_init(&g, 1);
	mts_gate_fail(&g, -ETIME);
	ck_assert_int_eq(mts_gate_wait(&g, -1), -ETIME);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 0);
	mts_gate_arrive(&g, -ETIME);
	ck_assert_int_eq(mts_gate_poll(&g, &error), 1);
}
END_TEST

static void *wait_thread(void *arg)
{
	return (void *)(intptr_t)mts_gate_wait(arg, -1);
}

static void *drain_thread(void *arg)
{
	return (void *)(intptr_t)mts_gate_drain(arg, -1);
}

static void wakes(int result)
{
	for (int round = 0; round < 200; round++) {
		pthread_t a, b;
		struct mts_gate g;
		void *ret;

		mts_gate_init(&g, 2);
		ck_assert_int_eq(pthread_create(&a, NULL, wait_thread, &g), 0);
		ck_assert_int_eq(pthread_create(&b, NULL, drain_thread, &g), 0);
		mts_gate_arrive(&g, result);
		mts_gate_arrive(&g, 0);
		pthread_join(a, &ret);
		ck_assert_int_eq((intptr_t)ret, result);
		pthread_join(b, &ret);
		ck_assert_int_eq((intptr_t)ret, result);
	}
}

START_TEST(wakes_sleepers)
{
	wakes(0);
}
END_TEST

START_TEST(wakes_sleepers_on_failure)
{
	wakes(-EIO);
}
END_TEST

struct counter {
	struct mts_gate_watch watch;
	_Atomic int fired;
};

static void fire(struct mts_gate_watch *w)
{
	atomic_fetch_add(&((struct counter *)w)->fired, 1);
}

START_TEST(watches_fire_once)
{
	struct counter a = { .watch.fn = fire }, b = a, c = a, d = a;
	struct mts_gate g;

	mts_gate_init(&g, 2);
	ck_assert_int_eq(mts_gate_watch(&g, &a.watch), 0);
	ck_assert_int_eq(mts_gate_watch(&g, &b.watch), 0);
	ck_assert_int_eq(mts_gate_watch(&g, &c.watch), 0);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(a.fired + b.fired + c.fired, 0);
	ck_assert_int_eq(mts_gate_unwatch(&b.watch), 1);
	mts_gate_arrive(&g, -EIO);
	ck_assert_int_eq(mts_gate_watch(&g, &d.watch), 1);
	ck_assert_int_eq(a.fired, 1);
	ck_assert_int_eq(b.fired, 0);
	ck_assert_int_eq(c.fired, 1);
	ck_assert_int_eq(d.fired, 0);
	ck_assert_int_eq(mts_gate_unwatch(&a.watch), 0);
	ck_assert_int_eq(mts_gate_unwatch(&d.watch), 0);
}
END_TEST

START_TEST(last_watch_taken_back)
{
	struct counter a = { .watch.fn = fire };
	struct mts_gate g;

	mts_gate_init(&g, 1);
	ck_assert_int_eq(mts_gate_watch(&g, &a.watch), 0);
	ck_assert_int_eq(mts_gate_unwatch(&a.watch), 1);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(a.fired, 0);
	ck_assert_int_eq(mts_gate_wait(&g, -1), 0);
}
END_TEST

START_TEST(failing_fires_watches)
{
	struct counter a = { .watch.fn = fire };
	struct mts_gate g;

	mts_gate_init(&g, 1);
	ck_assert_int_eq(mts_gate_watch(&g, &a.watch), 0);
	mts_gate_fail(&g, -EIO);
	ck_assert_int_eq(a.fired, 1);
	mts_gate_arrive(&g, 0);
	ck_assert_int_eq(a.fired, 1);
}
END_TEST

static void *arrive_thread(void *arg)
{
	mts_gate_arrive(arg, 0);
	return NULL;
}

START_TEST(watching_races_with_opening)
{
	for (int round = 0; round < 500; round++) {
		struct counter a = { .watch.fn = fire };
		struct mts_gate g;
		pthread_t other;
		int open;

		mts_gate_init(&g, 1);
		ck_assert_int_eq(pthread_create(&other, NULL, arrive_thread, &g), 0);
		open = mts_gate_watch(&g, &a.watch);
		pthread_join(other, NULL);
		ck_assert_int_eq(a.fired, !open);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gate");
	TCase *tc = tcase_create("gate");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, opens_on_the_last_arrival);
	tcase_add_test(tc, nothing_expected_is_open);
	tcase_add_test(tc, keeps_the_first_error);
	tcase_add_test(tc, failing_lets_go_and_still_counts);
	tcase_add_test(tc, wakes_sleepers);
	tcase_add_test(tc, wakes_sleepers_on_failure);
	tcase_add_test(tc, watches_fire_once);
	tcase_add_test(tc, last_watch_taken_back);
	tcase_add_test(tc, failing_fires_watches);
	tcase_add_test(tc, watching_races_with_opening);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
