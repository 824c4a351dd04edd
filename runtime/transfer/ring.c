/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transfer's two rings, its thread, and the calls of its owner (transfer.h). Floor: transfer.
 *
 *   owner's thread                          transfer thread
 *   get_sqe, submit   --- sq (entries) -->  accept, turn (schedule.c)
 *   reap, wait        <-- cq (2 entries) -  post
 *
 * The owner never has more outstanding than the cq holds, so that posting cannot fail. Either side
 * parks when it has nothing to do and is woken only then.
 *
 * With a manual (tests) there is no thread: the owner's calls run the scheduler themselves.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory/device_manual.h"
#include "memory/park.h"
#include "memory/ring.h"
#include "transfer/schedule.h"

#define ENTRIES 4096u
#define ENTRIES_MAX (1u << 20)
#define SLICE_BYTES ((size_t)1 << 20)
#define SLICE_MAX ((size_t)1 << 30)
#define LANE_BYTES ((size_t)8 << 20)
#define WRITEBACK_BYTES ((size_t)256 << 20)
#define ACCEPT_MAX 256

struct mts_transfer {
	/* set at open */
	struct mts_transfer_config cfg;
	struct mts_schedule *schedule;
	struct mts_submission *sqe;
	struct mts_cqe *cqe;
	pthread_t thread;
	void (*notify)(void *);
	void *notify_arg;

	/* the owner's */
	uint32_t got;
	uint32_t outstanding;

	/* shared */
	struct mts_ring sq, cq;
	_Atomic uint64_t writeback; /* bytes submitted and not completed */
	_Atomic int room_wanted;    /* the owner found the sq full */
	_Atomic int stop;
	struct mts_park owner, worker;

	/* the transfer thread's */
	uint32_t posted; /* in this round */
};

/* ---- the transfer thread ---- */

static uint64_t clock_now(const struct mts_transfer *t)
{
	return t->cfg.manual ? mts_manual_now(t->cfg.manual) : mts_now();
}

static void post(void *arg, const struct mts_submission *s, int result)
{
	struct mts_transfer *t = arg;
	struct mts_cqe *c = &t->cqe[mts_ring_put_slot(&t->cq, t->posted++)];

	*c = (struct mts_cqe){ .user_data = s->sqe.user_data, .result = result };
	if (s->sqe.op == MTS_SQE_WRITEBACK)
		atomic_fetch_sub_explicit(&t->writeback, s->bytes, memory_order_relaxed);
}

static void wake_worker(void *arg)
{
	struct mts_transfer *t = arg;

	if (!t->cfg.manual)
		mts_park_wake(&t->worker);
}

static int accept_some(struct mts_transfer *t)
{
	uint32_t n = mts_ring_filled(&t->sq);

	if (n > ACCEPT_MAX)
		n = ACCEPT_MAX;
	for (uint32_t i = 0; i < n; i++)
		mts_schedule_accept(t->schedule, &t->sqe[mts_ring_take_slot(&t->sq, i)]);
	if (!n)
		return 0;
	mts_ring_release(&t->sq, n);
	/*
	 * Pairs with the fence in sq_full(): either the owner sees the room just made, or this load
	 * sees that it wants some.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&t->room_wanted, memory_order_relaxed))
		mts_park_wake(&t->owner);
	return 1;
}

static void flush(struct mts_transfer *t)
{
	if (!t->posted)
		return;
	mts_ring_publish(&t->cq, t->posted);
	t->posted = 0;
	mts_park_wake(&t->owner);
	if (t->notify)
		t->notify(t->notify_arg);
}

/* One round: 1 where it did anything. */
static int turn(struct mts_transfer *t)
{
	int any = accept_some(t);

	any |= mts_schedule_turn(t->schedule, clock_now(t));
	flush(t);
	return any;
}

static void *transfer_thread(void *arg)
{
	struct mts_transfer *t = arg;

	while (!atomic_load_explicit(&t->stop, memory_order_acquire))
		if (!turn(t))
			mts_park_wait(&t->worker, mts_schedule_next_ns(t->schedule));
	while (accept_some(t))
		flush(t);
	mts_schedule_cancel_all(t->schedule);
	for (;;) {
		if (turn(t))
			continue;
		if (!mts_schedule_active(t->schedule))
			return NULL;
		mts_park_wait(&t->worker, MTS_FOREVER);
	}
}

/* ---- open, close ---- */

static int fill_defaults(struct mts_transfer_config *c)
{
	c->entries = c->entries ? c->entries : ENTRIES;
	c->slice_bytes = c->slice_bytes ? c->slice_bytes : SLICE_BYTES;
	c->lane_bytes = c->lane_bytes ? c->lane_bytes : LANE_BYTES;
	c->writeback_bytes = c->writeback_bytes ? c->writeback_bytes : WRITEBACK_BYTES;
	if (!c->device || c->entries & (c->entries - 1) || c->entries > ENTRIES_MAX ||
	    c->slice_bytes > SLICE_MAX)
		return -EINVAL;
	return 0;
}

static void free_all(struct mts_transfer *t)
{
	if (t->schedule)
		mts_schedule_close(t->schedule);
	free(t->cqe);
	free(t->sqe);
	free(t);
}

static int make_rings(struct mts_transfer *t)
{
	const struct mts_transfer_config *c = &t->cfg;
	const struct mts_schedule_config s = {
		.device = c->device, .entries = 2 * c->entries, .slice_bytes = c->slice_bytes,
		.lane_bytes = c->lane_bytes, .post = post, .wake = wake_worker, .arg = t,
	};

	mts_ring_init(&t->sq, c->entries);
	mts_ring_init(&t->cq, 2 * c->entries);
	t->sqe = calloc(c->entries, sizeof(*t->sqe));
	t->cqe = calloc(2 * c->entries, sizeof(*t->cqe));
	if (!t->sqe || !t->cqe)
		return -ENOMEM;
	return mts_schedule_open(&s, &t->schedule);
}

int mts_transfer_open(const struct mts_transfer_config *cfg, struct mts_transfer **out)
{
	struct mts_transfer *t = aligned_alloc(64, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	*t = (struct mts_transfer){ .cfg = *cfg };
	ret = fill_defaults(&t->cfg);
	if (!ret)
		ret = make_rings(t);
	if (ret) {
		free_all(t);
		return ret;
	}
	cfg->device->ops->copy_notify(cfg->device, wake_worker, t);
	if (!cfg->manual)
		ret = -pthread_create(&t->thread, NULL, transfer_thread, t);
	if (ret) {
		cfg->device->ops->copy_notify(cfg->device, NULL, NULL);
		free_all(t);
		return ret;
	}
	*out = t;
	return 0;
}

static void drain_by_hand(struct mts_transfer *t)
{
	while (turn(t))
		;
	mts_schedule_cancel_all(t->schedule);
	flush(t);
	while (turn(t) || mts_schedule_active(t->schedule))
		/* Nothing held, yet not finished: another thread is opening a gate. */
		if (!mts_manual_step(t->cfg.manual))
			mts_sleep_until(mts_now() + 100000);
}

void mts_transfer_close(struct mts_transfer *t)
{
	if (!t)
		return;
	if (t->cfg.manual) {
		drain_by_hand(t);
	} else {
		/* Release, with the acquire in transfer_thread(): submissions come before it. */
		atomic_store_explicit(&t->stop, 1, memory_order_release);
		mts_park_wake(&t->worker);
		pthread_join(t->thread, NULL);
	}
	t->cfg.device->ops->copy_notify(t->cfg.device, NULL, NULL);
	free_all(t);
}

void mts_transfer_notify(struct mts_transfer *t, void (*fn)(void *), void *arg)
{
	t->notify_arg = arg;
	t->notify = fn;
}

/* ---- the owner's calls ---- */

static int sq_full(struct mts_transfer *t)
{
	if (mts_ring_room(&t->sq, t->got + 1) > t->got)
		return 0;
	atomic_store_explicit(&t->room_wanted, 1, memory_order_relaxed);
	/* Pairs with the fence in accept_some(). */
	atomic_thread_fence(memory_order_seq_cst);
	return mts_ring_room(&t->sq, t->got + 1) <= t->got;
}

static void run_by_hand(struct mts_transfer *t)
{
	while (t->cfg.manual && turn(t))
		;
}

struct mts_sqe *mts_transfer_get_sqe(struct mts_transfer *t)
{
	struct mts_submission *s;

	if (sq_full(t))
		return NULL;
	atomic_store_explicit(&t->room_wanted, 0, memory_order_relaxed);
	s = &t->sqe[mts_ring_put_slot(&t->sq, t->got++)];
	memset(&s->sqe, 0, sizeof(s->sqe));
	return &s->sqe;
}

void mts_transfer_abandon(struct mts_transfer *t)
{
	t->got = 0;
}

static uint64_t sqe_bytes(const struct mts_sqe *q)
{
	uint64_t bytes = 0;

	if (q->op == MTS_SQE_CANCEL || !q->segment)
		return 0;
	for (uint32_t i = 0; i < q->segments; i++)
		bytes += q->segment[i].bytes;
	return bytes;
}

int mts_transfer_submit(struct mts_transfer *t)
{
	uint64_t now = clock_now(t), writeback = 0, before;
	uint32_t n = t->got;

	if (t->outstanding + n > 2 * t->cfg.entries)
		return -EAGAIN;
	for (uint32_t i = 0; i < n; i++) {
		struct mts_submission *s = &t->sqe[mts_ring_put_slot(&t->sq, i)];

		s->submitted_ns = now;
		s->bytes = sqe_bytes(&s->sqe);
		writeback += s->sqe.op == MTS_SQE_WRITEBACK ? s->bytes : 0;
	}
	before = atomic_load_explicit(&t->writeback, memory_order_relaxed);
	/* More than the bound at once is let through when nothing else waits: it could never go. */
	if (writeback && before && before + writeback > t->cfg.writeback_bytes)
		return -EAGAIN;
	atomic_fetch_add_explicit(&t->writeback, writeback, memory_order_relaxed);
	mts_ring_publish(&t->sq, n);
	t->outstanding += n;
	t->got = 0;
	if (n)
		wake_worker(t);
	run_by_hand(t);
	return (int)n;
}

unsigned mts_transfer_reap(struct mts_transfer *t, struct mts_cqe *out, unsigned max)
{
	uint32_t n;

	run_by_hand(t);
	n = mts_ring_filled(&t->cq);
	if (n > max)
		n = max;
	for (uint32_t i = 0; i < n; i++)
		out[i] = t->cqe[mts_ring_take_slot(&t->cq, i)];
	mts_ring_release(&t->cq, n);
	t->outstanding -= n;
	return n;
}

static int wait_by_hand(struct mts_transfer *t)
{
	uint64_t next, now;

	for (run_by_hand(t); !mts_ring_filled(&t->cq); run_by_hand(t)) {
		if (mts_manual_step(t->cfg.manual))
			continue;
		next = mts_schedule_next_ns(t->schedule);
		if (next == UINT64_MAX)
			return -ETIME; /* a gate that nobody here will open */
		now = mts_manual_now(t->cfg.manual);
		mts_manual_advance(t->cfg.manual, next > now ? next - now : 0);
	}
	return 0;
}

int mts_transfer_wait(struct mts_transfer *t, int64_t timeout_ns)
{
	uint64_t until = mts_deadline(timeout_ns);

	if (!t->outstanding)
		return -ENOENT;
	if (t->cfg.manual)
		return wait_by_hand(t);
	for (;;) {
		if (mts_ring_filled(&t->cq))
			return 0;
		if (atomic_load_explicit(&t->room_wanted, memory_order_relaxed) && !sq_full(t))
			return 0;
		if (until != MTS_FOREVER && mts_now() >= until)
			return -ETIME;
		mts_park_wait(&t->owner, until);
	}
}

unsigned mts_transfer_outstanding(const struct mts_transfer *t)
{
	return t->outstanding;
}

void mts_transfer_stats(const struct mts_transfer *t, struct mts_transfer_stats *out)
{
	const struct mts_schedule_counters *c = mts_schedule_counters(t->schedule);

	for (int i = 0; i < MTS_LANES; i++) {
		out->bytes[i] = atomic_load_explicit(&c->bytes[i], memory_order_relaxed);
		out->copies[i] = atomic_load_explicit(&c->copies[i], memory_order_relaxed);
		out->entries[i] = atomic_load_explicit(&c->entries[i], memory_order_relaxed);
		out->busy_ns[i] = atomic_load_explicit(&c->busy_ns[i], memory_order_relaxed);
	}
	out->merged = atomic_load_explicit(&c->merged, memory_order_relaxed);
	out->cancelled = atomic_load_explicit(&c->cancelled, memory_order_relaxed);
	out->timed_out = atomic_load_explicit(&c->timed_out, memory_order_relaxed);
	out->failed = atomic_load_explicit(&c->failed, memory_order_relaxed);
}
