/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open loop: requests arrive at their own times, whether or not earlier ones have been answered.
 *
 * Floor: cmd. Two threads: the generator prepares each request ahead of its time, sleeps until then
 * and submits; the caller reaps. They share the free tickets, under a lock.
 *
 * A request's latency runs from the time it was scheduled for, not from when it was submitted: a
 * generator that falls behind would else hide the waiting it causes.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/replay_run.h"
#include "cmd/trace_random.h"
#include "error.h"

const char *const mts_class_names[MTS_CLASSES] = { "device_hit", "host_hit", "window_move",
						   "first_visit", "refused" };

#define REAP_NS 50000000 /* how long the reaper sleeps before it looks whether all is over */

struct open_loop {
	struct mts_run *x;
	enum mts_mode mode;
	size_t from, to;
	uint64_t began;
	struct mts_random random;
	double gap_ns; /* Poisson: schedule so far */
	pthread_mutex_t lock; /* of all below, and of the run's free tickets */
	uint64_t submitted;
	bool over;
	struct mts_histogram late;
	struct mts_open_result *out;
};

/* When row i is due, in ns from the beginning. */
static uint64_t due_ns(struct open_loop *l, size_t i)
{
	const struct mts_replay_request *req = l->x->t->req;
	const struct mts_replay_options *o = l->x->o;

	if (!(o->rate > 0))
		return (uint64_t)((double)(req[i].t.time_ms - req[l->from].t.time_ms) * 1e6 /
				  o->speedup);
	/* Hints come with the request before them. */
	if (!mts_trace_hint_only(&req[i].t))
		l->gap_ns -= log(mts_random_uniform(&l->random)) * 1e9 / o->rate;
	return (uint64_t)l->gap_ns;
}

static void sleep_until(uint64_t ns)
{
	const struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static int take_ticket(struct open_loop *l)
{
	int ticket = -1;

	pthread_mutex_lock(&l->lock);
	if (l->x->free_tickets)
		ticket = (int)l->x->free_ticket[--l->x->free_tickets];
	pthread_mutex_unlock(&l->lock);
	return ticket;
}

/* No place for it in the queue: refused by the caller, in no time. */
static void turn_away(struct open_loop *l, int ticket, uint64_t due)
{
	uint64_t now = mts_now();

	pthread_mutex_lock(&l->lock);
	if (ticket >= 0)
		l->x->free_ticket[l->x->free_tickets++] = (unsigned)ticket;
	l->out->turned_away++;
	mts_histogram_add(&l->out->class[MTS_REFUSED], now > due ? now - due : 0);
	pthread_mutex_unlock(&l->lock);
}

static void send_request(struct open_loop *l, size_t i, uint64_t due)
{
	int ticket = take_ticket(l);
	struct mts_request req;
	bool sent = false;
	uint64_t now;

	if (ticket >= 0) {
		mts_run_fill(l->x, l->mode, i, (unsigned)ticket, &req);
		l->x->ticket[ticket].scheduled_ns = due;
		if (l->x->o->deadline_ms > 0)
			req.deadline_ns = due + (uint64_t)(l->x->o->deadline_ms * 1e6);
	}
	sleep_until(due);
	now = mts_now();
	pthread_mutex_lock(&l->lock);
	mts_histogram_add(&l->late, now - due);
	l->submitted++; /* before the reaper can see the reply */
	pthread_mutex_unlock(&l->lock);
	if (ticket >= 0)
		sent = mts_server_submit(l->x->server[l->mode], &req, 1) == 1;
	if (sent)
		return;
	turn_away(l, ticket, due);
	pthread_mutex_lock(&l->lock);
	l->submitted--;
	pthread_mutex_unlock(&l->lock);
}

static void *generate(void *arg)
{
	struct open_loop *l = arg;

	for (size_t i = l->from; i < l->to; i++) {
		const struct mts_trace_request *t = &l->x->t->req[i].t;
		uint64_t due = l->began + due_ns(l, i);

		if (t->hint == MTS_TRACE_HINT_OPEN || mts_trace_hint_only(t)) {
			sleep_until(due);
			mts_run_hint(l->x, l->mode, t);
		}
		if (mts_trace_hint_only(t))
			continue;
		send_request(l, i, due);
		if (t->hint == MTS_TRACE_HINT_END)
			mts_run_hint(l->x, l->mode, t);
	}
	pthread_mutex_lock(&l->lock);
	l->over = true;
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- reaping ---- */

static enum mts_class class_of(const struct mts_reply *r)
{
	if (r->result)
		return MTS_REFUSED;
	if (r->flags & MTS_REPLY_WINDOW_MOVED)
		return MTS_WINDOW_MOVE;
	if (r->host_tokens)
		return MTS_HOST_HIT;
	return r->device_tokens ? MTS_DEVICE_HIT : MTS_FIRST_VISIT;
}

static void account(struct open_loop *l, const struct mts_reply *r)
{
	const struct mts_ticket *k = &l->x->ticket[r->user_data];
	uint64_t latency = r->replied_ns - k->scheduled_ns;
	double deadline = l->x->o->deadline_ms * 1e6;

	mts_histogram_add(&l->out->class[class_of(r)], latency);
	if (r->result) {
		l->out->refused++;
		return;
	}
	mts_run_account(l->x, &l->x->out->mode[l->mode], r, latency);
	l->out->late += deadline > 0 && (double)latency > deadline;
	if (l->x->served[l->mode])
		l->x->served[l->mode][k->request] = true;
}

/* Until the generator is done and every request answered: 0, or the first real failure. */
static int reap_all(struct open_loop *l, struct mts_error *err)
{
	struct mts_reply r[64];
	uint64_t reaped = 0;
	bool all = false;
	int ret = 0, n;

	while (!all) {
		n = mts_server_reap(l->x->server[l->mode], r, 64, REAP_NS);
		pthread_mutex_lock(&l->lock);
		for (int i = 0; i < n; i++) {
			account(l, &r[i]);
			l->x->free_ticket[l->x->free_tickets++] = (unsigned)r[i].user_data;
			if (r[i].result && r[i].result != -EBUSY && r[i].result != -ETIME && !ret)
				ret = r[i].result;
		}
		reaped += (uint64_t)n;
		all = l->over && reaped == l->submitted;
		pthread_mutex_unlock(&l->lock);
	}
	if (ret)
		mts_error_set(err, "%s: a request failed: %s", mts_mode_names[l->mode],
			      strerror(-ret));
	return ret;
}

int mts_run_open(struct mts_run *x, enum mts_mode mode, size_t from, size_t to,
		 struct mts_error *err)
{
	struct mts_mode_result *m = &x->out->mode[mode];
	struct open_loop l = { .x = x, .mode = mode, .from = from, .to = to, .out = &m->open,
			       .random = mts_random_stream(1, 0, 0, 0) };
	struct mts_device_stats before, after;
	pthread_t generator;
	int ret;

	pthread_mutex_init(&l.lock, NULL);
	x->dev->ops->stats(x->dev, &before);
	l.began = mts_now();
	ret = -pthread_create(&generator, NULL, generate, &l);
	if (ret) {
		mts_error_set(err, "no thread to submit from: %s", strerror(-ret));
	} else {
		ret = reap_all(&l, err);
		pthread_join(generator, NULL);
	}
	m->ns = mts_now() - l.began;
	x->dev->ops->stats(x->dev, &after);
	m->compute_wait_ns = after.wait_ns - before.wait_ns;
	m->open.offered = l.late.count;
	m->open.late_ns_p99 = mts_histogram_quantile(&l.late, 0.99);
	pthread_mutex_destroy(&l.lock);
	return ret;
}
