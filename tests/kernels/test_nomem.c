/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and threads run out at every point of the kernels' life in turn: the right error and a
 * message each time, nothing leaked (the sanitizer watches), and success once nothing fails.
 *
 * The linker turns the kernels' calls into the __wrap functions here.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "error.h"
#include "scene.h"

static long fail_at = -1, calls;

void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

static int fails(void)
{
	return calls++ == fail_at;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(align, size);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return fails() ? EAGAIN : __real_pthread_create(t, attr, fn, arg);
}

static const uint32_t shapes[][2] = { { 64, 32 }, { 16, 64 } };

/* Open, prepare, attend: 0 or the first error, which must be told except by attention. */
static int live(const struct mts_op_attention *attention)
{
	struct mts_error err = { "" };
	struct mts_cpu *cpu = NULL;
	int rc = mts_cpu_open(3, &cpu, &err);

	if (!rc)
		rc = mts_cpu_prepare(cpu, shapes, 2, &err);
	if (rc)
		ck_assert_str_ne(err.text, "");
	else
		rc = mts_cpu_attention(cpu, attention);
	if (cpu)
		mts_cpu_close(cpu);
	return rc;
}

START_TEST(every_allocation)
{
	static const struct scene_span span = { 1, 5, 20, 3 };
	struct mts_kv_layout y = { 2, 2, 16, 16, 16, MTS_F32 };
	struct mts_op_attention op;
	long failures = 0;
	struct scene sc;
	int rc;

	scene_build(&sc, &y, &span, 1, 0);
	op = scene_attention(&sc, 20, 0);
	do {
		calls = 0;
		fail_at = failures;
		rc = live(&op);
		if (rc && rc != -ENOMEM && rc != -EAGAIN)
			ck_abort_msg("failure %ld: error %d", failures, rc);
		failures++;
	} while (rc && failures < 100);
	fail_at = -1;
	ck_assert_int_eq(rc, 0);
	/* handle, pool, 2 threads, gemm, its scratch and shapes, 5 of the self-test, attention */
	ck_assert_int_ge(failures, 13);
	guarded_check_all();
	guarded_free_all();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("nomem");
	TCase *tc = tcase_create("nomem");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, every_allocation);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
