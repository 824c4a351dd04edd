/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfer: submission and completion rings in front of a scheduler that moves K/V between host and
 * device.
 *
 * Floor: transfer. One owner thread submits and reaps (the cache's owner); one transfer thread,
 * made here, schedules; the device copies. The shape is io_uring's: fill entries, submit them in a
 * batch, reap completions.
 *
 *   owner --SQ--> transfer thread --copy()--> device lane
 *     ^                 |   gates opened here, for computation that waits
 *     +------CQ---------+
 *
 * Promises:
 *   - n submitted, exactly n completions: also after cancel, timeout, device loss and close.
 *   - A completion means the hardware is done with the memory of its entry. A timeout fails the
 *     entry's gate at once (-ETIME), but its completion comes only when no slice of it is running:
 *     until then the memory is quarantined.
 *   - Within a lane: by class first (demand before prefetch before write-back), then earliest
 *     deadline, then order of submission. Entries larger than slice_bytes are cut, so that small
 *     ones overtake; at most lane_bytes are in flight per lane.
 *   - Equal loads (the same segments) waiting or running are merged: one copy, as urgent as the
 *     most urgent of them; each gets its completion.
 *   - Write-back waiting is bounded: beyond writeback_bytes submit answers -EAGAIN for it. (A batch
 *     that alone exceeds the bound is taken when no other write-back is outstanding.)
 *   - After open nothing is allocated.
 *
 * Entries with no bytes complete with 0; an unknown op or class, or segments without an array, with
 * -EINVAL.
 */
#ifndef MTS_TRANSFER_H
#define MTS_TRANSFER_H

#include "memory/device.h"

enum mts_sqe_op {
	MTS_SQE_ONLOAD,    /* host to device */
	MTS_SQE_WRITEBACK, /* device to host */
	MTS_SQE_CANCEL,    /* target: user_data of an earlier entry; see below */
};

enum mts_sqe_class { MTS_DEMAND, MTS_PREFETCH, MTS_BACKGROUND };

/*
 * Segments belong to the caller and stay unchanged until the completion has been reaped; so do the
 * gates. `after` (may be NULL) is a gate the scheduler waits for before the first slice starts,
 * without holding up others; if it fails, the entry completes with its error. `gate` (may be NULL)
 * gets one arrival when the entry is done or has failed, before the completion can be reaped; when
 * the entry is cancelled or late while a slice runs, the gate fails at once (its waiters go) and
 * the arrival follows with the completion.
 * CANCEL: the entries submitted before, whose user_data equals `target`, complete with -ECANCELED:
 * at once where no slice has started, else after the running slices. Its own result: how many it
 * met.
 */
struct mts_sqe {
	uint8_t op;
	uint8_t cls;
	uint16_t layer;
	uint32_t segments;
	const struct mts_segment *segment;
	struct mts_gate *gate;
	struct mts_gate *after;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; orders within a class; 0 = none (last) */
	uint64_t timeout_ns;  /* from submission; 0 = none */
	uint64_t target;
	uint64_t user_data;
};

struct mts_cqe {
	uint64_t user_data;
	int32_t result; /* 0 or -errno: -ECANCELED, -ETIME, -EIO, what the device answered */
	uint32_t flags;
};

struct mts_transfer_config {
	struct mts_device *device;
	unsigned entries;        /* of the SQ, a power of two; the CQ has twice as many; default 4096 */
	size_t slice_bytes;      /* default 1 MiB */
	size_t lane_bytes;       /* in flight per lane; default 8 MiB */
	size_t writeback_bytes;  /* waiting or running; default 256 MiB */
	/*
	 * Tests: the manual of `device`. Then there is no thread; submit, reap and wait run the
	 * scheduler, by the manual's clock, and wait steps the manual (or moves its clock to the
	 * next timeout) until something completes. Else NULL.
	 */
	struct mts_manual *manual;
};

struct mts_transfer_stats {
	uint64_t bytes[MTS_LANES];
	uint64_t copies[MTS_LANES];     /* copy() calls */
	uint64_t entries[MTS_LANES];
	uint64_t merged, cancelled, timed_out, failed;
	uint64_t busy_ns[MTS_LANES];    /* time with at least one copy in flight */
};

struct mts_transfer;

/* -EINVAL: no device, entries no power of two or above 2^20, slice_bytes above 1 GiB; -ENOMEM. */
int mts_transfer_open(const struct mts_transfer_config *cfg, struct mts_transfer **out);
/*
 * Cancels everything as CANCEL does and waits until the device is done with it; completions not
 * reaped are dropped, gates have had their arrivals. No copy may be held by a manual for ever
 * meanwhile.
 */
void mts_transfer_close(struct mts_transfer *t);

/* The next free entry, zeroed, or NULL when the SQ is full (submit, then wait). */
struct mts_sqe *mts_transfer_get_sqe(struct mts_transfer *t);
/*
 * Hands over all entries got since the last submit: their number. -EAGAIN: they would leave more
 * completions outstanding than the CQ holds, or more write-back than allowed; nothing was handed
 * over, reap and call again.
 */
int mts_transfer_submit(struct mts_transfer *t);
/* Forgets the entries got since the last submit. */
void mts_transfer_abandon(struct mts_transfer *t);
/* Up to max completions without waiting: their number. */
unsigned mts_transfer_reap(struct mts_transfer *t, struct mts_cqe *out, unsigned max);
/*
 * Sleeps until a completion can be reaped, or, after get_sqe answered NULL, until the SQ has room:
 * 0; -ETIME; -ENOENT: nothing is outstanding, it would sleep for ever. timeout_ns < 0: no limit.
 */
int mts_transfer_wait(struct mts_transfer *t, int64_t timeout_ns);
/* Called from the transfer thread after completions were posted (may be NULL): wakes an owner that
 * sleeps elsewhere. Set before the first submit. */
void mts_transfer_notify(struct mts_transfer *t, void (*fn)(void *), void *arg);
unsigned mts_transfer_outstanding(const struct mts_transfer *t);
/* Counters so far; any thread, each counter exact, the set not a snapshot. */
void mts_transfer_stats(const struct mts_transfer *t, struct mts_transfer_stats *out);

#endif
