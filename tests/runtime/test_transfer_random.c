/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random loads, write-backs, gates, cancels, timeouts, failures, device loss and close, on the CPU
 * device, checked against what was promised: exactly one completion an entry, its gate before it,
 * the right bytes after a 0, and nothing written to its memory afterwards.
 *
 * Three ways: by hand (a pure function of the seed), with all threads and a manual that reorders,
 * and with all threads at full speed. A failing seed is the last one printed.
 */
#include "memory/device_manual.h"
#include "transfer/transfer.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/park.h"

#define SLOTS 48          /* pieces of memory that entries use, each in one direction */
#define SLOT_BYTES 3000
#define SEGMENTS 5
#define ENTRIES 4096      /* in one run, at most */
#define SLICE 1024
#define LANE 4096
#define WRITEBACK 15000
#define CANARY 0xC5

/* ck_assert writes a mark to a file each time, which is too slow for what is checked here. */
#define must(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

enum mode { BY_HAND, REORDERED, FULL_SPEED, MODES };

struct slot {
	struct mts_segment seg[SEGMENTS];
	unsigned char *dst;
	unsigned users;
	int error; /* of any user since it was last idle */
	unsigned version;
};

struct rec {
	struct mts_gate gate;
	int slot; /* -1: a cancel */
	int posted;
	int has_gate;
};

struct world {
	enum mode mode;
	uint64_t rng;
	struct mts_manual *m;
	struct mts_device *dev;
	struct mts_transfer *t;
	unsigned char *device, *host;
	struct slot slot[SLOTS];
	struct rec *rec;
	unsigned submitted, posted;
	struct mts_gate held[4]; /* `after` gates, opened now and then */
	int opened[4];
	int lost;
	unsigned cancelled, met;
	uint64_t trace;
};

static uint32_t below(struct world *w, uint32_t n)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((w->rng >> 33) % n);
}

static int is_load(int slot)
{
	return slot % 2 == 0;
}

static unsigned char pattern(const struct world *w, int slot, size_t at)
{
	return (unsigned char)(slot * 31 + w->slot[slot].version * 7 + at % 251);
}

static void slot_ready(struct world *w, int i)
{
	struct slot *s = &w->slot[i];
	size_t base = (size_t)i * SLOT_BYTES;
	unsigned char *src = (is_load(i) ? w->host : w->device) + base;

	s->dst = (is_load(i) ? w->device : w->host) + base;
	s->version++;
	s->error = 0;
	for (size_t b = 0; b < SLOT_BYTES; b++) {
		must(s->dst[b] == CANARY); /* nothing came after the completion */
		src[b] = pattern(w, i, b);
	}
	for (unsigned k = 0, at = 0; k < SEGMENTS; k++) {
		unsigned n = k + 1 < SEGMENTS ? below(w, SLOT_BYTES / SEGMENTS) : SLOT_BYTES - at;

		s->seg[k] = (struct mts_segment){ s->dst + at, src + at, n };
		at += n;
	}
}

static void slot_check(struct world *w, int i, int result)
{
	struct slot *s = &w->slot[i];

	if (result)
		s->error = result;
	/* Among several users a failed copy may spoil what another has brought: look at the last. */
	if (--s->users)
		return;
	for (size_t b = 0; !s->error && b < SLOT_BYTES; b++)
		must(s->dst[b] == pattern(w, i, b));
	memset(s->dst, CANARY, SLOT_BYTES);
}

static void open_world(struct world *w, enum mode mode, uint64_t seed)
{
	struct mts_device_config dc = { .threads = 1 };
	struct mts_transfer_config tc = { .entries = 32, .slice_bytes = SLICE, .lane_bytes = LANE,
					  .writeback_bytes = WRITEBACK };
	void *p;

	*w = (struct world){ .mode = mode, .rng = seed };
	if (mode != FULL_SPEED)
		ck_assert_int_eq(mts_manual_open(seed, &w->m), 0);
	dc.manual = w->m;
	ck_assert_int_eq(mts_device_cpu.open(&dc, &w->dev, NULL), 0);
	ck_assert_int_eq(w->dev->ops->alloc(w->dev, SLOTS * SLOT_BYTES, &p), 0);
	w->device = p;
	w->host = malloc(SLOTS * SLOT_BYTES);
	w->rec = calloc(ENTRIES, sizeof(*w->rec));
	memset(w->device, CANARY, SLOTS * SLOT_BYTES);
	memset(w->host, CANARY, SLOTS * SLOT_BYTES);
	for (int i = 0; i < 4; i++)
		mts_gate_init(&w->held[i], 1);
	tc.device = w->dev;
	tc.manual = mode == BY_HAND ? w->m : NULL;
	ck_assert_int_eq(mts_transfer_open(&tc, &w->t), 0);
	if (mode == REORDERED)
		ck_assert_int_eq(mts_manual_run(w->m, 30), 0);
}

static void open_gate(struct world *w, int i)
{
	if (w->opened[i])
		return;
	w->opened[i] = 1;
	mts_gate_arrive(&w->held[i], below(w, 4) ? 0 : -ENODATA);
}

static int allowed(const struct world *w, int result)
{
	return !result || result == -ECANCELED || result == -ETIME || result == -ENODATA ||
	       result == -EIO || result == -EFAULT ||
	       (result == -EAGAIN && w->m); /* refused though nothing was in flight */
}

static void one_posted(struct world *w, const struct mts_cqe *c)
{
	struct rec *r = &w->rec[c->user_data];
	int error = 0;

	must(c->user_data < w->submitted);
	must(!r->posted);
	r->posted = 1;
	w->posted++;
	w->trace = (w->trace ^ (c->user_data << 20) ^ (uint32_t)c->result) * 0x100000001b3ull;
	if (r->slot < 0) {
		must(c->result >= 0);
		w->met += (unsigned)c->result;
		return;
	}
	must(allowed(w, c->result));
	w->cancelled += c->result == -ECANCELED;
	if (r->has_gate) {
		must(mts_gate_poll(&r->gate, &error) == 1);
		must(error == c->result);
	}
	slot_check(w, r->slot, c->result);
}

static void reap(struct world *w)
{
	struct mts_cqe c[16];
	unsigned n = mts_transfer_reap(w->t, c, 1 + below(w, 16));

	for (unsigned i = 0; i < n; i++)
		one_posted(w, &c[i]);
	must(mts_transfer_outstanding(w->t) == w->submitted - w->posted);
}

static void fill_entry(struct world *w, struct mts_sqe *q, unsigned id)
{
	struct rec *r = &w->rec[id];
	int gate = (int)below(w, 4);

	r->slot = (int)below(w, SLOTS);
	if (!w->slot[r->slot].users++)
		slot_ready(w, r->slot);
	q->op = is_load(r->slot) ? MTS_SQE_ONLOAD : MTS_SQE_WRITEBACK;
	q->cls = (uint8_t)below(w, 3);
	q->segment = w->slot[r->slot].seg;
	q->segments = SEGMENTS;
	q->deadline_ns = below(w, 5);
	r->has_gate = below(w, 3) > 0;
	if (r->has_gate) {
		mts_gate_init(&r->gate, 1);
		q->gate = &r->gate;
	}
	if (!below(w, 6))
		q->timeout_ns = 1 + below(w, 200000);
	if (!below(w, 6))
		q->after = &w->held[gate];
}

/* Takes back what fill_entry did for entries that were not handed over. */
static void unfill(struct world *w, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		if (w->rec[i].slot >= 0 && !--w->slot[w->rec[i].slot].users)
			memset(w->slot[w->rec[i].slot].dst, CANARY, SLOT_BYTES);
		w->rec[i] = (struct rec){ 0 };
	}
}

static void submit(struct world *w)
{
	unsigned n = 1 + below(w, 6), id = w->submitted;
	struct mts_sqe *q;
	int ret;

	for (; n && id < ENTRIES && (q = mts_transfer_get_sqe(w->t)); n--, id++) {
		if (below(w, 8)) {
			fill_entry(w, q, id);
		} else {
			w->rec[id].slot = -1;
			q->op = MTS_SQE_CANCEL;
			q->target = id - below(w, id < 12 ? id + 1 : 12);
		}
		q->user_data = id;
	}
	n = id - w->submitted;
	ret = mts_transfer_submit(w->t);
	if (ret == -EAGAIN) {
		mts_transfer_abandon(w->t);
		unfill(w, w->submitted, id);
		return;
	}
	must(ret == (int)n);
	w->submitted = id;
}

static size_t held_bytes(struct world *w, enum mts_lane lane)
{
	struct mts_segment first;
	size_t sum = 0, bytes;
	uint64_t cookie;

	for (unsigned i = 0; !mts_manual_look(w->m, lane, i, &cookie, &first, &bytes); i++)
		sum += bytes;
	return sum;
}

static void disturb(struct world *w)
{
	if (!w->m)
		return;
	if (!below(w, 10))
		mts_manual_fail(w->m, MTS_FAIL_DONE, 1 + below(w, 5), -EIO);
	if (!below(w, 20))
		mts_manual_fail(w->m, MTS_FAIL_COPY, 1 + below(w, 5), below(w, 2) ? -EFAULT : -EAGAIN);
	if (w->mode == BY_HAND) {
		must(held_bytes(w, MTS_H2D) <= LANE);
		must(held_bytes(w, MTS_D2H) <= LANE);
		mts_manual_advance(w->m, below(w, 30000));
		for (uint32_t n = below(w, 4); n; n--)
			mts_manual_step(w->m);
	}
	if (!w->lost && !below(w, 3000)) {
		mts_manual_lose(w->m);
		w->lost = 1;
	}
}

static void step(struct world *w)
{
	switch (below(w, 8)) {
	case 0:
	case 1:
	case 2:
		submit(w);
		break;
	case 3:
	case 4:
	case 5:
		reap(w);
		break;
	case 6:
		open_gate(w, (int)below(w, 4));
		break;
	default:
		disturb(w);
	}
}

static void reap_all(struct world *w)
{
	for (int i = 0; i < 4; i++)
		open_gate(w, i);
	while (mts_transfer_outstanding(w->t)) {
		ck_assert_int_eq(mts_transfer_wait(w->t, -1), 0);
		reap(w);
	}
	ck_assert_uint_eq(w->posted, w->submitted);
	ck_assert_uint_eq(w->met, w->cancelled);
}

/* Closes with whatever is outstanding: all gates have had their arrival. */
static void close_world(struct world *w)
{
	mts_transfer_close(w->t);
	for (unsigned i = 0; i < w->submitted; i++) {
		int error;

		if (w->rec[i].has_gate)
			ck_assert_int_eq(mts_gate_poll(&w->rec[i].gate, &error), 1);
	}
	w->dev->ops->free(w->dev, w->device, SLOTS * SLOT_BYTES);
	w->dev->ops->close(w->dev);
	mts_manual_close(w->m);
	free(w->rec);
	free(w->host);
}

static uint64_t life(enum mode mode, uint64_t seed, int steps)
{
	struct world w;

	open_world(&w, mode, seed);
	for (int i = 0; i < steps; i++)
		step(&w);
	if (below(&w, 2))
		reap_all(&w);
	close_world(&w);
	return w.trace;
}

START_TEST(keeps_its_promises)
{
	const char *seeds = getenv("MTS_TEST_SEEDS"); /* the long run sets more */
	uint64_t last = seeds ? strtoull(seeds, NULL, 10) : 20;

	for (uint64_t seed = 1; seed <= last; seed++) {
		printf("# mode %d seed %llu\n", _i, (unsigned long long)seed);
		life((enum mode)_i, seed, 1200);
	}
}
END_TEST

START_TEST(by_hand_repeats_exactly)
{
	for (uint64_t seed = 1; seed <= 10; seed++)
		ck_assert_uint_eq(life(BY_HAND, seed, 1200), life(BY_HAND, seed, 1200));
	ck_assert_uint_ne(life(BY_HAND, 1, 1200), life(BY_HAND, 2, 1200));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("transfer_random");
	TCase *tc = tcase_create("random");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, keeps_its_promises, 0, MODES);
	tcase_add_test(tc, by_hand_repeats_exactly);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
