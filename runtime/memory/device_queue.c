/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compute queue (device_queue.h). Floor: memory.
 */
#include "memory/device_queue.h"

#include <errno.h>
#include <stdlib.h>

static void add_since(_Atomic uint64_t *total, uint64_t began)
{
	atomic_fetch_add_explicit(total, mts_now() - began, memory_order_relaxed);
}

static int wait_gate(struct mts_queue *q, struct mts_gate *g)
{
	uint64_t began;
	int error;

	if (mts_gate_poll(g, &error))
		return error;
	began = mts_now();
	error = mts_gate_wait(g, -1);
	add_since(&q->wait_ns, began);
	return error;
}

static void perform(struct mts_queue *q, const struct mts_op *op)
{
	uint64_t began;

	if (atomic_load_explicit(q->lost, memory_order_relaxed))
		q->error = -EIO;
	if (op->kind == MTS_OP_SIGNAL) {
		mts_gate_arrive(op->gate, q->error);
		q->error = 0;
	} else if (q->error) {
		return;
	} else if (op->kind == MTS_OP_WAIT) {
		q->error = wait_gate(q, op->gate);
	} else {
		began = mts_now();
		q->error = q->run(q->arg, op);
		add_since(&q->run_ns, began);
	}
}

static void *worker(void *arg)
{
	struct mts_queue *q = arg;

	for (;;) {
		if (mts_ring_filled(&q->ring)) {
			perform(q, &q->op[mts_ring_take_slot(&q->ring, 0)]);
			mts_ring_release(&q->ring, 1);
			mts_park_wake(&q->launcher);
		} else if (atomic_load_explicit(&q->stop, memory_order_acquire)) {
			/* Acquire, with the release in close: nothing was put after what we saw. */
			if (!mts_ring_filled(&q->ring))
				return NULL;
		} else {
			mts_park_wait(&q->worker, MTS_FOREVER);
		}
	}
}

int mts_queue_open(struct mts_queue *q, int (*run)(void *, const struct mts_op *), void *arg,
		   _Atomic int *lost)
{
	int ret;

	mts_ring_init(&q->ring, MTS_QUEUE_OPS);
	q->run = run;
	q->arg = arg;
	q->lost = lost;
	q->op = calloc(MTS_QUEUE_OPS, sizeof(*q->op));
	if (!q->op)
		return -ENOMEM;
	ret = pthread_create(&q->thread, NULL, worker, q);
	if (ret)
		free(q->op);
	return -ret;
}

void mts_queue_close(struct mts_queue *q)
{
	atomic_store_explicit(&q->stop, 1, memory_order_release);
	mts_park_wake(&q->worker);
	pthread_join(q->thread, NULL);
	free(q->op);
}

void mts_queue_put(struct mts_queue *q, const struct mts_op *op)
{
	while (!mts_ring_room(&q->ring, 1))
		mts_park_wait(&q->launcher, MTS_FOREVER);
	q->op[mts_ring_put_slot(&q->ring, 0)] = *op;
	mts_ring_publish(&q->ring, 1);
	mts_park_wake(&q->worker);
}
