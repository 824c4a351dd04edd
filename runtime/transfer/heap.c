/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary heap (heap.h). Floor: transfer.
 */
#include "transfer/heap.h"

#include <errno.h>
#include <stdlib.h>

int mts_heap_open(struct mts_heap *h, uint32_t size)
{
	h->n = 0;
	h->item = calloc(size, sizeof(*h->item));
	h->place = calloc(size, sizeof(*h->place));
	if (h->item && h->place)
		return 0;
	mts_heap_close(h);
	return -ENOMEM;
}

void mts_heap_close(struct mts_heap *h)
{
	free(h->item);
	free(h->place);
	*h = (struct mts_heap){ 0 };
}

static int before(const struct mts_heap_item *a, const struct mts_heap_item *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (a->when != b->when)
		return a->when < b->when;
	return a->seq < b->seq;
}

static void set(struct mts_heap *h, uint32_t at, struct mts_heap_item item)
{
	h->item[at] = item;
	h->place[item.id] = at + 1;
}

static void rise(struct mts_heap *h, uint32_t at, struct mts_heap_item item)
{
	for (; at && before(&item, &h->item[(at - 1) / 2]); at = (at - 1) / 2)
		set(h, at, h->item[(at - 1) / 2]);
	set(h, at, item);
}

/* Fills the hole at `at` with item, which is not less than the hole's parent. */
static void sink(struct mts_heap *h, uint32_t at, struct mts_heap_item item)
{
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child + 1 < h->n && before(&h->item[child + 1], &h->item[child]))
			child++;
		if (child >= h->n || !before(&h->item[child], &item))
			break;
		set(h, at, h->item[child]);
		at = child;
	}
	set(h, at, item);
}

void mts_heap_push(struct mts_heap *h, struct mts_heap_item item)
{
	rise(h, h->n++, item);
}

void mts_heap_remove(struct mts_heap *h, uint32_t id)
{
	uint32_t at = h->place[id];
	struct mts_heap_item last;

	if (!at--)
		return;
	h->place[id] = 0;
	last = h->item[--h->n];
	if (at == h->n)
		return;
	if (at && before(&last, &h->item[(at - 1) / 2]))
		rise(h, at, last);
	else
		sink(h, at, last);
}
