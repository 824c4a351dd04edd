/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler: which bytes move next. It knows entries, lanes and the device; nothing of rings,
 * threads or clocks, which are its caller's (ring.c).
 *
 * Floor: transfer; private to it. One thread, but for `wake`, which a gate may call from any.
 *
 *   entry   one submission, from accept to its completion
 *   work    one load or write-back under way; equal loads are entries of one work
 *
 *   accept -> gated (waits for `after`) -> member of a work in its lane's heap -> slices -> posted
 *
 * An entry that is cancelled or late leaves at once where nothing of it has started. Else its work
 * stops (or goes on for other members), and the entry is posted when no slice is in flight.
 */
#ifndef MTS_SCHEDULE_H
#define MTS_SCHEDULE_H

#include "transfer/heap.h"
#include "transfer/transfer.h"

#define MTS_NONE UINT32_MAX

/* What the ring hands over: the caller's entry and what is known at submission. */
struct mts_submission {
	struct mts_sqe sqe;
	uint64_t submitted_ns;
	uint64_t bytes; /* sum over the segments */
};

struct mts_schedule_config {
	struct mts_device *device;
	uint32_t entries; /* at most so many at once; a power of two */
	size_t slice_bytes;
	size_t lane_bytes;
	/* Completions, in order. The entry's gate has had its arrival. */
	void (*post)(void *arg, const struct mts_submission *s, int result);
	/* A gate opened: call turn. From any thread; must not touch gates. */
	void (*wake)(void *arg);
	void *arg;
};

/* As struct mts_transfer_stats; written by the scheduler's thread, read by any. */
struct mts_schedule_counters {
	_Atomic uint64_t bytes[MTS_LANES], copies[MTS_LANES], entries[MTS_LANES];
	_Atomic uint64_t busy_ns[MTS_LANES];
	_Atomic uint64_t merged, cancelled, timed_out, failed;
};

struct mts_schedule;

int mts_schedule_open(const struct mts_schedule_config *cfg, struct mts_schedule **out);
/* Only while it is idle. */
void mts_schedule_close(struct mts_schedule *s);

/* Takes one submission in; there are fewer than cfg.entries at the moment. */
void mts_schedule_accept(struct mts_schedule *s, const struct mts_submission *in);
/*
 * Reaps copies, lets gated entries go, expires, starts slices. Returns 1 where it did anything:
 * call again before sleeping.
 */
int mts_schedule_turn(struct mts_schedule *s, uint64_t now_ns);
/* When the next entry times out; UINT64_MAX: none. */
uint64_t mts_schedule_next_ns(const struct mts_schedule *s);
/* Cancels every entry as MTS_SQE_CANCEL would. */
void mts_schedule_cancel_all(struct mts_schedule *s);
/* Entries accepted and not posted. */
uint32_t mts_schedule_active(const struct mts_schedule *s);
const struct mts_schedule_counters *mts_schedule_counters(const struct mts_schedule *s);

#endif
