/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a user's content: pages found, given up, and taken from others.
 *
 * Floor: cache. Thread: the tier's owner. A user's pages hold a prefix; eviction takes pages from its
 * end, so that what stays is still a prefix. A page leaves the pool's free list with one reference,
 * the owner's; each copy under way adds one; at none it is free again.
 */
#include <errno.h>

#include "cache/tier.h"

void mts_page_ref(struct mts_tier *t, uint32_t page)
{
	t->page_ref[page]++;
}

static void erase_page(struct mts_tier *t, uint32_t page)
{
	size_t bytes = mts_kv_page_bytes(&t->kv.layout);

	/* A lost device cannot be erased, nor read again. */
	for (uint32_t l = 0; l < t->kv.layout.layers; l++)
		(void)t->dev->ops->zero(t->dev, mts_kv_page(&t->kv, l, page), bytes);
	t->page_erase[page] = 0;
	t->erasing--;
}

void mts_page_unref(struct mts_tier *t, uint32_t page)
{
	if (--t->page_ref[page])
		return;
	if (t->page_erase[page])
		erase_page(t, page);
	mts_pages_free(t->pages, &page, 1);
	t->n.device_pages_used--;
}

void mts_device_use(struct mts_tier *t, struct mts_user *u, bool expected)
{
	const struct mts_policy_use use = { mts_tier_now(t),
					    u->dev_pages * t->kv.layout.page_tokens, expected };

	if (!u->dev_pages)
		return;
	if (u->on_device) {
		t->policy->use(t->dev_policy, &u->dev_node, &use);
		return;
	}
	t->policy->insert(t->dev_policy, &u->dev_node, &use);
	u->on_device = true;
}

static void give_pages(struct mts_tier *t, struct mts_user *u, uint32_t keep)
{
	if (t->lengths) {
		t->n.device_pages_used -= u->dev_pages - keep;
		u->dev_pages = keep;
	}
	while (u->dev_pages > keep)
		mts_page_unref(t, u->dev_page[--u->dev_pages]);
}

/* Keeps the first len tokens, and no page beyond them. */
void mts_device_cut(struct mts_tier *t, struct mts_user *u, uint32_t len)
{
	uint32_t keep = mts_pages_for(t, len);

	if (len < u->dev_len) {
		u->dev_len = len;
		u->dev_tail = 0;
	}
	if (keep < u->dev_pages) {
		u->dev_epoch++;
		give_pages(t, u, keep);
	}
	if (!u->dev_pages && u->on_device) {
		t->policy->remove(t->dev_policy, &u->dev_node);
		u->on_device = false;
	}
	mts_user_trim_chain(t, u);
}

/* A lease pins; a copy under way would keep the pages anyway; a dirty user is about to be written. */
static bool may_evict(const struct mts_tier *t, const struct mts_user *u)
{
	return !u->lease && !u->load && !u->writeback && !(u->dirty && mts_has_host(t));
}

static void evict_pages(struct mts_tier *t, struct mts_user *u, uint32_t pages)
{
	uint32_t T = t->kv.layout.page_tokens;
	uint32_t keep = u->dev_pages > pages ? u->dev_pages - pages : 0;
	uint32_t before = u->dev_len, after;

	mts_device_cut(t, u, keep * T < u->dev_len ? keep * T : u->dev_len);
	after = u->dev_len > u->host_len ? u->dev_len : u->host_len;
	if (before > after)
		t->n.lost_tokens += before - after;
	t->n.device_evictions++;
	mts_user_remove_if_empty(t, u);
}

/* Takes pages from others, in the policy's order, until n are free. */
static void evict_until(struct mts_tier *t, uint32_t n)
{
	struct mts_policy_node *node = t->policy->victim(t->dev_policy, NULL), *next;

	while (node && mts_device_free(t) < n) {
		struct mts_user *u = (struct mts_user *)((char *)node -
							 offsetof(struct mts_user, dev_node));

		next = t->policy->victim(t->dev_policy, node);
		if (may_evict(t, u))
			evict_pages(t, u, n - mts_device_free(t));
		node = next;
	}
}

static int take_pages(struct mts_tier *t, struct mts_user *u, uint32_t n)
{
	uint32_t after = u->dev_pages ? u->dev_page[u->dev_pages - 1] : MTS_NO_PAGE;

	if (mts_pages_alloc(t->pages, n, after, u->dev_page + u->dev_pages))
		return -EAGAIN;
	for (uint32_t i = 0; i < n; i++)
		mts_page_ref(t, u->dev_page[u->dev_pages + i]);
	return 0;
}

/* Pages beyond `keep` that are free as soon as the user lets go: no copy is at them. */
static uint32_t own_pages(const struct mts_tier *t, const struct mts_user *u, uint32_t keep)
{
	uint32_t n = 0;

	if (t->lengths)
		return u->dev_pages > keep ? u->dev_pages - keep : 0;
	for (uint32_t p = keep; p < u->dev_pages; p++)
		n += t->page_ref[u->dev_page[p]] == 1;
	return n;
}

int mts_device_room(struct mts_tier *t, struct mts_user *u, uint32_t keep, uint32_t pages)
{
	uint32_t own = own_pages(t, u, keep), missing;

	if (pages <= keep + own)
		return 0;
	missing = pages - keep - own;
	if (mts_device_free(t) < missing)
		evict_until(t, missing);
	return mts_device_free(t) < missing ? -EAGAIN : 0;
}

int mts_device_grow(struct mts_tier *t, struct mts_user *u, uint32_t pages)
{
	uint32_t missing;

	if (pages <= u->dev_pages)
		return 0;
	missing = pages - u->dev_pages;
	if (mts_device_free(t) < missing)
		evict_until(t, missing);
	if (mts_device_free(t) < missing || (!t->lengths && take_pages(t, u, missing)))
		return -EAGAIN;
	u->dev_pages = pages;
	t->n.device_pages_used += missing;
	return 0;
}
