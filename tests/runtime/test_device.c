/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of this process: memory, copies, the compute queue's order and errors, device loss, pace,
 * and the manual.
 */
#include "memory/device_manual.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "memory/park.h"

static const struct mts_device_ops *const backends[] = { &mts_device_cpu, &mts_device_nil };

static struct mts_device *make(const struct mts_device_ops *ops, struct mts_device_config cfg)
{
	struct mts_device *dev;

	cfg.threads = 1;
	ck_assert_int_eq(ops->open(&cfg, &dev, NULL), 0);
	return dev;
}

static void *alloc(struct mts_device *dev, size_t bytes)
{
	void *p;

	ck_assert_int_eq(dev->ops->alloc(dev, bytes, &p), 0);
	return p;
}

static void wake(void *arg)
{
	mts_park_wake(arg);
}

/* Sleeps until one copy of the lane is done. */
static struct mts_copy_done reap_one(struct mts_device *dev, enum mts_lane lane,
				     struct mts_park *park)
{
	struct mts_copy_done done;

	while (!dev->ops->copy_reap(dev, lane, &done, 1))
		mts_park_wait(park, MTS_FOREVER);
	return done;
}

START_TEST(found_by_name)
{
	ck_assert_ptr_eq(mts_device_find("cpu"), &mts_device_cpu);
	ck_assert_ptr_eq(mts_device_find("nil"), &mts_device_nil);
	ck_assert_ptr_null(mts_device_find("tpu"));
	ck_assert_ptr_null(mts_device_find(""));
}
END_TEST

START_TEST(refuses_bad_rates)
{
	static const struct mts_device_config bad[] = {
		{ .link_gbps = -1 },	{ .link_gbps = 1e-9 }, { .link_gbps = 1.0 / 0.0 },
		{ .link_gbps = 0.0 / 0.0 }, { .copy_us = -1 },	   { .copy_us = 1e9 },
	};
	struct mts_device *dev;
	struct mts_error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_int_eq(backends[_i]->open(&bad[i], &dev, &err), -EINVAL);
}
END_TEST

START_TEST(tells_what_it_is)
{
	struct mts_device *dev = make(backends[_i], (struct mts_device_config){ 0 });
	struct mts_device_info info;

	dev->ops->info(dev, &info);
	ck_assert_ptr_eq(strstr(info.name, backends[_i]->name), info.name);
	ck_assert_str_ne(info.numerics, "");
	ck_assert_uint_gt(info.memory_total, 0);
	dev->ops->close(dev);
}
END_TEST

START_TEST(memory_is_zeroed_and_aligned)
{
	struct mts_device *dev = make(backends[_i], (struct mts_device_config){ 0 });
	char buffer[100] = { 0 }, zero[100] = { 0 };
	void *p;

	for (size_t bytes = 1; bytes < 1u << 22; bytes *= 5) {
		p = alloc(dev, bytes);
		ck_assert_uint_eq((uintptr_t)p % 64, 0);
		ck_assert_int_eq(dev->ops->read(dev, buffer, p, bytes < 100 ? bytes : 100), 0);
		ck_assert_mem_eq(buffer, zero, sizeof(zero));
		dev->ops->free(dev, p, bytes);
	}
	ck_assert_int_eq(dev->ops->alloc(dev, 0, &p), -EINVAL);
	ck_assert_int_eq(dev->ops->alloc(dev, SIZE_MAX / 2, &p), -ENOMEM);
	dev->ops->free(dev, NULL, 1);
	dev->ops->close(dev);
}
END_TEST

START_TEST(cpu_keeps_what_is_written)
{
	struct mts_device *dev = make(&mts_device_cpu, (struct mts_device_config){ 0 });
	char *p = alloc(dev, 4096), buffer[8];

	ck_assert_int_eq(dev->ops->write(dev, p + 5, "abcdefg", 8), 0);
	ck_assert_int_eq(dev->ops->zero(dev, p + 7, 2), 0);
	ck_assert_int_eq(dev->ops->read(dev, buffer, p + 5, 8), 0);
	ck_assert_mem_eq(buffer, "ab\0\0efg", 8);
	ck_assert_int_eq(dev->ops->host_register(dev, buffer, 8), 0);
	dev->ops->host_unregister(dev, buffer, 8);
	dev->ops->free(dev, p, 4096);
	dev->ops->close(dev);
}
END_TEST

START_TEST(cpu_is_honest_about_memory)
{
	struct mts_device *dev = make(&mts_device_cpu, (struct mts_device_config){ 0 });
	void *p;

	ck_assert_int_eq(dev->ops->alloc(dev, (size_t)1 << 46, &p), -ENOMEM);
	dev->ops->close(dev);
}
END_TEST

START_TEST(copies_move_every_segment)
{
	struct mts_device *dev = make(&mts_device_cpu, (struct mts_device_config){ 0 });
	struct mts_segment seg[MTS_COPY_MAX];
	struct mts_park park = { 0 };
	char *p = alloc(dev, 1 << 20), *q = calloc(1, 1 << 20);

	dev->ops->copy_notify(dev, wake, &park);
	for (unsigned i = 0; i < 1 << 20; i++)
		q[i] = (char)(i * 7 >> 3);
	for (unsigned lane = 0; lane < MTS_LANES; lane++) {
		for (unsigned i = 0; i < MTS_COPY_MAX; i++)
			seg[i] = lane == MTS_H2D ? (struct mts_segment){ p + 4096 * i, q + 4096 * i, 4000 }
						 : (struct mts_segment){ q + 4096 * i, p + 4096 * i, 4000 };
		ck_assert_int_eq(dev->ops->copy(dev, lane, seg, MTS_COPY_MAX, 77 + lane), 0);
		memset(seg, 0, sizeof(seg));
		ck_assert_uint_eq(reap_one(dev, lane, &park).cookie, 77 + lane);
		for (unsigned i = 0; i < MTS_COPY_MAX; i++) {
			ck_assert_mem_eq(p + 4096 * i, q + 4096 * i, 4000);
			ck_assert_int_eq(p[4096 * i + 4000], 0);
		}
		if (lane == MTS_H2D)
			memset(q, 0, 1 << 20);
	}
	ck_assert_int_eq(dev->ops->copy(dev, MTS_H2D, seg, 0, 1), -EINVAL);
	ck_assert_int_eq(dev->ops->copy(dev, MTS_H2D, seg, MTS_COPY_MAX + 1, 1), -EINVAL);
	free(q);
	dev->ops->free(dev, p, 1 << 20);
	dev->ops->close(dev);
}
END_TEST

START_TEST(full_lanes_say_so)
{
	struct mts_device *dev = make(backends[_i], (struct mts_device_config){ 0 });
	struct mts_park park = { 0 };
	char a[64], b[64] = { 0 };
	struct mts_segment seg = { a, b, 64 };
	uint64_t sum = 0;
	unsigned n = 0;

	dev->ops->copy_notify(dev, wake, &park);
	while (!dev->ops->copy(dev, MTS_D2H, &seg, 1, n))
		n++;
	ck_assert_int_eq(dev->ops->copy(dev, MTS_D2H, &seg, 1, n), -EAGAIN);
	for (unsigned i = 0; i < n; i++)
		sum += reap_one(dev, MTS_D2H, &park).cookie;
	ck_assert_uint_eq(sum, (uint64_t)n * (n - 1) / 2);
	ck_assert_int_eq(dev->ops->copy(dev, MTS_D2H, &seg, 1, n), 0);
	reap_one(dev, MTS_D2H, &park);
	dev->ops->close(dev);
}
END_TEST

/* n copies of `bytes` take no less than the link would need: too slow is the machine's business. */
static void pace(const struct mts_device_ops *ops, struct mts_device_config cfg, uint64_t least_ns)
{
	struct mts_device *dev = make(ops, cfg);
	struct mts_park park = { 0 };
	char *p = alloc(dev, 1 << 16), *q = calloc(1, 1 << 16);
	struct mts_segment seg = { p, q, 1 << 16 };
	uint64_t start = mts_now();

	dev->ops->copy_notify(dev, wake, &park);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(dev->ops->copy(dev, MTS_H2D, &seg, 1, i), 0);
	for (int i = 0; i < 20; i++)
		ck_assert_uint_eq(reap_one(dev, MTS_H2D, &park).cookie, i);
	ck_assert_uint_ge(mts_now() - start, least_ns);
	free(q);
	dev->ops->free(dev, p, 1 << 16);
	dev->ops->close(dev);
}

START_TEST(copies_keep_to_the_link_rate)
{
	/* 20 * 64 KiB at 0.1 GB/s: 13.1 ms */
	pace(backends[_i], (struct mts_device_config){ .link_gbps = 0.1 }, 13100000);
}
END_TEST

START_TEST(each_copy_call_costs)
{
	pace(backends[_i], (struct mts_device_config){ .copy_us = 500 }, 20 * 500000);
}
END_TEST

/* ---- the compute queue ---- */

static int norm_into(struct mts_device *dev, const float *x, float *y, uint32_t d)
{
	static const float one[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, none[8] = { 0 };
	struct mts_op_norm op = { .rows = 1, .d = d, .eps = 1e-6f, .x = x, .weight = one,
				  .bias = none, .y = y };

	return dev->ops->norm(dev, &op);
}

START_TEST(runs_in_order)
{
	struct mts_device *dev = make(&mts_device_cpu, (struct mts_device_config){ 0 });
	float *p = alloc(dev, 4096), in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, out[8];
	struct mts_gate held, done;

	mts_gate_init(&held, 1);
	mts_gate_init(&done, 1);
	ck_assert_int_eq(dev->ops->write(dev, p, in, sizeof(in)), 0);
	ck_assert_int_eq(dev->ops->wait(dev, &held), 0);
	ck_assert_int_eq(norm_into(dev, p, p + 16, 8), 0);
	ck_assert_int_eq(dev->ops->fetch(dev, out, p + 16, sizeof(out)), 0);
	ck_assert_int_eq(dev->ops->signal(dev, &done), 0);
	ck_assert_int_eq(mts_gate_wait(&done, 1000000), -ETIME);
	mts_gate_arrive(&held, 0);
	ck_assert_int_eq(mts_gate_drain(&done, -1), 0);
	ck_assert_float_lt(out[0], -1.5f);
	ck_assert_float_gt(out[7], 1.5f);
	dev->ops->free(dev, p, 4096);
	dev->ops->close(dev);
}
END_TEST

START_TEST(more_than_the_queue_holds)
{
	struct mts_device *dev = make(backends[_i], (struct mts_device_config){ 0 });
	float *p = alloc(dev, 4096);
	struct mts_gate done;

	mts_gate_init(&done, 1);
	for (int i = 0; i < 10000; i++)
		ck_assert_int_eq(norm_into(dev, p, p + 16, 8), 0);
	ck_assert_int_eq(dev->ops->signal(dev, &done), 0);
	ck_assert_int_eq(mts_gate_drain(&done, -1), 0);
	dev->ops->free(dev, p, 4096);
	dev->ops->close(dev);
}
END_TEST

START_TEST(a_failed_wait_poisons_up_to_the_signal)
{
	struct mts_device *dev = make(&mts_device_cpu, (struct mts_device_config){ 0 });
	struct mts_gate bad, poisoned, fine;
	float *p = alloc(dev, 4096);
	char out = 'x';

	mts_gate_init(&bad, 1);
	mts_gate_init(&poisoned, 1);
	mts_gate_init(&fine, 1);
	mts_gate_arrive(&bad, -ETIME);
	dev->ops->wait(dev, &bad);
	dev->ops->fetch(dev, &out, p, 1);
	dev->ops->signal(dev, &poisoned);
	dev->ops->signal(dev, &fine);
	ck_assert_int_eq(mts_gate_drain(&poisoned, -1), -ETIME);
	ck_assert_int_eq(mts_gate_drain(&fine, -1), 0);
	ck_assert_int_eq(out, 'x');
	dev->ops->free(dev, p, 4096);
	dev->ops->close(dev);
}
END_TEST

START_TEST(close_with_work_queued)
{
	struct mts_device *dev = make(backends[_i], (struct mts_device_config){ 0 });
	static char a[1 << 16], b[1 << 16];
	struct mts_segment seg = { a, b, sizeof(a) };
	struct mts_gate done;

	mts_gate_init(&done, 100);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(dev->ops->copy(dev, MTS_H2D, &seg, 1, i), 0);
		dev->ops->signal(dev, &done);
	}
	dev->ops->close(dev);
	ck_assert_int_eq(mts_gate_drain(&done, 0), 0);
}
END_TEST

/* ---- the manual ---- */

START_TEST(each_call_can_fail)
{
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_gate done;
	float *p, x[16];

	ck_assert_int_eq(mts_manual_open(1, &m), 0);
	dev = make(backends[_i], (struct mts_device_config){ .manual = m });
	mts_manual_fail(m, MTS_FAIL_ALLOC, 2, -ENOMEM);
	p = alloc(dev, 4096);
	ck_assert_int_eq(dev->ops->alloc(dev, 4096, (void **)&p), -ENOMEM);
	ck_assert_uint_eq(mts_manual_count(m, MTS_FAIL_ALLOC), 2);
	mts_manual_fail(m, MTS_FAIL_SYNC, 1, -EIO);
	ck_assert_int_eq(dev->ops->write(dev, p, x, 0), -EIO);
	ck_assert_int_eq(dev->ops->write(dev, p, x, 0), 0);
	mts_manual_fail(m, MTS_FAIL_REGISTER, 1, -EPERM);
	ck_assert_int_eq(dev->ops->host_register(dev, x, 64), -EPERM);
	mts_manual_fail(m, MTS_FAIL_LAUNCH, 1, -EINVAL);
	ck_assert_int_eq(norm_into(dev, p, p + 16, 8), -EINVAL);
	mts_manual_fail(m, MTS_FAIL_RUN, 2, -EIO);
	ck_assert_int_eq(norm_into(dev, p, p + 16, 8), 0);
	ck_assert_int_eq(norm_into(dev, p, p + 16, 8), 0);
	mts_gate_init(&done, 1);
	dev->ops->signal(dev, &done);
	ck_assert_int_eq(mts_gate_drain(&done, -1), -EIO);
	mts_manual_fail(m, MTS_FAIL_LAUNCH, 1, -EIO);
	mts_manual_fail(m, MTS_FAIL_LAUNCH, 0, 0);
	ck_assert_int_eq(norm_into(dev, p, p + 16, 8), 0);
	mts_gate_init(&done, 1);
	dev->ops->signal(dev, &done);
	ck_assert_int_eq(mts_gate_drain(&done, -1), 0);
	dev->ops->free(dev, p, 4096);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

START_TEST(held_copies_move_nothing_yet)
{
	char a[4] = "aaa", b[4] = "bbb", c[4] = "ccc";
	struct mts_segment s0 = { a, b, 4 }, s1 = { c, b, 4 };
	struct mts_copy_done done[4];
	struct mts_manual *m;
	struct mts_device *dev;

	ck_assert_int_eq(mts_manual_open(1, &m), 0);
	dev = make(&mts_device_cpu, (struct mts_device_config){ .manual = m });
	dev->ops->copy(dev, MTS_H2D, &s0, 1, 10);
	dev->ops->copy(dev, MTS_H2D, &s1, 1, 11);
	ck_assert_int_eq(mts_manual_wait_held(m, MTS_H2D, 2, 0), 0);
	ck_assert_int_eq(mts_manual_wait_held(m, MTS_H2D, 3, 0), -ETIME);
	ck_assert_int_eq(dev->ops->copy_reap(dev, MTS_H2D, done, 4), 0);
	ck_assert_str_eq(a, "aaa");
	memcpy(b, "BBB", 4); /* read when it completes, not before */
	ck_assert_int_eq(mts_manual_finish(m, MTS_H2D, 1), 0);
	ck_assert_str_eq(c, "BBB");
	mts_manual_fail(m, MTS_FAIL_DONE, 1, -EIO);
	ck_assert_int_eq(mts_manual_step(m), 1);
	ck_assert_int_eq(mts_manual_step(m), 0);
	ck_assert_int_eq(mts_manual_finish(m, MTS_H2D, 0), -ENOENT);
	ck_assert_int_eq((unsigned char)a[0], 0xEE);
	ck_assert_int_eq(dev->ops->copy_reap(dev, MTS_H2D, done, 4), 2);
	ck_assert_uint_eq(done[0].cookie, 11);
	ck_assert_int_eq(done[0].result, 0);
	ck_assert_uint_eq(done[1].cookie, 10);
	ck_assert_int_eq(done[1].result, -EIO);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

START_TEST(the_manual_can_run_by_itself)
{
	char a[4] = "aaa", b[4] = "bbb";
	struct mts_segment seg = { a, b, 4 };
	struct mts_park park = { 0 };
	struct mts_manual *m;
	struct mts_device *dev;

	ck_assert_int_eq(mts_manual_open(1, &m), 0);
	dev = make(&mts_device_cpu, (struct mts_device_config){ .manual = m });
	dev->ops->copy_notify(dev, wake, &park);
	ck_assert_int_eq(mts_manual_run(m, 50), 0);
	ck_assert_int_eq(mts_manual_run(m, 50), -EBUSY);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(dev->ops->copy(dev, i % 2, &seg, 1, i), 0);
	for (int i = 0; i < 100; i++)
		reap_one(dev, i % 2, &park);
	mts_manual_hold(m);
	dev->ops->copy(dev, MTS_H2D, &seg, 1, 1);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 1);
	mts_manual_step(m);
	reap_one(dev, MTS_H2D, &park);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

START_TEST(a_lost_device_answers_eio)
{
	char a[4] = "aaa", b[4] = "bbb";
	struct mts_segment seg = { a, b, 4 };
	struct mts_copy_done done;
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_gate held, before, after;
	void *p;

	ck_assert_int_eq(mts_manual_open(1, &m), 0);
	dev = make(backends[_i], (struct mts_device_config){ .manual = m });
	mts_gate_init(&held, 1);
	mts_gate_init(&before, 1);
	mts_gate_init(&after, 1);
	dev->ops->wait(dev, &held);
	dev->ops->signal(dev, &before);
	dev->ops->copy(dev, MTS_H2D, &seg, 1, 5);
	mts_manual_lose(m);
	mts_gate_arrive(&held, 0);
	ck_assert_int_eq(mts_gate_drain(&before, -1), -EIO);
	ck_assert_int_eq(dev->ops->copy_reap(dev, MTS_H2D, &done, 1), 1);
	ck_assert_int_eq(done.result, -EIO);
	ck_assert_int_eq(dev->ops->copy(dev, MTS_H2D, &seg, 1, 6), -EIO);
	ck_assert_int_eq(dev->ops->alloc(dev, 64, &p), -EIO);
	ck_assert_int_eq(dev->ops->write(dev, a, b, 1), -EIO);
	ck_assert_int_eq(dev->ops->read(dev, a, b, 1), -EIO);
	ck_assert_int_eq(dev->ops->zero(dev, a, 1), -EIO);
	ck_assert_int_eq(dev->ops->host_register(dev, a, 1), -EIO);
	ck_assert_int_eq(dev->ops->wait(dev, &held), -EIO);
	ck_assert_int_eq(dev->ops->fetch(dev, a, b, 1), -EIO);
	dev->ops->signal(dev, &after);
	ck_assert_int_eq(mts_gate_drain(&after, -1), -EIO);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("device");
	TCase *tc = tcase_create("device");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, found_by_name);
	tcase_add_loop_test(tc, refuses_bad_rates, 0, 2);
	tcase_add_loop_test(tc, tells_what_it_is, 0, 2);
	tcase_add_loop_test(tc, memory_is_zeroed_and_aligned, 0, 2);
	tcase_add_test(tc, cpu_keeps_what_is_written);
	tcase_add_test(tc, cpu_is_honest_about_memory);
	tcase_add_test(tc, copies_move_every_segment);
	tcase_add_loop_test(tc, full_lanes_say_so, 0, 2);
	tcase_add_loop_test(tc, copies_keep_to_the_link_rate, 0, 2);
	tcase_add_loop_test(tc, each_copy_call_costs, 0, 2);
	tcase_add_test(tc, runs_in_order);
	tcase_add_loop_test(tc, more_than_the_queue_holds, 0, 2);
	tcase_add_test(tc, a_failed_wait_poisons_up_to_the_signal);
	tcase_add_loop_test(tc, close_with_work_queued, 0, 2);
	tcase_add_loop_test(tc, each_call_can_fail, 0, 2);
	tcase_add_test(tc, held_copies_move_nothing_yet);
	tcase_add_test(tc, the_manual_can_run_by_itself);
	tcase_add_loop_test(tc, a_lost_device_answers_eio, 0, 2);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
