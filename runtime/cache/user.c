/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users: the table keyed by (version, user), and the hash chain that says which history a user's
 * content stands for.
 *
 * Floor: cache. Thread: the tier's owner.
 *
 *   seed     = XXH3-64(version, start)
 *   chain[p] = XXH3-64(events of page p, seed chain[p - 1])
 *   tail     = the same over the events of the partial last page, kept per tier
 *
 * Start and version are part of the seed: content of another window or model matches nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cache/tier.h"

uint64_t mts_chain_seed(const uint64_t version[2], uint64_t start)
{
	const uint64_t in[3] = { version[0], version[1], start };

	return XXH3_64bits(in, sizeof(in));
}

uint64_t mts_chain_next(uint64_t hash, const struct mts_event *e, uint32_t n)
{
	return XXH3_64bits_withSeed(e, n * sizeof(*e), hash);
}

static struct mts_key key_of(const struct mts_tier *t, uint64_t user)
{
	return (struct mts_key){ { t->cfg.version[0], t->cfg.version[1] }, user };
}

struct mts_user *mts_user_find(struct mts_tier *t, uint64_t user)
{
	struct mts_key key = key_of(t, user);
	struct mts_user *u;

	HASH_FIND(hh, t->users, &key, sizeof(key), u);
	return u;
}

static void expect_lines(const void *p, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 64)
		__builtin_prefetch((const char *)p + at);
}

/*
 * A user lies behind three reads, each of which waits for the one before: bucket, handle, and the
 * users before and behind it in the policies' lists. One read of every user after the other lets the
 * memory serve them side by side.
 */
void mts_users_expect(struct mts_tier *t, const uint64_t *user, unsigned n)
{
	struct UT_hash_bucket *bucket[MTS_EXPECT];
	struct UT_hash_handle *at;
	struct mts_user *u;
	struct mts_key key;
	unsigned hash, i;

	n = n < MTS_EXPECT ? n : MTS_EXPECT;
	for (i = 0; t->users && i < n; i++) {
		key = key_of(t, user[i]);
		HASH_VALUE(&key, sizeof(key), hash);
		bucket[i] = &t->users->hh.tbl->buckets[hash & (t->users->hh.tbl->num_buckets - 1)];
		__builtin_prefetch(bucket[i]);
	}
	for (i = 0; t->users && i < n; i++)
		if (bucket[i]->hh_head)
			expect_lines(ELMT_FROM_HH(t->users->hh.tbl, bucket[i]->hh_head), sizeof(*u));
	for (i = 0; t->users && i < n; i++)
		for (at = bucket[i]->hh_head; at; at = at->hh_next) {
			u = ELMT_FROM_HH(t->users->hh.tbl, at);
			expect_lines(u->dev_node.link.tqe_next, sizeof(u->dev_node));
			expect_lines(u->dev_node.link.tqe_prev, sizeof(u->dev_node));
			expect_lines(u->host_node.link.tqe_next, sizeof(u->host_node));
			expect_lines(u->host_node.link.tqe_prev, sizeof(u->host_node));
			if (at->hh_next)
				expect_lines(ELMT_FROM_HH(t->users->hh.tbl, at->hh_next), sizeof(*u));
		}
}

struct mts_user *mts_user_add(struct mts_tier *t, uint64_t user)
{
	struct mts_user *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->key = key_of(t, user);
	HASH_ADD(hh, t->users, key, sizeof(u->key), u);
	if (!u->hh.tbl) { /* the table could not grow: nothing was added */
		free(u);
		return NULL;
	}
	t->n.users++;
	return u;
}

int mts_user_room(struct mts_user *u, uint32_t pages)
{
	uint32_t cap = u->cap ? u->cap : 4;
	uint64_t *chain;
	uint32_t *dev;
	struct mts_slot *slot;

	if (pages <= u->cap)
		return 0;
	while (cap < pages)
		cap *= 2;
	chain = realloc(u->chain, cap * sizeof(*chain));
	if (!chain)
		return -ENOMEM;
	u->chain = chain;
	dev = realloc(u->dev_page, cap * sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	u->dev_page = dev;
	slot = realloc(u->host_slot, cap * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	u->host_slot = slot;
	u->cap = cap;
	return 0;
}

void mts_user_remove_if_empty(struct mts_tier *t, struct mts_user *u)
{
	if (u->lease || u->dev_pages || u->host_pages)
		return;
	mts_host_cut(t, u, 0); /* extents that only a write-back under way still fills */
	mts_unmark_dirty(t, u);
	if (u->load)
		u->load->user = NULL;
	if (u->writeback)
		u->writeback->user = NULL;
	HASH_DEL(t->users, u);
	t->n.users--;
	free(u->chain);
	free(u->dev_page);
	free(u->host_slot);
	free(u);
}

void mts_user_drop(struct mts_tier *t, struct mts_user *u, bool erase)
{
	if (erase) {
		for (uint32_t p = 0; p < u->dev_pages; p++)
			if (!t->page_erase[u->dev_page[p]]) {
				t->page_erase[u->dev_page[p]] = 1;
				t->erasing++;
			}
		for (struct mts_host_extent *e = u->extents; e; e = e->next)
			if (!e->erase) {
				e->erase = true;
				t->erasing++;
			}
	}
	u->epoch++;
	mts_unmark_dirty(t, u);
	mts_device_cut(t, u, 0);
	mts_host_cut(t, u, 0);
	u->chain_pages = 0;
}

/*
 * How much of a prefix of `len` tokens stands for the same history. Full pages are compared by the
 * chain; `agreed` of them are known to agree. A partial page agrees as a whole or not at all.
 */
static uint32_t match_prefix(const struct mts_user *u, const struct mts_event *e, uint32_t v,
			     uint32_t T, uint32_t agreed, uint32_t len, uint64_t tail)
{
	uint32_t full = len / T, rest = len % T;
	uint64_t prev;

	if (full > agreed)
		return agreed * T;
	if (!rest || full < agreed)
		return len;
	if (full * T + rest > v)
		return full * T;
	prev = full ? u->chain[full - 1] : u->seed;
	return mts_chain_next(prev, e + full * T, rest) == tail ? len : full * T;
}

/* What hashing would find if the shorter of the two is the beginning of the longer. */
static uint32_t match_length(uint32_t len, uint32_t v, uint32_t T)
{
	return len <= v ? len : v / T * T;
}

/*
 * *dev and *host: how much of each tier's content can serve this history, at most `visible`. The
 * device's falls inside a page only where it ends, or where the host's ends there.
 * A caller that promises to append is believed; else every visible event is hashed.
 */
void mts_user_match(const struct mts_tier *t, const struct mts_user *u, const struct mts_history *h,
		    struct mts_match *m, uint32_t *dev, uint32_t *host)
{
	const struct mts_event *e = h->events + (m->start - h->first);
	uint32_t T = t->kv.layout.page_tokens, agreed = 0, by_dev, by_host, matched;
	uint64_t hash = u->seed;

	*dev = *host = 0;
	if (u->start != m->start) {
		m->flags |= MTS_REPLY_WINDOW_MOVED;
		return;
	}
	if (h->flags & MTS_HISTORY_APPENDS) {
		*dev = u->dev_len < m->visible ? u->dev_len : m->visible;
		*host = u->host_len < m->visible ? u->host_len : m->visible;
		return;
	}
	while (!t->lengths && agreed < u->chain_pages && (agreed + 1) * T <= m->visible) {
		hash = mts_chain_next(hash, e + agreed * T, T);
		if (hash != u->chain[agreed])
			break;
		agreed++;
	}
	/* Both tiers hold the same content, one perhaps more of it: what one proves holds for both. */
	if (t->lengths) {
		by_dev = match_length(u->dev_len, m->visible, T);
		by_host = match_length(u->host_len, m->visible, T);
	} else {
		by_dev = match_prefix(u, e, m->visible, T, agreed, u->dev_len, u->dev_tail);
		by_host = match_prefix(u, e, m->visible, T, agreed, u->host_len, u->host_tail);
	}
	matched = by_dev > by_host ? by_dev : by_host;
	*dev = matched < u->dev_len ? matched : u->dev_len;
	*host = matched < u->host_len ? matched : u->host_len;
	if (matched == m->visible || (matched >= u->dev_len && matched >= u->host_len))
		return;
	m->flags |= MTS_REPLY_DIVERGED;
	/* The page the cut falls into is written next; a write-back under way may still read it. */
	if (u->writeback && *dev < u->dev_len)
		*dev -= *dev % T;
}

uint64_t mts_user_extend(struct mts_user *u, const struct mts_event *visible, uint32_t upto,
			 uint32_t T)
{
	uint32_t full = upto / T;
	uint64_t hash;

	for (uint32_t p = u->chain_pages; p < full; p++) {
		hash = p ? u->chain[p - 1] : u->seed;
		u->chain[p] = mts_chain_next(hash, visible + p * T, T);
		u->chain_pages = p + 1;
	}
	if (upto % T == 0)
		return 0;
	hash = full ? u->chain[full - 1] : u->seed;
	return mts_chain_next(hash, visible + full * T, upto % T);
}

void mts_user_trim_chain(const struct mts_tier *t, struct mts_user *u)
{
	uint32_t len = u->dev_len > u->host_len ? u->dev_len : u->host_len;
	uint32_t full = len / t->kv.layout.page_tokens;

	if (u->chain_pages > full)
		u->chain_pages = full;
}
