/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host arena: one contiguous host range on one NUMA node, from a ladder of providers.
 *
 * Floor: memory. A provider is one const table; `auto` tries them in order and takes the first that
 * works. The arena is cut into pieces of at most MTS_ARENA_PIECE bytes, the unit of population and
 * of registration with a device; no extent straddles two.
 *
 *   mtserve    a file of the kernel module's file system
 *   hugetlbfs  a file on huge pages that the administrator has set aside, or lets grow
 *   tmpfs      a file in tmpfs, with huge pages where it is mounted so
 *   memfd      huge pages of 2 MiB that the administrator has set aside (vm.nr_hugepages)
 *   thp        anonymous memory, transparent huge pages where the kernel finds some
 *   plain      anonymous memory, pages of 4 KiB
 *
 * and one that is not on the ladder:
 *
 *   none       address space without memory, for the nil device, which touches none of it
 *
 * The first three are files. "NAME:PATH" is one that outlives the process: made, or opened again
 * with what is in it. PATH is the file, or a folder, and then the file "arena" in it. While an
 * arena is open its file is locked (flock): no second process gets it by mistake. Without a PATH
 * the file has no name, lies in the first mount that will do, and goes with the process. `auto`
 * tries mtserve, memfd, thp, plain, all nameless.
 *
 * What the machine, its control group or the file system does not have is refused before it is
 * touched. Open returns when the first piece is populated; threads of the node populate the rest,
 * piece after piece. Only [base, base + mts_arena_ready()) may be used: nothing is faulted in there
 * later. A piece that cannot be had ends the arena before it, and what was ready stays.
 *
 * Threads: open, settle and close from one thread; ready, end and lost from any; the rest is
 * read-only.
 */
#ifndef MTS_ARENA_H
#define MTS_ARENA_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct mts_error;

#define MTS_ARENA_PIECE ((size_t)256 << 20)

struct mts_arena_config {
	const char *provider; /* "auto", a provider's name, or "NAME:PATH"; NULL = auto */
	/*
	 * Rounded up to the page size of the provider. A file that is there already must have just
	 * this size. 0, with a PATH only: the file must be there, and its size is taken.
	 */
	size_t bytes;
	/*
	 * NUMA node; its memory alone is used, and too little of it is an error. -1: the node of
	 * the calling thread where it has room, then others. A mount of mtserve has its own node,
	 * and another one asked for here is refused.
	 */
	int node;
	unsigned threads;     /* population threads, 0 = one per core of the node, at most 16 */
	/*
	 * With a PATH only: maps a file that is there and wholly populated, for reading, without
	 * lock: another process may be using it.
	 */
	int look;
};

struct mts_arena_report {
	const char *provider;
	size_t page_size;     /* of the mapping: 4096 or 2097152 */
	size_t bytes;
	int node;             /* asked for (resolved), or the mount's */
	int reopened;         /* the file was there, with its size; what it held is in the arena */
	/* The next three: of what was ready at open; after settle, of everything. */
	uint64_t pages_on_node, pages_elsewhere; /* by move_pages; sampled above 4096 */
	uint64_t huge_bytes;  /* mapped by 2 MiB pages, as smaps saw it */
	double seconds;       /* to populate */
	char note[192];       /* what could not be done as asked, and why; "" */
	char refused[400];    /* auto: the rungs above this one, and why each would not do; "" */
};

struct mts_arena {
	char *base;
	size_t bytes; /* asked for, rounded up; see mts_arena_end() */
	struct mts_arena_report info;
	/* the rest is private to arena*.c */
	const struct mts_arena_ops *ops;
	struct mts_arena_fill *fill;
	_Atomic size_t ready, end;
	int fd;
	int look;
	char *made;   /* path of the file that this open made, until it is known to be of use */
};

struct mts_arena_ops {
	const char *name;
	size_t page_size;
	/* Mapping sets its memory aside: no need to compare with what is available. */
	int reserved;
	/* It is address space alone: nothing to compare, bind, populate or look at. */
	int hollow;
	/* f_type of the file system its file lies in; 0: no file. */
	uint32_t magic;
	/* Not for auto. */
	int only_if_named;
	/*
	 * Maps a->bytes (a multiple of page_size) at a->base, unpopulated, aligned to page_size.
	 * path: what followed "NAME:", or NULL. A file's provider sets a->bytes where it was 0.
	 * -errno with a reason in err.
	 */
	int (*map)(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		   struct mts_error *err);
	/*
	 * Gives memory to a range, before it is mapped in; several threads at once. 0 or -errno.
	 * NULL: mapping in is all it takes.
	 */
	int (*populate)(struct mts_arena *a, size_t offset, size_t bytes);
	/* Takes memory from the unused end of an arena. NULL: it stays, for the next process. */
	void (*give_back)(struct mts_arena *a, size_t offset, size_t bytes);
	void (*unmap)(struct mts_arena *a);
};

extern const struct mts_arena_ops mts_arena_mtserve;
extern const struct mts_arena_ops mts_arena_hugetlbfs;
extern const struct mts_arena_ops mts_arena_tmpfs;
extern const struct mts_arena_ops mts_arena_memfd;
extern const struct mts_arena_ops mts_arena_thp;
extern const struct mts_arena_ops mts_arena_plain;
extern const struct mts_arena_ops mts_arena_none;

/* The ladder from the top down; ends with NULL. */
extern const struct mts_arena_ops *const mts_arena_ladder[];

/*
 * Maps, binds, populates the first piece and verifies it. err says what was wrong:
 *   -EINVAL  unknown provider, bad size or node, a file of another size or another node
 *   -ENOMEM, -ENOSPC  not that much to be had, of memory or in the file system
 *   -EBUSY   the file is in use by a process, or a device still has pages of it
 *   -ENODEV  no such file system is mounted, or the file is not in one
 *   -EPROTO  the kernel module is of another version
 *   -ELOOP   a link instead of a file
 *   -ENODATA look: the file is not wholly populated
 *   -errno   of the provider
 * A machine or container without NUMA calls is no error: see info.note. A file that this call made
 * is removed again when it fails.
 */
int mts_arena_open(const struct mts_arena_config *cfg, struct mts_arena **out,
		   struct mts_error *err);
void mts_arena_close(struct mts_arena *a);

/* Bytes from base on that may be used: a multiple of MTS_ARENA_PIECE, or end. It only grows. */
size_t mts_arena_ready(const struct mts_arena *a);
/* Bytes that will be ready in the end, as far as is known: a->bytes, or less after a failure. */
size_t mts_arena_end(const struct mts_arena *a);
/* 0, or the -errno that ended population early, with a line about it in err. */
int mts_arena_lost(struct mts_arena *a, struct mts_error *err);
/* Waits until population is over, and looks where the pages are; then as mts_arena_lost. */
int mts_arena_settle(struct mts_arena *a, struct mts_error *err);

#endif
