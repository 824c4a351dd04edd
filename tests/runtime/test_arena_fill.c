/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Population behind open: what is ready is used while the rest is held up, fails, or is not wanted
 * any more. Populating is played by the function below, which the linker puts before the C library's
 * (--wrap): it holds, fails, and costs no memory.
 */
#include "memory/arena.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/tier.h"
#include "error.h"
#include "memory/device_manual.h"
#include "memory/extent.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MIB ((size_t)1 << 20)
#define PIECE MTS_ARENA_PIECE
/* Chunks are taken in order, 16 to a piece. */
#define IN_PIECE 16

static struct {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	long calls;
	long hold_from;  /* the first call that waits */
	long fail_at;    /* this one fails */
	int error;
	size_t given_back;
} play = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER,
	   .hold_from = 1 << 20, .fail_at = 1 << 20 };

int __real_madvise(void *p, size_t bytes, int advice);
int __wrap_madvise(void *p, size_t bytes, int advice);

int __wrap_madvise(void *p, size_t bytes, int advice)
{
	int error = 0;
	long call;

	pthread_mutex_lock(&play.lock);
	if (advice == MADV_DONTNEED)
		play.given_back += bytes;
	if (advice != MADV_POPULATE_WRITE) {
		pthread_mutex_unlock(&play.lock);
		return __real_madvise(p, bytes, advice);
	}
	call = play.calls++;
	pthread_cond_broadcast(&play.moved);
	while (call >= play.hold_from)
		pthread_cond_wait(&play.moved, &play.lock);
	if (call == play.fail_at)
		error = play.error;
	pthread_mutex_unlock(&play.lock);
	errno = error;
	return error ? -1 : 0;
}

static void let_go(long hold_from)
{
	pthread_mutex_lock(&play.lock);
	play.hold_from = hold_from;
	pthread_cond_broadcast(&play.moved);
	pthread_mutex_unlock(&play.lock);
}

/* Until that many chunks have been begun. */
static void wait_for_calls(long n)
{
	pthread_mutex_lock(&play.lock);
	while (play.calls < n)
		pthread_cond_wait(&play.moved, &play.lock);
	pthread_mutex_unlock(&play.lock);
}

static int begin(size_t bytes, unsigned threads, struct mts_arena **a, struct mts_error *err)
{
	struct mts_arena_config c = { .provider = "plain", .bytes = bytes, .node = -1,
				      .threads = threads };

	return mts_arena_open(&c, a, err);
}

START_TEST(opens_when_the_first_piece_is_ready)
{
	struct mts_arena *a;
	struct mts_error err;

	play.hold_from = IN_PIECE;
	ck_assert_int_eq(begin(2 * PIECE + 10 * MIB, 3, &a, &err), 0);
	ck_assert_uint_eq(mts_arena_ready(a), PIECE);
	ck_assert_uint_eq(mts_arena_end(a), a->bytes);
	wait_for_calls(IN_PIECE + 3); /* all three threads are held in the next one */
	memset(a->base, 1, 3 * MIB);
	ck_assert_uint_eq(mts_arena_ready(a), PIECE);
	let_go(1 << 20);
	ck_assert_int_eq(mts_arena_settle(a, &err), 0);
	ck_assert_uint_eq(mts_arena_ready(a), a->bytes);
	ck_assert_int_eq(a->base[0], 1);
	mts_arena_close(a);
}
END_TEST

START_TEST(closed_while_it_fills)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(begin(4 * PIECE, 2, &a, &err), 0);
	mts_arena_close(a);
}
END_TEST

START_TEST(first_piece_fails)
{
	struct mts_arena *a;
	struct mts_error err;

	play.fail_at = _i;
	play.error = ENOMEM;
	ck_assert_int_eq(begin(2 * PIECE, 2, &a, &err), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(err.text, "populating"));
}
END_TEST

/* Piece by piece, with one thread and with several at once. */
START_TEST(later_piece_fails)
{
	unsigned piece = 1 + (unsigned)_i / 2, threads = _i % 2 ? 4 : 1;
	struct mts_arena *a;
	struct mts_error err;

	play.fail_at = (long)piece * IN_PIECE + 5;
	play.error = _i % 3 ? ENOMEM : EFAULT;
	ck_assert_int_eq(begin(4 * PIECE, threads, &a, &err), 0);
	memset(a->base, 1, MIB);
	ck_assert_int_eq(mts_arena_settle(a, &err), -ENOMEM);
	printf("# %s\n", err.text);
	ck_assert_ptr_nonnull(strstr(err.text, "MiB can be used"));
	ck_assert_int_eq(mts_arena_lost(a, &err), -ENOMEM);
	ck_assert_uint_eq(mts_arena_end(a), piece * PIECE);
	ck_assert_uint_eq(mts_arena_ready(a), piece * PIECE);
	ck_assert_uint_eq(play.given_back, (4 - piece) * PIECE);
	ck_assert_int_eq(a->base[5], 1);
	mts_arena_close(a);
}
END_TEST

START_TEST(extents_wait_for_the_limit)
{
	struct mts_extents *e;
	struct mts_extent x[7];

	/* pieces of 4 units, and one of 2 */
	ck_assert_int_eq(mts_extents_open((void *)4096, 1000, 400, 100, &e), 0);
	ck_assert_int_eq(mts_extents_limit(e, 399), 0);
	ck_assert_uint_eq(mts_extents_units(e), 0);
	ck_assert_int_eq(mts_extent_alloc(e, 1, x), -ENOSPC);
	ck_assert_int_eq(mts_extents_verify(e), 0);
	ck_assert_int_eq(mts_extents_limit(e, 799), 0);
	ck_assert_int_eq(mts_extent_alloc(e, 4, &x[0]), 0);
	ck_assert_int_eq(mts_extent_alloc(e, 1, &x[1]), -ENOSPC);
	ck_assert_int_eq(mts_extents_limit(e, 0), -EINVAL);
	ck_assert_int_eq(mts_extents_verify(e), 0);
	ck_assert_int_eq(mts_extents_limit(e, 1000), 0);
	ck_assert_uint_eq(mts_extents_units(e), 10);
	ck_assert_uint_eq(mts_extents_units_free(e), 6);
	ck_assert_int_eq(mts_extent_alloc(e, 4, &x[1]), 0);
	ck_assert_int_eq(mts_extent_alloc(e, 2, &x[2]), 0);
	ck_assert_ptr_eq(x[2].base, (char *)4096 + 800);
	ck_assert_int_eq(mts_extents_verify(e), 0);
	ck_assert_int_eq(mts_extents_limit(e, 1000), 0);
	mts_extents_close(e);
}
END_TEST

/* ---- the tier ---- */

/* A page of 16 tokens in two layers, K and V of 32 floats each. */
#define UNIT ((size_t)2 * 16 * 64 * 4)

static void open_device(struct mts_manual **m, struct mts_device **dev)
{
	struct mts_device_config dc = { .threads = 1 };

	ck_assert_int_eq(mts_manual_open(1, m), 0);
	dc.manual = *m;
	ck_assert_int_eq(mts_device_nil.open(&dc, dev, NULL), 0);
}

static int open_tier(struct mts_device *dev, size_t host, struct mts_tier **t)
{
	struct mts_tier_config tc = {
		.size = sizeof(tc), .layers = 2, .heads = 1, .d_qk = 32, .d_v = 32, .page_tokens = 16,
		.max_history = 256, .slide = 64, .device_bytes = MIB, .host_bytes = host,
		.arena = "plain", .node = -1,
	};
	struct mts_error err;
	int ret = mts_tier_open_on(&tc, dev, &mts_policy_lru, NULL, t, &err);

	if (ret)
		printf("# %s\n", err.text);
	return ret;
}

static void verified(const struct mts_tier *t)
{
	struct mts_error err = { "" };

	ck_assert_msg(!mts_tier_verify(t, &err), "%s", err.text);
}

START_TEST(tier_grows_with_its_arena)
{
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_tier *t;

	open_device(&m, &dev);
	play.hold_from = IN_PIECE;
	ck_assert_int_eq(open_tier(dev, 3 * PIECE, &t), 0);
	ck_assert_uint_eq(mts_extents_units(t->extents) * UNIT, PIECE);
	mts_tier_poll(t);
	ck_assert_uint_eq(t->host_ready, PIECE);
	let_go(1 << 20);
	ck_assert_int_eq(mts_arena_settle(t->arena, NULL), 0);
	mts_tier_poll(t);
	ck_assert_uint_eq(t->host_ready, 3 * PIECE);
	ck_assert_uint_eq(mts_extents_units(t->extents) * UNIT, 3 * PIECE);
	verified(t);
	mts_tier_close(t);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

START_TEST(tier_serves_with_what_it_got)
{
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_tier *t;

	open_device(&m, &dev);
	play.fail_at = 2 * IN_PIECE;
	play.error = ENOMEM;
	ck_assert_int_eq(open_tier(dev, 4 * PIECE, &t), 0);
	ck_assert_int_eq(mts_arena_settle(t->arena, NULL), -ENOMEM);
	mts_tier_poll(t);
	ck_assert_uint_eq(t->host_ready, 2 * PIECE);
	ck_assert_int_eq(t->host_error, 0);
	verified(t);
	mts_tier_close(t);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

START_TEST(device_refuses_a_later_piece)
{
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_tier *t;

	open_device(&m, &dev);
	play.hold_from = IN_PIECE;
	ck_assert_int_eq(open_tier(dev, 3 * PIECE, &t), 0);
	mts_manual_fail(m, MTS_FAIL_REGISTER, 1, -EIO);
	let_go(1 << 20);
	ck_assert_int_eq(mts_arena_settle(t->arena, NULL), 0);
	mts_tier_poll(t);
	ck_assert_int_eq(t->host_error, -EIO);
	ck_assert_uint_eq(t->host_ready, PIECE);
	verified(t);
	mts_tier_close(t);
	dev->ops->close(dev);
	mts_manual_close(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("arena_fill");
	TCase *tc = tcase_create("arena_fill");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, opens_when_the_first_piece_is_ready);
	tcase_add_test(tc, closed_while_it_fills);
	tcase_add_loop_test(tc, first_piece_fails, 0, IN_PIECE);
	tcase_add_loop_test(tc, later_piece_fails, 0, 6);
	tcase_add_test(tc, extents_wait_for_the_limit);
	tcase_add_test(tc, tier_grows_with_its_arena);
	tcase_add_test(tc, tier_serves_with_what_it_got);
	tcase_add_test(tc, device_refuses_a_later_piece);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
