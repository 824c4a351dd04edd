/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host arena: one contiguous host range on one NUMA node, from a ladder of providers.
 *
 * Floor: memory. A provider is one const table; `auto` tries them in order and takes the first that
 * works. The arena is cut into pieces of at most MTS_ARENA_PIECE bytes, the unit of registration with
 * a device; no extent straddles two. Thread: open and close from one thread; the rest is read-only.
 */
#ifndef MTS_ARENA_H
#define MTS_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct mts_error;

#define MTS_ARENA_PIECE ((size_t)256 << 20)

struct mts_arena_config {
	const char *provider; /* "auto", "memfd", "thp", "plain", or "NAME:PATH"; NULL = auto */
	size_t bytes;         /* rounded up to the page size of the provider */
	int node;             /* NUMA node, -1 = that of the calling thread */
	unsigned threads;     /* population threads, 0 = one per core of the node */
};

struct mts_arena_info {
	const char *provider;
	size_t page_size;     /* of the mapping: 4096 or 2097152 */
	size_t bytes;
	int node;             /* asked for (resolved) */
	uint64_t pages_on_node, pages_elsewhere; /* as move_pages saw them; sampled above 4096 pages */
	uint64_t huge_bytes;  /* mapped by 2 MiB pages, as smaps saw it */
};

struct mts_arena {
	char *base;
	size_t bytes;
	/* the rest is private to arena.c */
	const struct mts_arena_ops *ops;
	struct mts_arena_info info;
	int fd;
};

struct mts_arena_ops {
	const char *name;
	size_t page_size;
	/* Maps bytes, unpopulated. -errno with a reason in err. */
	int (*map)(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		   struct mts_error *err);
	void (*unmap)(struct mts_arena *a);
};

/* Maps, binds, populates and verifies. -ENOMEM, -EINVAL (unknown provider), -errno of the provider. */
int mts_arena_open(const struct mts_arena_config *cfg, struct mts_arena **out,
		   struct mts_error *err);
void mts_arena_close(struct mts_arena *a);

#endif
