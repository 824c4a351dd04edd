/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass on a device (DEVICE: "ref" or "cpu"), against the golden files and against
 * itself: however rows are split over passes, whoever shares a pass, the same bits come out.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_missing.h"
#include "device_ref.h"
#include "error.h"
#include "passes.h"
#include "ref/forward.h"

enum { SCORES = 64 * 4, MOST = 640 };

/* The oracle is slow: there, every fifth split stands for all. */
#define SPLIT_STEP (strcmp(DEVICE, "ref") ? 1 : 5)

static const enum mts_dtype kv_types[] = {MTS_F32, MTS_BF16};

/* Loop tests run over case x K/V type. */
static const char *case_of(int i)
{
	return golden_cases[i / 2];
}

static enum mts_dtype kv_of(int i)
{
	return kv_types[i % 2];
}

struct bench {
	struct golden g;
	struct golden_user u[GOLDEN_USERS];
	struct passes p;
	struct device_ref ref;
	struct mts_device *dev;
};

static void bench_open(struct bench *b, const char *name, enum mts_dtype kv)
{
	struct mts_device_config cfg = {.threads = 2};
	struct mts_error err;

	printf("# %s, K/V in %s\n", name, kv == MTS_F32 ? "f32" : "bf16");
	device_ref_init(&b->ref);
	b->dev = &b->ref.dev;
	if (strcmp(DEVICE, "ref"))
		ck_assert_msg(!mts_device_find(DEVICE)->open(&cfg, &b->dev, &err), "%s", err.text);
	golden_open(name, &b->g);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		golden_user_open(&b->g, i, &b->u[i]);
	passes_open(&b->p, b->dev, &b->g, kv);
}

static void bench_close(struct bench *b)
{
	passes_close(&b->p);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		golden_user_close(&b->u[i]);
	golden_close(&b->g);
	if (strcmp(DEVICE, "ref"))
		b->dev->ops->close(b->dev);
	ck_assert_uint_eq(b->ref.live, 0);
}

static size_t score_count(const struct bench *b, unsigned user)
{
	return (size_t)b->u[user].candidates * b->g.c->tasks;
}

/* Everything in one pass. */
static void run_whole(struct bench *b, unsigned user, const struct passes_pages *pages,
		      float *scores, float *hidden)
{
	struct part part = {&b->u[user], pages, 0, b->u[user].v, 1};

	ck_assert_int_eq(passes_run(&b->p, &part, 1, NULL, 0, scores, hidden), 0);
}

static double kv_difference(struct bench *b, unsigned user, const struct passes_pages *pages)
{
	const struct golden_user *u = &b->u[user];
	size_t k_n = (size_t)u->v * b->g.c->heads * b->g.c->dq;
	size_t v_n = (size_t)u->v * b->g.c->heads * b->g.c->dv;
	float *k = malloc(k_n * 4), *v = malloc(v_n * 4);
	double most = 0;

	for (uint32_t l = 0; l < b->g.c->layers; l++) {
		passes_read(&b->p, pages, l, u->v, k, v);
		most = fmax(most, largest_difference_f(k, u->k[l], k_n));
		most = fmax(most, largest_difference_f(v, u->v_[l], v_n));
	}
	free(k);
	free(v);
	return most;
}

START_TEST(golden_whole)
{
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];
	float scores[SCORES], *hidden = malloc(MOST * 256 * sizeof(float));

	bench_open(&b, golden_cases[_i], MTS_F32);
	passes_deal(&b.p, pages, GOLDEN_USERS);
	for (unsigned i = 0; i < GOLDEN_USERS; i++) {
		size_t n = (size_t)(b.u[i].v + b.u[i].candidates) * b.g.c->d;
		double s, h, kv;

		run_whole(&b, i, &pages[i], scores, hidden);
		s = largest_difference_f(scores, b.u[i].scores, score_count(&b, i));
		h = largest_difference_f(hidden, b.u[i].hidden, n);
		kv = kv_difference(&b, i, &pages[i]);
		printf("# user %u: scores %.1e, K/V %.1e, hidden %.1e\n", i, s, kv, h);
		ck_assert_double_le(s, 2e-6);
		ck_assert_double_le(kv, 2e-5);
		ck_assert_double_le(h, 2e-5);
	}
	bench_close(&b);
	free(hidden);
}
END_TEST

/* Pages keep [0, s) of an earlier pass, everything behind is NaN; the rest runs in one pass. */
static void check_splits(struct bench *b, unsigned user, const struct passes_pages *pages)
{
	const struct golden_user *u = &b->u[user];
	size_t n = score_count(b, user);
	float whole[SCORES], split[SCORES];

	run_whole(b, user, pages, whole, NULL);
	for (uint32_t s = u->v + 1; s-- > 0;) {
		struct part part = {u, pages, s, u->v - s, 1};

		if (s % SPLIT_STEP && s != u->v)
			continue;
		passes_forget(&b->p, pages, s, u->v);
		ck_assert_int_eq(passes_run(&b->p, &part, 1, NULL, 0, split, NULL), 0);
		ck_assert_msg(memcmp(whole, split, n * 4) == 0, "user %u, split at %u", user, s);
		if (b->p.kv.layout.dtype == MTS_F32)
			ck_assert_double_le(largest_difference_f(split, u->scores, n), 2e-6);
	}
	if (b->p.kv.layout.dtype == MTS_F32)
		ck_assert_double_le(kv_difference(b, user, pages), 2e-5);
}

START_TEST(every_split)
{
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];

	bench_open(&b, case_of(_i), kv_of(_i));
	passes_deal(&b.p, pages, GOLDEN_USERS);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		check_splits(&b, i, &pages[i]);
	bench_close(&b);
}
END_TEST

START_TEST(chunks)
{
	static const uint32_t chunk[] = {1, 7, 64};
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];
	float whole[SCORES], some[SCORES];

	bench_open(&b, case_of(_i), kv_of(_i));
	for (unsigned i = 0; i < GOLDEN_USERS; i++) {
		passes_deal(&b.p, pages, GOLDEN_USERS);
		run_whole(&b, i, &pages[i], whole, NULL);
		for (unsigned k = 0; k < 3; k++) {
			struct part last = {&b.u[i], &pages[i], b.u[i].v, 0, 1};

			passes_deal(&b.p, pages, GOLDEN_USERS);
			passes_encode(&b.p, &b.u[i], &pages[i], 0, b.u[i].v, chunk[k]);
			ck_assert_int_eq(passes_run(&b.p, &last, 1, NULL, 0, some, NULL), 0);
			ck_assert_mem_eq(whole, some, score_count(&b, i) * 4);
		}
	}
	bench_close(&b);
}
END_TEST

/* A pass of random users in random order, each cut at random; half of them without candidates. */
static void random_pass(struct bench *b, unsigned *seed, float whole[][SCORES])
{
	struct passes_pages pages[GOLDEN_USERS];
	struct part part[GOLDEN_USERS];
	float scores[GOLDEN_USERS * SCORES];
	unsigned parts = 0, first = (unsigned)rand_r(seed);
	size_t at = 0;

	passes_deal(&b->p, pages, GOLDEN_USERS);
	for (unsigned k = 0; k < GOLDEN_USERS; k++) {
		unsigned i = (first + k * 3) % GOLDEN_USERS;
		uint32_t begin = (uint32_t)rand_r(seed) % (b->u[i].v + 1);
		int candidates = rand_r(seed) % 4 > 0;
		uint32_t rest = b->u[i].v - begin;

		if (rand_r(seed) % 4 == 0)
			continue;
		passes_encode(&b->p, &b->u[i], &pages[i], 0, begin, 33);
		if (!candidates)
			rest = rest ? (uint32_t)rand_r(seed) % rest : 0;
		part[parts++] = (struct part){&b->u[i], &pages[i], begin, rest, candidates};
	}
	ck_assert_int_eq(passes_run(&b->p, part, parts, NULL, 0, scores, NULL), 0);
	for (unsigned k = 0; k < parts; k++) {
		unsigned i = (unsigned)(part[k].u - b->u);

		if (!part[k].candidates)
			continue;
		ck_assert_mem_eq(scores + at, whole[i], score_count(b, i) * 4);
		at += score_count(b, i);
	}
}

START_TEST(batches)
{
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];
	float whole[GOLDEN_USERS][SCORES];
	unsigned seed = 11;

	printf("# seed %u\n", seed);
	bench_open(&b, case_of(_i), kv_of(_i));
	passes_deal(&b.p, pages, GOLDEN_USERS);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		run_whole(&b, i, &pages[i], whole[i], NULL);
	for (int round = 0; round < 12; round++)
		random_pass(&b, &seed, whole);
	bench_close(&b);
}
END_TEST

/* Hidden states asked for: the last layer runs over all rows, and nothing else may change. */
START_TEST(hidden_or_not)
{
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];
	float with[SCORES], without[SCORES], *hidden = malloc(MOST * 256 * sizeof(float));

	bench_open(&b, case_of(_i), kv_of(_i));
	passes_deal(&b.p, pages, GOLDEN_USERS);
	for (unsigned i = 0; i < GOLDEN_USERS; i++) {
		run_whole(&b, i, &pages[i], with, hidden);
		run_whole(&b, i, &pages[i], without, NULL);
		ck_assert_mem_eq(with, without, score_count(&b, i) * 4);
	}
	bench_close(&b);
	free(hidden);
}
END_TEST

/* No history at all: a stranger's candidates see themselves alone. */
START_TEST(stranger)
{
	struct bench b;
	struct passes_pages pages[GOLDEN_USERS];
	struct mts_ref_forward r;
	float scores[SCORES];

	bench_open(&b, golden_cases[_i], MTS_F32);
	passes_deal(&b.p, pages, GOLDEN_USERS);
	for (unsigned i = 0; i < GOLDEN_USERS; i++) {
		struct part part = {&b.u[i], &pages[i], 0, 0, 1};

		ck_assert_int_eq(passes_run(&b.p, &part, 1, NULL, 0, scores, NULL), 0);
		ck_assert_int_eq(mts_ref_forward(b.g.model, NULL, NULL, 0, b.u[i].candidate,
						 b.u[i].candidates, &r),
				 0);
		ck_assert_double_le(largest_difference(r.scores, scores, score_count(&b, i)), 2e-6);
		mts_ref_forward_free(&r);
	}
	bench_close(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("forward_" DEVICE);
	TCase *tc = tcase_create("golden");
	SRunner *sr = srunner_create(s);
	int failed;

	if (device_missing(DEVICE))
		return EXIT_SUCCESS;
	tcase_set_timeout(tc, 400);
	tcase_add_loop_test(tc, golden_whole, 0, GOLDEN_CASES);
	tcase_add_loop_test(tc, every_split, 0, GOLDEN_CASES * 2);
	tcase_add_loop_test(tc, chunks, 0, GOLDEN_CASES * 2);
	tcase_add_loop_test(tc, batches, 0, GOLDEN_CASES * 2);
	tcase_add_loop_test(tc, hidden_or_not, 0, GOLDEN_CASES * 2);
	tcase_add_loop_test(tc, stranger, 0, GOLDEN_CASES);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
