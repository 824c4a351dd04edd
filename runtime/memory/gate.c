/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates (device.h): a countdown that threads sleep on. Floor: memory. Any thread.
 *
 *   state   31 FAILED   30 WAITERS   29 WATCHED   28..0 arrivals still expected
 *
 * The state is also the futex word, so that a failure, which leaves the count alone, wakes sleepers
 * too. Whoever brings the count to zero touches the gate no more afterwards: its owner may reuse
 * the memory as soon as it sees the gate open. Hence watches are taken off the gate before the
 * count is lowered, under a lock that is touched only where there is a watch.
 */
#include "memory/device.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include "memory/park.h"

#define FAILED (1u << 31)
#define WAITERS (1u << 30)
#define WATCHED (1u << 29)
#define COUNT (WATCHED - 1)

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;

void mts_gate_init(struct mts_gate *g, uint32_t expected)
{
	atomic_init(&g->state, expected);
	atomic_init(&g->error, 0);
	g->watch = NULL;
}

void mts_gate_expect(struct mts_gate *g, uint32_t more)
{
	atomic_fetch_add_explicit(&g->state, more, memory_order_relaxed);
}

static void record_error(struct mts_gate *g, int error)
{
	int32_t none = 0;

	atomic_compare_exchange_strong_explicit(&g->error, &none, error, memory_order_relaxed,
						memory_order_relaxed);
}

/*
 * Lowers the count by `arrivals` and marks failure; -1 if the gate has watches that this step must
 * fire and watched is not set. 1: there are sleepers to wake.
 */
static int step(struct mts_gate *g, uint32_t arrivals, int error, int watched)
{
	uint32_t old = atomic_load_explicit(&g->state, memory_order_relaxed), next;
	int fires;

	do {
		next = (old - arrivals) | (error ? FAILED : 0);
		fires = error || !(next & COUNT);
		if (fires && old & WATCHED && !watched)
			return -1;
		if (fires)
			next &= ~(WAITERS | WATCHED);
		/* Release: the error, and what the arriving thread wrote; acquire in look(). */
	} while (!atomic_compare_exchange_weak_explicit(&g->state, &old, next, memory_order_acq_rel,
							memory_order_relaxed));
	return fires && old & WAITERS;
}

static int step_watched(struct mts_gate *g, uint32_t arrivals, int error)
{
	struct mts_gate_watch *w, *next;
	int wake;

	pthread_mutex_lock(&watch_lock);
	w = g->watch;
	g->watch = NULL;
	wake = step(g, arrivals, error, 1);
	for (; w; w = next) {
		next = w->next;
		w->on = NULL;
		w->fn(w);
	}
	pthread_mutex_unlock(&watch_lock);
	return wake;
}

static void move(struct mts_gate *g, uint32_t arrivals, int error)
{
	int wake;

	if (error)
		record_error(g, error);
	wake = step(g, arrivals, error, 0);
	if (wake < 0)
		wake = step_watched(g, arrivals, error);
	if (wake)
		mts_futex_wake(&g->state, INT_MAX);
}

void mts_gate_arrive(struct mts_gate *g, int result)
{
	move(g, 1, result);
}

void mts_gate_fail(struct mts_gate *g, int error)
{
	move(g, 0, error);
}

static uint32_t look(struct mts_gate *g)
{
	/* Acquire, with the release in step(). */
	return atomic_load_explicit(&g->state, memory_order_acquire);
}

int mts_gate_poll(struct mts_gate *g, int *error)
{
	uint32_t state = look(g);

	*error = atomic_load_explicit(&g->error, memory_order_relaxed);
	return !(state & COUNT);
}

static int sleep_on(struct mts_gate *g, int64_t timeout_ns, uint32_t enough)
{
	uint64_t until = mts_deadline(timeout_ns);
	uint32_t state;

	for (state = look(g); state & COUNT && !(state & enough); state = look(g)) {
		if (until != MTS_FOREVER && mts_now() >= until)
			return -ETIME;
		if (!(state & WAITERS) &&
		    !atomic_compare_exchange_strong_explicit(&g->state, &state, state | WAITERS,
							     memory_order_relaxed,
							     memory_order_relaxed))
			continue;
		mts_futex_wait(&g->state, state | WAITERS, until);
	}
	return atomic_load_explicit(&g->error, memory_order_relaxed);
}

int mts_gate_wait(struct mts_gate *g, int64_t timeout_ns)
{
	return sleep_on(g, timeout_ns, FAILED);
}

int mts_gate_drain(struct mts_gate *g, int64_t timeout_ns)
{
	return sleep_on(g, timeout_ns, 0);
}

static int settled(uint32_t state)
{
	return !(state & COUNT) || state & FAILED;
}

int mts_gate_watch(struct mts_gate *g, struct mts_gate_watch *w)
{
	int done;

	pthread_mutex_lock(&watch_lock);
	done = settled(look(g));
	if (!done) {
		w->next = g->watch;
		g->watch = w;
		w->on = g;
		/* An arrival before this bit did not see the watch: look at what it left. */
		done = settled(atomic_fetch_or_explicit(&g->state, WATCHED, memory_order_acq_rel));
	}
	if (done && w->on) {
		g->watch = w->next;
		w->on = NULL;
		if (!g->watch)
			atomic_fetch_and_explicit(&g->state, ~WATCHED, memory_order_relaxed);
	}
	pthread_mutex_unlock(&watch_lock);
	return done;
}

int mts_gate_unwatch(struct mts_gate_watch *w)
{
	struct mts_gate_watch **at;
	int was_on;

	pthread_mutex_lock(&watch_lock);
	was_on = w->on != NULL;
	if (was_on) {
		for (at = &w->on->watch; *at != w; at = &(*at)->next)
			;
		*at = w->next;
		if (!w->on->watch)
			atomic_fetch_and_explicit(&w->on->state, ~WATCHED, memory_order_relaxed);
		w->on = NULL;
	}
	pthread_mutex_unlock(&watch_lock);
	return was_on;
}
