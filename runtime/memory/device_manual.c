/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manual (device_manual.h). Floor: memory, for tests. One lock over everything.
 */
#include "memory/device_manual.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory/device_lane.h"

#define HELD_MAX (MTS_LANES * MTS_LANE_DEPTH)

struct held {
	struct mts_copy_lane *lane;
	struct mts_copy_request request;
};

struct mts_manual {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t seed;
	uint64_t clock_ns;
	uint64_t count[MTS_FAIL_POINTS];
	uint64_t fail_at[MTS_FAIL_POINTS];
	int fail_with[MTS_FAIL_POINTS];
	_Atomic int *lost;
	unsigned held;
	struct held *copy[HELD_MAX];  /* held copies, oldest first, then free ones */
	struct held *store;
	int running;
	unsigned max_pause_us;
	pthread_t thread;
};

/* Each thread steps through its own numbers only under the lock: one seed, one sequence. */
static uint64_t draw(struct mts_manual *m, uint64_t below)
{
	m->seed = m->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (m->seed >> 33) % below;
}

int mts_manual_open(uint64_t seed, struct mts_manual **out)
{
	struct mts_manual *m = calloc(1, sizeof(*m));
	pthread_condattr_t monotonic;

	if (!m)
		return -ENOMEM;
	m->store = calloc(HELD_MAX, sizeof(*m->store));
	if (!m->store) {
		free(m);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < HELD_MAX; i++)
		m->copy[i] = &m->store[i];
	m->seed = seed;
	m->clock_ns = 1000000000;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*out = m;
	return 0;
}

void mts_manual_close(struct mts_manual *m)
{
	if (!m)
		return;
	mts_manual_hold(m);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m->store);
	free(m);
}

void mts_manual_attach(struct mts_manual *m, _Atomic int *lost)
{
	pthread_mutex_lock(&m->lock);
	m->lost = lost;
	if (!lost)
		m->held = 0;
	pthread_mutex_unlock(&m->lock);
}

static int meet_locked(struct mts_manual *m, enum mts_manual_point point)
{
	return ++m->count[point] == m->fail_at[point] ? m->fail_with[point] : 0;
}

int mts_manual_meet(struct mts_manual *m, enum mts_manual_point point)
{
	int error;

	if (!m)
		return 0;
	pthread_mutex_lock(&m->lock);
	error = meet_locked(m, point);
	pthread_mutex_unlock(&m->lock);
	return error;
}

void mts_manual_fail(struct mts_manual *m, enum mts_manual_point point, uint64_t nth, int error)
{
	pthread_mutex_lock(&m->lock);
	m->fail_at[point] = nth ? m->count[point] + nth : 0;
	m->fail_with[point] = error;
	pthread_mutex_unlock(&m->lock);
}

uint64_t mts_manual_count(struct mts_manual *m, enum mts_manual_point point)
{
	uint64_t n;

	pthread_mutex_lock(&m->lock);
	n = m->count[point];
	pthread_mutex_unlock(&m->lock);
	return n;
}

void mts_manual_keep(struct mts_manual *m, struct mts_copy_lane *lane,
		     const struct mts_segment *seg, unsigned n, uint64_t cookie)
{
	struct held *h;

	pthread_mutex_lock(&m->lock);
	h = m->copy[m->held++]; /* there is room: a lane starts no more than its depth */
	h->lane = lane;
	h->request.cookie = cookie;
	h->request.n = n;
	memcpy(h->request.segment, seg, n * sizeof(*seg));
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

static void finish_locked(struct mts_manual *m, unsigned i)
{
	struct held *h = m->copy[i];
	int result = meet_locked(m, MTS_FAIL_DONE);

	if (atomic_load_explicit(m->lost, memory_order_relaxed))
		result = -EIO;
	memmove(&m->copy[i], &m->copy[i + 1], (m->held - i - 1) * sizeof(*m->copy));
	m->copy[--m->held] = h;
	mts_copy_lane_move(h->lane, h->request.segment, h->request.n, result);
	mts_copy_lane_post(h->lane, h->request.cookie, result);
}

void mts_manual_lose(struct mts_manual *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->lost)
		atomic_store(m->lost, 1);
	while (m->held)
		finish_locked(m, 0);
	pthread_mutex_unlock(&m->lock);
}

static unsigned count_held(const struct mts_manual *m, enum mts_lane lane)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->held; i++)
		n += m->copy[i]->lane->id == lane;
	return n;
}

unsigned mts_manual_held(struct mts_manual *m, enum mts_lane lane)
{
	unsigned n;

	pthread_mutex_lock(&m->lock);
	n = count_held(m, lane);
	pthread_mutex_unlock(&m->lock);
	return n;
}

int mts_manual_wait_held(struct mts_manual *m, enum mts_lane lane, unsigned n, int64_t timeout_ns)
{
	uint64_t until = mts_deadline(timeout_ns < 0 ? INT64_MAX / 2 : timeout_ns);
	struct timespec t = { (time_t)(until / 1000000000), (long)(until % 1000000000) };
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	while (!ret && count_held(m, lane) < n)
		ret = pthread_cond_timedwait(&m->changed, &m->lock, &t) ? -ETIME : 0;
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/* The place in copy[] of the i-th held copy of a lane, or HELD_MAX. */
static unsigned place(const struct mts_manual *m, enum mts_lane lane, unsigned i)
{
	for (unsigned at = 0; at < m->held; at++)
		if (m->copy[at]->lane->id == lane && !i--)
			return at;
	return HELD_MAX;
}

int mts_manual_look(struct mts_manual *m, enum mts_lane lane, unsigned i, uint64_t *cookie,
		    struct mts_segment *first, size_t *bytes)
{
	const struct mts_copy_request *r;
	int ret = -ENOENT;

	pthread_mutex_lock(&m->lock);
	i = place(m, lane, i);
	if (i < HELD_MAX) {
		r = &m->copy[i]->request;
		*cookie = r->cookie;
		*first = r->segment[0];
		*bytes = 0;
		for (unsigned s = 0; s < r->n; s++)
			*bytes += r->segment[s].bytes;
		ret = 0;
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

int mts_manual_finish(struct mts_manual *m, enum mts_lane lane, unsigned i)
{
	pthread_mutex_lock(&m->lock);
	i = place(m, lane, i);
	if (i < HELD_MAX)
		finish_locked(m, i);
	pthread_mutex_unlock(&m->lock);
	return i < HELD_MAX ? 0 : -ENOENT;
}

int mts_manual_step(struct mts_manual *m)
{
	int any;

	pthread_mutex_lock(&m->lock);
	any = m->held > 0;
	if (any)
		finish_locked(m, (unsigned)draw(m, m->held));
	pthread_mutex_unlock(&m->lock);
	return any;
}

static void pause_locked(struct mts_manual *m)
{
	uint64_t until = mts_now() + draw(m, m->max_pause_us + 1) * 1000;

	pthread_mutex_unlock(&m->lock);
	mts_sleep_until(until);
	pthread_mutex_lock(&m->lock);
}

static void *stepper(void *arg)
{
	struct mts_manual *m = arg;

	pthread_mutex_lock(&m->lock);
	while (m->running) {
		if (!m->held) {
			pthread_cond_wait(&m->changed, &m->lock);
			continue;
		}
		pause_locked(m);
		if (m->held)
			finish_locked(m, (unsigned)draw(m, m->held));
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

int mts_manual_run(struct mts_manual *m, unsigned max_pause_us)
{
	if (m->running)
		return -EBUSY;
	m->running = 1;
	m->max_pause_us = max_pause_us;
	if (pthread_create(&m->thread, NULL, stepper, m)) {
		m->running = 0;
		return -EAGAIN;
	}
	return 0;
}

void mts_manual_hold(struct mts_manual *m)
{
	int was;

	pthread_mutex_lock(&m->lock);
	was = m->running;
	m->running = 0;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	if (was)
		pthread_join(m->thread, NULL);
}

uint64_t mts_manual_now(struct mts_manual *m)
{
	uint64_t now;

	pthread_mutex_lock(&m->lock);
	now = m->clock_ns;
	pthread_mutex_unlock(&m->lock);
	return now;
}

void mts_manual_advance(struct mts_manual *m, uint64_t ns)
{
	pthread_mutex_lock(&m->lock);
	m->clock_ns += ns;
	pthread_mutex_unlock(&m->lock);
}
