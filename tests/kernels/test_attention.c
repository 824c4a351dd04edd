/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append and attention against the reference, over one table of shapes, on every instruction set
 * of the machine: stored bytes exactly, results within a bound derived below.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include "cpu/cpu.h"
#include "ref/ref_ops.h"
#include "scene.h"

#define SPANS 6

static const struct {
	uint32_t heads, dq, dv, page_tokens;
} layouts[] = {
	{ 2, 32, 32, 16 }, { 4, 64, 64, 32 },  { 1, 128, 128, 128 }, { 2, 256, 256, 32 },
	{ 3, 20, 12, 16 }, { 2, 48, 80, 64 }, { 1, 1, 1, 16 },      { 2, 17, 33, 16 },
};

static const struct {
	struct scene_span span[SPANS];
	uint32_t spans;
	uint32_t window;
} cases[] = {
	{ { { 1, 0, 1, 0 } }, 1, 0 },
	{ { { 1, 0, 0, 1 } }, 1, 0 },                /* a stranger */
	{ { { 1, 0, 0, 0 }, { 2, 5, 3, 0 } }, 2, 0 }, /* an empty span */
	{ { { 1, 0, 200, 7 } }, 1, 0 },
	{ { { 1, 130, 6, 13 } }, 1, 0 },
	{ { { 1, 64, 0, 5 } }, 1, 0 },
	{ { { 1, 63, 1, 0 }, { 2, 0, 0, 9 }, { 3, 127, 2, 1 }, { 4, 0, 37, 0 }, { 5, 90, 0, 3 } },
	  5, 0 },
	{ { { 1, 0, 200, 7 } }, 1, 1 },
	{ { { 1, 0, 200, 7 } }, 1, 8 },
	{ { { 1, 150, 6, 13 }, { 2, 0, 140, 3 } }, 2, 70 },
	{ { { 1, 150, 6, 13 } }, 1, 1000 },
	{ { { 1, 200, 0, 13 } }, 1, 64 },
};

/*
 * float32 against double for one row and head, u = 2^-24: s is a sum of dq products, so off by at
 * most (dq + 3) u of the sum of magnitudes; SiLU passes on at most 1.1 of that and adds 8 u of its
 * own; the sum over `keys` keys adds (keys + 3) u of the sum of magnitudes.
 */
static double row_bound(const struct mts_op_attention *op, uint32_t row, uint32_t head,
			uint32_t keys)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	const double u = 0x1p-24;
	size_t hv = y->heads * y->dv, hq = y->heads * y->dq;
	const float *q = op->z + row * 2 * (hq + hv) + 2 * hv + head * y->dq;
	double q1 = 0, weight;

	/* all inputs are in [-1, 1]: |q . k| <= sum |q|, |SiLU(s)| <= |s|, |v| <= 1 */
	for (uint32_t t = 0; t < y->dq; t++)
		q1 += fabs(q[t]);
	weight = q1 / sqrt(y->dq) / op->scale_len;
	return keys * weight * u * (1.1 * (y->dq + 3) + 8 + keys + 3);
}

static void check_rows(const struct mts_op_attention *op, const double *want)
{
	const struct mts_kv_layout *y = &op->kv->layout;

	for (uint32_t n = 0; n < op->pass->spans; n++) {
		const struct mts_span *s = &op->pass->span[n];

		for (uint32_t i = 0; i < s->history + s->candidates; i++)
			for (uint32_t c = 0; c < y->heads * y->dv; c++) {
				size_t at = (size_t)(s->row + i) * y->heads * y->dv + c;
				double bound = row_bound(op, s->row + i, c / y->dv, s->v + 1);

				if (!(fabs(op->o[at] - want[at]) <= bound))
					ck_abort_msg("span %u row %u col %u: %.9g, expected %.9g",
						     n, i, c, op->o[at], want[at]);
			}
	}
}

static void compare(struct mts_cpu *cpu, const struct mts_kv_layout *y, unsigned which)
{
	struct scene sc, ref;
	struct mts_op_append append;
	struct mts_op_attention attention;
	double *want;

	scene_build(&sc, y, cases[which].span, cases[which].spans, which);
	scene_build(&ref, y, cases[which].span, cases[which].spans, which);
	append = scene_append(&sc);
	mts_cpu_append(cpu, &append);
	append = scene_append(&ref);
	mts_ref_append(&append);
	ck_assert_mem_eq(sc.kv.base, ref.kv.base, y->layers * sc.kv.layer_stride);
	ck_assert_mem_eq(sc.own, ref.own, sc.pass.candidates *
			 (mts_kv_k_bytes(y) + mts_kv_v_bytes(y)));

	attention = scene_attention(&sc, 37.5f, cases[which].window);
	ck_assert_int_eq(mts_cpu_attention(cpu, &attention), 0);
	want = guarded_alloc((size_t)sc.pass.rows * y->heads * y->dv * sizeof(*want));
	mts_ref_attention(&attention, want);
	check_rows(&attention, want);
	guarded_check_all();
	guarded_free_all();
}

START_TEST(against_reference)
{
	unsigned l = (unsigned)_i / 2;
	enum mts_dtype type = _i % 2 ? MTS_BF16 : MTS_F32;
	struct mts_kv_layout y = { 2, layouts[l].heads, layouts[l].dq, layouts[l].dv,
				   layouts[l].page_tokens, type };

	for (const char *const *isa = test_isas(); *isa; isa++) {
		struct mts_cpu *cpu = open_cpu(*isa, 2);

		for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
			compare(cpu, &y, c);
		mts_cpu_close(cpu);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("attention");
	TCase *tc = tcase_create("attention");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, against_reference, 0, 2 * sizeof(layouts) / sizeof(layouts[0]));
	suite_add_tcase(s, tc);
	return run_suite(s);
}
