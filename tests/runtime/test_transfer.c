/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transfer scheduler, on the nil device with a manual: no thread, no clock but the test's, so
 * each scenario is exact. What runs by itself is in test_transfer_threads.c.
 */
#include "memory/device_manual.h"
#include "transfer/transfer.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024ul
#define SLICE (64 * KIB)
#define LANE (128 * KIB)

static struct mts_manual *m;
static struct mts_device *dev;
static struct mts_transfer *t;
static char device_memory[1024 * KIB], host_memory[1024 * KIB];

static void open_with(struct mts_transfer_config cfg)
{
	struct mts_device_config dc = { 0 };

	ck_assert_int_eq(mts_manual_open(1, &m), 0);
	dc.manual = m;
	ck_assert_int_eq(mts_device_nil.open(&dc, &dev, NULL), 0);
	cfg.device = dev;
	cfg.manual = m;
	ck_assert_int_eq(mts_transfer_open(&cfg, &t), 0);
}

static void setup(void)
{
	open_with((struct mts_transfer_config){ .entries = 64, .slice_bytes = SLICE,
						.lane_bytes = LANE, .writeback_bytes = 256 * KIB });
}

/* Called within each test: entries may still point to its variables. */
static void teardown(void)
{
	mts_transfer_close(t);
	dev->ops->close(dev);
	mts_manual_close(m);
}

static struct mts_segment onload_of(size_t offset, size_t bytes)
{
	return (struct mts_segment){ device_memory + offset, host_memory + offset, bytes };
}

static struct mts_sqe *get(enum mts_sqe_op op, const struct mts_segment *seg, uint64_t user_data)
{
	struct mts_sqe *q = mts_transfer_get_sqe(t);

	ck_assert_ptr_nonnull(q);
	q->op = op;
	q->segment = seg;
	q->segments = 1;
	q->user_data = user_data;
	return q;
}

static void submit(int n)
{
	ck_assert_int_eq(mts_transfer_submit(t), n);
}

/* The next completion, which must be there, of that entry. */
static void expect(uint64_t user_data, int result)
{
	struct mts_cqe c;

	ck_assert_uint_eq(mts_transfer_reap(t, &c, 1), 1);
	ck_assert_uint_eq(c.user_data, user_data);
	ck_assert_int_eq(c.result, result);
}

static void expect_nothing(void)
{
	struct mts_cqe c;

	ck_assert_uint_eq(mts_transfer_reap(t, &c, 1), 0);
}

static void finish(enum mts_lane lane, unsigned i)
{
	ck_assert_int_eq(mts_manual_finish(m, lane, i), 0);
}

/* Which segment's memory the i-th held copy writes to, as an offset. */
static size_t held_at(enum mts_lane lane, unsigned i, size_t *bytes)
{
	struct mts_segment first;
	uint64_t cookie;

	ck_assert_int_eq(mts_manual_look(m, lane, i, &cookie, &first, bytes), 0);
	return (size_t)((char *)first.dst - (lane == MTS_H2D ? device_memory : host_memory));
}

START_TEST(refuses_bad_configurations)
{
	struct mts_transfer_config c = { .device = dev, .entries = 48 };
	struct mts_transfer *other;

	ck_assert_int_eq(mts_transfer_open(&c, &other), -EINVAL);
	c.entries = 1u << 21;
	ck_assert_int_eq(mts_transfer_open(&c, &other), -EINVAL);
	c.entries = 64;
	c.slice_bytes = 1ul << 31;
	ck_assert_int_eq(mts_transfer_open(&c, &other), -EINVAL);
	c.slice_bytes = 0;
	c.device = NULL;
	ck_assert_int_eq(mts_transfer_open(&c, &other), -EINVAL);
	teardown();
}
END_TEST

START_TEST(one_entry_one_completion)
{
	struct mts_segment s = onload_of(0, 100);
	struct mts_transfer_stats st;

	get(MTS_SQE_ONLOAD, &s, 7);
	submit(1);
	expect_nothing();
	ck_assert_uint_eq(mts_transfer_outstanding(t), 1);
	finish(MTS_H2D, 0);
	expect(7, 0);
	expect_nothing();
	ck_assert_uint_eq(mts_transfer_outstanding(t), 0);
	mts_transfer_stats(t, &st);
	ck_assert_uint_eq(st.bytes[MTS_H2D], 100);
	ck_assert_uint_eq(st.entries[MTS_H2D], 1);
	ck_assert_uint_eq(st.copies[MTS_H2D], 1);
	teardown();
}
END_TEST

START_TEST(refuses_bad_entries)
{
	struct mts_segment s = onload_of(0, 100);

	get(MTS_SQE_ONLOAD, &s, 1)->op = 77;
	get(MTS_SQE_ONLOAD, &s, 2)->cls = 9;
	get(MTS_SQE_ONLOAD, NULL, 3);
	get(MTS_SQE_ONLOAD, NULL, 4)->segments = 0;
	submit(4);
	expect(1, -EINVAL);
	expect(2, -EINVAL);
	expect(3, -EINVAL);
	expect(4, 0);
	teardown();
}
END_TEST

START_TEST(empty_segments_are_skipped)
{
	struct mts_segment s[4] = { onload_of(0, 0), onload_of(0, 50), onload_of(99, 0),
				    onload_of(0, 0) };
	size_t bytes;

	get(MTS_SQE_ONLOAD, s, 1)->segments = 4;
	get(MTS_SQE_ONLOAD, s, 2)->segments = 1;
	submit(2);
	expect(2, 0);
	ck_assert_uint_eq(held_at(MTS_H2D, 0, &bytes), 0);
	ck_assert_uint_eq(bytes, 50);
	finish(MTS_H2D, 0);
	expect(1, 0);
	teardown();
}
END_TEST

START_TEST(full_rings_say_so)
{
	struct mts_segment s[128];
	struct mts_cqe c[64];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 64; i++) {
			s[64 * round + i] = onload_of((64u * round + i) * 16, 16);
			get(MTS_SQE_ONLOAD, &s[64 * round + i], i);
		}
		ck_assert_ptr_null(mts_transfer_get_sqe(t));
		submit(64);
	}
	get(MTS_SQE_ONLOAD, s, 1);
	ck_assert_int_eq(mts_transfer_submit(t), -EAGAIN);
	ck_assert_int_eq(mts_transfer_wait(t, -1), 0);
	ck_assert_uint_ge(mts_transfer_reap(t, c, 64), 1);
	submit(1);
	get(MTS_SQE_ONLOAD, s, 1);
	mts_transfer_abandon(t);
	submit(0);
	teardown();
}
END_TEST

START_TEST(large_entries_are_cut)
{
	struct mts_segment s[3] = { onload_of(0, 40 * KIB), onload_of(100 * KIB, 100 * KIB),
				    onload_of(300 * KIB, 10) };
	size_t bytes;

	get(MTS_SQE_ONLOAD, s, 1)->segments = 3;
	submit(1);
	/* 40 + 24 | 64 | 12 and 10 bytes; two slices fill the lane */
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	ck_assert_uint_eq(held_at(MTS_H2D, 0, &bytes), 0);
	ck_assert_uint_eq(bytes, SLICE);
	ck_assert_uint_eq(held_at(MTS_H2D, 1, &bytes), 124 * KIB);
	ck_assert_uint_eq(bytes, SLICE);
	finish(MTS_H2D, 1);
	expect_nothing();
	ck_assert_uint_eq(held_at(MTS_H2D, 1, &bytes), 188 * KIB);
	ck_assert_uint_eq(bytes, 12 * KIB + 10);
	finish(MTS_H2D, 1);
	expect_nothing();
	finish(MTS_H2D, 0);
	expect(1, 0);
	teardown();
}
END_TEST

START_TEST(many_segments_are_cut)
{
	struct mts_segment s[300];

	for (int i = 0; i < 300; i++)
		s[i] = onload_of(i * 128ul, 64);
	get(MTS_SQE_ONLOAD, s, 1)->segments = 300;
	submit(1);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	finish(MTS_H2D, 0);
	finish(MTS_H2D, 0);
	expect(1, 0);
	teardown();
}
END_TEST

START_TEST(small_and_urgent_overtakes_large)
{
	struct mts_segment large = onload_of(0, 512 * KIB), small = onload_of(600 * KIB, KIB);
	size_t bytes;

	get(MTS_SQE_ONLOAD, &large, 1)->deadline_ns = 2000;
	submit(1);
	get(MTS_SQE_ONLOAD, &small, 2)->deadline_ns = 1000;
	submit(1);
	finish(MTS_H2D, 0);
	expect_nothing();
	ck_assert_uint_eq(held_at(MTS_H2D, 1, &bytes), 600 * KIB);
	finish(MTS_H2D, 1);
	expect(2, 0);
	for (int i = 0; i < 7; i++) {
		finish(MTS_H2D, 0);
		submit(0);
	}
	expect(1, 0);
	teardown();
}
END_TEST

START_TEST(class_then_deadline_then_order)
{
	struct mts_segment fill = onload_of(0, LANE), s[6];
	static const struct {
		uint8_t cls;
		uint64_t deadline;
	} in[6] = { { MTS_BACKGROUND, 1 }, { MTS_PREFETCH, 5 }, { MTS_DEMAND, 0 },
		    { MTS_DEMAND, 9 },     { MTS_DEMAND, 8 },	{ MTS_DEMAND, 9 } };
	static const uint64_t order[6] = { 4, 3, 5, 2, 1, 0 };

	get(MTS_SQE_ONLOAD, &fill, 100);
	submit(1);
	for (unsigned i = 0; i < 6; i++) {
		struct mts_sqe *q;

		s[i] = onload_of(LANE + i * KIB, KIB);
		q = get(MTS_SQE_ONLOAD, &s[i], i);
		q->cls = in[i].cls;
		q->deadline_ns = in[i].deadline;
	}
	submit(6);
	finish(MTS_H2D, 0);
	finish(MTS_H2D, 0);
	expect(100, 0);
	for (int i = 0; i < 6; i++) {
		finish(MTS_H2D, 0);
		expect(order[i], 0);
	}
	teardown();
}
END_TEST

START_TEST(both_directions_at_once)
{
	struct mts_segment in = onload_of(0, LANE), out = { host_memory, device_memory, LANE };

	get(MTS_SQE_ONLOAD, &in, 1);
	get(MTS_SQE_WRITEBACK, &out, 2);
	submit(2);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	ck_assert_uint_eq(mts_manual_held(m, MTS_D2H), 2);
	teardown();
}
END_TEST

START_TEST(writeback_is_bounded)
{
	struct mts_segment big = { host_memory, device_memory, 300 * KIB };
	struct mts_segment one = { host_memory, device_memory, KIB };

	get(MTS_SQE_WRITEBACK, &big, 1);
	submit(1); /* beyond the bound, but alone */
	get(MTS_SQE_WRITEBACK, &one, 2);
	ck_assert_int_eq(mts_transfer_submit(t), -EAGAIN);
	while (mts_manual_held(m, MTS_D2H)) {
		finish(MTS_D2H, 0);
		ck_assert_int_eq(mts_transfer_wait(t, 0), 0);
	}
	expect(1, 0);
	submit(1);
	finish(MTS_D2H, 0);
	expect(2, 0);
	teardown();
}
END_TEST

START_TEST(layers_open_one_by_one)
{
	struct mts_segment s[3];
	struct mts_gate gate[3];
	int error;

	for (unsigned l = 0; l < 3; l++) {
		struct mts_sqe *q;

		s[l] = onload_of(l * LANE, LANE);
		mts_gate_init(&gate[l], 1);
		q = get(MTS_SQE_ONLOAD, &s[l], l);
		q->layer = l;
		q->gate = &gate[l];
		q->deadline_ns = 1000 + l;
	}
	submit(3);
	for (unsigned l = 0; l < 3; l++) {
		ck_assert_int_eq(mts_gate_poll(&gate[l], &error), 0);
		finish(MTS_H2D, 0);
		finish(MTS_H2D, 0);
		expect(l, 0);
		ck_assert_int_eq(mts_gate_poll(&gate[l], &error), 1);
		ck_assert(l == 2 || !mts_gate_poll(&gate[l + 1], &error));
	}
	teardown();
}
END_TEST

START_TEST(equal_loads_are_merged)
{
	struct mts_segment a = onload_of(0, SLICE), b = a, c = a, fill = onload_of(512 * KIB, LANE);
	struct mts_transfer_stats st;
	size_t bytes;

	get(MTS_SQE_ONLOAD, &fill, 9);
	get(MTS_SQE_ONLOAD, &a, 1)->cls = MTS_BACKGROUND;
	get(MTS_SQE_ONLOAD, &b, 2);
	submit(3);
	finish(MTS_H2D, 0);
	submit(0); /* the waiting load starts */
	ck_assert_uint_eq(held_at(MTS_H2D, 1, &bytes), 0);
	get(MTS_SQE_ONLOAD, &c, 3);
	submit(1); /* joins the running one */
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	finish(MTS_H2D, 1);
	expect(3, 0);
	expect(2, 0);
	expect(1, 0);
	mts_transfer_stats(t, &st);
	ck_assert_uint_eq(st.merged, 2);
	teardown();
}
END_TEST

START_TEST(merging_makes_urgent)
{
	struct mts_segment fill = onload_of(512 * KIB, LANE), slow = onload_of(0, KIB),
			   other = onload_of(2 * KIB, KIB);
	size_t bytes;

	get(MTS_SQE_ONLOAD, &fill, 9);
	get(MTS_SQE_ONLOAD, &slow, 1)->cls = MTS_BACKGROUND;
	get(MTS_SQE_ONLOAD, &other, 2)->cls = MTS_PREFETCH;
	get(MTS_SQE_ONLOAD, &slow, 3)->cls = MTS_DEMAND;
	submit(4);
	finish(MTS_H2D, 0);
	submit(0);
	ck_assert_uint_eq(held_at(MTS_H2D, 1, &bytes), 0);
	teardown();
}
END_TEST

START_TEST(different_loads_are_not_merged)
{
	struct mts_segment a[2] = { onload_of(0, 10), onload_of(100, 10) }, b[2] = { a[0], a[1] };
	struct mts_transfer_stats st;

	b[1].dst = device_memory + 300;
	get(MTS_SQE_ONLOAD, a, 1)->segments = 2;
	get(MTS_SQE_ONLOAD, b, 2)->segments = 2;
	get(MTS_SQE_WRITEBACK, a, 3)->segments = 2;
	get(MTS_SQE_WRITEBACK, a, 4)->segments = 2;
	submit(4);
	mts_transfer_stats(t, &st);
	ck_assert_uint_eq(st.merged, 0);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	ck_assert_uint_eq(mts_manual_held(m, MTS_D2H), 2);
	teardown();
}
END_TEST

START_TEST(a_cancelled_member_leaves_the_others)
{
	struct mts_segment fill = onload_of(512 * KIB, LANE), a = onload_of(0, KIB), b = a;

	get(MTS_SQE_ONLOAD, &fill, 9);
	get(MTS_SQE_ONLOAD, &a, 1);
	get(MTS_SQE_ONLOAD, &b, 2);
	get(MTS_SQE_CANCEL, NULL, 3)->target = 1;
	submit(4);
	expect(1, -ECANCELED);
	expect(3, 1);
	memset(&a, 0, sizeof(a)); /* its owner's again */
	finish(MTS_H2D, 0);
	finish(MTS_H2D, 0);
	expect(9, 0);
	finish(MTS_H2D, 0);
	expect(2, 0);
	teardown();
}
END_TEST

START_TEST(cancel_before_the_start)
{
	struct mts_segment fill = onload_of(512 * KIB, LANE), a = onload_of(0, KIB),
			   b = onload_of(2 * KIB, KIB);
	struct mts_gate gate;
	int error;

	mts_gate_init(&gate, 1);
	get(MTS_SQE_ONLOAD, &fill, 9);
	get(MTS_SQE_ONLOAD, &a, 1)->gate = &gate;
	get(MTS_SQE_ONLOAD, &b, 1);
	get(MTS_SQE_CANCEL, NULL, 3)->target = 1;
	get(MTS_SQE_CANCEL, NULL, 4)->target = 1;
	submit(5);
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 1);
	ck_assert_int_eq(error, -ECANCELED);
	expect(1, -ECANCELED);
	expect(1, -ECANCELED);
	expect(3, 2);
	expect(4, 0);
	finish(MTS_H2D, 0);
	finish(MTS_H2D, 0);
	expect(9, 0);
	teardown();
}
END_TEST

START_TEST(cancel_stops_after_the_running_slices)
{
	struct mts_segment large = onload_of(0, 512 * KIB);
	struct mts_gate gate;
	int error;

	mts_gate_init(&gate, 1);
	get(MTS_SQE_ONLOAD, &large, 1)->gate = &gate;
	submit(1);
	get(MTS_SQE_CANCEL, NULL, 2)->target = 1;
	submit(1);
	expect(2, 1);
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 0);
	ck_assert_int_eq(error, -ECANCELED);
	finish(MTS_H2D, 0);
	expect_nothing(); /* one slice still writes to the memory */
	finish(MTS_H2D, 0);
	expect(1, -ECANCELED);
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 1);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 0);
	teardown();
}
END_TEST

START_TEST(timeout_quarantines_until_the_copy_ends)
{
	struct mts_segment a = onload_of(0, KIB);
	struct mts_gate gate;
	struct mts_sqe *q;
	int error;

	mts_gate_init(&gate, 1);
	q = get(MTS_SQE_ONLOAD, &a, 1);
	q->gate = &gate;
	q->timeout_ns = 1000;
	submit(1);
	mts_manual_advance(m, 999);
	expect_nothing();
	ck_assert_int_eq(mts_gate_wait(&gate, 0), -ETIME);
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 0);
	ck_assert_int_eq(error, 0);
	mts_manual_advance(m, 1);
	expect_nothing(); /* the gate has failed, the memory is still written to */
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 0);
	ck_assert_int_eq(error, -ETIME);
	finish(MTS_H2D, 0);
	expect(1, -ETIME);
	ck_assert_int_eq(mts_gate_poll(&gate, &error), 1);
	teardown();
}
END_TEST

START_TEST(timeout_before_the_start_completes_at_once)
{
	struct mts_segment fill = onload_of(512 * KIB, LANE), a = onload_of(0, KIB);
	struct mts_transfer_stats st;

	get(MTS_SQE_ONLOAD, &fill, 9);
	get(MTS_SQE_ONLOAD, &a, 1)->timeout_ns = 10;
	get(MTS_SQE_ONLOAD, &a, 2)->timeout_ns = UINT64_MAX;
	submit(3);
	mts_manual_advance(m, 10);
	expect(1, -ETIME);
	expect_nothing();
	mts_transfer_stats(t, &st);
	ck_assert_uint_eq(st.timed_out, 1);
	teardown();
}
END_TEST

START_TEST(gated_entries_block_nobody)
{
	struct mts_segment a = onload_of(0, KIB), b = onload_of(2 * KIB, KIB);
	struct mts_gate first;
	size_t bytes;

	mts_gate_init(&first, 1);
	get(MTS_SQE_ONLOAD, &a, 1)->after = &first;
	get(MTS_SQE_ONLOAD, &b, 2);
	submit(2);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 1);
	ck_assert_uint_eq(held_at(MTS_H2D, 0, &bytes), 2 * KIB);
	finish(MTS_H2D, 0);
	expect(2, 0);
	mts_gate_arrive(&first, 0);
	submit(0);
	finish(MTS_H2D, 0);
	expect(1, 0);
	teardown();
}
END_TEST

START_TEST(a_failed_gate_fails_the_entry)
{
	struct mts_segment a = onload_of(0, KIB);
	struct mts_gate early, late;

	mts_gate_init(&early, 1);
	mts_gate_init(&late, 1);
	mts_gate_arrive(&early, -ENODATA);
	get(MTS_SQE_ONLOAD, &a, 1)->after = &early;
	get(MTS_SQE_ONLOAD, &a, 2)->after = &late;
	submit(2);
	expect(1, -ENODATA);
	mts_gate_arrive(&late, -EIO);
	expect(2, -EIO);
	teardown();
}
END_TEST

START_TEST(gated_entries_can_be_cancelled_and_late)
{
	struct mts_segment a = onload_of(0, KIB);
	struct mts_gate never;
	struct mts_sqe *q;

	mts_gate_init(&never, 1);
	get(MTS_SQE_ONLOAD, &a, 1)->after = &never;
	q = get(MTS_SQE_ONLOAD, &a, 2);
	q->after = &never;
	q->timeout_ns = 50;
	get(MTS_SQE_CANCEL, NULL, 3)->target = 1;
	submit(3);
	expect(1, -ECANCELED);
	expect(3, 1);
	mts_manual_advance(m, 50);
	expect(2, -ETIME);
	mts_gate_arrive(&never, 0);
	expect_nothing();
	teardown();
}
END_TEST

START_TEST(cancelled_between_gate_and_start)
{
	struct mts_segment a = onload_of(0, KIB);
	struct mts_gate first;

	mts_gate_init(&first, 1);
	get(MTS_SQE_ONLOAD, &a, 1)->after = &first;
	submit(1);
	mts_gate_arrive(&first, 0);
	get(MTS_SQE_CANCEL, NULL, 2)->target = 1;
	submit(1);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 0);
	expect(2, 1);
	expect(1, -ECANCELED);
	teardown();
}
END_TEST

START_TEST(a_failed_slice_fails_its_entry_alone)
{
	struct mts_segment large = onload_of(0, 512 * KIB), b = onload_of(600 * KIB, KIB);

	get(MTS_SQE_ONLOAD, &large, 1);
	submit(1);
	mts_manual_fail(m, MTS_FAIL_DONE, 1, -EIO);
	finish(MTS_H2D, 1);
	expect_nothing();
	finish(MTS_H2D, 0);
	expect(1, -EIO);
	get(MTS_SQE_ONLOAD, &b, 2);
	submit(1);
	finish(MTS_H2D, 0);
	expect(2, 0);
	teardown();
}
END_TEST

START_TEST(a_refused_copy_fails_its_entry)
{
	struct mts_segment a = onload_of(0, KIB), b = onload_of(2 * KIB, KIB);

	mts_manual_fail(m, MTS_FAIL_COPY, 1, -EFAULT);
	get(MTS_SQE_ONLOAD, &a, 1);
	get(MTS_SQE_ONLOAD, &b, 2);
	submit(2);
	expect(1, -EFAULT);
	finish(MTS_H2D, 0);
	expect(2, 0);
	teardown();
}
END_TEST

START_TEST(a_busy_device_is_asked_again)
{
	struct mts_segment a = onload_of(0, KIB), b = onload_of(2 * KIB, KIB);

	get(MTS_SQE_ONLOAD, &a, 1);
	submit(1);
	mts_manual_fail(m, MTS_FAIL_COPY, 1, -EAGAIN);
	get(MTS_SQE_ONLOAD, &b, 2);
	submit(1);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 2);
	finish(MTS_H2D, 0);
	expect(1, 0);
	finish(MTS_H2D, 0);
	expect(2, 0);
	teardown();
}
END_TEST

START_TEST(a_lost_device_completes_everything)
{
	struct mts_segment s[10];
	struct mts_cqe c[16];
	struct mts_gate gate;

	mts_gate_init(&gate, 10);
	for (unsigned i = 0; i < 10; i++) {
		s[i] = onload_of(i * LANE / 2, LANE / 2);
		get(MTS_SQE_ONLOAD, &s[i], i)->gate = &gate;
	}
	submit(10);
	mts_manual_lose(m);
	ck_assert_uint_eq(mts_transfer_reap(t, c, 16), 10);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(c[i].result, -EIO);
	ck_assert_int_eq(mts_gate_drain(&gate, 0), -EIO);
	get(MTS_SQE_ONLOAD, s, 11);
	submit(1);
	expect(11, -EIO);
	teardown();
}
END_TEST

START_TEST(close_completes_everything)
{
	struct mts_segment s[10];
	struct mts_gate gate, never;

	mts_gate_init(&gate, 11);
	mts_gate_init(&never, 1);
	for (unsigned i = 0; i < 10; i++) {
		s[i] = onload_of(i * LANE / 2, LANE / 2);
		get(MTS_SQE_ONLOAD, &s[i], i)->gate = &gate;
	}
	submit(10);
	get(MTS_SQE_ONLOAD, s, 11)->gate = &gate;
	get(MTS_SQE_ONLOAD, s, 12)->after = &never;
	submit(2);
	mts_transfer_close(t);
	ck_assert_int_eq(mts_gate_drain(&gate, 0), -ECANCELED);
	ck_assert_uint_eq(mts_manual_held(m, MTS_H2D), 0);
	ck_assert_int_eq(mts_transfer_open(&(struct mts_transfer_config){ .device = dev,
									  .manual = m }, &t), 0);
	teardown();
}
END_TEST

START_TEST(waiting_steps_the_manual)
{
	struct mts_segment s = onload_of(0, LANE * 3);
	struct mts_gate never;
	struct mts_sqe *q;

	ck_assert_int_eq(mts_transfer_wait(t, -1), -ENOENT);
	get(MTS_SQE_ONLOAD, &s, 1);
	submit(1);
	ck_assert_int_eq(mts_transfer_wait(t, -1), 0);
	expect(1, 0);
	mts_gate_init(&never, 1);
	q = get(MTS_SQE_ONLOAD, &s, 2);
	q->after = &never;
	q->timeout_ns = 1000000;
	get(MTS_SQE_ONLOAD, &s, 3)->after = &never;
	submit(2);
	ck_assert_int_eq(mts_transfer_wait(t, -1), 0);
	expect(2, -ETIME);
	ck_assert_int_eq(mts_transfer_wait(t, -1), -ETIME);
	teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("transfer");
	TCase *tc = tcase_create("manual");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, refuses_bad_configurations);
	tcase_add_test(tc, one_entry_one_completion);
	tcase_add_test(tc, refuses_bad_entries);
	tcase_add_test(tc, empty_segments_are_skipped);
	tcase_add_test(tc, full_rings_say_so);
	tcase_add_test(tc, large_entries_are_cut);
	tcase_add_test(tc, many_segments_are_cut);
	tcase_add_test(tc, small_and_urgent_overtakes_large);
	tcase_add_test(tc, class_then_deadline_then_order);
	tcase_add_test(tc, both_directions_at_once);
	tcase_add_test(tc, writeback_is_bounded);
	tcase_add_test(tc, layers_open_one_by_one);
	tcase_add_test(tc, equal_loads_are_merged);
	tcase_add_test(tc, merging_makes_urgent);
	tcase_add_test(tc, different_loads_are_not_merged);
	tcase_add_test(tc, a_cancelled_member_leaves_the_others);
	tcase_add_test(tc, cancel_before_the_start);
	tcase_add_test(tc, cancel_stops_after_the_running_slices);
	tcase_add_test(tc, timeout_quarantines_until_the_copy_ends);
	tcase_add_test(tc, timeout_before_the_start_completes_at_once);
	tcase_add_test(tc, gated_entries_block_nobody);
	tcase_add_test(tc, a_failed_gate_fails_the_entry);
	tcase_add_test(tc, gated_entries_can_be_cancelled_and_late);
	tcase_add_test(tc, cancelled_between_gate_and_start);
	tcase_add_test(tc, a_failed_slice_fails_its_entry_alone);
	tcase_add_test(tc, a_refused_copy_fails_its_entry);
	tcase_add_test(tc, a_busy_device_is_asked_again);
	tcase_add_test(tc, a_lost_device_completes_everything);
	tcase_add_test(tc, close_completes_everything);
	tcase_add_test(tc, waiting_steps_the_manual);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
