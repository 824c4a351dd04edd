/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device page pool: which pages are free. It hands out runs where it can, single pages where it
 * must, so that a user's layer is few copies.
 *
 * Floor: memory. Knows page numbers only, never device memory. Thread: one (the cache's owner).
 * alloc and free never allocate memory.
 */
#ifndef MTS_PAGES_H
#define MTS_PAGES_H

#include <stdint.h>

struct mts_pages;

int mts_pages_open(uint32_t pages, struct mts_pages **out);
void mts_pages_close(struct mts_pages *p);

/*
 * n pages into ids[], all or none: 0 or -ENOSPC. ids come in as few ascending runs as a bounded
 * search finds; `after` (a page id, or UINT32_MAX) is where the caller's last page ends: continuing
 * it is tried first.
 */
int mts_pages_alloc(struct mts_pages *p, uint32_t n, uint32_t after, uint32_t *ids);
/* Freeing a page that is not allocated is a bug of the caller: -EINVAL, nothing changed. */
int mts_pages_free(struct mts_pages *p, const uint32_t *ids, uint32_t n);
uint32_t mts_pages_total(const struct mts_pages *p);
uint32_t mts_pages_available(const struct mts_pages *p);
int mts_pages_is_free(const struct mts_pages *p, uint32_t id);

#endif
