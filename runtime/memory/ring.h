/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring indices for one producer and one consumer thread. The entries lie in an array of the caller.
 *
 * Floor: memory; used by the device queues, the copy lanes and the transfer rings.
 *
 *   producer: room(), fill entries slot(tail + 0) ..., publish(n)
 *   consumer: filled(), read entries slot(head + 0) ..., release(n)
 *
 * Each side owns one index and keeps a stale copy of the other's, so that the line with the other's
 * index is fetched only when the ring looks full or empty. Indices run over 2^32 freely.
 */
#ifndef MTS_RING_H
#define MTS_RING_H

#include <stdatomic.h>
#include <stdint.h>

struct mts_ring {
	uint32_t mask;
	_Alignas(64) _Atomic uint32_t tail; /* producer's */
	uint32_t head_seen;
	_Alignas(64) _Atomic uint32_t head; /* consumer's */
	uint32_t tail_seen;
};

/* entries: a power of two; before any other thread sees the ring */
static inline void mts_ring_init(struct mts_ring *r, uint32_t entries)
{
	r->mask = entries - 1;
	r->head_seen = r->tail_seen = 0;
	atomic_init(&r->head, 0);
	atomic_init(&r->tail, 0);
}

/* Producer: the index in the array of the i-th entry not yet published. */
static inline uint32_t mts_ring_put_slot(struct mts_ring *r, uint32_t i)
{
	return (atomic_load_explicit(&r->tail, memory_order_relaxed) + i) & r->mask;
}

/* Producer: entries free to be filled; at least `want` where there are as many. */
static inline uint32_t mts_ring_room(struct mts_ring *r, uint32_t want)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	/* Acquire, with the release in mts_ring_release: the consumer has read those entries. */
	if (r->mask + 1 - (tail - r->head_seen) < want)
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
	return r->mask + 1 - (tail - r->head_seen);
}

static inline void mts_ring_publish(struct mts_ring *r, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	/* Release, with the acquire in mts_ring_filled: the entries are written. */
	atomic_store_explicit(&r->tail, tail + n, memory_order_release);
}

/* Consumer: the index in the array of the i-th entry not yet released. */
static inline uint32_t mts_ring_take_slot(struct mts_ring *r, uint32_t i)
{
	return (atomic_load_explicit(&r->head, memory_order_relaxed) + i) & r->mask;
}

/* Consumer: entries ready to be read; 0 only if the ring was empty. */
static inline uint32_t mts_ring_filled(struct mts_ring *r)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	/* Acquire, with the release in mts_ring_publish: the entries are written. */
	if (r->tail_seen == head)
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
	return r->tail_seen - head;
}

static inline void mts_ring_release(struct mts_ring *r, uint32_t n)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	/* Release, with the acquire in mts_ring_room: the entries have been read. */
	atomic_store_explicit(&r->head, head + n, memory_order_release);
}

#endif
