/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler (schedule.h). Floor: transfer. All tables are made at open; nothing is allocated
 * afterwards.
 */
#include "transfer/schedule.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define REAP_MAX 64

struct entry {
	struct mts_gate_watch watch; /* on sqe.after, while gated */
	struct mts_schedule *schedule;
	struct mts_submission in;
	uint64_t seq;
	int active;
	int result;          /* not 0: it has left; what it will complete with */
	uint32_t work;       /* MTS_NONE: gated */
	uint32_t next;       /* in its work, or in the free list */
	uint32_t next_ready; /* in the list of those whose gate opened */
	uint32_t same_next, same_prev; /* entries with user_data of one hash */
};

struct work {
	enum mts_lane lane;
	struct mts_heap_item key;
	const struct mts_segment *segment; /* of some member; all are equal */
	uint32_t segments;
	uint32_t at;      /* next segment to start, and how far into it */
	size_t offset;
	uint64_t bytes;
	uint32_t first;   /* members */
	uint32_t live;    /* members that have not left */
	uint32_t running; /* slices in flight */
	int started;
	int error;
	uint32_t next;    /* in its hash chain, or in the free list */
};

struct lane {
	struct mts_heap waiting; /* works with slices to start */
	uint32_t running;        /* copies in flight */
	uint64_t running_bytes;
	uint64_t busy_since;
};

struct mts_schedule {
	struct mts_schedule_config cfg;
	struct mts_schedule_counters count;
	struct lane lane[MTS_LANES];
	struct mts_heap timeouts; /* entries */
	struct entry *entry;
	struct work *work;
	uint32_t free_entry, free_work;
	uint32_t active;
	uint64_t seq;
	uint32_t *load_chain; /* works by hash of their load */
	uint32_t *user_chain; /* entries by hash of user_data */
	_Atomic uint32_t ready; /* entries whose gate opened, newest first */
	uint64_t now_ns;
};

static void count(_Atomic uint64_t *c, uint64_t n)
{
	/* One writer: no need for an atomic addition, only for an untorn store. */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static uint32_t hash(const struct mts_schedule *s, uint64_t x)
{
	return (uint32_t)((x * 0x9E3779B97F4A7C15ull) >> 32) & (s->cfg.entries - 1);
}

/* ---- tables ---- */

static void free_tables(struct mts_schedule *s)
{
	for (int i = 0; i < MTS_LANES; i++)
		mts_heap_close(&s->lane[i].waiting);
	mts_heap_close(&s->timeouts);
	free(s->entry);
	free(s->work);
	free(s->load_chain);
	free(s->user_chain);
	free(s);
}

static int make_tables(struct mts_schedule *s)
{
	uint32_t n = s->cfg.entries;
	int ret = 0;

	for (int i = 0; !ret && i < MTS_LANES; i++)
		ret = mts_heap_open(&s->lane[i].waiting, n);
	if (!ret)
		ret = mts_heap_open(&s->timeouts, n);
	if (ret)
		return ret;
	s->entry = calloc(n, sizeof(*s->entry));
	s->work = calloc(n, sizeof(*s->work));
	s->load_chain = malloc(n * sizeof(*s->load_chain));
	s->user_chain = malloc(n * sizeof(*s->user_chain));
	if (!s->entry || !s->work || !s->load_chain || !s->user_chain)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		s->entry[i].next = s->work[i].next = i + 1 < n ? i + 1 : MTS_NONE;
		s->load_chain[i] = s->user_chain[i] = MTS_NONE;
	}
	return 0;
}

int mts_schedule_open(const struct mts_schedule_config *cfg, struct mts_schedule **out)
{
	struct mts_schedule *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	atomic_init(&s->ready, MTS_NONE);
	ret = make_tables(s);
	if (ret) {
		free_tables(s);
		return ret;
	}
	*out = s;
	return 0;
}

void mts_schedule_close(struct mts_schedule *s)
{
	free_tables(s);
}

uint32_t mts_schedule_active(const struct mts_schedule *s)
{
	return s->active;
}

const struct mts_schedule_counters *mts_schedule_counters(const struct mts_schedule *s)
{
	return &s->count;
}

uint64_t mts_schedule_next_ns(const struct mts_schedule *s)
{
	const struct mts_heap_item *top = mts_heap_top(&s->timeouts);

	return top ? top->when : UINT64_MAX;
}

/* ---- entries ---- */

static uint32_t entry_id(const struct mts_schedule *s, const struct entry *e)
{
	return (uint32_t)(e - s->entry);
}

static struct entry *entry_take(struct mts_schedule *s, const struct mts_submission *in)
{
	uint32_t id = s->free_entry;
	struct entry *e = &s->entry[id];
	uint32_t *chain = &s->user_chain[hash(s, in->sqe.user_data)];

	s->free_entry = e->next;
	s->active++;
	e->schedule = s;
	e->in = *in;
	e->seq = s->seq++;
	e->active = 1;
	e->result = 0;
	e->work = e->next = e->same_prev = MTS_NONE;
	e->same_next = *chain;
	if (*chain != MTS_NONE)
		s->entry[*chain].same_prev = id;
	*chain = id;
	return e;
}

static void entry_free(struct mts_schedule *s, struct entry *e)
{
	uint32_t id = entry_id(s, e);

	mts_heap_remove(&s->timeouts, id);
	if (e->same_prev == MTS_NONE)
		s->user_chain[hash(s, e->in.sqe.user_data)] = e->same_next;
	else
		s->entry[e->same_prev].same_next = e->same_next;
	if (e->same_next != MTS_NONE)
		s->entry[e->same_next].same_prev = e->same_prev;
	e->active = 0;
	e->next = s->free_entry;
	s->free_entry = id;
	s->active--;
}

static void post(struct mts_schedule *s, const struct mts_submission *in, int result)
{
	/* The gate first: who reaps the completion may reuse it. */
	if (in->sqe.gate)
		mts_gate_arrive(in->sqe.gate, result < 0 ? result : 0);
	s->cfg.post(s->cfg.arg, in, result);
}

static void count_result(struct mts_schedule *s, enum mts_lane lane, int result)
{
	count(&s->count.entries[lane], 1);
	if (result == -ECANCELED)
		count(&s->count.cancelled, 1);
	else if (result == -ETIME)
		count(&s->count.timed_out, 1);
	else if (result)
		count(&s->count.failed, 1);
}

static enum mts_lane lane_of(const struct entry *e)
{
	return e->in.sqe.op == MTS_SQE_ONLOAD ? MTS_H2D : MTS_D2H;
}

static void entry_complete(struct mts_schedule *s, struct entry *e, int result)
{
	count_result(s, lane_of(e), result);
	post(s, &e->in, result);
	entry_free(s, e);
}

/* ---- works ---- */

static uint32_t work_id(const struct mts_schedule *s, const struct work *w)
{
	return (uint32_t)(w - s->work);
}

static uint32_t *load_chain(struct mts_schedule *s, const struct mts_segment *first, uint64_t bytes)
{
	uint64_t x = (uintptr_t)first->dst * 3 ^ (uintptr_t)first->src ^ bytes << 40;

	return &s->load_chain[hash(s, x)];
}

/* A work that loads just what e asks for and still can take it in. */
static struct work *work_find(struct mts_schedule *s, const struct entry *e)
{
	const struct mts_sqe *q = &e->in.sqe;
	uint32_t id = *load_chain(s, q->segment, e->in.bytes);

	for (; id != MTS_NONE; id = s->work[id].next) {
		struct work *w = &s->work[id];

		if (w->live && !w->error && w->bytes == e->in.bytes &&
		    w->segments == q->segments &&
		    !memcmp(w->segment, q->segment, q->segments * sizeof(*q->segment)))
			return w;
	}
	return NULL;
}

static struct mts_heap_item key_of(const struct entry *e)
{
	uint64_t deadline = e->in.sqe.deadline_ns;

	return (struct mts_heap_item){ .rank = e->in.sqe.cls,
				       .when = deadline ? deadline : UINT64_MAX,
				       .seq = e->seq };
}

static struct work *work_make(struct mts_schedule *s, const struct entry *e)
{
	uint32_t id = s->free_work, *chain;
	struct work *w = &s->work[id];
	uint32_t next_free = w->next;

	*w = (struct work){ .lane = lane_of(e), .segment = e->in.sqe.segment,
			    .segments = e->in.sqe.segments, .bytes = e->in.bytes,
			    .first = MTS_NONE, .next = MTS_NONE, .key = key_of(e) };
	w->key.id = id;
	s->free_work = next_free;
	if (w->lane == MTS_H2D) {
		chain = load_chain(s, w->segment, w->bytes);
		w->next = *chain;
		*chain = id;
	}
	mts_heap_push(&s->lane[w->lane].waiting, w->key);
	return w;
}

static void work_free(struct mts_schedule *s, struct work *w)
{
	uint32_t id = work_id(s, w), *at;

	mts_heap_remove(&s->lane[w->lane].waiting, id);
	if (w->lane == MTS_H2D) {
		for (at = load_chain(s, w->segment, w->bytes); *at != id; at = &s->work[*at].next)
			;
		*at = w->next;
	}
	w->next = s->free_work;
	s->free_work = id;
}

/* A member that is more urgent makes the whole work so. */
static void work_hurry(struct mts_schedule *s, struct work *w, struct mts_heap_item key)
{
	struct mts_heap *waiting = &s->lane[w->lane].waiting;

	if (key.rank > w->key.rank || (key.rank == w->key.rank && key.when >= w->key.when))
		return;
	key.id = w->key.id;
	w->key = key;
	if (mts_heap_has(waiting, key.id)) {
		mts_heap_remove(waiting, key.id);
		mts_heap_push(waiting, key);
	}
}

static void work_add(struct mts_schedule *s, struct work *w, struct entry *e)
{
	e->work = work_id(s, w);
	e->next = w->first;
	w->first = entry_id(s, e);
	w->live++;
}

/* All members complete; no slice is in flight. */
static void work_finish(struct mts_schedule *s, struct work *w)
{
	uint32_t id = w->first, next;
	int error = w->error;

	work_free(s, w); /* before a member's memory is its caller's again */
	for (; id != MTS_NONE; id = next) {
		struct entry *e = &s->entry[id];

		next = e->next;
		entry_complete(s, e, e->result ? e->result : error);
	}
}

/* Starts no more slices; the work ends when those in flight have. */
static void work_stop(struct mts_schedule *s, struct work *w)
{
	mts_heap_remove(&s->lane[w->lane].waiting, work_id(s, w));
	if (!w->running)
		work_finish(s, w);
}

/* ---- leaving: cancel, timeout, close ---- */

static void work_drop(struct mts_schedule *s, struct work *w, struct entry *e)
{
	uint32_t id = entry_id(s, e), *at = &w->first;

	while (*at != id)
		at = &s->entry[*at].next;
	*at = e->next;
	w->live--;
	if (w->first == MTS_NONE)
		work_free(s, w);
	else
		w->segment = s->entry[w->first].in.sqe.segment;
}

/* e has not left yet; it completes with `why`, now or when the hardware is done with its memory. */
static void leave(struct mts_schedule *s, struct entry *e, int why)
{
	struct work *w = e->work == MTS_NONE ? NULL : &s->work[e->work];

	if (w ? !w->started : mts_gate_unwatch(&e->watch)) {
		if (w)
			work_drop(s, w, e);
		entry_complete(s, e, why);
		return;
	}
	e->result = why;
	mts_heap_remove(&s->timeouts, entry_id(s, e));
	if (e->in.sqe.gate)
		mts_gate_fail(e->in.sqe.gate, why);
	if (w && !--w->live)
		work_stop(s, w);
}

static int cancel(struct mts_schedule *s, uint64_t target)
{
	uint32_t id = s->user_chain[hash(s, target)];
	int met = 0;

	while (id != MTS_NONE) {
		struct entry *e = &s->entry[id];

		if (e->in.sqe.user_data == target && !e->result) {
			leave(s, e, -ECANCELED);
			met++;
			id = s->user_chain[hash(s, target)]; /* leaving may have freed several */
		} else {
			id = e->same_next;
		}
	}
	return met;
}

void mts_schedule_cancel_all(struct mts_schedule *s)
{
	for (uint32_t i = 0; i < s->cfg.entries; i++)
		if (s->entry[i].active && !s->entry[i].result)
			leave(s, &s->entry[i], -ECANCELED);
}

static int expire(struct mts_schedule *s)
{
	const struct mts_heap_item *top;
	int any = 0;

	while ((top = mts_heap_top(&s->timeouts)) && top->when <= s->now_ns) {
		leave(s, &s->entry[top->id], -ETIME);
		any = 1;
	}
	return any;
}

/* ---- arriving ---- */

/* The gate `after` is open or failed, or there is none. */
static void go(struct mts_schedule *s, struct entry *e)
{
	struct work *w = NULL;
	int error = 0;

	if (e->in.sqe.after)
		mts_gate_poll(e->in.sqe.after, &error);
	if (e->result)
		error = e->result;
	if (error || !e->in.bytes) {
		entry_complete(s, e, error);
		return;
	}
	if (e->in.sqe.op == MTS_SQE_ONLOAD)
		w = work_find(s, e);
	if (w) {
		work_hurry(s, w, key_of(e));
		count(&s->count.merged, 1);
	} else {
		w = work_make(s, e);
	}
	work_add(s, w, e);
}

/* A gate's watch: any thread. */
static void gate_opened(struct mts_gate_watch *watch)
{
	struct entry *e = (struct entry *)((char *)watch - offsetof(struct entry, watch));
	struct mts_schedule *s = e->schedule;
	uint32_t head = atomic_load_explicit(&s->ready, memory_order_relaxed);

	/* Release, with the acquire in let_go(): next_ready is written. */
	do
		e->next_ready = head;
	while (!atomic_compare_exchange_weak_explicit(&s->ready, &head, entry_id(s, e),
						      memory_order_release, memory_order_relaxed));
	s->cfg.wake(s->cfg.arg);
}

static int let_go(struct mts_schedule *s)
{
	uint32_t id, next, last = MTS_NONE;

	if (atomic_load_explicit(&s->ready, memory_order_relaxed) == MTS_NONE)
		return 0;
	/* Acquire, with the release in gate_opened(). */
	id = atomic_exchange_explicit(&s->ready, MTS_NONE, memory_order_acquire);
	for (; id != MTS_NONE; id = next) { /* newest first: turn it round */
		next = s->entry[id].next_ready;
		s->entry[id].next_ready = last;
		last = id;
	}
	for (id = last; id != MTS_NONE; id = next) {
		next = s->entry[id].next_ready;
		/* Waits until gate_opened() has returned: it still wakes this scheduler. */
		mts_gate_unwatch(&s->entry[id].watch);
		go(s, &s->entry[id]);
	}
	return 1;
}

static int is_valid(const struct mts_submission *in)
{
	const struct mts_sqe *q = &in->sqe;

	return q->op <= MTS_SQE_WRITEBACK && q->cls <= MTS_BACKGROUND &&
	       (q->segment || !q->segments);
}

void mts_schedule_accept(struct mts_schedule *s, const struct mts_submission *in)
{
	const struct mts_sqe *q = &in->sqe;
	struct entry *e;
	uint64_t expiry;

	if (q->op == MTS_SQE_CANCEL) {
		post(s, in, cancel(s, q->target));
		return;
	}
	if (!is_valid(in)) {
		post(s, in, -EINVAL);
		return;
	}
	e = entry_take(s, in);
	if (q->timeout_ns && !__builtin_add_overflow(in->submitted_ns, q->timeout_ns, &expiry))
		mts_heap_push(&s->timeouts, (struct mts_heap_item){ .id = entry_id(s, e),
								    .when = expiry,
								    .seq = e->seq });
	if (q->after) {
		e->watch = (struct mts_gate_watch){ .fn = gate_opened };
		if (!mts_gate_watch(q->after, &e->watch))
			return;
	}
	go(s, e);
}

/* ---- lanes ---- */

struct slice {
	unsigned n;
	uint64_t bytes;
	uint32_t at; /* where the next slice begins */
	size_t offset;
	struct mts_segment segment[MTS_COPY_MAX];
};

static void cut(const struct mts_schedule *s, const struct work *w, struct slice *c)
{
	c->n = 0;
	c->bytes = 0;
	c->at = w->at;
	c->offset = w->offset;
	while (c->at < w->segments && c->n < MTS_COPY_MAX && c->bytes < s->cfg.slice_bytes) {
		const struct mts_segment *from = &w->segment[c->at];
		size_t left = from->bytes - c->offset, room = s->cfg.slice_bytes - c->bytes;
		size_t n = left < room ? left : room;

		if (n)
			c->segment[c->n++] = (struct mts_segment){
				(char *)from->dst + c->offset,
				(const char *)from->src + c->offset, n };
		c->bytes += n;
		c->offset += n;
		if (c->offset == from->bytes) {
			c->at++;
			c->offset = 0;
		}
	}
	while (c->at < w->segments && !w->segment[c->at].bytes)
		c->at++;
}

static void slice_started(struct mts_schedule *s, struct work *w, const struct slice *c)
{
	struct lane *l = &s->lane[w->lane];

	w->at = c->at;
	w->offset = c->offset;
	w->started = 1;
	w->running++;
	if (!l->running++)
		l->busy_since = s->now_ns;
	l->running_bytes += c->bytes;
	count(&s->count.copies[w->lane], 1);
	if (w->at == w->segments)
		mts_heap_remove(&l->waiting, work_id(s, w));
}

/* 1: a slice was started or a work failed; 0: nothing to start, or no room. */
static int start_one(struct mts_schedule *s, enum mts_lane id)
{
	struct lane *l = &s->lane[id];
	const struct mts_heap_item *top = mts_heap_top(&l->waiting);
	const struct mts_device_ops *ops = s->cfg.device->ops;
	struct slice c;
	struct work *w;
	int ret;

	if (!top)
		return 0;
	w = &s->work[top->id];
	cut(s, w, &c);
	if (l->running && l->running_bytes + c.bytes > s->cfg.lane_bytes)
		return 0;
	ret = ops->copy(s->cfg.device, id, c.segment, c.n,
			(uint64_t)work_id(s, w) << 32 | (uint32_t)c.bytes);
	if (ret == -EAGAIN && l->running)
		return 0;
	if (ret) {
		w->error = ret;
		work_stop(s, w);
	} else {
		slice_started(s, w, &c);
	}
	return 1;
}

static void slice_done(struct mts_schedule *s, enum mts_lane id, const struct mts_copy_done *done)
{
	struct lane *l = &s->lane[id];
	struct work *w = &s->work[done->cookie >> 32];
	uint32_t bytes = (uint32_t)done->cookie;

	l->running_bytes -= bytes;
	if (!--l->running)
		count(&s->count.busy_ns[id], s->now_ns - l->busy_since);
	w->running--;
	if (done->result && !w->error)
		w->error = done->result;
	if (!done->result)
		count(&s->count.bytes[id], bytes);
	if (w->error || !w->live)
		work_stop(s, w);
	else if (!w->running && w->at == w->segments)
		work_finish(s, w);
}

static int reap(struct mts_schedule *s, enum mts_lane id)
{
	struct mts_copy_done done[REAP_MAX];
	int n = 0, all = 0;

	while (s->lane[id].running && (n = s->cfg.device->ops->copy_reap(s->cfg.device, id, done,
									 REAP_MAX)) > 0) {
		for (int i = 0; i < n; i++)
			slice_done(s, id, &done[i]);
		all += n;
	}
	return all > 0;
}

int mts_schedule_turn(struct mts_schedule *s, uint64_t now_ns)
{
	int any = 0;

	s->now_ns = now_ns;
	for (int i = 0; i < MTS_LANES; i++)
		any |= reap(s, i);
	any |= let_go(s);
	any |= expire(s);
	for (int i = 0; i < MTS_LANES; i++)
		while (start_one(s, i))
			any = 1;
	return any;
}
