/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server when things fail: every allocation, every thread, every copy, every device call, once in
 * turn; the device lost, a deadline passed, the server closed at any moment. A reply is right or an
 * error, there is exactly one a request, nothing leaks, and the next request is served.
 *
 * The linker puts the functions below before the C library's (--wrap).
 *
 *   MTS_STEPS=1   leave out none of the later calls of a sweep (default: every seventh)
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "memory/device_manual.h"
#include "stream.h"

/*
 * What leaks is counted here. LeakSanitizer's own look at the end of a forked test dies now and then
 * ("Tracer caught signal 11") where hundreds of threads have come and gone beside a dlopen-ed library.
 */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* ---- allocations ---- */

static _Atomic long met, fail_at, live;

static bool fails(void)
{
	return atomic_fetch_add(&met, 1) + 1 == atomic_load(&fail_at);
}

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add(&live, 1);
	return p;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t a, size_t n);
void __real_free(void *p);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t a, size_t n);
void __wrap_free(void *p);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : counted(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : counted(__real_calloc(n, m));
}

void *__wrap_realloc(void *p, size_t n)
{
	void *q = fails() ? NULL : __real_realloc(p, n);

	return p ? q : counted(q);
}

void *__wrap_aligned_alloc(size_t a, size_t n)
{
	return fails() ? NULL : counted(__real_aligned_alloc(a, n));
}

void __wrap_free(void *p)
{
	if (p)
		atomic_fetch_sub(&live, 1);
	__real_free(p);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
	return fails() ? EAGAIN : __real_pthread_create(t, a, f, arg);
}

/* ---- a stream short enough to be served hundreds of times ---- */

static struct stream s;
static struct outcome truth, out;

static void setup(void)
{
	stream_open(&s, 12, 40, 5, 4);
	outcome_open(&s, &truth);
	outcome_open(&s, &out);
	stream_recompute(&s, &truth, false);
}

static void teardown(void)
{
	outcome_close(&s, &out);
	outcome_close(&s, &truth);
	stream_close(&s);
}

static uint32_t count_results(const struct outcome *o, int result)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.n; i++)
		n += s.ask[i].kind == ASK_REQUEST && o->reply[i].result == result;
	return n;
}

static uint32_t count_requests(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.n; i++)
		n += s.ask[i].kind == ASK_REQUEST;
	return n;
}

/* Serves the stream: each request has the right scores or, if that is not 0, the error. */
static void serve(struct mts_server *v, int error)
{
	uint32_t right;

	outcome_clear(&s, &out);
	stream_serve(v, &s, &out, 4, false);
	right = stream_compare(&s, &out, &truth);
	if (right + (error ? count_results(&out, error) : 0) != count_requests())
		ck_abort_msg("%u of %u requests served", right, count_requests());
}

/* From one failure of a sweep to the next: every one up to `all`, or everywhere with MTS_STEPS=1. */
static long stride(uint64_t n, uint32_t all)
{
	bool fast = scaled(100) == 100; /* no sanitizer */

	if (setting("MTS_STEPS", 0) == 1)
		return 1;
	return n < (fast ? all : all / 4) ? 1 : fast ? 7 : 37;
}

static void small_config(struct mts_server_config *c)
{
	stream_config(c, 9, 64);
	c->queue = 8;
	c->threads = 1;
}

static int open_serve_close(int *opened)
{
	struct mts_server_config c;
	struct mts_server *v;
	struct mts_error err;
	int ret;

	small_config(&c);
	ret = mts_server_open(&c, &v, &err);
	*opened = !ret;
	if (ret)
		return ret;
	serve(v, -ENOMEM);
	mts_server_close(v);
	return 0;
}

/* Threads interleave differently each time: the sweep ends at a run that never met the count. */
START_TEST(each_allocation_and_thread_fails_once)
{
	long n, before, after, seen, failed_opens = 0;
	int opened, ret;

	open_serve_close(&opened); /* what is set up once in a process */
	for (n = 1;; n += stride(n, 100)) {
		before = live;
		met = 0;
		fail_at = n;
		ret = open_serve_close(&opened);
		fail_at = 0;
		seen = met;
		after = live;
		ck_assert_msg(after == before, "allocation %ld: %ld left", n, after - before);
		ck_assert_msg(opened || ret == -ENOMEM || ret == -EAGAIN, "allocation %ld: %d", n, ret);
		failed_opens += !opened;
		if (seen < n)
			break;
	}
	printf("# %ld allocations, %ld of them in open\n", n - 1, failed_opens);
	ck_assert(opened);
	ck_assert_int_gt(failed_opens, 20);
	ck_assert_int_gt(n, failed_opens + 20);
}
END_TEST

/* ---- a device whose calls fail ---- */

struct rig {
	struct mts_manual *manual;
	struct mts_device *dev;
	struct mts_model *model;
	struct mts_weights *weights;
	struct mts_server_config c;
};

static void rig_open(struct rig *g)
{
	struct mts_device_config dc = { .threads = 1 };
	struct mts_error err;

	small_config(&g->c);
	ck_assert_int_eq(mts_manual_open(5, &g->manual), 0);
	dc.manual = g->manual;
	ck_assert_int_eq(mts_device_cpu.open(&dc, &g->dev, &err), 0);
	ck_assert_int_eq(mts_model_open(stream_model, &g->model, &err), 0);
	ck_assert_int_eq(mts_weights_open(g->dev, g->model, g->c.step_tokens, g->c.step_tokens, MTS_STEPS,
					  MTS_F32, &g->weights, &err), 0);
	ck_assert_int_eq(mts_manual_run(g->manual, 0), 0);
}

static void rig_close(struct rig *g)
{
	mts_weights_close(g->weights);
	mts_model_close(g->model);
	g->dev->ops->close(g->dev);
	mts_manual_close(g->manual);
}

static struct mts_server *rig_serve(struct rig *g)
{
	struct mts_server *v;
	struct mts_error err;

	ck_assert_msg(!mts_server_open_on(&g->c, g->dev, g->model, g->weights, &v, &err), "%s",
		      err.text);
	return v;
}

static const enum mts_manual_point points[] = { MTS_FAIL_COPY, MTS_FAIL_DONE, MTS_FAIL_LAUNCH,
						MTS_FAIL_RUN };

/* One failure is made good: computed again without the cache. */
START_TEST(each_device_call_fails_once)
{
	enum mts_manual_point p = points[_i];
	uint64_t n, seen, retried = 0;
	struct mts_counters count;
	struct mts_server *v;
	struct rig g;

	rig_open(&g);
	/* Copies are few and most of them write-backs, which nobody waits for: every one, to meet loads. */
	for (n = 1;; n += stride(n, p == MTS_FAIL_COPY || p == MTS_FAIL_DONE ? 400 : 40)) {
		v = rig_serve(&g);
		seen = mts_manual_count(g.manual, p);
		mts_manual_fail(g.manual, p, n, -EIO);
		serve(v, 0);
		seen = mts_manual_count(g.manual, p) - seen;
		mts_manual_fail(g.manual, p, 0, 0);
		serve(v, 0);
		mts_server_counters(v, &count);
		retried += count.retried;
		mts_server_close(v);
		if (seen < n)
			break;
	}
	printf("# point %d: %llu failures, %llu requests run again\n", (int)p,
	       (unsigned long long)n - 1, (unsigned long long)retried);
	ck_assert_uint_gt(n, 4);
	/* Most copies are write-backs, whose failure no request sees: a few tries may meet no other. */
	if (p == MTS_FAIL_LAUNCH || p == MTS_FAIL_RUN || stride(41, 40) < 10)
		ck_assert_uint_gt(retried, 0);
	rig_close(&g);
}
END_TEST

START_TEST(a_failed_pass_is_run_again)
{
	struct mts_event e[20] = { { 1, 1 } };
	struct mts_request r = { .history = { 77, 20, 0, e, 20, 0 } };
	struct mts_reply reply;
	struct mts_server *v;
	struct rig g;

	rig_open(&g);
	v = rig_serve(&g);
	for (uint64_t nth = 1; nth < 10; nth++) {
		mts_manual_fail(g.manual, MTS_FAIL_RUN, nth, -EIO);
		ck_assert_int_eq(mts_server_submit(v, &r, 1), 1);
		ck_assert_int_eq(mts_server_reap(v, &reply, 1, -1), 1);
		ck_assert_int_eq(reply.result, 0);
		ck_assert_uint_eq(reply.flags, MTS_REPLY_FIRST_VISIT | MTS_REPLY_RETRIED);
		ck_assert_int_eq(mts_server_forget(v, 77), 0);
	}
	mts_server_close(v);
	rig_close(&g);
}
END_TEST

START_TEST(each_device_call_of_open_fails_once)
{
	static const enum mts_manual_point in_open[] = { MTS_FAIL_ALLOC, MTS_FAIL_REGISTER,
							 MTS_FAIL_SYNC };
	struct mts_server *v;
	struct mts_error err;
	struct rig g;
	uint64_t n, seen;
	int ret;

	rig_open(&g);
	for (n = 1;; n++) {
		seen = mts_manual_count(g.manual, in_open[_i]);
		mts_manual_fail(g.manual, in_open[_i], n, -ENOMEM);
		ret = mts_server_open_on(&g.c, g.dev, g.model, NULL, &v, &err);
		seen = mts_manual_count(g.manual, in_open[_i]) - seen;
		mts_manual_fail(g.manual, in_open[_i], 0, 0);
		if (seen < n)
			break;
		ck_assert_int_eq(ret, -ENOMEM);
		ck_assert_str_ne(err.text, "");
	}
	ck_assert_int_eq(ret, 0);
	ck_assert_uint_gt(n, 1);
	serve(v, 0);
	mts_server_close(v);
	rig_close(&g);
}
END_TEST

/* ---- the device is lost ---- */

START_TEST(a_lost_device_answers_every_request)
{
	uint32_t lost_after = (uint32_t)_i * 2, submitted = 0, reaped = 0, failed = 0;
	struct mts_reply r;
	struct mts_server *v;
	struct outcome o;
	struct rig g;

	rig_open(&g);
	if (_i % 2)
		mts_manual_hold(g.manual); /* copies are under way when it happens */
	g.c.queue = 64;
	v = rig_serve(&g);
	outcome_open(&s, &o);
	for (uint32_t i = 0; i < s.n; i++) {
		struct mts_request q = stream_request(&s, i, &o);

		if (s.ask[i].kind != ASK_REQUEST)
			continue;
		if (submitted == lost_after)
			mts_manual_lose(g.manual);
		ck_assert_int_eq(mts_server_submit(v, &q, 1), 1);
		submitted++;
	}
	while (reaped < submitted) {
		ck_assert_int_eq(mts_server_reap(v, &r, 1, 60 * 1000000000ll), 1);
		ck_assert(r.result == 0 || r.result == -EIO);
		ck_assert_uint_eq(o.reply[r.user_data].replied_ns, 0);
		o.reply[r.user_data] = r;
		failed += r.result != 0;
		reaped++;
	}
	ck_assert_int_eq(mts_server_reap(v, &r, 1, 0), 0);
	ck_assert_uint_gt(failed, 0);
	ck_assert_uint_eq(stream_compare(&s, &o, &truth), submitted - failed);
	ck_assert_int_ge(mts_server_forget(v, 1), -EIO);
	mts_server_close(v);
	outcome_close(&s, &o);
	rig_close(&g);
}
END_TEST

/* ---- deadlines and close, while copies do not move ---- */

static struct mts_event life[STREAM_H];

static int ask(struct mts_server *v, uint64_t user, uint32_t n, uint64_t deadline_ns)
{
	struct mts_request r = { .history = { user, n, 0, life, n, 0 }, .user_data = user,
				 .deadline_ns = deadline_ns };

	return mts_server_submit(v, &r, 1);
}

/* Everything on the device waits for its write-back, so that nothing may be evicted. */
START_TEST(a_deadline_passes_while_there_is_no_room)
{
	struct mts_server *v;
	struct mts_reply r;
	struct rig g;

	rig_open(&g);
	mts_manual_hold(g.manual);
	g.c.device_bytes = 2 * STREAM_H / STREAM_T * stream_page_bytes(false);
	v = rig_serve(&g);
	ck_assert_int_eq(ask(v, 1, STREAM_H, 0), 1);
	ck_assert_int_eq(ask(v, 2, STREAM_H, 0), 1);
	ck_assert_int_eq(mts_server_reap(v, &r, 1, -1), 1);
	ck_assert_int_eq(mts_server_reap(v, &r, 1, -1), 1);
	ck_assert_int_eq(ask(v, 3, STREAM_H, 0), 1);
	ck_assert_int_eq(ask(v, 5, STREAM_H, mts_now() + 600000000000ull), 1); /* it has time */
	ck_assert_int_eq(ask(v, 4, STREAM_H, mts_now() + 20000000), 1);
	ck_assert_int_eq(mts_server_reap(v, &r, 1, -1), 1);
	ck_assert_uint_eq(r.user_data, 4);
	ck_assert_int_eq(r.result, -ETIME);
	ck_assert_int_eq(mts_manual_run(g.manual, 0), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(mts_server_reap(v, &r, 1, -1), 1);
		ck_assert_uint_ne(r.user_data, 4);
		ck_assert_int_eq(r.result, 0);
	}
	mts_server_close(v);
	rig_close(&g);
}
END_TEST

/* A forget waits for the write-back that reads what it erases; close answers it. */
static void *forget_one(void *server)
{
	return (void *)(intptr_t)mts_server_forget(server, 1);
}

START_TEST(close_while_copies_are_held)
{
	struct mts_server *v;
	struct mts_reply r;
	pthread_t thread;
	void *forgotten;
	struct rig g;

	rig_open(&g);
	mts_manual_hold(g.manual);
	v = rig_serve(&g);
	ck_assert_int_eq(ask(v, 1, STREAM_H, 0), 1);
	ck_assert_int_eq(mts_server_reap(v, &r, 1, -1), 1);
	ck_assert_int_eq(mts_manual_wait_held(g.manual, MTS_D2H, 1, 20 * 1000000000ll), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, forget_one, v), 0);
	for (int i = 0; i < _i; i++) {
		ck_assert_int_eq(ask(v, 2 + (uint64_t)i, STREAM_H, 0), 1);
		if (i % 2)
			ck_assert_int_eq(mts_server_reap(v, &r, 1, 1000000) >= 0, 1);
	}
	ck_assert_int_eq(mts_manual_run(g.manual, 100), 0);
	pthread_join(thread, &forgotten);
	ck_assert_int_eq((int)(intptr_t)forgotten, 0);
	mts_server_close(v);
	rig_close(&g);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("server_faults");
	TCase *nomem = tcase_create("allocations"), *calls = tcase_create("calls");
	TCase *states = tcase_create("states"), *all[] = { nomem, calls, states };
	SRunner *sr = srunner_create(suite);
	int failed;

	setbuf(stdout, NULL);
	stream_model_make();
	for (int i = 0; i < 3; i++) {
		tcase_set_timeout(all[i], 300);
		tcase_add_checked_fixture(all[i], setup, teardown);
		suite_add_tcase(suite, all[i]);
	}
	tcase_add_test(nomem, each_allocation_and_thread_fails_once);
	tcase_add_loop_test(calls, each_device_call_fails_once, 0, sizeof(points) / sizeof(*points));
	tcase_add_loop_test(calls, each_device_call_of_open_fails_once, 0, 3);
	tcase_add_test(states, a_failed_pass_is_run_again);
	tcase_add_loop_test(states, a_lost_device_answers_every_request, 0, 10);
	tcase_add_test(states, a_deadline_passes_while_there_is_no_room);
	tcase_add_loop_test(states, close_while_copies_are_held, 0, 4);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	stream_model_remove();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
