/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices that live in this process (cpu, nil) share: memory, queues, lanes. A backend adds
 * how an operation is run and fills the rest of its table from here with MTS_HOST_DEVICE_OPS.
 *
 * Floor: memory; private to the devices.
 */
#ifndef MTS_DEVICE_HOST_H
#define MTS_DEVICE_HOST_H

#include "memory/device_lane.h"
#include "memory/device_queue.h"

struct mts_host_device {
	struct mts_device dev; /* first */
	int moves;             /* bytes really move: cpu; nil leaves memory untouched */
	struct mts_manual *manual;
	_Atomic int lost;
	struct mts_queue queue;
	struct mts_copy_lane lane[MTS_LANES];
	int (*run)(struct mts_host_device *h, const struct mts_op *op);
};

/* Starts queue and lanes of a zeroed h whose dev.ops, moves and run are set. */
int mts_host_device_start(struct mts_host_device *h, const struct mts_device_config *cfg,
			  struct mts_error *err);
void mts_host_device_stop(struct mts_host_device *h);

void mts_host_stats(struct mts_device *dev, struct mts_device_stats *out);
int mts_host_alloc(struct mts_device *dev, size_t bytes, void **out);
void mts_host_free(struct mts_device *dev, void *p, size_t bytes);
int mts_host_write(struct mts_device *dev, void *dst, const void *src, size_t bytes);
int mts_host_read(struct mts_device *dev, void *dst, const void *src, size_t bytes);
int mts_host_zero(struct mts_device *dev, void *dst, size_t bytes);
int mts_host_register(struct mts_device *dev, void *p, size_t bytes);
void mts_host_unregister(struct mts_device *dev, void *p, size_t bytes);
int mts_host_copy(struct mts_device *dev, enum mts_lane lane, const struct mts_segment *seg,
		  unsigned n, uint64_t cookie);
int mts_host_copy_reap(struct mts_device *dev, enum mts_lane lane, struct mts_copy_done *out,
		       unsigned max);
void mts_host_copy_notify(struct mts_device *dev, void (*on_done)(void *), void *arg);
int mts_host_embed(struct mts_device *dev, const struct mts_op_embed *op);
int mts_host_norm(struct mts_device *dev, const struct mts_op_norm *op);
int mts_host_gemm(struct mts_device *dev, const struct mts_op_gemm *op);
int mts_host_append(struct mts_device *dev, const struct mts_op_append *op);
int mts_host_attention(struct mts_device *dev, const struct mts_op_attention *op);
int mts_host_modulate(struct mts_device *dev, const struct mts_op_modulate *op);
int mts_host_pick(struct mts_device *dev, const struct mts_op_pick *op);
int mts_host_score(struct mts_device *dev, const struct mts_op_score *op);
int mts_host_fetch(struct mts_device *dev, void *dst, const void *src, size_t bytes);
int mts_host_wait(struct mts_device *dev, struct mts_gate *g);
int mts_host_signal(struct mts_device *dev, struct mts_gate *g);

#define MTS_HOST_DEVICE_OPS \
	.stats = mts_host_stats, \
	.alloc = mts_host_alloc, \
	.free = mts_host_free, \
	.write = mts_host_write, \
	.read = mts_host_read, \
	.zero = mts_host_zero, \
	.host_register = mts_host_register, \
	.host_unregister = mts_host_unregister, \
	.copy = mts_host_copy, \
	.copy_reap = mts_host_copy_reap, \
	.copy_notify = mts_host_copy_notify, \
	.embed = mts_host_embed, \
	.norm = mts_host_norm, \
	.gemm = mts_host_gemm, \
	.append = mts_host_append, \
	.attention = mts_host_attention, \
	.modulate = mts_host_modulate, \
	.pick = mts_host_pick, \
	.score = mts_host_score, \
	.fetch = mts_host_fetch, \
	.wait = mts_host_wait, \
	.signal = mts_host_signal

#endif
