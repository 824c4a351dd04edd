/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a forward pass is launched: what is asked of the device and in which order, what is refused,
 * and what happens when any single step fails.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_ref.h"
#include "error.h"
#include "passes.h"

struct scene {
	struct golden g;
	struct golden_user u[GOLDEN_USERS];
	struct passes_pages pages[GOLDEN_USERS];
	struct device_ref d;
	struct passes p;
	struct mts_gate ready[2][2]; /* by user, by layer */
};

/* Two layers; user 0 has 37 events and 9 candidates. */
static void scene_open(struct scene *s)
{
	device_ref_init(&s->d);
	golden_open("hstu-slide", &s->g);
	ck_assert_uint_eq(s->g.c->layers, 2);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		golden_user_open(&s->g, i, &s->u[i]);
	passes_open(&s->p, &s->d.dev, &s->g, MTS_F32);
	passes_deal(&s->p, s->pages, GOLDEN_USERS);
	for (int i = 0; i < 4; i++)
		mts_gate_init(&s->ready[i / 2][i % 2], 0);
}

static void scene_close(struct scene *s)
{
	passes_close(&s->p);
	for (unsigned i = 0; i < GOLDEN_USERS; i++)
		golden_user_close(&s->u[i]);
	golden_close(&s->g);
	ck_assert_uint_eq(s->d.live, 0);
}

static int run(struct scene *s, int history, int candidates, float *scores, float *hidden)
{
	struct part part = {&s->u[0], &s->pages[0], history ? 0 : s->u[0].v,
			    history ? s->u[0].v : 0, candidates};

	struct mts_gate *const ready[] = {s->ready[0], s->ready[1]};

	s->d.log[0] = '\0';
	return passes_run(&s->p, &part, 1, ready, 2, scores, hidden);
}

/* e embed, n norm, g gemm, W wait, a append, A attention, m modulate, p pick, s score, f fetch. */
START_TEST(order)
{
	struct scene s;
	float scores[64], hidden[46 * 32];

	scene_open(&s);
	ck_assert_uint_eq(s.d.prepared, 3);
	ck_assert_int_eq(run(&s, 1, 1, scores, NULL), 0);
	ck_assert_str_eq(s.d.log, "engWWa0A0mgngWWa1ppA1mgngsfS");
	ck_assert_int_eq(run(&s, 1, 0, NULL, NULL), 0);
	ck_assert_str_eq(s.d.log, "engWWa0A0mgngWWa1S");
	ck_assert_int_eq(run(&s, 0, 1, scores, NULL), 0);
	ck_assert_str_eq(s.d.log, "engWWa0A0mgngWWa1ppA1mgngsfS");
	ck_assert_int_eq(run(&s, 1, 1, scores, hidden), 0);
	ck_assert_str_eq(s.d.log, "engWWa0A0mgngWWa1A1mgpngsffS");
	ck_assert_int_eq(run(&s, 0, 0, NULL, NULL), 0);
	ck_assert_str_eq(s.d.log, "S");
	scene_close(&s);
}
END_TEST

/* Any launch may be refused: done arrives once, with that error, and the next pass is unharmed. */
START_TEST(every_launch_refused)
{
	struct scene s;
	float good[64], scores[64];
	unsigned steps, at = 0;

	scene_open(&s);
	s.d.launches = 0;
	ck_assert_int_eq(run(&s, 1, 1, good, NULL), 0);
	steps = s.d.launches;
	for (unsigned fail = 1; fail <= steps; fail++) {
		s.d.launches = 0;
		s.d.fail_launch = fail;
		ck_assert_int_eq(run(&s, 1, 1, scores, NULL), -ENOMEM);
		at = s.d.launches;
		s.d.fail_launch = 0;
		ck_assert_int_eq(run(&s, 1, 1, scores, NULL), 0);
		ck_assert_mem_eq(good, scores, 9 * s.g.c->tasks * 4);
	}
	ck_assert_uint_eq(at, steps);
	scene_close(&s);
}
END_TEST

START_TEST(every_operation_failing)
{
	struct scene s;
	float good[64], scores[64];
	unsigned steps;

	scene_open(&s);
	s.d.launches = 0;
	ck_assert_int_eq(run(&s, 1, 1, good, NULL), 0);
	steps = s.d.launches;
	for (unsigned fail = 1; fail <= steps; fail++) {
		s.d.launches = 0;
		s.d.fail_run = fail;
		ck_assert_int_eq(run(&s, 1, 1, scores, NULL), -EIO);
		s.d.fail_run = 0;
		ck_assert_int_eq(run(&s, 1, 1, scores, NULL), 0);
		ck_assert_mem_eq(good, scores, 9 * s.g.c->tasks * 4);
	}
	scene_close(&s);
}
END_TEST

START_TEST(load_that_failed)
{
	struct scene s;
	float scores[64];

	for (int i = 0; i < 4; i++) {
		scene_open(&s);
		mts_gate_init(&s.ready[i / 2][i % 2], 1);
		mts_gate_arrive(&s.ready[i / 2][i % 2], -ECANCELED);
		ck_assert_int_eq(run(&s, 1, 1, scores, NULL), -ECANCELED);
		scene_close(&s);
	}
}
END_TEST

START_TEST(every_allocation_failing)
{
	struct device_ref d;
	struct golden g;
	struct mts_weights *w;
	struct mts_error err;
	unsigned fail = 0;
	int rc;

	golden_open("stu-small", &g);
	do {
		device_ref_init(&d);
		d.fail_alloc = ++fail;
		rc = mts_weights_open(&d.dev, g.model, 16, 8, 2, MTS_BF16, &w, &err);
		if (rc) {
			ck_assert_int_eq(rc, -ENOMEM);
			ck_assert(strstr(err.text, "cannot load onto the device") ||
				  strstr(err.text, "no device memory for 2 passes of 16 rows"));
			ck_assert_uint_eq(d.live, 0);
		}
	} while (rc);
	/* three embeddings, three layers of seven, six of the head; eleven buffers a slot */
	ck_assert_uint_eq(fail, 3 + 21 + 6 + 22 + 1);
	mts_weights_close(w);
	ck_assert_uint_eq(d.live, 0);
	golden_close(&g);
}
END_TEST

struct bad {
	const char *what;
	struct mts_span span;
	uint32_t rows, candidates, item, action;
	unsigned slot;
	int no_scores, other_layout, expect;
};

static const struct bad bads[] = {
	{"fine", {0, 2, 2, 0, 2, NULL}, 4, 2, 499, 7, 0, 0, 0, 0},
	{"more rows than spans have", {0, 2, 2, 0, 2, NULL}, 5, 2, 0, 0, 0, 0, 0, -EINVAL},
	{"fewer rows", {0, 2, 2, 0, 2, NULL}, 3, 2, 0, 0, 0, 0, 0, -EINVAL},
	{"a gap", {1, 1, 2, 0, 1, NULL}, 4, 2, 0, 0, 0, 0, 0, -EINVAL},
	{"other candidates", {0, 2, 2, 0, 2, NULL}, 4, 1, 0, 0, 0, 0, 0, -EINVAL},
	{"candidates before the end", {0, 2, 2, 0, 3, NULL}, 4, 2, 0, 0, 0, 0, 0, -EINVAL},
	{"history past the end", {0, 4, 0, 0, 3, NULL}, 4, 0, 0, 0, 0, 0, 0, -EINVAL},
	{"wraps", {0, 2, 2, UINT32_MAX, 1, NULL}, 4, 2, 0, 0, 0, 0, 0, -EINVAL},
	{"wraps too", {0, UINT32_MAX, 5, 0, 5, NULL}, 4, 5, 0, 0, 0, 0, 0, -EINVAL},
	{"too many rows", {0, 1000, 0, 0, 1000, NULL}, 1000, 0, 0, 0, 0, 0, 0, -E2BIG},
	{"too many candidates", {0, 0, 100, 0, 0, NULL}, 100, 100, 0, 0, 0, 0, 0, -E2BIG},
	{"item", {0, 2, 2, 0, 2, NULL}, 4, 2, 500, 7, 0, 0, 0, -ERANGE},
	{"action", {0, 2, 2, 0, 2, NULL}, 4, 2, 499, 8, 0, 0, 0, -ERANGE},
	{"slot", {0, 2, 2, 0, 2, NULL}, 4, 2, 0, 0, 2, 0, 0, -EINVAL},
	{"scores", {0, 2, 2, 0, 2, NULL}, 4, 2, 0, 0, 0, 1, 0, -EINVAL},
	{"layout", {0, 2, 2, 0, 2, NULL}, 4, 2, 0, 0, 0, 0, 1, -EINVAL},
};

START_TEST(refused)
{
	const struct bad *b = &bads[_i];
	struct scene s;
	struct mts_span span = b->span;
	struct mts_kv_pool kv;
	struct mts_gate done;
	float scores[1000];
	uint32_t item[1000], action[1000];
	struct mts_pass pass = {b->rows, 1, b->candidates, &span, item, action};
	struct mts_forward f = {.pass = &pass,
				.kv = &kv,
				.done = &done,
				.slot = b->slot,
				.scores = b->no_scores ? NULL : scores};
	int error;

	scene_open(&s);
	kv = s.p.kv;
	kv.layout.dtype = b->other_layout ? MTS_BF16 : MTS_F32;
	span.pages = s.pages[0].id;
	for (int i = 0; i < 1000; i++) {
		item[i] = b->item;
		action[i] = b->action;
	}
	s.d.launches = 0;
	mts_gate_init(&done, 1);
	ck_assert_msg(mts_forward(s.p.weights, &f) == b->expect, "%s", b->what);
	ck_assert_int_eq(mts_gate_poll(&done, &error), b->expect == 0);
	ck_assert(b->expect == 0 || s.d.launches == 0);
	scene_close(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hstu");
	TCase *tc = tcase_create("launch");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, order);
	tcase_add_test(tc, every_launch_refused);
	tcase_add_test(tc, every_operation_failing);
	tcase_add_test(tc, load_that_failed);
	tcase_add_test(tc, every_allocation_failing);
	tcase_add_loop_test(tc, refused, 0, sizeof(bads) / sizeof(bads[0]));
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
