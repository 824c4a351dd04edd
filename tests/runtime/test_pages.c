/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page pool against an array of flags: never a page twice, none lost, runs where there are
 * some.
 */
#include "memory/pages.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE UINT32_MAX

static uint64_t rng = 1;

static uint32_t below(uint32_t n)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((rng >> 33) % n);
}

static struct mts_pages *make(uint32_t n)
{
	struct mts_pages *p;

	ck_assert_int_eq(mts_pages_open(n, &p), 0);
	return p;
}

static uint32_t runs(const uint32_t *ids, uint32_t n)
{
	uint32_t r = n != 0;

	for (uint32_t i = 1; i < n; i++)
		r += ids[i] != ids[i - 1] + 1;
	return r;
}

START_TEST(refuses_absurd_sizes)
{
	struct mts_pages *p;

	ck_assert_int_eq(mts_pages_open(0, &p), -EINVAL);
	ck_assert_int_eq(mts_pages_open(UINT32_MAX, &p), -EINVAL);
}
END_TEST

START_TEST(empty_pool_gives_one_run)
{
	struct mts_pages *p = make(10000);
	uint32_t ids[7000];

	ck_assert_int_eq(mts_pages_alloc(p, 7000, NOWHERE, ids), 0);
	ck_assert_uint_eq(runs(ids, 7000), 1);
	ck_assert_uint_eq(mts_pages_available(p), 3000);
	ck_assert_int_eq(mts_pages_alloc(p, 3001, NOWHERE, ids), -ENOSPC);
	ck_assert_uint_eq(mts_pages_available(p), 3000);
	mts_pages_close(p);
}
END_TEST

START_TEST(continues_the_callers_run)
{
	struct mts_pages *p = make(300);
	uint32_t a[4], b[3];

	ck_assert_int_eq(mts_pages_alloc(p, 4, NOWHERE, a), 0);
	ck_assert_int_eq(mts_pages_free(p, a + 2, 2), 0);
	ck_assert_int_eq(mts_pages_alloc(p, 3, a[1], b), 0);
	ck_assert_uint_eq(b[0], a[1] + 1);
	ck_assert_uint_eq(runs(b, 3), 1);
	mts_pages_close(p);
}
END_TEST

START_TEST(after_the_last_page_is_no_page)
{
	struct mts_pages *p = make(64);
	uint32_t ids[64];

	ck_assert_int_eq(mts_pages_alloc(p, 2, 63, ids), 0);
	ck_assert_uint_eq(runs(ids, 2), 1);
	ck_assert_int_eq(mts_pages_alloc(p, 1, 1000, ids + 2), 0);
	ck_assert_int_eq(mts_pages_alloc(p, 0, 3, NULL), 0);
	mts_pages_close(p);
}
END_TEST

START_TEST(skips_holes_for_a_whole_run)
{
	struct mts_pages *p = make(256);
	uint32_t ids[256], got[16];

	/* free: every second page of the lower half, all of the top 20 */
	ck_assert_int_eq(mts_pages_alloc(p, 256, NOWHERE, ids), 0);
	for (uint32_t i = 0; i < 40; i += 2)
		ck_assert_int_eq(mts_pages_free(p, &i, 1), 0);
	ck_assert_int_eq(mts_pages_free(p, ids + 236, 20), 0);
	ck_assert_int_eq(mts_pages_alloc(p, 16, NOWHERE, got), 0);
	ck_assert_uint_eq(runs(got, 16), 1);
	mts_pages_close(p);
}
END_TEST

START_TEST(takes_the_last_single_page)
{
	struct mts_pages *p = make(9000);
	uint32_t *ids = malloc(9000 * sizeof(*ids)), got[3];

	ck_assert_int_eq(mts_pages_alloc(p, 9000, NOWHERE, ids), 0);
	ck_assert_int_eq(mts_pages_free(p, (uint32_t[]){ 3, 4500, 8999 }, 3), 0);
	ck_assert_int_eq(mts_pages_alloc(p, 3, NOWHERE, got), 0);
	ck_assert_uint_eq(got[0] + got[1] + got[2], 3 + 4500 + 8999);
	ck_assert_int_eq(mts_pages_alloc(p, 1, NOWHERE, got), -ENOSPC);
	free(ids);
	mts_pages_close(p);
}
END_TEST

START_TEST(bad_free_changes_nothing)
{
	struct mts_pages *p = make(100);
	uint32_t ids[10];

	ck_assert_int_eq(mts_pages_alloc(p, 10, NOWHERE, ids), 0);
	ck_assert_int_eq(mts_pages_free(p, (uint32_t[]){ ids[0], 50 }, 2), -EINVAL);
	ck_assert_int_eq(mts_pages_free(p, (uint32_t[]){ ids[0], ids[1], ids[0] }, 3), -EINVAL);
	ck_assert_int_eq(mts_pages_free(p, (uint32_t[]){ ids[0], 100 }, 2), -EINVAL);
	ck_assert_uint_eq(mts_pages_available(p), 90);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(mts_pages_is_free(p, ids[i]), 0);
	ck_assert_int_eq(mts_pages_is_free(p, 50), 1);
	ck_assert_int_eq(mts_pages_is_free(p, 100), 0);
	mts_pages_close(p);
}
END_TEST

static void alloc_step(struct mts_pages *p, uint8_t *used, uint32_t total, uint32_t *live)
{
	uint32_t n = below(40), ids[40], before = mts_pages_available(p);
	int ret = mts_pages_alloc(p, n, below(2) ? NOWHERE : below(total), ids);

	ck_assert_int_eq(ret, n > before ? -ENOSPC : 0);
	ck_assert_uint_eq(mts_pages_available(p), ret ? before : before - n);
	for (uint32_t i = 0; !ret && i < n; i++) {
		ck_assert_uint_lt(ids[i], total);
		ck_assert_uint_eq(used[ids[i]], 0);
		used[ids[i]] = 1;
		*live += 1;
	}
}

static void free_step(struct mts_pages *p, uint8_t *used, uint32_t total, uint32_t *live)
{
	uint32_t at = below(total), n = 0, ids[64] = { 0 };

	for (uint32_t i = at; i < total && n < 64; i++)
		if (used[i] && below(4))
			ids[n++] = i;
	ck_assert_int_eq(mts_pages_free(p, ids, n), 0);
	for (uint32_t i = 0; i < n; i++)
		used[ids[i]] = 0;
	*live -= n;
}

START_TEST(agrees_with_the_oracle)
{
	uint32_t total, live = 0;
	struct mts_pages *p;
	uint8_t *used;

	rng = (uint64_t)_i + 1;
	printf("# seed %d\n", _i + 1);
	total = 1 + below(_i % 2 ? 20000 : 300);
	p = make(total);
	used = calloc(total, 1);
	for (int step = 0; step < 3000; step++) {
		if (below(2))
			alloc_step(p, used, total, &live);
		else
			free_step(p, used, total, &live);
		ck_assert_uint_eq(mts_pages_available(p), total - live);
	}
	for (uint32_t i = 0; i < total; i++)
		ck_assert_int_eq(mts_pages_is_free(p, i), !used[i]);
	free(used);
	mts_pages_close(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pages");
	TCase *tc = tcase_create("pages");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, refuses_absurd_sizes);
	tcase_add_test(tc, empty_pool_gives_one_run);
	tcase_add_test(tc, continues_the_callers_run);
	tcase_add_test(tc, after_the_last_page_is_no_page);
	tcase_add_test(tc, skips_holes_for_a_whole_run);
	tcase_add_test(tc, takes_the_last_single_page);
	tcase_add_test(tc, bad_free_changes_nothing);
	tcase_add_loop_test(tc, agrees_with_the_oracle, 0, 20);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
