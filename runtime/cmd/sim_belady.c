/* SPDX-License-Identifier: Apache-2.0 */
/*
 * belady: the reference for replacement, which knows the future.
 *
 *   serve(q):  the user's whole window is on the device now, with the number of its next request
 *              while the windows on the device exceed it:
 *                      drop, whole, the one needed last; that may be the user just served
 *
 * With windows of one size no policy misses fewer requests. With windows of many sizes it is a
 * reference, not a bound. A heap, O(log users) a request. Floor: cmd; one thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "cmd/sim.h"

struct held {
	uint64_t next;
	uint32_t len;   /* tokens on the device */
	uint32_t pages;
	uint32_t at;    /* 1 + place in the heap; 0: not on the device */
};

struct mts_belady {
	uint64_t pages, used;
	uint32_t page_tokens;
	struct held *user;  /* [users] */
	uint32_t *heap;     /* [users] slots; whose next use is last comes first */
	uint32_t n;
};

int mts_belady_open(uint64_t pages, uint32_t page_tokens, uint64_t users, struct mts_belady **out)
{
	struct mts_belady *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->pages = pages;
	b->page_tokens = page_tokens;
	b->user = calloc(users, sizeof(*b->user));
	b->heap = calloc(users, sizeof(*b->heap));
	if (!b->user || !b->heap) {
		mts_belady_close(b);
		return -ENOMEM;
	}
	*out = b;
	return 0;
}

void mts_belady_close(struct mts_belady *b)
{
	if (!b)
		return;
	free(b->heap);
	free(b->user);
	free(b);
}

static void place(struct mts_belady *b, uint32_t at, uint32_t slot)
{
	b->heap[at] = slot;
	b->user[slot].at = at + 1;
}

static void sift_up(struct mts_belady *b, uint32_t at)
{
	uint32_t slot = b->heap[at], up;

	for (; at; at = up) {
		up = (at - 1) / 2;
		if (b->user[b->heap[up]].next >= b->user[slot].next)
			break;
		place(b, at, b->heap[up]);
	}
	place(b, at, slot);
}

static void sift_down(struct mts_belady *b, uint32_t at)
{
	uint32_t slot = b->heap[at], down;

	for (; (down = 2 * at + 1) < b->n; at = down) {
		if (down + 1 < b->n &&
		    b->user[b->heap[down + 1]].next > b->user[b->heap[down]].next)
			down++;
		if (b->user[b->heap[down]].next <= b->user[slot].next)
			break;
		place(b, at, b->heap[down]);
	}
	place(b, at, slot);
}

static void drop_last_needed(struct mts_belady *b)
{
	struct held *h = &b->user[b->heap[0]];

	b->used -= h->pages;
	*h = (struct held){ 0 };
	if (--b->n) {
		place(b, 0, b->heap[b->n]);
		sift_down(b, 0);
	}
}

uint32_t mts_belady_serve(struct mts_belady *b, const struct mts_sim_request *q)
{
	struct held *h = &b->user[q->slot];
	uint32_t hit = h->len < q->valid ? h->len : q->valid;

	/* A window that moved leaves nothing of what was there, a history that fell only a part. */
	if (!q->valid || q->visible > h->len)
		h->len = q->visible;
	else if (h->len > q->content)
		h->len = q->content;
	b->used -= h->pages;
	h->pages = (h->len + b->page_tokens - 1) / b->page_tokens;
	b->used += h->pages;
	h->next = q->next;
	if (!h->at)
		place(b, b->n++, q->slot);
	sift_up(b, h->at - 1);
	sift_down(b, h->at - 1);
	while (b->used > b->pages)
		drop_last_needed(b);
	return hit;
}
