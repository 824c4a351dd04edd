/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GEMM: right against the reference, and a row's bits the same among any rows, at any place, on
 * any number of threads. Run once with the processor's own BLAS kernels and once with those for
 * AVX2 (OPENBLAS_CORETYPE, set by the build file), which need other tiles.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "error.h"
#include "ref/ref_ops.h"
#include "scene.h"

static const uint32_t shapes[][2] = {
	{ 256, 64 }, { 64, 64 }, { 512, 512 }, { 300, 100 }, { 5, 7 }, { 1, 1 }, { 1024, 256 },
	{ 100, 1536 },
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static const uint32_t row_counts[] = { 0, 1, 2, 6, 63, 64, 65, 106, 200, 300, 700 };
#define COUNTS (sizeof(row_counts) / sizeof(row_counts[0]))

static struct mts_cpu *open_prepared(const char *isa, unsigned threads)
{
	struct mts_cpu *cpu = open_cpu(isa, threads);
	struct mts_error err = { "" };

	ck_assert_msg(!mts_cpu_prepare(cpu, shapes, SHAPES, &err), "%s", err.text);
	return cpu;
}

/* any order of k additions: (k + 1) u of the sum of magnitudes, which is at most k; SiLU: 1.1 of
 * that and 8 u of its result; bias and accumulation: one rounding each */
static double bound(uint32_t k)
{
	return 0x1p-24 * (1.1 * (k + 2) * (k + 1) + 8 * (k + 2));
}

static void compare(struct mts_cpu *cpu, struct mts_op_gemm op)
{
	size_t size = (size_t)op.m * op.n;
	double *want = guarded_alloc(size * sizeof(*want));

	op.c = op.accumulate ? random_floats(size, 3) : guarded_alloc(size * sizeof(float));
	mts_ref_gemm(&op, want);
	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), 0);
	for (size_t i = 0; i < size; i++)
		if (!(fabs(op.c[i] - want[i]) <= bound(op.k)))
			ck_abort_msg("m %u n %u k %u, element %zu: %.9g, expected %.9g", op.m, op.n,
				     op.k, i, op.c[i], want[i]);
}

static void compare_shape(struct mts_cpu *cpu, const uint32_t nk[2], uint32_t m)
{
	struct mts_op_gemm op = { m, nk[0], nk[1], random_floats((size_t)m * nk[1], 1),
				  random_floats((size_t)nk[0] * nk[1], 2) };

	compare(cpu, op);
	op.accumulate = 1;
	compare(cpu, op);
	op.bias = random_floats(op.n, 4);
	compare(cpu, op);
	op.accumulate = 0;
	op.act = MTS_ACT_SILU;
	op.act_cols = op.n / 3; /* ends inside a vector */
	compare(cpu, op);
	op.act_cols = op.n;
	compare(cpu, op);
	guarded_check_all();
	guarded_free_all();
}

START_TEST(against_reference)
{
	for (const char *const *isa = test_isas(); *isa; isa++) {
		struct mts_cpu *cpu = open_prepared(*isa, 2);

		for (unsigned s = 0; s < SHAPES; s++)
			for (unsigned m = 0; m < COUNTS; m++)
				if ((uint64_t)row_counts[m] * shapes[s][0] * shapes[s][1] < 1e7)
					compare_shape(cpu, shapes[s], row_counts[m]);
		mts_cpu_close(cpu);
	}
}
END_TEST

enum { LIFE = 700 };

/* Random rows of `a` in random order, NaN rows between them: each as it was among all. */
static void regroup(struct mts_cpu *cpu, const struct mts_op_gemm *all, uint32_t m, uint64_t seed)
{
	struct mts_op_gemm op = *all;
	float *a = guarded_alloc((size_t)m * op.k * sizeof(*a));

	op.m = m;
	op.a = a;
	op.c = guarded_alloc((size_t)m * op.n * sizeof(float));
	for (uint32_t r = 0; r < m; r++)
		if (mix(seed, r) % 9)
			memcpy(a + (size_t)r * op.k, all->a + mix(seed, r) % LIFE * op.k,
			       op.k * sizeof(*a));
	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), 0);
	for (uint32_t r = 0; r < m; r++)
		if (mix(seed, r) % 9 &&
		    memcmp(op.c + (size_t)r * op.n, all->c + mix(seed, r) % LIFE * op.n,
			   op.n * sizeof(float)))
			ck_abort_msg("row %u of %u, n %u, k %u: other bits", r, m, op.n, op.k);
	guarded_check_all();
	guarded_free_all();
}

static float *kept_floats(size_t n, uint64_t key)
{
	float *p = malloc(n * sizeof(*p));

	ck_assert_ptr_nonnull(p);
	fill_floats(p, n, key);
	return p;
}

START_TEST(company)
{
	const uint32_t n = shapes[_i][0], k = shapes[_i][1];
	struct mts_cpu *cpu[3];
	struct mts_op_gemm op = { LIFE, n, k, kept_floats((size_t)LIFE * k, 1),
				  kept_floats((size_t)n * k, 2), kept_floats(n, 3),
				  kept_floats((size_t)LIFE * n, 4), MTS_ACT_SILU, n / 2 + 1, 0 };

	for (unsigned t = 0; t < 3; t++)
		cpu[t] = open_prepared(test_isas()[0], t + 1);
	ck_assert_int_eq(mts_cpu_gemm(cpu[0], &op), 0);
	for (unsigned m = 0; m < COUNTS; m++)
		for (uint64_t seed = 0; seed < 4; seed++)
			regroup(cpu[seed % 3], &op, row_counts[m], seed + 10 * m);
	for (unsigned t = 0; t < 3; t++)
		mts_cpu_close(cpu[t]);
	free((float *)op.a);
	free((float *)op.b);
	free((float *)op.bias);
	free(op.c);
}
END_TEST

START_TEST(unknown_shape)
{
	struct mts_cpu *cpu = open_cpu("scalar", 1);
	struct mts_op_gemm op = { .m = 1, .n = 256, .k = 64 };
	char text[160];

	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), -EINVAL);
	mts_cpu_describe(cpu, text, sizeof(text));
	ck_assert_str_eq(text, "scalar");
	mts_cpu_close(cpu);
	cpu = open_prepared("scalar", 1);
	op.n = 257;
	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), -EINVAL);
	mts_cpu_close(cpu);
}
END_TEST

START_TEST(choice_is_told_and_steady)
{
	char first[160], again[160], cut[10];

	for (unsigned threads = 1; threads <= 3; threads++) {
		struct mts_cpu *cpu = open_prepared(test_isas()[0], threads);

		mts_cpu_describe(cpu, threads == 1 ? first : again, sizeof(first));
		mts_cpu_describe(cpu, cut, sizeof(cut));
		ck_assert_uint_eq(strlen(cut), sizeof(cut) - 1);
		mts_cpu_close(cpu);
		if (threads > 1)
			ck_assert_str_eq(first, again);
	}
	ck_assert_ptr_nonnull(strstr(first, "tiles"));
}
END_TEST

/* Two devices in one process multiply at the same time. */
static void *multiply_often(void *arg)
{
	struct mts_cpu *cpu = arg;
	float *a = kept_floats(64 * 64, 1), *b = kept_floats(256 * 64, 2);
	float *c = kept_floats(64 * 256, 3), *first = kept_floats(64 * 256, 3);
	struct mts_op_gemm op = { 64, 256, 64, a, b, NULL, first, MTS_ACT_NONE, 0, 0 };
	long wrong = mts_cpu_gemm(cpu, &op);

	op.c = c;
	for (int i = 0; i < 2000; i++)
		wrong |= mts_cpu_gemm(cpu, &op) || memcmp(c, first, 64 * 256 * sizeof(*c));
	free(a);
	free(b);
	free(c);
	free(first);
	return (void *)wrong;
}

START_TEST(concurrent_handles)
{
	struct mts_cpu *cpu[4];
	pthread_t thread[4];
	void *wrong;

	for (unsigned i = 0; i < 4; i++)
		cpu[i] = open_prepared(test_isas()[0], 1 + i % 2);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, multiply_often, cpu[i]), 0);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(thread[i], &wrong);
		ck_assert_ptr_null(wrong);
		mts_cpu_close(cpu[i]);
	}
}
END_TEST

START_TEST(bad_shape)
{
	static const uint32_t bad[][2] = { { 64, 64 }, { 0, 64 } }, huge[][2] = { { 1, 1u << 31 } };
	struct mts_cpu *cpu = open_prepared("scalar", 1);
	struct mts_op_gemm op = { .n = 64, .k = 64 };
	struct mts_error err = { "" };

	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), 0);
	ck_assert_int_eq(mts_cpu_prepare(cpu, bad, 2, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "n 0, k 64"));
	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), -EINVAL);
	ck_assert_int_eq(mts_cpu_prepare(cpu, huge, 1, &err), -EINVAL);
	ck_assert_int_eq(mts_cpu_prepare(cpu, shapes, SHAPES, NULL), 0);
	ck_assert_int_eq(mts_cpu_gemm(cpu, &op), 0);
	mts_cpu_close(cpu);
}
END_TEST

/* Kernels for AVX2 where there is none would end in SIGILL, and say nothing. */
static int blas_core_runs_here(void)
{
	const char *core = getenv("OPENBLAS_CORETYPE");

#ifdef __x86_64__
	return !core || strcmp(core, "Haswell") || __builtin_cpu_supports("avx2");
#else
	return !core;
#endif
}

int main(void)
{
	enum { SKIP = 77 };
	Suite *s = suite_create("gemm");
	TCase *tc = tcase_create("gemm");

	if (!blas_core_runs_here())
		return SKIP;
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, against_reference);
	tcase_add_loop_test(tc, company, 0, SHAPES);
	tcase_add_test(tc, unknown_shape);
	tcase_add_test(tc, bad_shape);
	tcase_add_test(tc, choice_is_told_and_steady);
	tcase_add_test(tc, concurrent_handles);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
