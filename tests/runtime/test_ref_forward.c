/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The double-precision reference against the golden files, which another implementation made: what
 * remains are its operators and its files in float32.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"
#include "golden.h"
#include "ref/forward.h"

static void check_user(const struct golden *g, unsigned user)
{
	struct mts_ref_forward r;
	struct golden_user u;
	size_t k_row = (size_t)g->c->heads * g->c->dq, v_row = (size_t)g->c->heads * g->c->dv;
	double hidden, scores, kv = 0;

	golden_user_open(g, user, &u);
	ck_assert_int_eq(
		mts_ref_forward(g->model, u.items, u.actions, u.v, u.candidate, u.candidates, &r),
		0);
	for (uint32_t l = 0; l < g->c->layers; l++) {
		double k = largest_difference(r.k + l * u.v * k_row, u.k[l], u.v * k_row);
		double v = largest_difference(r.v + l * u.v * v_row, u.v_[l], u.v * v_row);

		kv = k > kv ? k : kv;
		kv = v > kv ? v : kv;
	}
	hidden = largest_difference(r.hidden, u.hidden, (size_t)(u.v + u.candidates) * g->c->d);
	scores = largest_difference(r.scores, u.scores, (size_t)u.candidates * g->c->tasks);
	printf("# user %u: scores %.1e, K/V %.1e, hidden %.1e\n", user, scores, kv, hidden);
	ck_assert_double_le(scores, 2e-7);
	ck_assert_double_le(kv, 1e-6);
	ck_assert_double_le(hidden, 2e-6);
	mts_ref_forward_free(&r);
	golden_user_close(&u);
}

START_TEST(golden)
{
	struct golden g;

	printf("# %s\n", golden_cases[_i]);
	golden_open(golden_cases[_i], &g);
	for (unsigned user = 0; user < GOLDEN_USERS; user++)
		check_user(&g, user);
	golden_close(&g);
}
END_TEST

/* Random models must not saturate: an error would not show in a score of 0 or 1. */
START_TEST(random_scores_are_spread)
{
	char path[] = "/tmp/mts_ref_XXXXXX";
	struct mts_preset_options o = {.items = 1000, .max_history = 256};
	struct mts_model_config c;
	struct mts_ref_forward r;
	struct mts_model *m;
	struct mts_error err;
	uint32_t items[200], actions[200];
	double low = 1, high = 0;

	close(mkstemp(path));
	ck_assert_int_eq(mts_preset_config(mts_presets[_i].name, &o, &c, &err), 0);
	ck_assert_int_eq(mts_model_generate(&c, MTS_F32, 5, path, &err), 0);
	ck_assert_int_eq(mts_model_open(path, &m, &err), 0);
	for (uint32_t i = 0; i < 200; i++) {
		items[i] = i * 37 % 1000;
		actions[i] = i % 255 + 1;
	}
	ck_assert_int_eq(mts_ref_forward(m, items, actions, 136, items + 136, 64, &r), 0);
	for (int i = 0; i < 64 * 4; i++) {
		low = r.scores[i] < low ? r.scores[i] : low;
		high = r.scores[i] > high ? r.scores[i] : high;
	}
	printf("# %s: scores from %.3f to %.3f\n", mts_presets[_i].name, low, high);
	ck_assert(low > 0.03 && low < 0.4);
	ck_assert(high < 0.97 && high > 0.6);
	mts_ref_forward_free(&r);
	mts_model_close(m);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ref_forward");
	TCase *tc = tcase_create("golden");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, golden, 0, GOLDEN_CASES);
	tcase_add_loop_test(tc, random_scores_are_spread, 0, 3);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
