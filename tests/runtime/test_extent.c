/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents against an oracle that tries every aligned place of every piece.
 */
#include "memory/extent.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIT 4800 /* no power of two, as the bytes of a page in all layers */
#define BASE ((char *)0x100000)

static uint64_t rng = 1;

static uint32_t below(uint32_t n)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((rng >> 33) % n);
}

static struct mts_extents *make(size_t bytes, size_t piece)
{
	struct mts_extents *e;

	ck_assert_int_eq(mts_extents_open(BASE, bytes, piece, UNIT, &e), 0);
	return e;
}

START_TEST(refuses_bad_shapes)
{
	struct mts_extents *e;

	ck_assert_int_eq(mts_extents_open(BASE, 100, 100, UNIT, &e), -EINVAL);
	ck_assert_int_eq(mts_extents_open(BASE, 10 * UNIT, UNIT - 1, UNIT, &e), -EINVAL);
	ck_assert_int_eq(mts_extents_open(BASE, 10 * UNIT, UNIT, 0, &e), -EINVAL);
	ck_assert_int_eq(mts_extents_open(BASE, 0, UNIT, UNIT, &e), -EINVAL);
	ck_assert_int_eq(mts_extents_open(BASE, 1ul << 40, 1ul << 30, 1, &e), -E2BIG);
}
END_TEST

START_TEST(refuses_bad_requests)
{
	struct mts_extents *e = make(7 * UNIT, 7 * UNIT);
	struct mts_extent x, y;

	ck_assert_int_eq(mts_extent_alloc(e, 0, &x), -EINVAL);
	ck_assert_int_eq(mts_extent_alloc(e, 3, &x), -EINVAL);
	ck_assert_int_eq(mts_extent_alloc(e, 8, &x), -ENOSPC);
	ck_assert_int_eq(mts_extent_alloc(e, 1u << 31, &x), -ENOSPC);
	ck_assert_int_eq(mts_extent_alloc(e, 2, &x), 0);
	y = (struct mts_extent){ x.base, x.unit, 1 };
	ck_assert_int_eq(mts_extent_free(e, &y), -EINVAL);
	y = (struct mts_extent){ x.base, x.unit + 1, 1 };
	ck_assert_int_eq(mts_extent_free(e, &y), -EINVAL);
	y = (struct mts_extent){ x.base, 1000, 1 };
	ck_assert_int_eq(mts_extent_free(e, &y), -EINVAL);
	ck_assert_int_eq(mts_extent_free(e, &x), 0);
	ck_assert_int_eq(mts_extent_free(e, &x), -EINVAL);
	ck_assert_int_eq(mts_extents_verify(e), 0);
	ck_assert_uint_eq(mts_extents_units_free(e), 7);
	mts_extents_close(e);
}
END_TEST

START_TEST(freed_neighbours_merge)
{
	struct mts_extents *e = make(16 * UNIT, 16 * UNIT);
	struct mts_extent x[16], whole;

	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(mts_extent_alloc(e, 1, &x[i]), 0);
	ck_assert_uint_eq(mts_extents_largest(e), 0);
	for (int i = 15; i >= 0; i--)
		ck_assert_int_eq(mts_extent_free(e, &x[i * 7 % 16]), 0);
	ck_assert_uint_eq(mts_extents_largest(e), 16);
	ck_assert_int_eq(mts_extent_alloc(e, 16, &whole), 0);
	ck_assert_ptr_eq(whole.base, BASE);
	mts_extents_close(e);
}
END_TEST

START_TEST(never_straddles_pieces)
{
	/* 5 units and a rest in each of three pieces, 2 units in the last */
	size_t piece = 5 * UNIT + 300;
	struct mts_extents *e = make(3 * piece + 2 * UNIT + 17, piece);
	struct mts_extent x;

	ck_assert_uint_eq(mts_extents_units(e), 17);
	ck_assert_uint_eq(mts_extents_largest(e), 4);
	for (uint32_t i = 0; i < 17; i++) {
		ck_assert_int_eq(mts_extent_alloc(e, 1, &x), 0);
		ck_assert_uint_eq(x.unit, i);
		ck_assert_ptr_eq(x.base, BASE + i / 5 * piece + i % 5 * UNIT);
	}
	ck_assert_int_eq(mts_extent_alloc(e, 1, &x), -ENOSPC);
	mts_extents_close(e);
}
END_TEST

struct oracle {
	uint32_t units, piece_units;
	uint8_t used[512];
};

static int oracle_alloc(struct oracle *o, uint32_t n, uint32_t *unit)
{
	for (uint32_t piece = 0; piece < o->units; piece += o->piece_units)
		for (uint32_t at = 0; at + n <= o->piece_units && piece + at + n <= o->units; at += n)
			if (!memchr(o->used + piece + at, 1, n)) {
				memset(o->used + piece + at, 1, n);
				*unit = piece + at;
				return 0;
			}
	return -ENOSPC;
}

static uint32_t oracle_largest(const struct oracle *o)
{
	struct oracle copy;
	uint32_t unit;

	for (uint32_t n = 256; n; n /= 2) {
		copy = *o;
		if (!oracle_alloc(&copy, n, &unit))
			return n;
	}
	return 0;
}

static void random_run(uint32_t units, uint32_t piece_units)
{
	size_t piece = (size_t)piece_units * UNIT + 64;
	size_t whole = units / piece_units * piece + (size_t)(units % piece_units) * UNIT;
	struct mts_extents *e = make(whole, piece);
	struct oracle o = { .units = units, .piece_units = piece_units };
	struct mts_extent x[512];
	uint32_t live = 0, used = 0;

	for (int step = 0; step < 3000; step++) {
		if (below(5) < 3) {
			uint32_t n = 1u << below(5), unit = 0;
			int want = oracle_alloc(&o, n, &unit);

			ck_assert_int_eq(mts_extent_alloc(e, n, &x[live]), want);
			if (want)
				continue;
			ck_assert_uint_eq(x[live].unit, unit);
			ck_assert_uint_eq(x[live].units, n);
			ck_assert_ptr_eq(x[live].base, BASE + unit / piece_units * piece +
						       (size_t)(unit % piece_units) * UNIT);
			live++;
			used += n;
		} else if (live) {
			uint32_t i = below(live);

			ck_assert_int_eq(mts_extent_free(e, &x[i]), 0);
			memset(o.used + x[i].unit, 0, x[i].units);
			used -= x[i].units;
			x[i] = x[--live];
		}
		ck_assert_uint_eq(mts_extents_units_free(e), units - used);
		ck_assert_uint_eq(mts_extents_largest(e), oracle_largest(&o));
		ck_assert_int_eq(mts_extents_verify(e), 0);
	}
	mts_extents_close(e);
}

START_TEST(agrees_with_the_oracle)
{
	rng = (uint64_t)_i + 1;
	printf("# seed %d\n", _i + 1);
	random_run(1 + below(400), 1 + below(130));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("extent");
	TCase *tc = tcase_create("extent");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, refuses_bad_shapes);
	tcase_add_test(tc, refuses_bad_requests);
	tcase_add_test(tc, freed_neighbours_merge);
	tcase_add_test(tc, never_straddles_pieces);
	tcase_add_loop_test(tc, agrees_with_the_oracle, 0, 20);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
