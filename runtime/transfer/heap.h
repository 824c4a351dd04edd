/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary heap of ids with keys, from which any id can be taken out. Fixed size.
 *
 * Floor: transfer; the scheduler's lanes and timeouts. One thread.
 */
#ifndef MTS_HEAP_H
#define MTS_HEAP_H

#include <stdint.h>

/* Order: rank, then when, then seq; the least is on top. */
struct mts_heap_item {
	uint32_t rank;
	uint32_t id; /* < size */
	uint64_t when;
	uint64_t seq;
};

struct mts_heap {
	uint32_t n;
	struct mts_heap_item *item; /* [size] */
	uint32_t *place;            /* [size]: 1 + index in item; 0: not in the heap */
};

/* 0 or -ENOMEM. Of a zeroed heap close does nothing. */
int mts_heap_open(struct mts_heap *h, uint32_t size);
void mts_heap_close(struct mts_heap *h);

/* The id must not be in the heap. */
void mts_heap_push(struct mts_heap *h, struct mts_heap_item item);
/* Nothing happens where the id is not in the heap. */
void mts_heap_remove(struct mts_heap *h, uint32_t id);

static inline int mts_heap_has(const struct mts_heap *h, uint32_t id)
{
	return h->place[id] != 0;
}

/* The least item, or NULL. */
static inline const struct mts_heap_item *mts_heap_top(const struct mts_heap *h)
{
	return h->n ? h->item : (const struct mts_heap_item *)0;
}

#endif
