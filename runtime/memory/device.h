/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device: one const table of operations per backend, and the gate, the only thing that
 * computation and copies wait on.
 *
 * Floor: memory. Callers: the transfer scheduler (copy, copy_reap), the model (launch, wait), the
 * cache and the engine (alloc, signal). A device has three queues: compute, host-to-device and
 * device-to-host. Each runs in the order submitted; nothing is ordered between queues except
 * through gates.
 *
 * Threads: alloc, free, write, launch, wait and signal are called from one thread at a time (the
 * engine's); copy and copy_reap of a lane from one thread at a time (the transfer thread's).
 *
 * Errors: 0 or -errno. -EIO after a sticky device error ("device lost"): from then on every call
 * answers -EIO, queued copies are reaped with -EIO, gates given to signal() complete with -EIO; the
 * process lives on.
 */
#ifndef MTS_DEVICE_H
#define MTS_DEVICE_H

#include <stdatomic.h>
#include "ops.h"

struct mts_error;

struct mts_gate_watch;

/*
 * Gate: counts down to open. It starts with the number of arrivals it expects; each arrival passes
 * 0 or -errno, the first error is kept. A gate is open when nothing is expected any more; it has
 * failed from the first error on, which lets waiters go at once. Waiters sleep on a futex. Any
 * thread may arrive and wait. Re-initialise (and free) only when it is open and nobody waits.
 */
struct mts_gate {
	_Atomic uint32_t state; /* gate.c */
	_Atomic int32_t error;
	struct mts_gate_watch *watch;
};

void mts_gate_init(struct mts_gate *g, uint32_t expected);
/* Adds to what is expected; only while the gate cannot open meanwhile (holder keeps one arrival). */
void mts_gate_expect(struct mts_gate *g, uint32_t more);
void mts_gate_arrive(struct mts_gate *g, int result);
/* Records an error and lets waiters go on at once; what is expected must still arrive. */
void mts_gate_fail(struct mts_gate *g, int error);
/* 1 open, 0 not yet. *error gets the first error (0: none), also before it opens. */
int mts_gate_poll(struct mts_gate *g, int *error);
/* Sleeps until open or failed: the first error or 0; -ETIME after timeout_ns (< 0: for ever). */
int mts_gate_wait(struct mts_gate *g, int64_t timeout_ns);
/* The same, but only open counts: after it returns another value than -ETIME, the gate is free. */
int mts_gate_drain(struct mts_gate *g, int64_t timeout_ns);

/*
 * A watch: fn is called once, by the thread whose arrival opens the gate or fails it. It must be
 * short, must not touch any gate, and finds its surroundings by the address of its watch. The watch
 * stays the caller's and in place until it has fired or is taken back.
 */
struct mts_gate_watch {
	void (*fn)(struct mts_gate_watch *w);
	struct mts_gate_watch *next; /* gate.c */
	struct mts_gate *on;         /* gate.c; zero at first */
};

/* 1: the gate is open or failed already, the watch is not set and will not fire; 0: it is set. */
int mts_gate_watch(struct mts_gate *g, struct mts_gate_watch *w);
/* 1: taken back, will not fire; 0: it has fired (fn has returned), or was never set. */
int mts_gate_unwatch(struct mts_gate_watch *w);

struct mts_segment {
	void *dst;
	const void *src;
	size_t bytes;
};

enum mts_lane { MTS_H2D, MTS_D2H, MTS_LANES };

struct mts_copy_done {
	uint64_t cookie;
	int result;
};

struct mts_device_config {
	int index;           /* which GPU; 0 on others */
	unsigned threads;    /* cpu: compute threads, 0 = one per usable core */
	double link_gbps;    /* cpu, nil: pace of each lane in 10^9 bytes/s; 0 = full speed */
	double copy_us;      /* cpu, nil: fixed cost of each copy call, microseconds */
	struct mts_manual *manual; /* cpu, nil: a test's (device_manual.h); else NULL */
};

struct mts_device_info {
	char name[64];
	char numerics[160]; /* all that can change a stored bit: isa, GEMM library, tile ... */
	char refused[256];  /* for a person: what was tried before and would not do; "" */
	size_t memory_total;
};

/* Of the compute queue, since open. */
struct mts_device_stats {
	uint64_t wait_ns; /* stood still at gates */
	uint64_t run_ns;  /* ran operations */
};

struct mts_device; /* first member: const struct mts_device_ops *ops */

struct mts_device_ops {
	const char *name;

	int (*open)(const struct mts_device_config *cfg, struct mts_device **out,
		    struct mts_error *err);
	/* Waits for the queues to drain; no call may be under way. */
	void (*close)(struct mts_device *dev);
	void (*info)(struct mts_device *dev, struct mts_device_info *out);
	/* Any thread. */
	void (*stats)(struct mts_device *dev, struct mts_device_stats *out);
	/*
	 * Tells the device the shapes of every GEMM that will be launched, so that it can check
	 * them (position independence, accuracy) and choose; called once, before the first launch.
	 */
	int (*prepare)(struct mts_device *dev, const uint32_t (*nk)[2], unsigned shapes,
		       struct mts_error *err);

	/* Device memory, 64-byte aligned, zeroed. -ENOMEM, also where too little is available. */
	int (*alloc)(struct mts_device *dev, size_t bytes, void **out);
	void (*free)(struct mts_device *dev, void *p, size_t bytes);
	/* Synchronous copies outside the queues: weights, activations in checks, erasure. */
	int (*write)(struct mts_device *dev, void *dst, const void *src, size_t bytes);
	int (*read)(struct mts_device *dev, void *dst, const void *src, size_t bytes);
	int (*zero)(struct mts_device *dev, void *dst, size_t bytes);
	/* Makes a host range usable by copies without staging; pieces of at most 256 MiB. */
	int (*host_register)(struct mts_device *dev, void *p, size_t bytes);
	void (*host_unregister)(struct mts_device *dev, void *p, size_t bytes);

	/*
	 * Starts one copy of n segments (n <= MTS_COPY_MAX); segments are read before it returns.
	 * -EAGAIN: the lane's queue is full, reap first. Copies of a lane are reaped in any order.
	 * on_done (may be NULL) is called from any thread, also from within copy(), after each
	 * completion, to wake the reaper; set by copy_notify while no copy is under way. Once
	 * copy_notify has returned, the one before is not running and will not be called.
	 */
	int (*copy)(struct mts_device *dev, enum mts_lane lane, const struct mts_segment *seg,
		    unsigned n, uint64_t cookie);
	/* Up to max finished copies, without waiting: their number. */
	int (*copy_reap)(struct mts_device *dev, enum mts_lane lane, struct mts_copy_done *out,
			 unsigned max);
	void (*copy_notify)(struct mts_device *dev, void (*on_done)(void *), void *arg);

	/*
	 * Compute queue: operations run in order, asynchronously. The structs are copied; what they
	 * point to must stay until a later signal() has arrived. A launch into a full queue (2,048
	 * on cpu and nil) sleeps until there is room: whatever the queue waits for must be on its
	 * way.
	 */
	int (*embed)(struct mts_device *dev, const struct mts_op_embed *op);
	int (*norm)(struct mts_device *dev, const struct mts_op_norm *op);
	int (*gemm)(struct mts_device *dev, const struct mts_op_gemm *op);
	int (*append)(struct mts_device *dev, const struct mts_op_append *op);
	int (*attention)(struct mts_device *dev, const struct mts_op_attention *op);
	int (*modulate)(struct mts_device *dev, const struct mts_op_modulate *op);
	int (*pick)(struct mts_device *dev, const struct mts_op_pick *op);
	int (*score)(struct mts_device *dev, const struct mts_op_score *op);
	/* Copies device memory to host memory in queue order (scores out). */
	int (*fetch)(struct mts_device *dev, void *dst, const void *src, size_t bytes);
	/* The queue goes on when the gate is open; a failed one poisons it up to the next signal. */
	int (*wait)(struct mts_device *dev, struct mts_gate *g);
	/*
	 * Arrives at the gate when everything before it has run: 0, or the error of the first
	 * failed wait or operation since the last signal; operations after that failure are
	 * skipped. The gate gets its one arrival in every case, also (-EIO) when the device is
	 * lost.
	 */
	int (*signal)(struct mts_device *dev, struct mts_gate *g);
};

#define MTS_COPY_MAX 256

struct mts_device {
	const struct mts_device_ops *ops;
};

extern const struct mts_device_ops mts_device_cpu;
extern const struct mts_device_ops mts_device_nil;

/* The backend of that name ("cpu", "nil"), or NULL. */
const struct mts_device_ops *mts_device_find(const char *name);

#endif
