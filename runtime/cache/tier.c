/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a tier: the device pool, the host arena and its extents, the rings, the leases.
 *
 * Floor: cache. One thread owns a tier; open and close belong to it too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/tier.h"
#include "error.h"
#include "memory/park.h"

static int check_config(const struct mts_tier_config *c, struct mts_error *err)
{
	const char *wrong = NULL;

	if (c->size != sizeof(*c))
		wrong = "size: expected sizeof(struct mts_tier_config)";
	else if (!c->layers || c->layers > 256 || !c->heads || c->heads > 256)
		wrong = "layers and heads: expected 1..256";
	else if (!c->d_qk || c->d_qk > 1024 || !c->d_v || c->d_v > 1024)
		wrong = "d_qk and d_v: expected 1..1024";
	else if (c->page_tokens < 16 || c->page_tokens > 128 || c->page_tokens & (c->page_tokens - 1))
		wrong = "page_tokens: expected 16, 32, 64 or 128";
	else if (!c->slide || c->max_history % c->slide || c->max_history > 1u << 24)
		wrong = "slide: expected to divide max_history (at most 2^24)";
	if (!wrong)
		return 0;
	mts_error_set(err, "tier: %s", wrong);
	return -EINVAL;
}

static int open_pool(struct mts_tier *t, struct mts_error *err)
{
	struct mts_kv_pool *kv = &t->kv;
	size_t page = mts_kv_page_bytes(&kv->layout);
	uint64_t pages = t->cfg.device_bytes / (page * kv->layout.layers);
	int ret;

	if (!pages || pages >= MTS_NO_PAGE) {
		mts_error_set(err, "device memory: %llu bytes, expected at least one page of %zu",
			      (unsigned long long)t->cfg.device_bytes, page * kv->layout.layers);
		return -EINVAL;
	}
	kv->pages = pages;
	kv->layer_stride = pages * page;
	ret = t->dev->ops->alloc(t->dev, kv->layer_stride * kv->layout.layers, &kv->base);
	if (ret) {
		mts_error_set(err, "device memory: cannot get %zu bytes: %s",
			      kv->layer_stride * kv->layout.layers, strerror(-ret));
		return ret;
	}
	t->page_ref = calloc(pages, sizeof(*t->page_ref));
	t->page_erase = calloc(pages, sizeof(*t->page_erase));
	if (!t->page_ref || !t->page_erase)
		return -ENOMEM;
	return mts_pages_open(pages, &t->pages);
}

static int open_host(struct mts_tier *t, struct mts_error *err)
{
	size_t unit = mts_kv_page_bytes(&t->kv.layout) * t->kv.layout.layers;
	struct mts_arena_config ac = {
		.provider = t->cfg.arena,
		.bytes = t->cfg.host_bytes,
		.node = t->cfg.node,
	};
	int ret;

	if (!t->cfg.host_bytes)
		return 0;
	if (t->cfg.host_bytes < unit || unit > MTS_ARENA_PIECE) {
		mts_error_set(err, "host memory: %llu bytes, expected at least one page of %zu",
			      (unsigned long long)t->cfg.host_bytes, unit);
		return -EINVAL;
	}
	ret = mts_arena_open(&ac, &t->arena, err);
	if (ret)
		return ret;
	if (t->arena->ops->hollow && t->dev->ops != &mts_device_nil) {
		mts_error_set(err, "arena none has no memory: only for the nil device");
		return -EINVAL;
	}
	ret = mts_extents_open(t->arena->base, t->arena->bytes, MTS_ARENA_PIECE, unit, &t->extents);
	if (!ret)
		ret = mts_extents_limit(t->extents, 0);
	if (ret)
		return ret;
	ret = mts_host_grow(t);
	if (ret)
		mts_error_set(err, "host memory: the device cannot register it: %s", strerror(-ret));
	return ret;
}

static int open_leases(struct mts_tier *t)
{
	uint32_t n = t->cfg.leases, layers = t->cfg.layers;

	t->leases = calloc(n, sizeof(*t->leases));
	t->gates = calloc((size_t)n * layers, sizeof(*t->gates));
	if (!t->leases || !t->gates)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		t->leases[i].gates = t->gates + (size_t)i * layers;
		t->leases[i].next = t->free_lease;
		t->free_lease = &t->leases[i];
	}
	return 0;
}

static int open_parts(struct mts_tier *t, const struct mts_transfer_config *rings,
		      struct mts_error *err)
{
	struct mts_transfer_config tc = rings ? *rings : (struct mts_transfer_config){ 0 };
	int ret = open_pool(t, err);

	if (!ret)
		ret = open_host(t, err);
	if (!ret)
		ret = open_leases(t);
	if (!ret)
		ret = t->policy->open(&t->dev_policy);
	if (!ret)
		ret = t->policy->open(&t->host_policy);
	tc.device = t->dev;
	if (!ret && t->extents)
		ret = mts_transfer_open(&tc, &t->transfer);
	return ret;
}

static int choose_policy(const char *name, const struct mts_policy **out, struct mts_error *err)
{
	*out = name ? mts_policy_find(name) : &mts_policy_locality;
	if (*out)
		return 0;
	mts_error_set(err, "policy \"%s\": expected one of %s", name, mts_policy_names());
	return -EINVAL;
}

int mts_tier_open_on(const struct mts_tier_config *cfg, struct mts_device *dev,
		     const struct mts_policy *policy, const struct mts_transfer_config *rings,
		     struct mts_tier **out, struct mts_error *err)
{
	struct mts_tier *t;
	int ret = check_config(cfg, err);

	if (!ret && !policy)
		ret = choose_policy(cfg->policy, &policy, err);
	if (ret)
		return ret;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->cfg = *cfg;
	t->dev = dev;
	t->policy = policy;
	if (!t->cfg.leases)
		t->cfg.leases = 64;
	TAILQ_INIT(&t->dirty);
	TAILQ_INIT(&t->moves);
	t->kv.layout = (struct mts_kv_layout){
		.layers = cfg->layers,
		.heads = cfg->heads,
		.dq = cfg->d_qk,
		.dv = cfg->d_v,
		.page_tokens = cfg->page_tokens,
		.dtype = cfg->kv_bf16 ? MTS_BF16 : MTS_F32,
	};
	if (err)
		err->text[0] = '\0';
	ret = open_parts(t, rings, err);
	if (ret) {
		if (err && !err->text[0])
			mts_error_set(err, "tier: %s", strerror(-ret));
		mts_tier_close(t);
		return ret;
	}
	*out = t;
	return 0;
}

int mts_tier_open(const struct mts_tier_config *cfg, struct mts_tier **out, struct mts_error *err)
{
	const char *name = cfg->device ? cfg->device : "cpu";
	const struct mts_device_ops *ops = mts_device_find(name);
	struct mts_device_config dc = {
		.index = cfg->device_index,
		.threads = 1,
		.link_gbps = cfg->link_gbps,
		.copy_us = cfg->copy_us,
	};
	struct mts_device *dev;
	int ret;

	if (!ops) {
		mts_error_set(err, "device \"%s\": not in this build, expected cpu or nil", name);
		return -ENODEV;
	}
	ret = ops->open(&dc, &dev, err);
	if (ret)
		return ret;
	ret = mts_tier_open_on(cfg, dev, NULL, NULL, out, err);
	if (ret)
		ops->close(dev);
	else
		(*out)->own_device = true;
	return ret;
}

/* ---- on lengths ---- */

/* An address nobody follows. */
#define NOWHERE ((void *)MTS_ARENA_PIECE)

static int open_counted(struct mts_tier *t, const struct mts_lengths_config *cfg,
			const struct mts_policy *policy)
{
	size_t unit = mts_kv_page_bytes(&t->kv.layout);
	int ret = open_leases(t);

	if (!ret)
		ret = policy->open(&t->dev_policy);
	if (!ret)
		ret = policy->open(&t->host_policy);
	if (!ret && cfg->host_pages && !cfg->endless_host)
		ret = mts_extents_open(NOWHERE, cfg->host_pages * unit, cfg->piece_pages * unit,
				       unit, &t->extents);
	return ret;
}

int mts_tier_open_lengths(const struct mts_lengths_config *cfg, const struct mts_policy *policy,
			  struct mts_tier **out, struct mts_error *err)
{
	struct mts_tier *t;
	int ret;

	if (!cfg->device_pages || cfg->device_pages >= MTS_NO_PAGE) {
		mts_error_set(err, "device memory: %llu pages, expected at least one",
			      (unsigned long long)cfg->device_pages);
		return -EINVAL;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->lengths = true;
	t->endless_host = cfg->endless_host;
	t->policy = policy;
	t->cfg.leases = t->cfg.layers = 1;
	t->cfg.max_history = cfg->max_history ? cfg->max_history : UINT32_MAX;
	t->cfg.slide = cfg->max_history ? cfg->slide : 1;
	TAILQ_INIT(&t->dirty);
	TAILQ_INIT(&t->moves);
	t->kv.pages = cfg->device_pages;
	t->kv.layout = (struct mts_kv_layout){ 1, 1, 1, 1, cfg->page_tokens, MTS_BF16 };
	ret = open_counted(t, cfg, policy);
	if (ret) {
		mts_error_set(err, "tier: %s", strerror(-ret));
		mts_tier_close(t);
		return ret;
	}
	*out = t;
	return 0;
}

void mts_tier_tell_time(struct mts_tier *t, uint64_t now_ns)
{
	t->told_ns = now_ns;
}

uint64_t mts_tier_now(const struct mts_tier *t)
{
	return t->lengths ? t->told_ns : mts_now();
}

/* Moves whose completions will not come any more, after the rings are closed. */
static void drop_moves(struct mts_tier *t)
{
	struct mts_move *m;

	while ((m = TAILQ_FIRST(&t->moves))) {
		if (m->user) {
			m->user->load = NULL;
			m->user->writeback = NULL;
		}
		TAILQ_REMOVE(&t->moves, m, link);
		for (uint32_t i = 0; i < m->pages; i++)
			mts_host_unref(t, m->slot[i].extent);
		free(m);
	}
}

static void free_users(struct mts_tier *t)
{
	struct mts_user *u, *next;
	struct mts_host_extent *e;

	HASH_ITER(hh, t->users, u, next) {
		HASH_DEL(t->users, u);
		while ((e = u->extents)) {
			u->extents = e->next;
			free(e);
		}
		free(u->chain);
		free(u->dev_page);
		free(u->host_slot);
		free(u);
	}
}

static void unregister_host(struct mts_tier *t)
{
	for (size_t at = 0; at < t->host_ready; at += MTS_ARENA_PIECE) {
		size_t n = t->host_ready - at;

		t->dev->ops->host_unregister(t->dev, t->arena->base + at,
					     n < MTS_ARENA_PIECE ? n : MTS_ARENA_PIECE);
	}
}

void mts_tier_close(struct mts_tier *t)
{
	if (!t)
		return;
	if (t->transfer)
		mts_transfer_close(t->transfer);
	drop_moves(t);
	free_users(t);
	if (t->dev_policy)
		t->policy->close(t->dev_policy);
	if (t->host_policy)
		t->policy->close(t->host_policy);
	free(t->leases);
	free(t->gates);
	if (t->extents)
		mts_extents_close(t->extents);
	if (t->arena) {
		unregister_host(t);
		mts_arena_close(t->arena);
	}
	if (t->pages)
		mts_pages_close(t->pages);
	free(t->page_ref);
	free(t->page_erase);
	if (t->kv.base)
		t->dev->ops->free(t->dev, t->kv.base, t->kv.layer_stride * t->kv.layout.layers);
	if (t->own_device)
		t->dev->ops->close(t->dev);
	free(t);
}

void mts_tier_pool(const struct mts_tier *t, struct mts_pool_view *out)
{
	*out = (struct mts_pool_view){
		.base = t->kv.base,
		.layer_stride = t->kv.layer_stride,
		.page_bytes = mts_kv_page_bytes(&t->kv.layout),
		.pages = t->kv.pages,
	};
}

void mts_tier_counters(struct mts_tier *t, struct mts_counters *out)
{
	struct mts_transfer_stats s;

	*out = t->n;
	out->size = sizeof(*out);
	if (!t->transfer)
		return;
	mts_transfer_stats(t->transfer, &s);
	out->bytes_h2d = s.bytes[MTS_H2D];
	out->bytes_d2h = s.bytes[MTS_D2H];
	out->copies_h2d = s.copies[MTS_H2D];
	out->copies_d2h = s.copies[MTS_D2H];
	out->copy_busy_ns = s.busy_ns[MTS_H2D];
}
