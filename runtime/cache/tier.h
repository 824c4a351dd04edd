/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tier's insides: users, their content on the device and on the host, leases, moves.
 *
 * Floor: cache. Public face: the mts_tier_* functions of <mtserve.h>; the engine also uses the few
 * internal entry points at the end. Everything here belongs to one thread, the tier's owner.
 *
 *   user ──── chain of page hashes                     what the content stands for   (user.c)
 *        ├─── device pages: a prefix [0, dev_len)      page table              (on_device.c)
 *        ├─── host slots:   a prefix [0, host_len)     extents, layer-major      (on_host.c)
 *        ├─── lease: one request at a time             pins the user                 (lease.c)
 *        └─── moves: at most one load, one write-back  copies under way              (move.c)
 *
 * A tier may also be opened on lengths alone (mts_tier_open_lengths): every decision is taken as ever,
 * but there is no memory: device pages are counted, not named, and a copy ends as it starts.
 *
 * A device page or host extent touched by a copy is referenced until the copy's completion has been
 * reaped; whoever drops it meanwhile only drops the owner's reference.
 */
#ifndef MTS_TIER_H
#define MTS_TIER_H

#include <stdbool.h>
#include <mtserve.h>

#include "cache/policy.h"
#include "memory/arena.h"
#include "memory/extent.h"
#include "memory/pages.h"
#include "transfer/transfer.h"

/* A failed uthash allocation is reported, not fatal. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define MTS_NO_PAGE UINT32_MAX

struct mts_key {
	uint64_t version[2];
	uint64_t user;
};

/* One extent of a user: [layer][slot][page bytes]. */
struct mts_host_extent {
	struct mts_extent x;
	uint32_t used;   /* slots holding a page or promised to a write-back */
	uint32_t busy;   /* copies under way that touch it */
	bool dropped;    /* the owner let go; freed when no longer busy */
	bool erase;      /* zero it before it is freed */
	struct mts_host_extent *next;
	uint64_t map[]; /* bit set: slot in use */
};

struct mts_slot {
	struct mts_host_extent *extent; /* NULL: none */
	uint32_t index;
};

struct mts_move;

struct mts_user {
	UT_hash_handle hh;
	struct mts_key key;
	uint64_t start; /* life index of visible position 0 */
	uint64_t seed;  /* of the hash chain: version and start */
	struct mts_policy_node dev_node, host_node;
	bool on_device, on_host; /* in the policy of that tier */
	bool dirty;              /* waits for a write-back */
	TAILQ_ENTRY(mts_user) dirty_link;

	uint32_t cap;         /* pages the three arrays have room for */
	uint32_t dev_pages;   /* dev_page[0, dev_pages) is set */
	uint32_t host_pages;  /* host_slot[0, host_pages) is set */
	uint32_t chain_pages; /* chain[0, chain_pages) is set */
	uint32_t dev_len, host_len;   /* valid tokens */
	uint64_t dev_tail, host_tail; /* hash of the partial last page, if there is one */
	uint64_t *chain;              /* hash at the end of each full page */
	uint32_t *dev_page;
	struct mts_slot *host_slot;
	struct mts_host_extent *extents;

	uint32_t epoch;     /* changes when content is cut or dropped */
	uint32_t dev_epoch; /* changes when device pages are given up */
	struct mts_lease *lease;
	struct mts_move *load, *writeback;
};

struct mts_lease {
	struct mts_user *user;
	struct mts_history history;
	struct mts_match match;
	bool loading;            /* onload submitted, not yet committed */
	struct mts_gate *gates;  /* [layers] of the onload */
	struct mts_move *move;   /* the onload, until its last completion is reaped */
	struct mts_lease *next;  /* free list */
};

enum mts_move_kind { MTS_MOVE_LOAD, MTS_MOVE_WRITEBACK };

/* Copies under way for one user: what they reference and what their end means. */
struct mts_move {
	enum mts_move_kind kind;
	struct mts_user *user; /* NULL: dropped meanwhile */
	struct mts_lease *lease; /* whose gates it opens; NULL: none */
	uint32_t epoch, dev_epoch;
	uint32_t first_page, pages;
	uint32_t from, to;     /* tokens */
	uint64_t tail;         /* hash of the partial page at `to` */
	uint32_t pending;      /* completions to come */
	int error;
	uint32_t *dev_page;    /* [pages] referenced */
	struct mts_slot *slot; /* [pages] referenced */
	struct mts_segment *segment;
	TAILQ_ENTRY(mts_move) link;
};

TAILQ_HEAD(mts_move_list, mts_move);
TAILQ_HEAD(mts_dirty_list, mts_user);

struct mts_tier {
	struct mts_tier_config cfg;
	struct mts_device *dev;
	bool own_device;
	bool lengths;         /* no memory: pages are counted, copies end as they start */
	bool endless_host;    /* lengths only: the host is never full, so it needs no extents */
	uint64_t told_ns;     /* lengths only: the time */
	struct mts_kv_pool kv;
	struct mts_pages *pages;
	uint16_t *page_ref;   /* [pages]: owner and copies */
	uint8_t *page_erase;  /* [pages] */
	struct mts_arena *arena;
	size_t host_ready;    /* bytes of the arena registered and given to the extents */
	int host_error;       /* the device refused to register more */
	struct mts_extents *extents;
	struct mts_transfer *transfer;

	struct mts_user *users; /* uthash */
	const struct mts_policy *policy;
	void *dev_policy, *host_policy;
	struct mts_dirty_list dirty;
	struct mts_move_list moves;
	unsigned writebacks; /* under way */
	unsigned erasing;    /* pages and extents a forget still waits for */

	struct mts_lease *leases, *free_lease;
	struct mts_gate *gates;
	struct mts_counters n;
};

/* Users whose entries are fetched ahead together. */
#define MTS_EXPECT 32u

/* Most write-backs under way at once; the rest waits in the dirty list and grows together. */
#define MTS_WRITEBACKS 32

/* user.c: the table of users and the hash chain */
uint64_t mts_chain_seed(const uint64_t version[2], uint64_t start);
uint64_t mts_chain_next(uint64_t hash, const struct mts_event *e, uint32_t n);
struct mts_user *mts_user_find(struct mts_tier *t, uint64_t user);
/* Brings near what a reserve of these users will read, all of them at once: no more than a hint. */
void mts_users_expect(struct mts_tier *t, const uint64_t *user, unsigned n);
struct mts_user *mts_user_add(struct mts_tier *t, uint64_t user);
/* Room for `pages` in the arrays; -ENOMEM. */
int mts_user_room(struct mts_user *u, uint32_t pages);
/* Removes an entry without content, lease or device pages. */
void mts_user_remove_if_empty(struct mts_tier *t, struct mts_user *u);
void mts_user_match(const struct mts_tier *t, const struct mts_user *u, const struct mts_history *h,
		    struct mts_match *m, uint32_t *dev, uint32_t *host);
/* Extends the chain to `upto` tokens of the history; returns the hash of the partial page. */
uint64_t mts_user_extend(struct mts_user *u, const struct mts_event *visible, uint32_t upto,
			 uint32_t page_tokens);
void mts_user_trim_chain(const struct mts_tier *t, struct mts_user *u);

/* on_device.c: the device side of a user's content */
void mts_page_ref(struct mts_tier *t, uint32_t page);
void mts_page_unref(struct mts_tier *t, uint32_t page);
void mts_device_cut(struct mts_tier *t, struct mts_user *u, uint32_t len);
/*
 * Makes room, evicting others, so that u can have `pages` once it has been cut to its first `keep`
 * pages: 0, -EAGAIN. Nothing of u changes.
 */
int mts_device_room(struct mts_tier *t, struct mts_user *u, uint32_t keep, uint32_t pages);
/* Finds pages so that u has `pages`, evicting others: 0, -EAGAIN. */
int mts_device_grow(struct mts_tier *t, struct mts_user *u, uint32_t pages);
/* Tells the policy. expected: the user is about to ask, and has not yet. */
void mts_device_use(struct mts_tier *t, struct mts_user *u, bool expected);

/* on_host.c: the host side */
/* Takes over what the arena has populated meanwhile: 0, or -errno of the device, for good. */
int mts_host_grow(struct mts_tier *t);
void mts_host_cut(struct mts_tier *t, struct mts_user *u, uint32_t len);
void mts_host_use(struct mts_tier *t, struct mts_user *u);
/* n fresh slots for u, evicting others: 0, -ENOSPC, -ENOMEM. */
int mts_host_slots(struct mts_tier *t, struct mts_user *u, uint32_t n, struct mts_slot *out);
void mts_host_slot_free(struct mts_tier *t, struct mts_user *u, struct mts_slot s);
void mts_host_ref(struct mts_host_extent *e);
void mts_host_unref(struct mts_tier *t, struct mts_host_extent *e);
char *mts_slot_address(const struct mts_tier *t, struct mts_slot s, uint32_t layer);

/* Drops everything known of the user in every tier; the entry itself stays. */
void mts_user_drop(struct mts_tier *t, struct mts_user *u, bool erase);

/* move.c: copies */
int mts_load_start(struct mts_tier *t, struct mts_user *u, uint32_t from, uint32_t upto,
		   uint64_t tail, enum mts_sqe_class cls, uint64_t deadline_ns, struct mts_lease *lease);
void mts_mark_dirty(struct mts_tier *t, struct mts_user *u);
void mts_unmark_dirty(struct mts_tier *t, struct mts_user *u);
void mts_writebacks_start(struct mts_tier *t);

/*
 * lease.c: a lookup by lengths, without hashing: what there is if the history goes on as it was.
 * -EINVAL: a history that makes no sense.
 */
int mts_tier_guess(struct mts_tier *t, const struct mts_history *h, struct mts_match *m);
/*
 * lease.c: as mts_tier_onload, but only from token `from` on, on a page's edge or where the device's
 * tokens end; the caller computes those before it.
 */
int mts_tier_onload_from(struct mts_tier *t, struct mts_lease *l, uint32_t from,
			 uint64_t deadline_ns);
/* lease.c: gates outlive a lease while a load may still arrive at them */
void mts_lease_move_done(struct mts_tier *t, struct mts_lease *l);

/*
 * tier.c: opens a tier on a device the caller owns and that outlives it. policy: NULL, or instead of
 * the one that cfg names. rings: NULL, or what should
 * differ from the defaults (its device is ignored).
 */
int mts_tier_open_on(const struct mts_tier_config *cfg, struct mts_device *dev,
		     const struct mts_policy *policy, const struct mts_transfer_config *rings,
		     struct mts_tier **out, struct mts_error *err);
/*
 * tier.c: a tier of lengths, for simulation. Its leases hold no pages, its histories no events: only
 * n, first and count of a history are read (`events` is any pointer but NULL): of two histories of a
 * user with the same window, one is taken for the beginning of the other. Bytes are counted at
 * MTS_LENGTHS_BYTES a token. Time is what mts_tier_tell_time said last.
 */
struct mts_lengths_config {
	uint32_t page_tokens;        /* a power of two */
	uint32_t max_history, slide; /* max_history 0: no cap */
	uint64_t device_pages;
	uint64_t host_pages;         /* 0: no host tier */
	bool endless_host;           /* host_pages does not count */
	uint32_t piece_pages;        /* a host extent never straddles a multiple of this */
};

#define MTS_LENGTHS_BYTES 4

int mts_tier_open_lengths(const struct mts_lengths_config *cfg, const struct mts_policy *policy,
			  struct mts_tier **out, struct mts_error *err);
void mts_tier_tell_time(struct mts_tier *t, uint64_t now_ns);

/* The clock policies see. */
uint64_t mts_tier_now(const struct mts_tier *t);
/* Copies under way, of any kind. */
unsigned mts_tier_outstanding(const struct mts_tier *t);

/*
 * Invariants (invariants.c), O(everything): 0, or -EUCLEAN with the broken one in err. For tests, and
 * after every step of the engine in builds with -Dinvariants=true.
 */
int mts_tier_verify(const struct mts_tier *t, struct mts_error *err);

static inline bool mts_has_host(const struct mts_tier *t)
{
	return t->extents || t->endless_host;
}

static inline uint32_t mts_device_free(const struct mts_tier *t)
{
	return t->kv.pages - (uint32_t)t->n.device_pages_used;
}

static inline uint32_t mts_pages_for(const struct mts_tier *t, uint32_t tokens)
{
	uint32_t T = t->kv.layout.page_tokens;

	return (tokens + T - 1) / T;
}

#endif
