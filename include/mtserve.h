/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve: generative ranking that never encodes a user's history twice.
 *
 * Two kinds of caller:
 *
 *   A server. mts_server_open() loads a model and owns everything; any thread submits requests
 *   (user, history, candidates) and reaps replies with scores.
 *
 *   A tier. Another inference engine keeps its own model and wants only the memory tier:
 *   mts_tier_open() gives it a pool of device pages; for each request it reserves (look up, pin,
 *   allocate), onloads, waits layer by layer, computes, commits and releases. One thread owns a tier.
 *
 * Conventions. Functions return 0 (or a count) or -errno; handles come back through an out-parameter
 * and are opaque. The library never prints, exits or aborts. Times are nanoseconds of
 * CLOCK_MONOTONIC unless a name says otherwise. Where a person must be told, a function takes a
 * struct mts_error (may be NULL).
 *
 * Errors:
 *   -EINVAL     an argument or a file is wrong; the message names it and what was expected
 *   -ENOMEM     no memory
 *   -ENOSPC     the request needs more pages than the device pool has at all
 *   -EAGAIN     not now: pages or ring entries are all in use; reap or release, then call again
 *   -EBUSY      a tier's user has a lease already; a server expects to miss the request's deadline
 *   -ERANGE     an item, action or count lies outside what the model has
 *   -EIO        the device is lost, or a copy failed
 *   -ETIME      the deadline passed
 *   -ECANCELED  the server was closed first
 *   -ENODEV     no such device in this build or machine
 */
#ifndef MTSERVE_H
#define MTSERVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MTS_API __attribute__((visibility("default")))

/* One line, always terminated; filled only when a call fails. */
struct mts_error {
	char text[256];
};

/* "MAJOR.MINOR.PATCH" of the library. */
MTS_API const char *mts_version(void);

/* ---- histories ---- */

struct mts_event {
	uint32_t item;
	uint32_t action;
};

/*
 * A user's history as the caller knows it. `events` holds life indices [first, first + count), oldest
 * first, and first + count == n. Of these the newest are visible: [start(n), n) with
 * start(n) = S * ceil(max(0, n - H) / S); first <= start(n). The array is read in place.
 * MTS_HISTORY_APPENDS: the caller only ever appends; what was verified before is not hashed again.
 */
struct mts_history {
	uint64_t user;
	uint64_t n;
	uint64_t first;
	const struct mts_event *events;
	uint32_t count;
	uint32_t flags;
};

#define MTS_HISTORY_APPENDS 1u

/* ---- the server ---- */

struct mts_server;

/*
 * How K/V gets to the device that is on the host alone. AUTO: what ends first by what was measured:
 * loaded, computed afresh, or the older part computed while the newer one loads. The others force one
 * way; SPLIT: half and half.
 */
#define MTS_PLAN_AUTO	   0u
#define MTS_PLAN_LOAD	   1u
#define MTS_PLAN_RECOMPUTE 2u
#define MTS_PLAN_SPLIT	   3u

struct mts_server_config {
	size_t size;            /* sizeof(struct mts_server_config) */
	const char *model;      /* path of a model file */
	const char *device;     /* "cpu" (default), "nil" */
	int device_index;
	uint32_t threads;       /* cpu: compute threads, 0 = all */
	uint32_t page_tokens;   /* default 64 */
	uint32_t batch;         /* users in a pass, default 8 */
	uint32_t step_tokens;   /* rows in a pass, default 2048 */
	uint32_t kv_bf16;       /* K/V type: 0 float32, 1 bfloat16 */
	uint32_t no_cache;      /* 1: every request is computed whole */
	uint64_t device_bytes;  /* K/V pages on the device */
	uint64_t host_bytes;    /* host tier; 0 = none */
	const char *arena;      /* provider of the host arena, default "auto" */
	int32_t node;           /* NUMA node of the arena, -1 = the caller's */
	uint32_t queue;         /* requests that may be in the server at once, default 1024 */
	double link_gbps;       /* cpu, nil: pace of copies, 0 = full speed */
	double copy_us;         /* cpu, nil: fixed cost of a copy */
	const char *policy;     /* who gives way: "locality" (default), "lru", "s3fifo", "gdsf" */
	uint32_t plan;          /* MTS_PLAN_ */
};

#define MTS_REPLY_FIRST_VISIT  1u /* nothing was known of the user */
#define MTS_REPLY_WINDOW_MOVED 2u /* start(n) moved: all was encoded afresh */
#define MTS_REPLY_DIVERGED     4u /* the history differs from the one cached */
#define MTS_REPLY_RETRIED      8u /* a step failed; computed again without the cache */

struct mts_request {
	struct mts_history history;
	const uint32_t *candidates; /* [ncandidates] items; read in place until the reply */
	uint32_t ncandidates;       /* 0: encode only */
	uint32_t reserved;          /* 0 */
	float *scores;              /* [ncandidates, tasks], written before the reply */
	uint64_t deadline_ns;       /* 0 = none */
	uint64_t user_data;
};

struct mts_reply {
	uint64_t user_data;
	int32_t result;
	uint32_t flags;
	uint32_t visible;       /* tokens in the window */
	uint32_t device_tokens; /* of these, reused from the device */
	uint32_t host_tokens;   /* of these, loaded from the host */
	uint32_t passes;        /* it took */
	/*
	 * Its way, as points in time: submitted, admitted (looked up, pages reserved, loads submitted),
	 * its first pass launched, its last pass run, replied. After a retry the second try's. 0: it did
	 * not get there. Of the time between launched and computed, the compute queue stood still for
	 * wait_ns because loads of its passes were not there yet, and worked on its passes, together
	 * with whoever shared them, for run_ns; the rest went to passes before or between its own.
	 */
	uint64_t submitted_ns, admitted_ns, replied_ns;
	uint64_t launched_ns, computed_ns;
	uint64_t wait_ns, run_ns;
};

MTS_API int mts_server_open(const struct mts_server_config *cfg, struct mts_server **out,
			    struct mts_error *err);
/* Requests not yet replied to complete with -ECANCELED first and can no longer be reaped. */
MTS_API void mts_server_close(struct mts_server *s);

/*
 * Submits n requests; any thread. The arrays they point to stay until the reply. Returns how many
 * were taken (the first ones), -EAGAIN if none fits in the queue. A request that is wrong in itself
 * is taken and replied to with its error.
 */
MTS_API int mts_server_submit(struct mts_server *s, const struct mts_request *req, unsigned n);
/* Up to max replies; any thread. Sleeps for the first up to timeout_ns (< 0: for ever): 0 if none. */
MTS_API int mts_server_reap(struct mts_server *s, struct mts_reply *out, unsigned max,
			    int64_t timeout_ns);

/* Hints; any thread, taken in order with submissions. -EAGAIN: queue full. */
MTS_API int mts_server_session_end(struct mts_server *s, uint64_t user);
MTS_API int mts_server_prefetch(struct mts_server *s, uint64_t user);
/*
 * Unreadable at once in every tier; returns when what the user holds in them is zeroed. Pages and
 * extents given up earlier, by eviction, are not: their bytes stay, unreachable, until overwritten.
 */
MTS_API int mts_server_forget(struct mts_server *s, uint64_t user);

struct mts_server_info {
	size_t size;
	uint32_t tasks, max_history, slide, items, actions;
	uint64_t device_pages, page_bytes; /* page_bytes: one page in all layers */
	uint64_t host_bytes;    /* host tier; less than configured where that could not be had */
	uint64_t host_ready;    /* of these, populated: grows to host_bytes while requests are served */
	char device[64];
	char numerics[160];
	char arena[64];         /* provider; "": no host tier */
	char arena_note[256];   /* what could not be done as asked for, and why; "" */
};
MTS_API void mts_server_info(struct mts_server *s, struct mts_server_info *out);

/* Totals since open; any thread. Each counter is exact; the set is not one moment's. */
struct mts_counters {
	size_t size;
	uint64_t requests, failed, retried;
	uint64_t first_visits, window_moves, divergences;
	uint64_t tokens, tokens_device, tokens_host;    /* visible; reused from there */
	uint64_t requests_device, requests_host;        /* all reused tokens from the device; some from the host */
	uint64_t bytes_h2d, bytes_d2h, copies_h2d, copies_d2h;
	uint64_t copy_busy_ns;     /* host to device lane */
	uint64_t compute_wait_ns;  /* the compute queue waited for a gate */
	uint64_t passes, rows;
	uint64_t device_evictions, host_evictions; /* users that lost pages */
	uint64_t lost_tokens;      /* dropped with no other copy */
	uint64_t users, device_pages_used, host_bytes_used;
	uint64_t plan_ns_p50, plan_ns_p99; /* look up + reserve + submit, per pass */
	uint64_t refused;          /* with -EBUSY: the deadline could not be met */
	uint64_t plan_load, plan_recompute, plan_split; /* requests with K/V on the host alone */
};
MTS_API void mts_server_counters(struct mts_server *s, struct mts_counters *out);

/* ---- the tier alone ---- */

struct mts_tier;
struct mts_lease;

struct mts_tier_config {
	size_t size;
	const char *device;     /* "cpu", "nil" */
	int device_index;
	uint32_t layers, heads, d_qk, d_v; /* K/V shape: [layer][page][K|V][token][head * dim] */
	uint32_t kv_bf16;
	uint32_t page_tokens;
	uint32_t max_history, slide; /* H, S */
	uint64_t version[2];    /* of everything that changes a stored bit: model, numerics */
	uint64_t device_bytes, host_bytes;
	const char *arena;
	int32_t node;
	uint32_t leases;        /* held at once, default 64 */
	uint32_t no_cache;
	double link_gbps, copy_us;
	const char *policy;     /* as in struct mts_server_config */
};

/* What a lookup found and a lease holds. */
struct mts_match {
	uint64_t start;         /* life index of visible position 0 */
	uint32_t visible;
	uint32_t device_tokens; /* [0, device_tokens) is on the device */
	uint32_t host_tokens;   /* [device_tokens, device_tokens + host_tokens) on the host */
	uint32_t flags;         /* MTS_REPLY_FIRST_VISIT, _WINDOW_MOVED, _DIVERGED */
};

struct mts_pool_view {
	void *base;
	size_t layer_stride, page_bytes; /* one layer's page */
	uint32_t pages;
};

MTS_API int mts_tier_open(const struct mts_tier_config *cfg, struct mts_tier **out,
			  struct mts_error *err);
/* Leases must have been released. */
MTS_API void mts_tier_close(struct mts_tier *t);
MTS_API void mts_tier_pool(const struct mts_tier *t, struct mts_pool_view *out);

/* What is cached of this history; changes nothing. */
MTS_API int mts_tier_lookup(struct mts_tier *t, const struct mts_history *h, struct mts_match *out);
/*
 * Pins the user, cuts what diverged, finds device pages for the whole window. The lease's page table
 * (page p holds visible positions [p*T, (p+1)*T)) stays in place until release.
 * -EBUSY, -EAGAIN, -ENOSPC, -EINVAL, -ENOMEM: nothing of this user has changed.
 */
MTS_API int mts_tier_reserve(struct mts_tier *t, const struct mts_history *h,
			     struct mts_lease **out);
MTS_API const struct mts_match *mts_lease_match(const struct mts_lease *l);
MTS_API const uint32_t *mts_lease_pages(const struct mts_lease *l);
/* Submits the loads of what is on the host, layer 0 first. deadline_ns 0 = none. */
MTS_API int mts_tier_onload(struct mts_tier *t, struct mts_lease *l, uint64_t deadline_ns);
/* Sleeps until layer's K/V of [0, device_tokens + host_tokens) is on the device: 0, -EIO, -ETIME. */
MTS_API int mts_tier_wait_layer(struct mts_tier *t, struct mts_lease *l, uint32_t layer,
				int64_t timeout_ns);
/*
 * Positions [0, upto) of all layers are in their pages now: they become valid and their write-back is
 * submitted. upto only grows; <= visible.
 */
MTS_API int mts_tier_commit(struct mts_tier *t, struct mts_lease *l, uint32_t upto);
/* Unpins. What was not committed is dropped. */
MTS_API void mts_tier_release(struct mts_tier *t, struct mts_lease *l);
/* A load or the computation failed: releases, and drops all that is known of the user. */
MTS_API void mts_tier_abandon(struct mts_tier *t, struct mts_lease *l);
/* Reaps completions; call it regularly. Returns how many. */
MTS_API int mts_tier_poll(struct mts_tier *t);
MTS_API int mts_tier_session_end(struct mts_tier *t, uint64_t user);
MTS_API int mts_tier_prefetch(struct mts_tier *t, uint64_t user);
/*
 * Unreadable at once in every tier. 0: what the user holds is zeroed (what was given up earlier, by
 * eviction, is not: its bytes stay, unreachable, until overwritten). -EINPROGRESS: a copy under way still holds
 * some of it, which is zeroed when that copy's completion is reaped (mts_tier_poll). -EBUSY: a lease
 * is held. Forgetting a stranger is 0.
 */
MTS_API int mts_tier_forget(struct mts_tier *t, uint64_t user);
MTS_API void mts_tier_counters(struct mts_tier *t, struct mts_counters *out);

#ifdef __cplusplus
}
#endif
#endif
