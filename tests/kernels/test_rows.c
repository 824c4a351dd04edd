/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Row operations (embed, norm, modulate, pick, score, rounding in append) against the reference on
 * every instruction set, and the bits of a row in other company. Bounds: u = 2^-24 per rounding,
 * worst case over a sum's length; derived where used.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "ref/ref_ops.h"
#include "scene.h"

static const double u = 0x1p-24;

static const uint32_t widths[] = { 1, 3, 8, 15, 16, 17, 64, 100, 256, 1000 };
#define WIDTHS (sizeof(widths) / sizeof(widths[0]))

static const uint32_t row_counts[] = { 0, 1, 2, 37, 300 };
#define COUNTS (sizeof(row_counts) / sizeof(row_counts[0]))

static void close_to(const float *got, const double *want, size_t n, double bound)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs(got[i] - want[i]) <= bound))
			ck_abort_msg("element %zu: %.9g, expected %.9g within %g", i, got[i],
				     want[i], bound);
}

static double *doubles(size_t n)
{
	return guarded_alloc(n * sizeof(double));
}

static void for_each_isa(void (*test)(struct mts_cpu *cpu))
{
	for (const char *const *isa = test_isas(); *isa; isa++) {
		struct mts_cpu *cpu = open_cpu(*isa, 2);

		test(cpu);
		mts_cpu_close(cpu);
		guarded_check_all();
		guarded_free_all();
	}
}

/* ---- embed, pick ---- */

static const struct scene_span spans[] = {
	{ 1, 0, 3, 2 }, { 2, 0, 0, 5 }, { 3, 9, 150, 0 }, { 4, 0, 0, 0 }, { 5, 20, 1, 1 },
};
#define SPANS (sizeof(spans) / sizeof(spans[0]))

enum { ITEMS = 50, ACTIONS = 7, POSITIONS = 40 };

static void embed_and_pick(struct mts_cpu *cpu, uint32_t d)
{
	struct mts_kv_layout y = { 2, 1, 4, 4, 16, MTS_F32 };
	uint32_t *item, *action;
	struct scene sc;
	struct mts_op_embed op;
	struct mts_op_pick pick;
	double *want;

	scene_build(&sc, &y, spans, SPANS, d);
	item = guarded_alloc(sc.pass.rows * sizeof(*item));
	action = guarded_alloc(sc.pass.rows * sizeof(*action));
	for (uint32_t r = 0; r < sc.pass.rows; r++) {
		item[r] = mix(d, r) % ITEMS;
		action[r] = mix(d, r + 1000) % ACTIONS;
	}
	sc.pass.item = item;
	sc.pass.action = action;
	op = (struct mts_op_embed){ &sc.pass, random_floats(ITEMS * d, 1),
				    random_floats(ACTIONS * d, 2), random_floats(POSITIONS * d, 3),
				    d, POSITIONS, guarded_alloc(sc.pass.rows * d * 4) };
	want = doubles((size_t)sc.pass.rows * d);
	mts_cpu_embed(cpu, &op);
	mts_ref_embed(&op, want);
	close_to(op.x, want, (size_t)sc.pass.rows * d, 2 * 3 * u);

	pick = (struct mts_op_pick){ &sc.pass, d, op.x, guarded_alloc(sc.pass.candidates * d * 4) };
	mts_cpu_pick(cpu, &pick);
	mts_ref_pick(&pick, want);
	close_to(pick.y, want, (size_t)sc.pass.candidates * d, 0);
}

static void embed_all(struct mts_cpu *cpu)
{
	for (unsigned w = 0; w < WIDTHS; w++)
		embed_and_pick(cpu, widths[w]);
}

START_TEST(embed_pick)
{
	for_each_isa(embed_all);
}
END_TEST

/* ---- norm, modulate ---- */

/*
 * Inputs in [offset - 1, offset + 1): mean and deviation are off by at most (d + 2) u of the
 * largest magnitude, 1 / sqrt(var + eps) by (d + 8) u of itself plus what the mean's error does
 * (its square, nothing). With |weight|, |bias| <= 1.
 */
static double norm_bound(const float *x, uint32_t d, double eps)
{
	double mean = 0, var = 0, most = 0, scale, spread;

	for (uint32_t i = 0; i < d; i++) {
		mean += (double)x[i] / d;
		most = fmax(most, fabs(x[i]));
	}
	for (uint32_t i = 0; i < d; i++)
		var += (x[i] - mean) * (x[i] - mean) / d;
	scale = 1 / sqrt(var + eps);
	spread = 2 * scale; /* |x - mean| <= 2 */
	return u * (2 * (d + 2) * most * scale + (d + 8) * spread + 4);
}

static void norm_one(struct mts_cpu *cpu, uint32_t rows, uint32_t d, float offset)
{
	struct mts_op_norm op = { rows, d, 1e-5f, NULL, random_floats(d, 4), random_floats(d, 5),
				  guarded_alloc((size_t)rows * d * 4) };
	float *x = random_floats((size_t)rows * d, d + 10 * rows);
	double *want = doubles((size_t)rows * d);

	for (size_t i = 0; i < (size_t)rows * d; i++)
		x[i] += offset;
	op.x = x;
	mts_cpu_norm(cpu, &op);
	mts_ref_norm(&op, want);
	for (size_t r = 0; r < rows; r++)
		close_to(op.y + r * d, want + r * d, d, norm_bound(x + r * d, d, op.eps));
}

static void norm_all(struct mts_cpu *cpu)
{
	for (unsigned w = 0; w < WIDTHS; w++)
		for (unsigned n = 0; n < COUNTS; n++) {
			norm_one(cpu, row_counts[n], widths[w], 0);
			norm_one(cpu, row_counts[n], widths[w], 100);
		}
}

START_TEST(norm)
{
	for_each_isa(norm_all);
}
END_TEST

static void modulate_one(struct mts_cpu *cpu, uint32_t rows, uint32_t hdv, int concat)
{
	uint32_t zcols = 3 * hdv + 5, cols = concat ? 3 * hdv : hdv;
	struct mts_op_modulate op = {
		rows, hdv, zcols, 1e-5f, random_floats((size_t)rows * zcols, 6),
		random_floats((size_t)rows * hdv, 7), random_floats(hdv, 8), random_floats(hdv, 9),
		concat, guarded_alloc((size_t)rows * cols * 4),
	};
	double *want = doubles((size_t)rows * cols);

	mts_cpu_modulate(cpu, &op);
	mts_ref_modulate(&op, want);
	for (size_t r = 0; r < rows; r++)
		close_to(op.out + r * cols, want + r * cols, cols,
			 norm_bound(op.o + r * hdv, hdv, op.eps) * 1.01 +
			 u * (1 + 2 / sqrt(op.eps)) * (hdv == 1));
}

static void modulate_all(struct mts_cpu *cpu)
{
	for (unsigned w = 0; w < WIDTHS; w++)
		for (unsigned n = 0; n < COUNTS; n++)
			for (int concat = 0; concat < 2; concat++)
				modulate_one(cpu, row_counts[n], widths[w], concat);
}

START_TEST(modulate)
{
	for_each_isa(modulate_all);
}
END_TEST

/* ---- score ---- */

static void score_one(struct mts_cpu *cpu, uint32_t rows, uint32_t k, uint32_t tasks)
{
	struct mts_op_score op = { rows, k, tasks, random_floats((size_t)rows * k, 10),
				   random_floats((size_t)k * tasks, 11), random_floats(tasks, 12),
				   guarded_alloc((size_t)rows * tasks * 4) };
	double *want = doubles((size_t)rows * tasks);

	mts_cpu_score(cpu, &op);
	mts_ref_score(&op, want);
	/* sigmoid's slope is at most 1/4; its own roundings are 6 u of at most 1 */
	close_to(op.scores, want, (size_t)rows * tasks, u * ((k + 2) * (k + 1) / 4.0 + 6));
}

static void score_all(struct mts_cpu *cpu)
{
	static const uint32_t tasks[] = { 1, 4, 16, 19 };

	for (unsigned t = 0; t < sizeof(tasks) / sizeof(tasks[0]); t++)
		for (unsigned n = 0; n < COUNTS; n++) {
			score_one(cpu, row_counts[n], 64, tasks[t]);
			score_one(cpu, row_counts[n], 5, tasks[t]);
		}
}

START_TEST(score)
{
	for_each_isa(score_all);
}
END_TEST

/* One row, k = 1, w = 1: the sigmoid itself, where exp over- or underflows too. */
static void score_extremes(struct mts_cpu *cpu)
{
	static const float x[] = { -1e30f, -200, -88.5f, -87, -30, -1, -1e-30f, -0.0f, 0,
				   1e-30f, 1,    16,     17, 87, 88.5f, 200, 1e30f };
	const uint32_t n = sizeof(x) / sizeof(x[0]);
	float one = 1, zero = 0, *y = guarded_alloc(sizeof(x));
	struct mts_op_score op = { n, 1, 1, x, &one, &zero, y };

	mts_cpu_score(cpu, &op);
	for (uint32_t i = 0; i < n; i++) {
		double want = 1 / (1 + exp(-(double)x[i]));

		ck_assert_msg(fabs(y[i] - want) <= 6 * u * want + 1e-37, "sigmoid(%g) = %.9g", x[i],
			      y[i]);
	}
}

START_TEST(sigmoid_extremes)
{
	for_each_isa(score_extremes);
}
END_TEST

/* ---- rounding of K and V ---- */

static void append_special(struct mts_cpu *cpu)
{
	static const uint32_t bits[][2] = {
		{ 0x3f808000, 0x3f80 }, /* tie: down to even */
		{ 0x3f818000, 0x3f82 }, /* tie: up to even */
		{ 0x3f808001, 0x3f81 }, { 0x3f807fff, 0x3f80 }, { 0x7f7fffff, 0x7f80 },
		{ 0xff7fffff, 0xff80 }, { 0x7f800000, 0x7f80 }, { 0x80000000, 0x8000 },
		{ 0x00008000, 0x0000 }, { 0x00018000, 0x0002 }, { 0x7f800001, 0x7fc0 },
		{ 0xffffffff, 0xffff }, /* NaN stays NaN */
	};
	const uint32_t n = sizeof(bits) / sizeof(bits[0]);
	struct mts_kv_layout y = { 2, 1, n, n, 16, MTS_BF16 };
	struct scene_span span = { 1, 3, 1, 0 };
	struct mts_op_append op;
	struct scene sc;
	const uint16_t *k;

	scene_build(&sc, &y, &span, 1, 0);
	for (uint32_t i = 0; i < n; i++)
		memcpy(sc.z + 3 * n + i, &bits[i][0], 4);
	op = scene_append(&sc);
	mts_cpu_append(cpu, &op);
	k = (const uint16_t *)mts_kv_page(&sc.kv, sc.layer, sc.pass.span[0].pages[0]) + 3 * n;
	for (uint32_t i = 0; i < n; i++)
		ck_assert_msg(k[i] == bits[i][1], "%08x became %04x, expected %04x", bits[i][0],
			      k[i], bits[i][1]);
}

START_TEST(bf16_rounding)
{
	for_each_isa(append_special);
}
END_TEST

/* ---- bits ---- */

/* Rows in another order and beside NaN rows: the same bits. */
static void norm_company(struct mts_cpu *cpu)
{
	enum { ROWS = 61, D = 100 };
	struct mts_op_norm op = { ROWS, D, 1e-5f, NULL, random_floats(D, 4), random_floats(D, 5),
				  NULL };
	float *x = random_floats(ROWS * D, 1), *y = guarded_alloc(ROWS * D * 4);
	float *x2 = guarded_alloc(3 * ROWS * D * 4), *y2 = guarded_alloc(3 * ROWS * D * 4);

	for (uint32_t r = 0; r < ROWS; r++) /* rows 3r and 3r + 2 stay NaN */
		memcpy(x2 + (size_t)(3 * (ROWS - 1 - r) + 1) * D, x + r * D, D * 4);
	op.x = x;
	op.y = y;
	mts_cpu_norm(cpu, &op);
	op.rows = 3 * ROWS;
	op.x = x2;
	op.y = y2;
	mts_cpu_norm(cpu, &op);
	for (uint32_t r = 0; r < ROWS; r++)
		ck_assert_mem_eq(y + r * D, y2 + (size_t)(3 * (ROWS - 1 - r) + 1) * D, D * 4);
}

START_TEST(norm_bits)
{
	for_each_isa(norm_company);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rows");
	TCase *tc = tcase_create("rows");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, embed_pick);
	tcase_add_test(tc, norm);
	tcase_add_test(tc, modulate);
	tcase_add_test(tc, score);
	tcase_add_test(tc, sigmoid_extremes);
	tcase_add_test(tc, bf16_rounding);
	tcase_add_test(tc, norm_bits);
	suite_add_tcase(s, tc);
	return run_suite(s);
}
