/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache's invariants, checked from scratch: every count is added up again and compared with what
 * the tier believes. For tests and debug builds. Floor: cache. Thread: the tier's owner.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/tier.h"
#include "error.h"

#define EXPECT(cond)                                                                           \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			mts_error_set(err, "invariant broken: %s", #cond);                     \
			return -EUCLEAN;                                                       \
		}                                                                              \
	} while (0)

struct sums {
	uint16_t *page_ref;
	uint64_t users, pages, host_units;
	uint32_t busy;
};

static int verify_host(const struct mts_tier *t, const struct mts_user *u, struct sums *s,
		       struct mts_error *err)
{
	uint32_t used = 0, bits = 0;

	for (const struct mts_host_extent *e = u->extents; e; e = e->next) {
		EXPECT(!e->dropped);
		EXPECT(e->used <= e->x.units);
		used += e->used;
		s->host_units += e->x.units;
		for (uint32_t i = 0; i < (e->x.units + 63) / 64; i++)
			bits += __builtin_popcountll(e->map[i]);
	}
	EXPECT(used == bits);
	/* Every slot in use holds a page, or is promised to the write-back under way. */
	EXPECT(used >= u->host_pages);
	EXPECT(u->writeback || used == u->host_pages);
	for (uint32_t p = 0; p < u->host_pages; p++) {
		const struct mts_slot *x = &u->host_slot[p];

		EXPECT(x->extent && x->index < x->extent->x.units);
		EXPECT(x->extent->map[x->index / 64] >> (x->index % 64) & 1);
	}
	EXPECT(u->host_pages == mts_pages_for(t, u->host_len));
	return 0;
}

static int verify_user(const struct mts_tier *t, const struct mts_user *u, struct sums *s,
		       struct mts_error *err)
{
	uint32_t T = t->kv.layout.page_tokens;
	uint32_t longest = u->dev_len > u->host_len ? u->dev_len : u->host_len;

	s->users++;
	s->pages += u->dev_pages;
	EXPECT(u->dev_pages >= mts_pages_for(t, u->dev_len));
	EXPECT(u->lease || u->load || u->dev_pages == mts_pages_for(t, u->dev_len));
	EXPECT(t->lengths || u->chain_pages >= longest / T);
	EXPECT(u->on_device == (u->dev_pages > 0));
	EXPECT(u->on_host == (u->host_pages > 0 && !t->endless_host));
	EXPECT(!u->lease || u->lease->user == u);
	EXPECT(u->lease || u->dev_pages || u->host_pages);
	/* Device content that the host lacks starts where the host's ends; a lease may be on its way. */
	EXPECT(u->lease || u->dev_len >= u->host_len || u->dev_len % T == 0);
	for (uint32_t p = 0; p < u->dev_pages && !t->lengths; p++) {
		EXPECT(u->dev_page[p] < t->kv.pages);
		EXPECT(!mts_pages_is_free(t->pages, u->dev_page[p]));
		s->page_ref[u->dev_page[p]]++;
	}
	return t->endless_host ? 0 : verify_host(t, u, s, err);
}

static int verify_pages(const struct mts_tier *t, struct sums *s, struct mts_error *err)
{
	const struct mts_move *m;
	uint64_t in_use = 0;

	for (uint32_t p = 0; p < t->kv.pages; p++)
		EXPECT(s->page_ref[p] <= 1); /* no page has two owners */
	TAILQ_FOREACH(m, &t->moves, link)
		for (uint32_t i = 0; i < m->pages; i++)
			s->page_ref[m->dev_page[i]]++;
	for (uint32_t p = 0; p < t->kv.pages; p++) {
		EXPECT(s->page_ref[p] == t->page_ref[p]);
		EXPECT((s->page_ref[p] == 0) == !!mts_pages_is_free(t->pages, p));
		in_use += s->page_ref[p] != 0;
	}
	EXPECT(in_use == t->n.device_pages_used);
	EXPECT(in_use + mts_pages_available(t->pages) == t->kv.pages);
	return 0;
}

static int verify_all(const struct mts_tier *t, struct sums *s, struct mts_error *err)
{
	const struct mts_user *u;
	int ret;

	for (u = t->users; u; u = u->hh.next) {
		ret = verify_user(t, u, s, err);
		if (ret)
			return ret;
	}
	if (!t->lengths) {
		ret = verify_pages(t, s, err);
		if (ret)
			return ret;
	}
	EXPECT(s->users == t->n.users);
	EXPECT(!t->lengths || s->pages == t->n.device_pages_used);
	EXPECT(t->n.device_pages_used <= t->kv.pages);
	if (t->extents) {
		uint64_t taken = mts_extents_units(t->extents) - mts_extents_units_free(t->extents);

		/* More is taken only while copies still touch dropped extents. */
		EXPECT(taken >= s->host_units);
		EXPECT(!TAILQ_EMPTY(&t->moves) || taken == s->host_units);
		EXPECT(t->n.host_bytes_used ==
		       taken * t->kv.layout.layers * mts_kv_page_bytes(&t->kv.layout));
		EXPECT(mts_extents_verify(t->extents) == 0);
	}
	return 0;
}

int mts_tier_verify(const struct mts_tier *t, struct mts_error *err)
{
	struct sums s = { .page_ref = calloc(t->kv.pages, sizeof(*s.page_ref)) };
	int ret;

	if (!s.page_ref)
		return -ENOMEM;
	ret = verify_all(t, &s, err);
	free(s.page_ref);
	return ret;
}
