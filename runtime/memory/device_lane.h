/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy lane of devices that live in this process (cpu, nil): how copies of one direction get
 * done.
 *
 *   full speed, cpu    its own thread copies
 *   paced              its own thread copies (cpu) and sleeps until such a link would be done
 *   full speed, nil    done within start()
 *   manual             held until a test finishes it
 *
 * Floor: memory; private to the devices. start and reap are called from one thread at a time.
 */
#ifndef MTS_DEVICE_LANE_H
#define MTS_DEVICE_LANE_H

#include <pthread.h>

#include "memory/device.h"
#include "memory/device_manual.h"
#include "memory/park.h"
#include "memory/ring.h"

#define MTS_LANE_DEPTH 128

struct mts_copy_request {
	uint64_t cookie;
	uint64_t started_ns;
	unsigned n;
	struct mts_segment segment[MTS_COPY_MAX];
};

struct mts_copy_lane {
	enum mts_lane id;
	int moves;             /* bytes are really copied */
	double ns_per_byte;    /* of the link; 0: not paced */
	uint64_t ns_per_copy;
	uint64_t link_free_ns; /* when the link will have finished what it was given */
	struct mts_manual *manual;
	_Atomic int *lost;     /* the device's */
	/* Held while on_done runs: who takes it back may free its world. */
	pthread_mutex_t notify_lock;
	void (*on_done)(void *);
	void *on_done_arg;

	unsigned outstanding;  /* started, not reaped; the caller's own */
	struct mts_ring todo, done;
	struct mts_copy_request *request;  /* todo's entries */
	struct mts_copy_done *completion;  /* done's entries */
	int threaded;
	_Atomic int stop;
	struct mts_park worker;
	pthread_t thread;
};

/* Set id, moves, ns_*, manual and lost before, all else zero. */
int mts_copy_lane_open(struct mts_copy_lane *lane);
/* Finishes what was started, then ends the thread. */
void mts_copy_lane_close(struct mts_copy_lane *lane);
void mts_copy_lane_notify(struct mts_copy_lane *lane, void (*on_done)(void *), void *arg);
int mts_copy_lane_start(struct mts_copy_lane *lane, const struct mts_segment *seg, unsigned n,
			uint64_t cookie);
int mts_copy_lane_reap(struct mts_copy_lane *lane, struct mts_copy_done *out, unsigned max);

/* Moves a copy's bytes where the lane moves any; result != 0: spoils the destination instead. */
void mts_copy_lane_move(struct mts_copy_lane *lane, const struct mts_segment *seg, unsigned n,
			int result);
/* Posts a completion; from the lane's thread, or under the manual's lock. */
void mts_copy_lane_post(struct mts_copy_lane *lane, uint64_t cookie, int result);

/* device_manual.c: keeps the copy (its segments are copied) until a test finishes it. */
void mts_manual_keep(struct mts_manual *m, struct mts_copy_lane *lane,
		     const struct mts_segment *seg, unsigned n, uint64_t cookie);
/* device_manual.c: 0, or the error chosen for this occurrence. m may be NULL. */
int mts_manual_meet(struct mts_manual *m, enum mts_manual_point point);
/* device_manual.c: the device's lost flag, set by mts_manual_lose(); NULL when it closes. */
void mts_manual_attach(struct mts_manual *m, _Atomic int *lost);

#endif
