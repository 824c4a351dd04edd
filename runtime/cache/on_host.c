/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a user's content: a few extents, and which slot of which extent holds a page.
 *
 * Floor: cache. Thread: the tier's owner.
 *
 *   extent of n slots:  [layer 0: slot 0 .. n-1][layer 1: slot 0 .. n-1] ...
 *
 * So pages in neighbouring slots are one contiguous copy per layer. Extents grow with the user: a
 * quarter of what it has, at least what it needs now, in powers of two. A valid slot never changes:
 * a page that grew goes to a fresh slot. A full host drops whole users, never a part of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/tier.h"

char *mts_slot_address(const struct mts_tier *t, struct mts_slot s, uint32_t layer)
{
	size_t page = mts_kv_page_bytes(&t->kv.layout);

	return s.extent->x.base + ((size_t)layer * s.extent->x.units + s.index) * page;
}

/* Piece by piece, as an extent may lie in one as soon as it is registered. */
int mts_host_grow(struct mts_tier *t)
{
	size_t ready = t->arena ? mts_arena_ready(t->arena) : 0, n;

	while (t->host_ready < ready && !t->host_error) {
		n = ready - t->host_ready < MTS_ARENA_PIECE ? ready - t->host_ready : MTS_ARENA_PIECE;
		t->host_error = t->dev->ops->host_register(t->dev, t->arena->base + t->host_ready, n);
		if (t->host_error)
			break;
		t->host_ready += n;
		mts_extents_limit(t->extents, t->host_ready);
	}
	return t->host_error;
}

static size_t extent_bytes(const struct mts_tier *t, const struct mts_host_extent *e)
{
	return (size_t)e->x.units * t->kv.layout.layers * mts_kv_page_bytes(&t->kv.layout);
}

void mts_host_use(struct mts_tier *t, struct mts_user *u)
{
	const struct mts_policy_use use = { mts_tier_now(t), u->host_len, false };

	if (!u->host_pages || t->endless_host)
		return;
	if (u->on_host) {
		t->policy->use(t->host_policy, &u->host_node, &use);
		return;
	}
	t->policy->insert(t->host_policy, &u->host_node, &use);
	u->on_host = true;
}

static void extent_release(struct mts_tier *t, struct mts_host_extent *e)
{
	if (e->erase) {
		memset(e->x.base, 0, extent_bytes(t, e));
		t->erasing--;
	}
	t->n.host_bytes_used -= extent_bytes(t, e);
	mts_extent_free(t->extents, &e->x);
	free(e);
}

void mts_host_ref(struct mts_host_extent *e)
{
	e->busy++;
}

void mts_host_unref(struct mts_tier *t, struct mts_host_extent *e)
{
	if (!--e->busy && e->dropped)
		extent_release(t, e);
}

static void extent_drop(struct mts_tier *t, struct mts_host_extent *e)
{
	e->dropped = true;
	if (!e->busy)
		extent_release(t, e);
}

static bool slot_taken(const struct mts_host_extent *e, uint32_t i)
{
	return e->map[i / 64] >> (i % 64) & 1;
}

static void slot_take(struct mts_host_extent *e, uint32_t i)
{
	e->map[i / 64] |= 1ull << (i % 64);
	e->used++;
}

static void unlink_extent(struct mts_user *u, struct mts_host_extent *e)
{
	struct mts_host_extent **p = &u->extents;

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
}

/* u may be NULL: its extents were dropped while a copy was under way. */
void mts_host_slot_free(struct mts_tier *t, struct mts_user *u, struct mts_slot s)
{
	struct mts_host_extent *e = s.extent;

	e->map[s.index / 64] &= ~(1ull << (s.index % 64));
	if (!--e->used && u && !e->dropped) {
		unlink_extent(u, e);
		extent_drop(t, e);
	}
}

void mts_host_cut(struct mts_tier *t, struct mts_user *u, uint32_t len)
{
	uint32_t keep = mts_pages_for(t, len);
	struct mts_host_extent *e;

	if (len < u->host_len) {
		u->host_len = len;
		u->host_tail = 0;
	}
	if (t->endless_host && u->host_pages > keep)
		u->host_pages = keep;
	while (u->host_pages > keep)
		mts_host_slot_free(t, u, u->host_slot[--u->host_pages]);
	if (!u->host_pages) {
		/* What is left are slots promised to a write-back, which will find its user changed. */
		while ((e = u->extents)) {
			u->extents = e->next;
			extent_drop(t, e);
		}
		if (u->on_host) {
			t->policy->remove(t->host_policy, &u->host_node);
			u->on_host = false;
		}
	}
	mts_user_trim_chain(t, u);
}

static bool may_evict(const struct mts_user *u, const struct mts_user *asking)
{
	return u != asking && !u->lease && !u->load && !u->writeback;
}

/* Drops the host content of the next user in the policy's order: 0, or -ENOSPC if none may go. */
static int evict_one(struct mts_tier *t, const struct mts_user *asking)
{
	struct mts_policy_node *node = t->policy->victim(t->host_policy, NULL);

	for (; node; node = t->policy->victim(t->host_policy, node)) {
		struct mts_user *u = (struct mts_user *)((char *)node -
							 offsetof(struct mts_user, host_node));

		if (!may_evict(u, asking))
			continue;
		if (u->host_len > u->dev_len)
			t->n.lost_tokens += u->host_len - u->dev_len;
		t->n.host_evictions++;
		u->epoch++;
		mts_host_cut(t, u, 0);
		mts_user_remove_if_empty(t, u);
		return 0;
	}
	return -ENOSPC;
}

static uint32_t floor_pow2(uint32_t n)
{
	return n ? 1u << (31 - __builtin_clz(n)) : 0;
}

static uint32_t ceil_pow2(uint32_t n)
{
	return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

/* How large the next extent should be for n more slots when the user holds `held`. */
static uint32_t extent_slots(uint32_t n, uint32_t held)
{
	uint32_t exact = floor_pow2(n), grow = floor_pow2(held / 4);

	/* One round-up wastes less than a tail of ever smaller extents. */
	if (n - exact > exact / 2)
		exact = ceil_pow2(n);
	return exact > grow ? exact : grow;
}

/* Large pieces first; somebody is evicted before a user is cut into crumbs. */
static int find_extent(struct mts_tier *t, const struct mts_user *u, uint32_t slots,
		       struct mts_extent *out)
{
	uint32_t want;

	do {
		for (want = slots; want && want >= slots / 4; want /= 2)
			if (!mts_extent_alloc(t->extents, want, out))
				return 0;
	} while (!evict_one(t, u));
	for (; want; want /= 2)
		if (!mts_extent_alloc(t->extents, want, out))
			return 0;
	return -ENOSPC;
}

static struct mts_host_extent *extent_new(struct mts_tier *t, struct mts_user *u, uint32_t slots)
{
	struct mts_host_extent *e = calloc(1, sizeof(*e) + (slots + 63) / 64 * sizeof(uint64_t));

	if (!e)
		return NULL;
	if (find_extent(t, u, slots, &e->x)) {
		free(e);
		return NULL;
	}
	t->n.host_bytes_used += extent_bytes(t, e);
	e->next = u->extents;
	u->extents = e;
	return e;
}

static uint32_t held_slots(const struct mts_user *u)
{
	uint32_t n = 0;

	for (const struct mts_host_extent *e = u->extents; e; e = e->next)
		n += e->x.units;
	return n;
}

/* Takes up to n free slots of one extent, in ascending order. */
static uint32_t take_from(struct mts_host_extent *e, uint32_t n, struct mts_slot *out)
{
	uint32_t got = 0;

	for (uint32_t i = 0; i < e->x.units && got < n; i++) {
		if (slot_taken(e, i))
			continue;
		slot_take(e, i);
		out[got++] = (struct mts_slot){ e, i };
	}
	return got;
}

int mts_host_slots(struct mts_tier *t, struct mts_user *u, uint32_t n, struct mts_slot *out)
{
	uint32_t got = 0;
	struct mts_host_extent *e;

	mts_host_grow(t);
	for (e = u->extents; e && got < n; e = e->next)
		if (e->used < e->x.units)
			got += take_from(e, n - got, out + got);
	while (got < n) {
		e = extent_new(t, u, extent_slots(n - got, held_slots(u)));
		if (!e)
			break;
		got += take_from(e, n - got, out + got);
	}
	if (got == n)
		return 0;
	while (got)
		mts_host_slot_free(t, u, out[--got]);
	return -ENOSPC;
}
