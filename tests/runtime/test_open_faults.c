/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation and every thread start of the memory and transfer floors fails once, in turn: an
 * error comes back and everything taken is given back. The linker puts the functions below before
 * the C library's (--wrap).
 */
#include "memory/device_manual.h"
#include "transfer/transfer.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "memory/arena.h"
#include "memory/extent.h"
#include "memory/pages.h"

static _Atomic long met, fail_at, live;

static int fails(void)
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
void *__real_aligned_alloc(size_t a, size_t n);
void __real_free(void *p);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
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

static int open_extents(void)
{
	struct mts_extents *e;
	int ret = mts_extents_open(&e, 1000, 300, 7, &e);

	if (!ret)
		mts_extents_close(e);
	return ret;
}

static int open_pages(void)
{
	struct mts_pages *p;
	int ret = mts_pages_open(1000, &p);

	if (!ret)
		mts_pages_close(p);
	return ret;
}

static int open_manual(void)
{
	struct mts_manual *m;
	int ret = mts_manual_open(1, &m);

	if (!ret)
		mts_manual_close(m);
	return ret;
}

static int open_device(const struct mts_device_ops *ops)
{
	struct mts_device_config cfg = { .threads = 2, .link_gbps = 1 };
	struct mts_device *dev;
	struct mts_error err;
	int ret = ops->open(&cfg, &dev, &err);

	if (!ret)
		ops->close(dev);
	return ret;
}

static int open_nil(void)
{
	return open_device(&mts_device_nil);
}

static int open_cpu(void)
{
	return open_device(&mts_device_cpu);
}

static int open_transfer(void)
{
	struct mts_transfer_config cfg = { .entries = 16 };
	struct mts_device_config dc = { 0 };
	struct mts_transfer *t;
	int ret = mts_device_nil.open(&dc, &cfg.device, NULL);

	if (ret)
		return ret;
	ret = mts_transfer_open(&cfg, &t);
	if (!ret)
		mts_transfer_close(t);
	mts_device_nil.close(cfg.device);
	return ret;
}

/* Counting what was seen may fail quietly (a note); what is asked for may not. */
static int open_arena(void)
{
	struct mts_arena_config cfg = { .provider = "plain", .bytes = 1 << 20, .node = -1 };
	struct mts_arena *a;
	struct mts_error err;
	int ret = mts_arena_open(&cfg, &a, &err);

	if (ret)
		return ret;
	ret = a->info.note[0] ? -ENOMEM : 0;
	mts_arena_close(a);
	return ret;
}

static const struct {
	const char *name;
	int (*open)(void);
} parts[] = {
	{ "extents", open_extents }, { "pages", open_pages },	    { "manual", open_manual },
	{ "nil", open_nil },	     { "cpu", open_cpu },	    { "transfer", open_transfer },
	{ "arena", open_arena },
};

START_TEST(each_allocation_fails_once)
{
	long n, before, after, seen;
	int ret;

	parts[_i].open(); /* what is set up once in a process */
	for (n = 1;; n++) {
		before = live;
		met = 0;
		fail_at = n;
		ret = parts[_i].open();
		fail_at = 0;
		seen = met; /* before check allocates, which is counted too */
		after = live;
		ck_assert_int_eq(after, before);
		if (seen < n)
			break;
		ck_assert_msg(ret == -ENOMEM || ret == -EAGAIN, "%s: allocation %ld: %d",
			      parts[_i].name, n, ret);
	}
	ck_assert_int_eq(ret, 0);
	printf("# %s: %ld failures\n", parts[_i].name, n - 1);
	ck_assert_int_gt(n, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("open_faults");
	TCase *tc = tcase_create("open");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, each_allocation_fails_once, 0, sizeof(parts) / sizeof(*parts));
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
