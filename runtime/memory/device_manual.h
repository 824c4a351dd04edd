/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manual: a test's hand on a device. Copies complete when the test says so, in an order drawn
 * from a seed, late or with errors; allocations, calls and operations fail at a chosen count.
 *
 * Floor: memory. Callers: tests only; it is compiled in so that they test what runs. Set it in
 * mts_device_config.manual before the device (cpu or nil) is opened; one device at a time. The
 * bytes of a copy move when it completes, not before; a failed copy leaves 0xEE in its destination
 * (cpu). It also is a clock: mts_transfer_config.manual makes the scheduler take its time from here
 * and run inside its caller's calls, without a thread, so that a whole test is a pure function of
 * its seed.
 *
 * Threads: any.
 */
#ifndef MTS_DEVICE_MANUAL_H
#define MTS_DEVICE_MANUAL_H

#include "memory/device.h"

struct mts_manual;

/* Where a device can be made to fail. */
enum mts_manual_point {
	MTS_FAIL_ALLOC,    /* alloc answers the error */
	MTS_FAIL_REGISTER, /* host_register answers it */
	MTS_FAIL_SYNC,     /* write, read or zero answers it */
	MTS_FAIL_COPY,     /* copy answers it */
	MTS_FAIL_DONE,     /* a copy completes with it */
	MTS_FAIL_LAUNCH,   /* a launch (any operation, fetch, wait) answers it */
	MTS_FAIL_RUN,      /* an operation fails while it runs: the next signal passes it on */
	MTS_FAIL_POINTS
};

int mts_manual_open(uint64_t seed, struct mts_manual **out);
/* After the device and the transfer that use it are closed. */
void mts_manual_close(struct mts_manual *m);

/* The nth occurrence from now (1: the next) fails with error (negative); 0 takes it back. */
void mts_manual_fail(struct mts_manual *m, enum mts_manual_point point, uint64_t nth, int error);
/* Occurrences so far. */
uint64_t mts_manual_count(struct mts_manual *m, enum mts_manual_point point);
/* The device is lost from now on: what is held completes with -EIO, every call answers it. */
void mts_manual_lose(struct mts_manual *m);

/* Copies held back now. */
unsigned mts_manual_held(struct mts_manual *m, enum mts_lane lane);
/* Sleeps until n copies or more are held in the lane: 0, -ETIME. For schedulers with a thread. */
int mts_manual_wait_held(struct mts_manual *m, enum mts_lane lane, unsigned n, int64_t timeout_ns);
/* The i-th held copy of a lane (0: the oldest): its cookie and first segment; -ENOENT. */
int mts_manual_look(struct mts_manual *m, enum mts_lane lane, unsigned i, uint64_t *cookie,
		    struct mts_segment *first, size_t *bytes);
/* Completes the i-th held copy of a lane: 0 or -ENOENT. */
int mts_manual_finish(struct mts_manual *m, enum mts_lane lane, unsigned i);
/* Completes one held copy of either lane, drawn at random: 1, or 0 where none is held. */
int mts_manual_step(struct mts_manual *m);

/*
 * From now on a thread of the manual steps by itself, with random pauses up to max_pause_us before
 * each: for tests in which everything else runs by itself too. Copies are not held for ever then.
 */
int mts_manual_run(struct mts_manual *m, unsigned max_pause_us);
/* Copies are held again. */
void mts_manual_hold(struct mts_manual *m);

/* The clock: starts at 1 s, moves only by advance. */
uint64_t mts_manual_now(struct mts_manual *m);
void mts_manual_advance(struct mts_manual *m, uint64_t ns);

#endif
