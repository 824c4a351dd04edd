/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: every task once, worker numbers in range and never shared by two tasks at the
 * same time, results visible to the caller; and the instruction set's environment variable.
 */
#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "cpu/pool.h"
#include "error.h"
#include "scene.h"

enum { MAX_TASKS = 500, MAX_WORKERS = 9 };

struct job {
	unsigned threads;
	unsigned count[MAX_TASKS];     /* plain: the pool must order them before the caller reads */
	atomic_uint inside[MAX_WORKERS];
	atomic_uint wrong;
};

static void count_task(void *arg, unsigned task, unsigned worker)
{
	struct job *job = arg;

	if (worker >= job->threads || atomic_fetch_add(&job->inside[worker], 1))
		atomic_fetch_add(&job->wrong, 1);
	job->count[task]++;
	if (task % 3 == 0)
		sched_yield(); /* let the others in */
	atomic_fetch_sub(&job->inside[worker], 1);
}

START_TEST(each_task_once)
{
	struct mts_pool *pool;
	struct job job = { .threads = (unsigned)_i };

	ck_assert_int_eq(mts_pool_open(job.threads, &pool), 0);
	ck_assert_uint_eq(mts_pool_threads(pool), job.threads);
	for (unsigned round = 0; round < 2000; round++) {
		unsigned tasks = mix(7, round) % (round % 10 ? 8 : MAX_TASKS);

		memset(job.count, 0, sizeof(job.count));
		mts_pool_run(pool, count_task, &job, tasks);
		for (unsigned t = 0; t < MAX_TASKS; t++)
			if (job.count[t] != (t < tasks))
				ck_abort_msg("task %u ran %u times", t, job.count[t]);
	}
	ck_assert_uint_eq(job.wrong, 0);
	mts_pool_close(pool);
}
END_TEST

START_TEST(one_worker_per_core)
{
	struct mts_pool *pool;

	ck_assert_int_eq(mts_pool_open(0, &pool), 0);
	ck_assert_uint_ge(mts_pool_threads(pool), 1);
	mts_pool_close(pool);
	mts_pool_close(NULL);
}
END_TEST

START_TEST(isa_by_name)
{
	struct mts_error err = { "" };
	struct mts_cpu *cpu;
	char text[32];

	setenv("MTS_CPU_ISA", "sse9", 1);
	ck_assert_int_eq(mts_cpu_open(1, &cpu, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "sse9"));
	ck_assert_int_eq(mts_cpu_open(1, &cpu, NULL), -EINVAL);
	for (const char *const *isa = test_isas(); *isa; isa++) {
		cpu = open_cpu(*isa, 1);
		mts_cpu_describe(cpu, text, sizeof(text));
		ck_assert_str_eq(text, *isa);
		mts_cpu_close(cpu);
	}
	unsetenv("MTS_CPU_ISA");
	ck_assert_int_eq(mts_cpu_open(1, &cpu, &err), 0);
	mts_cpu_close(cpu);
	mts_cpu_close(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = tcase_create("pool");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, each_task_once, 1, MAX_WORKERS);
	tcase_add_test(tc, one_worker_per_core);
	tcase_add_test(tc, isa_by_name);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
