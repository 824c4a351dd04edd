/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads overlap computation: layer l runs before layer l + 1 has arrived, and the next pass's loads
 * are under way while this pass computes. A manual device holds every copy until the test lets it
 * go, so the order of events is the test's, not the clock's: the pauses below only bound how long a
 * broken engine is waited for.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "error.h"
#include "memory/device_manual.h"

#define LAYERS	   3u
#define EVENTS	   60u
#define PATIENCE_NS 20000000000ll

/* Operations of a pass before its first wait, and from one layer's wait to the next. */
#define OPS_BEFORE_LAYER_0 3u /* embed, norm, gemm */
#define OPS_PER_LAYER	   6u /* append, attention, modulate, gemm; norm, gemm of the next layer */

struct bench {
	char path[64];
	struct mts_manual *manual;
	struct mts_device *dev;
	struct mts_model *model;
	struct mts_server *server;
	struct mts_event life[EVENTS + 8];
};

static void open_bench(struct bench *b)
{
	struct mts_device_config dc = { .threads = 1 };
	struct mts_server_config sc = {
		.size = sizeof(sc), .page_tokens = 16, .batch = 1, .node = -1, .arena = "plain",
	};
	struct mts_model_config c;
	struct mts_error err;
	size_t page;

	snprintf(b->path, sizeof(b->path), "/tmp/mts-overlap.%d.safetensors", (int)getpid());
	ck_assert_int_eq(mts_preset_config("tiny", &(struct mts_preset_options){ .items = 100 }, &c,
					   &err), 0);
	c.layers = LAYERS;
	ck_assert_int_eq(mts_model_generate(&c, MTS_F32, 1, b->path, &err), 0);
	ck_assert_int_eq(mts_model_open(b->path, &b->model, &err), 0);
	ck_assert_int_eq(mts_manual_open(1, &b->manual), 0);
	dc.manual = b->manual;
	ck_assert_int_eq(mts_device_cpu.open(&dc, &b->dev, &err), 0);
	page = 16 * mts_model_token_bytes(&c, MTS_F32);
	sc.device_bytes = 9 * page; /* two users of four pages, and one */
	sc.host_bytes = 64 * page;
	ck_assert_int_eq(mts_server_open_on(&sc, b->dev, b->model, NULL, &b->server, &err), 0);
	for (uint32_t i = 0; i < EVENTS + 8; i++)
		b->life[i] = (struct mts_event){ i * 7 % 100, 1 + i % 100 };
}

static void close_bench(struct bench *b)
{
	mts_manual_run(b->manual, 0);
	mts_server_close(b->server);
	b->dev->ops->close(b->dev);
	mts_manual_close(b->manual);
	mts_model_close(b->model);
	unlink(b->path);
}

static void submit(struct bench *b, uint64_t user, uint32_t n, float *scores)
{
	static const uint32_t candidates[3] = { 5, 6, 7 };
	struct mts_request r = {
		.history = { user, n, 0, b->life, n, 0 },
		.candidates = candidates,
		.ncandidates = 3,
		.scores = scores,
		.user_data = user,
	};

	ck_assert_int_eq(mts_server_submit(b->server, &r, 1), 1);
}

static struct mts_reply reap(struct bench *b)
{
	struct mts_reply r = { .result = -EAGAIN };

	ck_assert_int_eq(mts_server_reap(b->server, &r, 1, PATIENCE_NS), 1);
	ck_assert_int_eq(r.result, 0);
	return r;
}

static void wait_written(struct bench *b, uint64_t tokens)
{
	size_t bytes = mts_model_token_bytes(mts_model_get_config(b->model), MTS_F32);
	struct mts_counters n;

	for (int i = 0; i < 20000; i++) {
		mts_server_counters(b->server, &n);
		if (n.bytes_d2h == tokens * bytes)
			return;
		usleep(1000);
	}
	ck_abort_msg("written %llu bytes of %llu tokens", (unsigned long long)n.bytes_d2h,
		     (unsigned long long)tokens);
}

/* Users 1 .. 4 were here; the first ones are on the host alone now. Then copies are held. */
static void fill(struct bench *b)
{
	float scores[12];

	mts_manual_run(b->manual, 0);
	for (uint64_t user = 1; user <= 4; user++) {
		submit(b, user, EVENTS, scores);
		reap(b);
		/* Its write-back must be over, or it would not be evicted. */
		wait_written(b, user * EVENTS);
	}
	mts_manual_hold(b->manual);
}

static uint64_t ops_run(struct bench *b)
{
	return mts_manual_count(b->manual, MTS_FAIL_RUN);
}

static void wait_ops(struct bench *b, uint64_t n)
{
	for (int i = 0; i < 20000 && ops_run(b) < n; i++)
		usleep(1000);
	ck_assert_uint_eq(ops_run(b), n);
}

static uint32_t layer_of(const struct bench *b, const struct mts_segment *s)
{
	const struct mts_kv_pool *kv = &b->server->tier->kv;

	return (uint32_t)(((char *)s->dst - (char *)kv->base) / (ptrdiff_t)kv->layer_stride);
}

/* Lets every held load of the layer go; returns how many loads of other layers are still held. */
static unsigned release_layer(struct bench *b, uint32_t layer)
{
	struct mts_segment first;
	uint64_t cookie;
	unsigned others = 0;
	size_t bytes;

	while (!mts_manual_look(b->manual, MTS_H2D, others, &cookie, &first, &bytes)) {
		if (layer_of(b, &first) == layer)
			ck_assert_int_eq(mts_manual_finish(b->manual, MTS_H2D, others), 0);
		else
			others++;
	}
	return others;
}

START_TEST(a_layer_runs_before_the_next_has_arrived)
{
	struct bench b;
	float scores[12];
	uint64_t before;

	open_bench(&b);
	fill(&b);
	before = ops_run(&b);
	submit(&b, 1, EVENTS + 3, scores);
	ck_assert_int_eq(mts_manual_wait_held(b.manual, MTS_H2D, LAYERS, PATIENCE_NS), 0);
	wait_ops(&b, before + OPS_BEFORE_LAYER_0);
	for (uint32_t l = 0; l < LAYERS; l++) {
		ck_assert_uint_eq(release_layer(&b, l), LAYERS - 1 - l);
		if (l + 1 < LAYERS)
			wait_ops(&b, before + OPS_BEFORE_LAYER_0 + (l + 1) * OPS_PER_LAYER);
	}
	ck_assert_uint_eq(reap(&b).host_tokens, EVENTS);
	close_bench(&b);
}
END_TEST

START_TEST(the_next_load_starts_while_this_pass_computes)
{
	struct bench b;
	float scores[2][12];

	open_bench(&b);
	fill(&b);
	submit(&b, 1, EVENTS + 3, scores[0]);
	ck_assert_int_eq(mts_manual_wait_held(b.manual, MTS_H2D, LAYERS, PATIENCE_NS), 0);
	/* User 1's pass stands at layer 0 and nobody has let it go; user 2's loads come all the same. */
	submit(&b, 2, EVENTS + 3, scores[1]);
	ck_assert_int_eq(mts_manual_wait_held(b.manual, MTS_H2D, 2 * LAYERS, PATIENCE_NS), 0);
	mts_manual_run(b.manual, 0);
	ck_assert_uint_eq(reap(&b).host_tokens, EVENTS);
	ck_assert_uint_eq(reap(&b).host_tokens, EVENTS);
	close_bench(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("overlap");
	TCase *c = tcase_create("overlap");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_layer_runs_before_the_next_has_arrived);
	tcase_add_test(c, the_next_load_starts_while_this_pass_computes);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
