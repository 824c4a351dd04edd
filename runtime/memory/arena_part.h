/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the arena share among themselves. Floor: memory; for arena*.c only.
 *
 *   arena.c        the ladder, open and close
 *   arena_fill.c   population, in the foreground and behind it
 *   arena_look.c   where the pages are
 *   arena_file.c   the providers that are files;  arena_mount.c  where such files can lie
 *   arena_memfd.c, arena_anon.c   the other providers
 */
#ifndef MTS_ARENA_PART_H
#define MTS_ARENA_PART_H

#include "memory/arena.h"

/* numa_available() as a truth value. */
int mts_arena_has_numa(void);
/* Adds "what: reason" to info.note; error 0 stands for "no NUMA support". */
void mts_arena_note(struct mts_arena *a, const char *what, int error);
/* -ENOMEM and a message if so many more bytes cannot be had; leaves a sixteenth to others. */
int mts_arena_check_available(const struct mts_arena *a, const struct mts_arena_config *cfg,
			      size_t bytes, struct mts_error *err);
/* Address space of a->bytes at a->base, a multiple of align: private, anonymous, untouched. */
int mts_arena_reserve(struct mts_arena *a, size_t align, struct mts_error *err);
/* -EINVAL and a message where a path was given to a provider that takes none. */
int mts_arena_no_path(const struct mts_arena *a, const char *path, struct mts_error *err);

/* Starts population; returns when the first piece is ready, or with -errno and nothing running. */
int mts_arena_fill_start(struct mts_arena *a, unsigned threads, struct mts_error *err);
/* Sleeps until no thread populates any more. */
void mts_arena_fill_wait(struct mts_arena *a);
/* Ends population where it is; frees a->fill. */
void mts_arena_fill_stop(struct mts_arena *a);

/* Fills in info: placement and huge pages of what is ready. */
void mts_arena_look_where(struct mts_arena *a);
void mts_arena_count_huge(struct mts_arena *a);

/*
 * Calls visit(arg, folder) for the mounts of that type, likely ones first, until one returns 0.
 * mtserve: those on the node, then, unless strict, the others. tmpfs: those with huge pages, then
 * the others. The last error of visit, or -ENODEV if there was no mount.
 */
int mts_arena_each_mount(const char *type, int node, int strict,
			 int (*visit)(void *arg, const char *folder), void *arg);

#endif
