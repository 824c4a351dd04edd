/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy lanes (device_lane.h). Floor: memory.
 */
#include "memory/device_lane.h"
#include "memory/stream_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

void mts_copy_lane_move(struct mts_copy_lane *lane, const struct mts_segment *seg, unsigned n,
			int result)
{
	for (unsigned i = 0; lane->moves && i < n; i++) {
		if (result)
			memset(seg[i].dst, 0xEE, seg[i].bytes);
		else
			mts_stream_copy(seg[i].dst, seg[i].src, seg[i].bytes);
	}
}

void mts_copy_lane_post(struct mts_copy_lane *lane, uint64_t cookie, int result)
{
	struct mts_copy_done *done = &lane->completion[mts_ring_put_slot(&lane->done, 0)];

	done->cookie = cookie;
	done->result = result;
	mts_ring_publish(&lane->done, 1);
	pthread_mutex_lock(&lane->notify_lock);
	if (lane->on_done)
		lane->on_done(lane->on_done_arg);
	pthread_mutex_unlock(&lane->notify_lock);
}

void mts_copy_lane_notify(struct mts_copy_lane *lane, void (*on_done)(void *), void *arg)
{
	pthread_mutex_lock(&lane->notify_lock);
	lane->on_done = on_done;
	lane->on_done_arg = arg;
	pthread_mutex_unlock(&lane->notify_lock);
}

static size_t total(const struct mts_copy_request *r)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < r->n; i++)
		bytes += r->segment[i].bytes;
	return bytes;
}

/*
 * When a link of the given rate would be done with this copy. It starts when the link is free or
 * the copy was handed over, whichever is later: sleeping too long delays no later copy.
 */
static uint64_t link_done(struct mts_copy_lane *lane, const struct mts_copy_request *r)
{
	uint64_t start = r->started_ns > lane->link_free_ns ? r->started_ns : lane->link_free_ns;

	lane->link_free_ns = start + lane->ns_per_copy +
			     (uint64_t)(lane->ns_per_byte * (double)total(r));
	return lane->link_free_ns;
}

static int paced(const struct mts_copy_lane *lane)
{
	return lane->ns_per_byte > 0 || lane->ns_per_copy;
}

static void do_copy(struct mts_copy_lane *lane, const struct mts_copy_request *r)
{
	int result = atomic_load_explicit(lane->lost, memory_order_relaxed) ? -EIO : 0;

	if (!result) {
		mts_copy_lane_move(lane, r->segment, r->n, 0);
		if (paced(lane))
			mts_sleep_until(link_done(lane, r));
	}
	mts_copy_lane_post(lane, r->cookie, result);
}

static void *worker(void *arg)
{
	struct mts_copy_lane *lane = arg;

	/* The default slack of 50 us is longer than many a copy takes. */
	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		if (mts_ring_filled(&lane->todo)) {
			do_copy(lane, &lane->request[mts_ring_take_slot(&lane->todo, 0)]);
			mts_ring_release(&lane->todo, 1);
		} else if (atomic_load_explicit(&lane->stop, memory_order_acquire)) {
			/* Acquire, with the release in close: nothing was put after what we saw. */
			if (!mts_ring_filled(&lane->todo))
				return NULL;
		} else {
			mts_park_wait(&lane->worker, MTS_FOREVER);
		}
	}
}

int mts_copy_lane_open(struct mts_copy_lane *lane)
{
	mts_ring_init(&lane->todo, MTS_LANE_DEPTH);
	mts_ring_init(&lane->done, MTS_LANE_DEPTH);
	pthread_mutex_init(&lane->notify_lock, NULL);
	lane->threaded = !lane->manual && (lane->moves || paced(lane));
	lane->completion = calloc(MTS_LANE_DEPTH, sizeof(*lane->completion));
	if (!lane->completion)
		return -ENOMEM;
	if (!lane->threaded)
		return 0;
	lane->request = calloc(MTS_LANE_DEPTH, sizeof(*lane->request));
	if (lane->request && !pthread_create(&lane->thread, NULL, worker, lane))
		return 0;
	free(lane->request);
	free(lane->completion);
	return -ENOMEM;
}

void mts_copy_lane_close(struct mts_copy_lane *lane)
{
	if (lane->threaded) {
		atomic_store_explicit(&lane->stop, 1, memory_order_release);
		mts_park_wake(&lane->worker);
		pthread_join(lane->thread, NULL);
	}
	pthread_mutex_destroy(&lane->notify_lock);
	free(lane->request);
	free(lane->completion);
}

static void hand_over(struct mts_copy_lane *lane, const struct mts_segment *seg, unsigned n,
		      uint64_t cookie)
{
	struct mts_copy_request *r = &lane->request[mts_ring_put_slot(&lane->todo, 0)];

	r->cookie = cookie;
	r->started_ns = paced(lane) ? mts_now() : 0;
	r->n = n;
	memcpy(r->segment, seg, n * sizeof(*seg));
	mts_ring_publish(&lane->todo, 1);
	mts_park_wake(&lane->worker);
}

int mts_copy_lane_start(struct mts_copy_lane *lane, const struct mts_segment *seg, unsigned n,
			uint64_t cookie)
{
	int ret;

	if (!n || n > MTS_COPY_MAX)
		return -EINVAL;
	if (atomic_load_explicit(lane->lost, memory_order_relaxed))
		return -EIO;
	/*
	 * Counting what is not reaped yet also keeps `done` from running over, and `todo`: its
	 * entry is released after the completion is posted, hence the look at its room.
	 */
	if (lane->outstanding == MTS_LANE_DEPTH)
		return -EAGAIN;
	if (lane->threaded && !mts_ring_room(&lane->todo, 1))
		return -EAGAIN;
	ret = mts_manual_meet(lane->manual, MTS_FAIL_COPY);
	if (ret)
		return ret;
	lane->outstanding++;
	if (lane->manual)
		mts_manual_keep(lane->manual, lane, seg, n, cookie);
	else if (lane->threaded)
		hand_over(lane, seg, n, cookie);
	else
		mts_copy_lane_post(lane, cookie, 0);
	return 0;
}

int mts_copy_lane_reap(struct mts_copy_lane *lane, struct mts_copy_done *out, unsigned max)
{
	unsigned n = mts_ring_filled(&lane->done);

	if (n > max)
		n = max;
	for (unsigned i = 0; i < n; i++)
		out[i] = lane->completion[mts_ring_take_slot(&lane->done, i)];
	mts_ring_release(&lane->done, n);
	lane->outstanding -= n;
	return (int)n;
}
