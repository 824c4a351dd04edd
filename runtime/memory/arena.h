/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host arena: one contiguous host range on one NUMA node, from a ladder of providers.
 *
 * Floor: memory. A provider is one const table; `auto` tries them in order and takes the first that
 * works. The arena is cut into pieces of at most MTS_ARENA_PIECE bytes, the unit of registration
 * with a device; no extent straddles two. Thread: open and close from one thread; the rest is
 * read-only.
 *
 *   memfd   huge pages of 2 MiB that the administrator has set aside (vm.nr_hugepages)
 *   thp     anonymous memory, transparent huge pages where the kernel finds some
 *   plain   anonymous memory, pages of 4 KiB
 *
 * and one that is never tried, only named:
 *
 *   none    address space without memory, for the nil device, which touches none of it
 *
 * All memory is there when open returns: nothing is faulted in later, and what the machine or its
 * control group does not have is refused before it is touched.
 */
#ifndef MTS_ARENA_H
#define MTS_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct mts_error;

#define MTS_ARENA_PIECE ((size_t)256 << 20)

struct mts_arena_config {
	const char *provider; /* "auto", "memfd", "thp", "plain", "none" or "NAME:PATH"; NULL = auto */
	size_t bytes;         /* rounded up to the page size of the provider */
	/*
	 * NUMA node; its memory alone is used, and too little of it is an error. -1: the node of
	 * the calling thread where it has room, then others.
	 */
	int node;
	unsigned threads;     /* population threads, 0 = one per core of the node, at most 16 */
};

struct mts_arena_info {
	const char *provider;
	size_t page_size;     /* of the mapping: 4096 or 2097152 */
	size_t bytes;
	int node;             /* asked for (resolved) */
	uint64_t pages_on_node, pages_elsewhere; /* by move_pages; sampled above 4096 */
	uint64_t huge_bytes;  /* mapped by 2 MiB pages, as smaps saw it */
	double seconds;       /* to populate */
	char note[128];       /* what could not be done as asked, and why; "" */
	char refused[256];    /* auto: the rungs above this one, and why each would not do; "" */
};

struct mts_arena {
	char *base;
	size_t bytes;
	/* the rest is private to arena*.c */
	const struct mts_arena_ops *ops;
	struct mts_arena_info info;
	int fd;
};

struct mts_arena_ops {
	const char *name;
	size_t page_size;
	/* Mapping sets its memory aside: no need to compare with what is available. */
	int reserved;
	/* It is address space alone: nothing to compare, bind, populate or look at. */
	int hollow;
	/*
	 * Maps a->bytes (a multiple of page_size) at a->base, unpopulated, aligned to page_size.
	 * path: what followed "NAME:", or NULL. -errno with a reason in err.
	 */
	int (*map)(struct mts_arena *a, const char *path, struct mts_error *err);
	void (*unmap)(struct mts_arena *a);
};

extern const struct mts_arena_ops mts_arena_memfd;
extern const struct mts_arena_ops mts_arena_thp;
extern const struct mts_arena_ops mts_arena_plain;
extern const struct mts_arena_ops mts_arena_none;

/* The ladder as `auto` climbs down it; ends with NULL. */
extern const struct mts_arena_ops *const mts_arena_ladder[];

/*
 * Maps, binds, populates and verifies. -EINVAL (unknown provider, bad size or node), -ENOMEM (not
 * that much to be had), -errno of the provider; err says which and why. A machine or container
 * without NUMA calls is no error: see info.note.
 */
int mts_arena_open(const struct mts_arena_config *cfg, struct mts_arena **out,
		   struct mts_error *err);
void mts_arena_close(struct mts_arena *a);

#endif
