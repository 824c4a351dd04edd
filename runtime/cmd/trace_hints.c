/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds session ends to a trace that lacks them (trace.h). Top floor, under the commands; one thread.
 *
 * A request is known to be a session's last only when its user's next one is, so the file is read
 * twice: first every request that ends a session gets a bit, then rows and hints are merged. Hints
 * are due in the order of their requests, so a queue is enough.
 */
#include "cmd/trace.h"
#include "cmd/trace_random.h"
#include "cmd/trace_users.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

/* Streams of trace_random.h that the generator does not use. */
#define PURPOSE_HINT 0x68696e74

struct user {
	uint64_t id;
	uint64_t last, last_ms; /* number and time of the last request */
	UT_hash_handle hh;
};

struct due {
	uint64_t time_ms, user;
	STAILQ_ENTRY(due) next;
};

struct hints_run {
	const struct mts_hints_options *o;
	struct mts_hints_result *out;
	struct user *users;
	uint8_t *ends; /* bit per request */
	uint64_t room; /* bits */
	STAILQ_HEAD(, due) queue;
};

static int ends_room(struct hints_run *h, uint64_t n)
{
	uint64_t room = h->room ? 2 * h->room : 1u << 16;
	uint8_t *p;

	if (n <= h->room)
		return 0;
	p = reallocarray(h->ends, room / 8, 1);
	if (!p)
		return -ENOMEM;
	for (uint64_t i = h->room / 8; i < room / 8; i++)
		p[i] = 0;
	h->ends = p;
	h->room = room;
	return 0;
}

static void set_end(struct hints_run *h, uint64_t request)
{
	h->ends[request / 8] |= (uint8_t)(1u << request % 8);
	h->out->sessions++;
}

static int learn(struct hints_run *h, const struct mts_trace_request *r, struct mts_error *err)
{
	struct user *u = mts_users_get(h->users, r->user, struct user);

	if (!u || ends_room(h, h->out->requests + 1)) {
		mts_error_set(err, "out of memory for %llu requests",
			      (unsigned long long)h->out->requests);
		return -ENOMEM;
	}
	if (u->last && r->time_ms - u->last_ms > h->o->session_gap_ms)
		set_end(h, u->last - 1);
	u->last = ++h->out->requests;
	u->last_ms = r->time_ms;
	return 0;
}

static int learn_all(struct hints_run *h, const char *path, struct mts_error *err)
{
	struct mts_trace_request r;
	struct mts_trace *t;
	int ret = mts_trace_open(path, &t, err);

	if (ret)
		return ret;
	while ((ret = mts_trace_next(t, &r, err)) > 0) {
		if (!mts_trace_hint_only(&r))
			ret = learn(h, &r, err);
		if (ret < 0)
			break;
	}
	mts_trace_close(t);
	for (struct user *u = h->users; u && !ret; u = u->hh.next)
		set_end(h, u->last - 1);
	return ret;
}

static void put_due(struct hints_run *h, struct mts_trace_writer *w, uint64_t until_ms)
{
	struct due *d;

	while ((d = STAILQ_FIRST(&h->queue)) && d->time_ms < until_ms) {
		STAILQ_REMOVE_HEAD(&h->queue, next);
		mts_trace_put(w, &(struct mts_trace_request){ .time_ms = d->time_ms, .user = d->user,
							      .hint = MTS_TRACE_HINT_END });
		h->out->hints++;
		free(d);
	}
}

static int add_due(struct hints_run *h, const struct mts_trace_request *r, uint64_t request)
{
	struct mts_random rng = mts_random_stream(h->o->seed, r->user, PURPOSE_HINT, request);
	struct due *d;

	if (mts_random_uniform(&rng) >= h->o->reliability)
		return 0;
	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	*d = (struct due){ .time_ms = r->time_ms + h->o->after_ms, .user = r->user };
	STAILQ_INSERT_TAIL(&h->queue, d, next);
	return 0;
}

static int merge(struct hints_run *h, struct mts_trace *t, struct mts_trace_writer *w,
		 struct mts_error *err)
{
	struct mts_trace_request r;
	uint64_t n = 0;
	int ret;

	while ((ret = mts_trace_next(t, &r, err)) > 0) {
		put_due(h, w, r.time_ms);
		mts_trace_put(w, &r);
		if (mts_trace_hint_only(&r))
			continue;
		if (n == h->out->requests) {
			mts_error_set(err, "the trace changed while it was read");
			return -EINVAL;
		}
		if (h->ends[n / 8] >> n % 8 & 1 && add_due(h, &r, n)) {
			mts_error_set(err, "out of memory for hints");
			return -ENOMEM;
		}
		n++;
	}
	put_due(h, w, UINT64_MAX);
	return ret;
}

static int write_all(struct hints_run *h, const char *path, const char *output,
		     struct mts_error *err)
{
	struct mts_trace_writer *w;
	struct mts_trace *t;
	int ret = mts_trace_open(path, &t, err);

	if (ret)
		return ret;
	ret = mts_trace_create(output, MTS_TRACE_HINTED, &w, err);
	if (!ret) {
		ret = merge(h, t, w, err);
		if (ret)
			mts_trace_discard(w);
		else
			ret = mts_trace_commit(w, err);
	}
	mts_trace_close(t);
	return ret;
}

static void release(struct hints_run *h)
{
	struct user *u, *next;
	struct due *d;

	HASH_ITER(hh, h->users, u, next) {
		HASH_DEL(h->users, u);
		free(u);
	}
	while ((d = STAILQ_FIRST(&h->queue))) {
		STAILQ_REMOVE_HEAD(&h->queue, next);
		free(d);
	}
	free(h->ends);
}

int mts_trace_hints(const struct mts_hints_options *options, const char *path, const char *output,
		    struct mts_hints_result *result, struct mts_error *err)
{
	struct hints_run h = { .o = options, .out = result };
	int ret;

	if (!(options->reliability >= 0 && options->reliability <= 1) ||
	    options->after_ms > options->session_gap_ms) {
		mts_error_set(err, "hints: expected a reliability from 0 to 1, and the end told no "
			      "later than the silence that makes it one");
		return -EINVAL;
	}
	*result = (struct mts_hints_result){ 0 };
	STAILQ_INIT(&h.queue);
	ret = learn_all(&h, path, err);
	if (!ret)
		ret = write_all(&h, path, output, err);
	release(&h);
	return ret;
}
