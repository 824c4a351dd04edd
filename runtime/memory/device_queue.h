/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compute queue of devices that live in this process (cpu, nil): a bounded ring of operations
 * and the one thread that runs them in order.
 *
 * Floor: memory; private to the devices. Launches come from one thread at a time. A launch into a
 * full queue sleeps until there is room.
 */
#ifndef MTS_DEVICE_QUEUE_H
#define MTS_DEVICE_QUEUE_H

#include <pthread.h>

#include "memory/device.h"
#include "memory/park.h"
#include "memory/ring.h"

enum mts_op_kind {
	MTS_OP_EMBED,
	MTS_OP_NORM,
	MTS_OP_GEMM,
	MTS_OP_APPEND,
	MTS_OP_ATTENTION,
	MTS_OP_MODULATE,
	MTS_OP_PICK,
	MTS_OP_SCORE,
	MTS_OP_FETCH,
	MTS_OP_WAIT,
	MTS_OP_SIGNAL,
};

struct mts_op {
	enum mts_op_kind kind;
	union {
		struct mts_op_embed embed;
		struct mts_op_norm norm;
		struct mts_op_gemm gemm;
		struct mts_op_append append;
		struct mts_op_attention attention;
		struct mts_op_modulate modulate;
		struct mts_op_pick pick;
		struct mts_op_score score;
		struct mts_segment fetch;
		struct mts_gate *gate;
	};
};

#define MTS_QUEUE_OPS 2048

struct mts_queue {
	struct mts_ring ring;
	struct mts_op *op;
	/* Runs one operation (never a wait or a signal); from the queue's thread. */
	int (*run)(void *arg, const struct mts_op *op);
	void *arg;
	_Atomic int *lost; /* the device's */
	int error;         /* since the last signal; the thread's own */
	_Atomic uint64_t wait_ns, run_ns;
	_Atomic int stop;
	struct mts_park worker, launcher;
	pthread_t thread;
};

int mts_queue_open(struct mts_queue *q, int (*run)(void *, const struct mts_op *), void *arg,
		   _Atomic int *lost);
/* Runs what is queued, then ends the thread. */
void mts_queue_close(struct mts_queue *q);
void mts_queue_put(struct mts_queue *q, const struct mts_op *op);

#endif
