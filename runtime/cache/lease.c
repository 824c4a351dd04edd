/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: one request's hold on a user, from reserve to release.
 *
 * Floor: cache. Thread: the tier's owner.
 *
 *   reserve   look up, cut what diverged, find device pages for the window, pin
 *   onload    copy what is on the host, layer by layer
 *   commit    new tokens become valid, their write-back is submitted
 *   release   unpin; uncommitted pages go back to the pool
 *   abandon   something failed: release, and forget the content
 */
#include <errno.h>

#include "cache/tier.h"

static uint64_t window_start(const struct mts_tier_config *c, uint64_t n)
{
	uint64_t over = n > c->max_history ? n - c->max_history : 0;

	return (over + c->slide - 1) / c->slide * c->slide;
}

static int check_history(const struct mts_tier *t, const struct mts_history *h, uint64_t *start)
{
	if (h->flags & ~MTS_HISTORY_APPENDS || h->n > INT64_MAX || h->first > h->n ||
	    h->n - h->first != h->count || (h->count && !h->events))
		return -EINVAL;
	*start = window_start(&t->cfg, h->n);
	return h->first > *start ? -EINVAL : 0;
}

/* Lookup without a change: what matches, per tier. */
static int match(struct mts_tier *t, const struct mts_history *h, struct mts_user *u,
		 struct mts_match *m, uint32_t *dev, uint32_t *host)
{
	uint64_t start;
	int err = check_history(t, h, &start);

	if (err)
		return err;
	*m = (struct mts_match){ .start = start, .visible = h->n - start };
	*dev = *host = 0;
	if (!u) {
		m->flags = MTS_REPLY_FIRST_VISIT;
		return 0;
	}
	mts_user_match(t, u, h, m, dev, host);
	m->device_tokens = *dev;
	m->host_tokens = *host > *dev ? *host - *dev : 0;
	return 0;
}

int mts_tier_lookup(struct mts_tier *t, const struct mts_history *h, struct mts_match *out)
{
	uint32_t dev, host;

	return match(t, h, mts_user_find(t, h->user), out, &dev, &host);
}

int mts_tier_guess(struct mts_tier *t, const struct mts_history *h, struct mts_match *m)
{
	struct mts_user *u = mts_user_find(t, h->user);
	uint64_t start;
	int err = check_history(t, h, &start);

	if (err)
		return err;
	*m = (struct mts_match){ .start = start, .visible = h->n - start };
	if (!u || u->start != start)
		return 0;
	m->device_tokens = u->dev_len < m->visible ? u->dev_len : m->visible;
	if (u->host_len > m->device_tokens)
		m->host_tokens = (u->host_len < m->visible ? u->host_len : m->visible) -
				 m->device_tokens;
	return 0;
}

/*
 * Brings the content in line with the match. What lies beyond the match goes, in both tiers, unless
 * all visible tokens match: then a longer content is kept, it may be this history's future.
 */
/* Device pages that stay with the user when cut_to_match() has run. */
static uint32_t kept_pages(const struct mts_tier *t, const struct mts_user *u,
			   const struct mts_match *m, uint32_t dev, uint32_t host)
{
	uint32_t best = dev > host ? dev : host;

	if (u->start != m->start)
		return 0;
	return best == m->visible || dev == u->dev_len ? u->dev_pages : mts_pages_for(t, dev);
}

static void cut_to_match(struct mts_tier *t, struct mts_user *u, const struct mts_match *m,
			 uint32_t dev, uint32_t host)
{
	uint32_t best = dev > host ? dev : host, T = t->kv.layout.page_tokens;

	if (u->start != m->start) {
		mts_user_drop(t, u, false);
		u->start = m->start;
		u->seed = mts_chain_seed(u->key.version, u->start);
		return;
	}
	if (best == m->visible || (dev == u->dev_len && host == u->host_len))
		return;
	u->epoch++;
	if (dev < u->dev_len) {
		mts_device_cut(t, u, dev);
		if (dev % T)
			u->dev_tail = u->host_tail;
	}
	if (host < u->host_len)
		mts_host_cut(t, u, host);
}

static struct mts_lease *lease_take(struct mts_tier *t, struct mts_user *u)
{
	struct mts_lease *l = t->free_lease;

	t->free_lease = l->next;
	l->next = NULL;
	l->user = u;
	l->loading = false;
	u->lease = l;
	return l;
}

static void lease_free(struct mts_tier *t, struct mts_lease *l)
{
	l->next = t->free_lease;
	t->free_lease = l;
}

static void lease_give(struct mts_tier *t, struct mts_lease *l)
{
	l->user->lease = NULL;
	l->user = NULL;
	if (!l->move)
		lease_free(t, l);
}

void mts_lease_move_done(struct mts_tier *t, struct mts_lease *l)
{
	l->move = NULL;
	if (!l->user)
		lease_free(t, l);
}

static struct mts_user *find_or_add(struct mts_tier *t, const struct mts_history *h,
				    const struct mts_match *m, struct mts_user *u)
{
	if (u)
		return u;
	u = mts_user_add(t, h->user);
	if (u) {
		u->start = m->start;
		u->seed = mts_chain_seed(u->key.version, u->start);
	}
	return u;
}

int mts_tier_reserve(struct mts_tier *t, const struct mts_history *h, struct mts_lease **out)
{
	struct mts_user *u = mts_user_find(t, h->user);
	uint32_t dev, host, pages;
	struct mts_match m;
	struct mts_lease *l;
	int err;

	if (u && u->lease)
		return -EBUSY;
	if (!t->free_lease || (u && u->load))
		return -EAGAIN;
	err = match(t, h, u, &m, &dev, &host);
	if (err)
		return err;
	pages = mts_pages_for(t, m.visible);
	if (pages > t->kv.pages)
		return -ENOSPC;
	u = find_or_add(t, h, &m, u);
	if (!u)
		return -ENOMEM;
	l = lease_take(t, u);
	/* Refused before anything of the user is cut: it may ask again and must find what it had. */
	err = mts_user_room(u, pages);
	if (!err)
		err = mts_device_room(t, u, kept_pages(t, u, &m, dev, host), pages);
	if (!err) {
		cut_to_match(t, u, &m, dev, host);
		err = mts_device_grow(t, u, pages);
	}
	if (err) {
		lease_give(t, l);
		mts_user_remove_if_empty(t, u);
		return err;
	}
	l->history = *h;
	l->match = m;
	mts_device_use(t, u, false);
	mts_host_use(t, u);
	*out = l;
	return 0;
}

const struct mts_match *mts_lease_match(const struct mts_lease *l)
{
	return &l->match;
}

const uint32_t *mts_lease_pages(const struct mts_lease *l)
{
	return l->user->dev_page;
}

int mts_tier_onload(struct mts_tier *t, struct mts_lease *l, uint64_t deadline_ns)
{
	return mts_tier_onload_from(t, l, l->match.device_tokens, deadline_ns);
}

int mts_tier_onload_from(struct mts_tier *t, struct mts_lease *l, uint32_t from,
			 uint64_t deadline_ns)
{
	const struct mts_match *m = &l->match;
	uint32_t layers = t->kv.layout.layers;
	int err;

	if (!m->host_tokens || l->loading)
		return 0;
	for (uint32_t i = 0; i < layers; i++)
		mts_gate_init(&l->gates[i], 1);
	err = mts_load_start(t, l->user, from, m->device_tokens + m->host_tokens, 0, MTS_DEMAND,
			     deadline_ns, l);
	for (uint32_t i = 0; i < layers; i++)
		mts_gate_arrive(&l->gates[i], 0);
	if (err)
		return err;
	l->loading = true;
	l->move = l->user->load;
	return 0;
}

int mts_tier_wait_layer(struct mts_tier *t, struct mts_lease *l, uint32_t layer,
			int64_t timeout_ns)
{
	if (layer >= t->kv.layout.layers)
		return -EINVAL;
	return l->loading ? mts_gate_wait(&l->gates[layer], timeout_ns) : 0;
}

int mts_tier_commit(struct mts_tier *t, struct mts_lease *l, uint32_t upto)
{
	const struct mts_history *h = &l->history;
	struct mts_user *u = l->user;

	if (upto > l->match.visible)
		return -EINVAL;
	/*
	 * A shorter history than the one the host holds: the device keeps whole pages of it, so that its
	 * content ends inside a page only where no tier has more.
	 */
	if (upto < u->host_len)
		upto -= upto % t->kv.layout.page_tokens;
	if (upto <= u->dev_len)
		return 0;
	if (!t->lengths)
		u->dev_tail = mts_user_extend(u, h->events + (l->match.start - h->first), upto,
					      t->kv.layout.page_tokens);
	u->dev_len = upto;
	if (upto >= l->match.device_tokens + l->match.host_tokens)
		l->loading = false;
	if (t->cfg.no_cache || u->dev_len <= u->host_len)
		return 0;
	mts_mark_dirty(t, u);
	mts_writebacks_start(t);
	return 0;
}

void mts_tier_release(struct mts_tier *t, struct mts_lease *l)
{
	struct mts_user *u = l->user;

	lease_give(t, l);
	if (t->cfg.no_cache)
		mts_user_drop(t, u, false);
	else
		mts_device_cut(t, u, u->dev_len);
	mts_user_remove_if_empty(t, u);
}

void mts_tier_abandon(struct mts_tier *t, struct mts_lease *l)
{
	struct mts_user *u = l->user;

	lease_give(t, l);
	mts_user_drop(t, u, false);
	mts_user_remove_if_empty(t, u);
}

/* ---- hints ---- */

int mts_tier_session_end(struct mts_tier *t, uint64_t user)
{
	struct mts_user *u = mts_user_find(t, user);
	uint64_t now = mts_tier_now(t);

	if (!u || !t->policy->session_end)
		return 0;
	t->policy->session_end(t->dev_policy, &u->dev_node, now);
	t->policy->session_end(t->host_policy, &u->host_node, now);
	return 0;
}

/* Uses free pages only: a guess pushes nobody out. */
int mts_tier_prefetch(struct mts_tier *t, uint64_t user)
{
	struct mts_user *u = mts_user_find(t, user);
	uint32_t need;
	int err;

	if (!u || u->lease || u->load)
		return 0;
	if (u->host_len <= u->dev_len) {
		mts_device_use(t, u, true);
		return 0;
	}
	need = mts_pages_for(t, u->host_len);
	if (need - u->dev_pages > mts_device_free(t))
		return -EAGAIN;
	err = mts_device_grow(t, u, need);
	if (!err) {
		err = mts_load_start(t, u, u->dev_len, u->host_len, u->host_tail, MTS_PREFETCH, 0, NULL);
		mts_device_use(t, u, true);
		if (err)
			mts_device_cut(t, u, u->dev_len);
	}
	return err;
}

int mts_tier_forget(struct mts_tier *t, uint64_t user)
{
	struct mts_user *u = mts_user_find(t, user);

	if (!u)
		return t->erasing ? -EINPROGRESS : 0;
	if (u->lease)
		return -EBUSY;
	mts_user_drop(t, u, !t->lengths);
	mts_user_remove_if_empty(t, u);
	return t->erasing ? -EINPROGRESS : 0;
}
