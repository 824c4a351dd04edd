/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a request trace into memory and rebuilds histories from it. Floor: cmd. One thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/replay.h"
#include "error.h"

struct seen_user {
	UT_hash_handle hh;
	uint64_t user;
	uint32_t slot, requests;
	uint32_t window; /* pages, the largest so far */
	uint64_t log_first;
};

struct loader {
	const struct mts_replay_options *o;
	const struct mts_model_config *c;
	struct mts_replay_trace *t;
	struct seen_user *users;
	size_t room;
};

/* An event file goes on where the life stood at the user's first request. */
static struct seen_user *see(struct loader *l, uint64_t user, uint64_t history)
{
	struct seen_user *u;

	HASH_FIND(hh, l->users, &user, sizeof(user), u);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->user = user;
	u->log_first = history;
	u->slot = l->t->users++;
	HASH_ADD(hh, l->users, user, sizeof(user), u);
	return u;
}

static int append(struct loader *l, const struct mts_trace_request *r)
{
	struct mts_replay_trace *t = l->t;
	uint32_t T = l->o->page_tokens, pages;
	struct seen_user *u;
	void *p;

	if (t->n == l->room) {
		l->room = l->room ? 2 * l->room : 4096;
		p = realloc(t->req, l->room * sizeof(*t->req));
		if (!p)
			return -ENOMEM;
		t->req = p;
	}
	u = see(l, r->user, r->history);
	if (!u)
		return -ENOMEM;
	pages = (r->history - mts_window_start(l->c, r->history) + T - 1) / T;
	if (pages > u->window) {
		t->footprint_pages += pages - u->window;
		u->window = pages;
	}
	if (pages > t->largest_window)
		t->largest_window = pages;
	if (r->candidates > t->max_candidates)
		t->max_candidates = r->candidates;
	t->req[t->n++] = (struct mts_replay_request){
		.t = *r,
		.nth = mts_trace_hint_only(r) ? u->requests : u->requests++,
		.slot = u->slot,
		.log_first = u->log_first,
	};
	return 0;
}

static void free_users(struct loader *l)
{
	struct seen_user *u, *next;

	HASH_ITER(hh, l->users, u, next) {
		HASH_DEL(l->users, u);
		free(u);
	}
}

static int read_all(struct loader *l, struct mts_trace *trace, struct mts_error *err)
{
	struct mts_trace_request r;
	int ret;

	while ((ret = mts_trace_next(trace, &r, err)) > 0) {
		if (l->o->requests && l->t->n >= l->o->requests)
			return 0;
		ret = append(l, &r);
		if (ret) {
			mts_error_set(err, "%s: no memory for request %zu", l->o->trace, l->t->n);
			return ret;
		}
	}
	if (!ret && !l->t->n) {
		mts_error_set(err, "%s: no requests in it", l->o->trace);
		return -EINVAL;
	}
	return ret;
}

int mts_replay_load(const struct mts_replay_options *o, const struct mts_model_config *c,
		    struct mts_replay_trace *out, struct mts_error *err)
{
	struct loader l = { .o = o, .c = c, .t = out };
	struct mts_trace *trace;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = mts_trace_open(o->trace, &trace, err);
	if (ret)
		return ret;
	ret = read_all(&l, trace, err);
	mts_trace_close(trace);
	free_users(&l);
	if (!ret && o->events)
		ret = mts_events_load(o->events, &out->events, err);
	if (ret)
		mts_replay_unload(out);
	return ret;
}

void mts_replay_unload(struct mts_replay_trace *t)
{
	free(t->req);
	mts_events_free(t->events);
	memset(t, 0, sizeof(*t));
}

uint32_t mts_replay_window(const struct mts_replay_trace *t, const struct mts_replay_request *r,
			   const struct mts_model_config *c, struct mts_event *events,
			   uint64_t *start)
{
	const struct mts_trace_item *log = NULL;
	uint64_t n = r->t.history, logged = 0, i;

	*start = mts_window_start(c, n);
	if (t->events)
		log = mts_events_of(t->events, r->t.user, &logged);
	for (i = *start; i < n; i++) {
		struct mts_event *e = &events[i - *start];

		if (i >= r->log_first && i - r->log_first < logged)
			mts_trace_map(&log[i - r->log_first], c->items, c->actions, &e->item, &e->action);
		else
			mts_trace_event(r->t.user, i, c->items, c->actions, &e->item, &e->action);
	}
	return (uint32_t)(n - *start);
}
