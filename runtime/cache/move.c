/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: copies under way between a user's device pages and host slots, and what their end means.
 *
 * Floor: cache. Thread: the tier's owner; the copies themselves run on the transfer floor.
 *
 * A load is one entry per layer, layer 0 first, each opening that layer's gate; all layers move the
 * same pages, so the segments of layer l are those of layer 0 shifted. A write-back is one entry for
 * all layers. Only valid bytes are copied: a partial page is two segments, its K and its V.
 *
 * A user has at most one load and one write-back under way. Whatever became valid during a write-back
 * goes with the next one.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/tier.h"

/* A move and its arrays in one piece of memory; free() takes it back. */
static struct mts_move *move_alloc(const struct mts_tier *t, uint32_t pages)
{
	/* Every page its own pair of segments at worst, in every layer. */
	size_t segments = (size_t)(pages + 1) * t->kv.layout.layers;
	struct mts_move *m = malloc(sizeof(*m) + segments * sizeof(*m->segment) +
				    pages * (sizeof(*m->slot) + sizeof(*m->dev_page)));

	if (!m)
		return NULL;
	*m = (struct mts_move){ .pages = pages };
	m->segment = (struct mts_segment *)(m + 1);
	m->slot = (struct mts_slot *)(m->segment + segments);
	m->dev_page = (uint32_t *)(m->slot + pages);
	return m;
}

/* Takes the references that keep pages and extents in place until the move is over. */
static struct mts_move *move_new(struct mts_tier *t, struct mts_user *u, enum mts_move_kind kind,
				 uint32_t from, uint32_t to)
{
	uint32_t first = from / t->kv.layout.page_tokens;
	struct mts_move *m = move_alloc(t, mts_pages_for(t, to) - first);

	if (!m)
		return NULL;
	m->kind = kind;
	m->user = u;
	m->epoch = u->epoch;
	m->dev_epoch = u->dev_epoch;
	m->from = from;
	m->to = to;
	m->first_page = first;
	for (uint32_t i = 0; i < m->pages && !t->lengths; i++)
		m->dev_page[i] = u->dev_page[m->first_page + i];
	return m;
}

static void move_hold(struct mts_tier *t, struct mts_move *m)
{
	for (uint32_t i = 0; i < m->pages; i++) {
		mts_page_ref(t, m->dev_page[i]);
		mts_host_ref(m->slot[i].extent);
	}
	TAILQ_INSERT_TAIL(&t->moves, m, link);
}

static void move_let_go(struct mts_tier *t, struct mts_move *m)
{
	TAILQ_REMOVE(&t->moves, m, link);
	for (uint32_t i = 0; i < m->pages; i++) {
		mts_page_unref(t, m->dev_page[i]);
		mts_host_unref(t, m->slot[i].extent);
	}
	free(m);
}

static void set_segment(const struct mts_move *m, struct mts_segment *s, char *dev, char *host,
			size_t bytes)
{
	bool load = m->kind == MTS_MOVE_LOAD;

	*s = (struct mts_segment){ load ? dev : host, load ? host : dev, bytes };
}

/* How many pages from i on are neighbours on both sides. */
static uint32_t run_length(const struct mts_move *m, uint32_t i, uint32_t end)
{
	uint32_t n = 1;

	while (i + n < end && m->dev_page[i + n] == m->dev_page[i] + n &&
	       m->slot[i + n].extent == m->slot[i].extent &&
	       m->slot[i + n].index == m->slot[i].index + n)
		n++;
	return n;
}

/* The segments of one layer; their number. */
static uint32_t layer_segments(const struct mts_tier *t, const struct mts_move *m, uint32_t layer,
			       struct mts_segment *s)
{
	const struct mts_kv_layout *y = &t->kv.layout;
	uint32_t rest = m->to % y->page_tokens, full = rest ? m->pages - 1 : m->pages, n = 0;
	size_t page = mts_kv_page_bytes(y), k = mts_kv_k_bytes(y), v = mts_kv_v_bytes(y);
	char *dev, *host;

	for (uint32_t i = 0, run; i < full; i += run) {
		run = run_length(m, i, full);
		set_segment(m, &s[n++], mts_kv_page(&t->kv, layer, m->dev_page[i]),
			    mts_slot_address(t, m->slot[i], layer), run * page);
	}
	if (rest) {
		dev = mts_kv_page(&t->kv, layer, m->dev_page[full]);
		host = mts_slot_address(t, m->slot[full], layer);
		set_segment(m, &s[n++], dev, host, rest * k);
		set_segment(m, &s[n++], dev + y->page_tokens * k, host + y->page_tokens * k,
			    rest * v);
	}
	return n;
}

/* Entries for every layer of a load; none is handed over unless all are. */
static int submit_load(struct mts_tier *t, struct mts_move *m, enum mts_sqe_class cls,
		       uint64_t deadline_ns, struct mts_gate *gates)
{
	uint32_t layers = t->kv.layout.layers, n = 0;
	struct mts_sqe *sqe;

	for (uint32_t l = 0; l < layers; l++) {
		sqe = mts_transfer_get_sqe(t->transfer);
		if (!sqe) {
			mts_transfer_abandon(t->transfer);
			return -EAGAIN;
		}
		sqe->op = MTS_SQE_ONLOAD;
		sqe->cls = cls;
		sqe->layer = l;
		sqe->segment = m->segment + n;
		sqe->segments = layer_segments(t, m, l, m->segment + n);
		sqe->gate = gates ? &gates[l] : NULL;
		sqe->deadline_ns = deadline_ns;
		sqe->user_data = (uintptr_t)m;
		n += sqe->segments;
	}
	if (gates)
		for (uint32_t l = 0; l < layers; l++)
			mts_gate_expect(&gates[l], 1);
	if (mts_transfer_submit(t->transfer) >= 0)
		return 0;
	mts_transfer_abandon(t->transfer);
	if (gates)
		for (uint32_t l = 0; l < layers; l++)
			mts_gate_arrive(&gates[l], 0);
	return -EAGAIN;
}

/* A lease's content becomes valid at its commit. */
static int load_counted(struct mts_tier *t, struct mts_user *u, uint32_t upto, bool leased)
{
	t->n.bytes_h2d += (uint64_t)(upto - u->dev_len) * MTS_LENGTHS_BYTES;
	if (!leased)
		u->dev_len = upto;
	return 0;
}

/*
 * Loads host content [from, upto) into pages u already has; from is where the device's content ends,
 * or, for a lease, a page's edge behind that: the lease fills what lies between.
 * Each layer opens its gate of the lease, if one is given. -EAGAIN: the rings are full; -ENOMEM.
 */
int mts_load_start(struct mts_tier *t, struct mts_user *u, uint32_t from, uint32_t upto,
		   uint64_t tail, enum mts_sqe_class cls, uint64_t deadline_ns, struct mts_lease *lease)
{
	struct mts_move *m;
	int err;

	if (t->lengths)
		return load_counted(t, u, upto, lease);
	m = move_new(t, u, MTS_MOVE_LOAD, from, upto);
	if (!m)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->pages; i++)
		m->slot[i] = u->host_slot[m->first_page + i];
	m->tail = tail;
	m->pending = t->kv.layout.layers;
	err = submit_load(t, m, cls, deadline_ns, lease ? lease->gates : NULL);
	if (err) {
		free(m);
		return err;
	}
	move_hold(t, m);
	m->lease = lease;
	u->load = m;
	return 0;
}

void mts_mark_dirty(struct mts_tier *t, struct mts_user *u)
{
	if (u->dirty || !mts_has_host(t))
		return;
	u->dirty = true;
	TAILQ_INSERT_TAIL(&t->dirty, u, dirty_link);
}

void mts_unmark_dirty(struct mts_tier *t, struct mts_user *u)
{
	if (!u->dirty)
		return;
	u->dirty = false;
	TAILQ_REMOVE(&t->dirty, u, dirty_link);
}

static void free_slots(struct mts_tier *t, struct mts_user *u, struct mts_move *m)
{
	for (uint32_t i = 0; i < m->pages; i++)
		mts_host_slot_free(t, u, m->slot[i]);
}

/* One entry for all layers: a later layer is of no use without the earlier ones. */
static int submit_writeback(struct mts_tier *t, struct mts_move *m)
{
	struct mts_sqe *sqe = mts_transfer_get_sqe(t->transfer);
	uint32_t n = 0;

	if (!sqe)
		return -EAGAIN;
	for (uint32_t l = 0; l < t->kv.layout.layers; l++)
		n += layer_segments(t, m, l, m->segment + n);
	sqe->op = MTS_SQE_WRITEBACK;
	sqe->cls = MTS_BACKGROUND;
	sqe->segment = m->segment;
	sqe->segments = n;
	sqe->user_data = (uintptr_t)m;
	if (mts_transfer_submit(t->transfer) >= 0)
		return 0;
	mts_transfer_abandon(t->transfer);
	return -EAGAIN;
}

/* The host index switches to the new slots; the slots of pages that grew become free. */
static void writeback_publish(struct mts_tier *t, struct mts_user *u, struct mts_move *m)
{
	uint32_t old = u->host_pages;

	u->host_pages = m->first_page + m->pages;
	for (uint32_t i = 0; i < m->pages; i++) {
		uint32_t p = m->first_page + i;
		struct mts_slot was = u->host_slot[p];

		u->host_slot[p] = m->slot[i];
		if (p < old)
			mts_host_slot_free(t, u, was);
	}
	u->host_len = m->to;
	u->host_tail = m->tail;
	if (!u->on_host) /* else the request has told it */
		mts_host_use(t, u);
}

static int writeback_counted(struct mts_tier *t, struct mts_user *u)
{
	struct mts_move *m;
	int err;

	t->n.bytes_d2h += (uint64_t)(u->dev_len - u->host_len) * MTS_LENGTHS_BYTES;
	if (t->endless_host) {
		u->host_len = u->dev_len;
		u->host_pages = mts_pages_for(t, u->host_len);
		return 0;
	}
	m = move_new(t, u, MTS_MOVE_WRITEBACK, u->host_len, u->dev_len);
	if (!m)
		return -ENOMEM;
	err = mts_host_slots(t, u, m->pages, m->slot);
	if (!err)
		writeback_publish(t, u, m);
	free(m);
	return err;
}

/* Writes what the device holds beyond the host, from the first page that grew, into fresh slots. */
static int writeback_start(struct mts_tier *t, struct mts_user *u)
{
	struct mts_move *m;
	int err;

	if (t->lengths)
		return writeback_counted(t, u);
	m = move_new(t, u, MTS_MOVE_WRITEBACK, u->host_len, u->dev_len);
	if (!m)
		return -ENOMEM;
	err = mts_host_slots(t, u, m->pages, m->slot);
	if (err) {
		free(m);
		return err;
	}
	m->tail = u->dev_tail;
	m->pending = 1;
	err = submit_writeback(t, m);
	if (err) {
		free_slots(t, u, m);
		free(m);
		return err;
	}
	move_hold(t, m);
	u->writeback = m;
	t->writebacks++;
	return 0;
}

void mts_writebacks_start(struct mts_tier *t)
{
	struct mts_user *u, *next;

	for (u = TAILQ_FIRST(&t->dirty); u && t->writebacks < MTS_WRITEBACKS; u = next) {
		next = TAILQ_NEXT(u, dirty_link);
		if (u->writeback)
			continue;
		if (u->dev_len > u->host_len && writeback_start(t, u) == -EAGAIN)
			return;
		/* Without a slot it stays device-only until its next commit. */
		mts_unmark_dirty(t, u);
	}
}

static void load_done(struct mts_tier *t, struct mts_move *m)
{
	struct mts_user *u = m->user;

	if (!u)
		return;
	u->load = NULL;
	if (u->lease)
		return; /* it decides itself, at commit or abandon */
	if (!m->error && u->epoch == m->epoch && u->dev_epoch == m->dev_epoch && m->from <= u->dev_len &&
	    m->to > u->dev_len) {
		u->dev_len = m->to;
		u->dev_tail = m->tail;
	}
	mts_device_cut(t, u, u->dev_len); /* pages in which nothing arrived */
	mts_user_remove_if_empty(t, u);
}

static void writeback_done(struct mts_tier *t, struct mts_move *m)
{
	struct mts_user *u = m->user;

	t->writebacks--;
	if (u)
		u->writeback = NULL;
	if (!u || m->error || u->epoch != m->epoch) {
		free_slots(t, u, m);
		return;
	}
	writeback_publish(t, u, m);
	if (u->dev_len > u->host_len)
		mts_mark_dirty(t, u);
}

static void move_done(struct mts_tier *t, struct mts_move *m)
{
	if (m->kind == MTS_MOVE_LOAD)
		load_done(t, m);
	else
		writeback_done(t, m);
	if (m->lease)
		mts_lease_move_done(t, m->lease);
	move_let_go(t, m);
}

int mts_tier_poll(struct mts_tier *t)
{
	struct mts_cqe cqe[64];
	unsigned n;
	int total = 0;

	if (!t->transfer)
		return 0;
	mts_host_grow(t);
	while ((n = mts_transfer_reap(t->transfer, cqe, 64))) {
		total += n;
		for (unsigned i = 0; i < n; i++) {
			struct mts_move *m = (struct mts_move *)(uintptr_t)cqe[i].user_data;

			if (cqe[i].result && !m->error)
				m->error = cqe[i].result;
			if (!--m->pending)
				move_done(t, m);
		}
	}
	mts_writebacks_start(t);
	return total;
}

unsigned mts_tier_outstanding(const struct mts_tier *t)
{
	return t->transfer ? mts_transfer_outstanding(t->transfer) : 0;
}
