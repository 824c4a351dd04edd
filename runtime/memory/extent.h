/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents: buddy allocation of units inside an arena.
 *
 * Floor: memory. The unit is given by the caller (the bytes of one page in all layers) and need not
 * be a power of two; an extent is 2^order units, aligned to its size within its piece, and never
 * straddles two pieces. Freed neighbours merge at once. Thread: one (the cache's owner).
 * Metadata: O(units), allocated at open; alloc and free never allocate memory. O(log) each.
 */
#ifndef MTS_EXTENT_H
#define MTS_EXTENT_H

#include <stddef.h>
#include <stdint.h>

struct mts_extents;

struct mts_extent {
	char *base;
	uint32_t unit;  /* index of the first unit, over all pieces */
	uint32_t units; /* 2^order */
};

/*
 * Manages [base, base + bytes) cut into pieces of piece_bytes, the last one shorter where bytes is
 * no multiple; the rest of a piece that holds no whole unit stays unused. The memory is never
 * touched. -EINVAL: a size is 0, or the first piece holds no unit; -E2BIG: more than 2^31 units;
 * -ENOMEM.
 */
int mts_extents_open(void *base, size_t bytes, size_t piece_bytes, size_t unit_bytes,
		     struct mts_extents **out);
void mts_extents_close(struct mts_extents *e);

/*
 * For memory that becomes usable little by little: from now on only whole pieces below `bytes` (of
 * the last one: whatever there is) are given out. Freshly opened, all are. It may be lowered before
 * the first allocation alone, then only grow: -EINVAL, nothing changed, otherwise.
 */
int mts_extents_limit(struct mts_extents *e, size_t bytes);

/*
 * An extent of exactly `units` (a power of two), at the lowest address that has one: 0; -ENOSPC;
 * -EINVAL (no power of two).
 */
int mts_extent_alloc(struct mts_extents *e, uint32_t units, struct mts_extent *out);
/* What is not allocated in just this size is a bug of the caller: -EINVAL, nothing changed. */
int mts_extent_free(struct mts_extents *e, const struct mts_extent *x);

/* Units below the limit: allocated or free. */
uint64_t mts_extents_units(const struct mts_extents *e);
uint64_t mts_extents_units_free(const struct mts_extents *e);
/* The largest power of two that alloc would now grant; 0 when full. */
uint32_t mts_extents_largest(const struct mts_extents *e);
/* Invariants, for tests and debug builds: 0 or -EUCLEAN. */
int mts_extents_verify(const struct mts_extents *e);

#endif
