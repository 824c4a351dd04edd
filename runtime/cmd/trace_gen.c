/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generator of request traces (trace.h), calibrated on KuaiRand-1K's published statistics.
 *
 * Every user is a stream of rows that ascends in time: days -> sessions (those that begin inside
 * the one before are left out) -> requests, drawn as they are needed (trace_person.h). A heap of
 * users, ordered by the time of the row each holds, merges the streams. A user's state is a few
 * hundred bytes, whatever the length of the trace.
 *
 * Top floor, under the commands; one thread per generator.
 */
#include "cmd/trace.h"
#include "cmd/trace_person.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* How long before a session's first request the opening of the app is known; assumed. */
#define OPEN_LEAD_MS 1000

enum phase { BETWEEN, STARTING, RUNNING, ENDING };

struct user {
	struct mts_person person;
	uint64_t history;

	int64_t day;	/* drawn last */
	int64_t *starts;
	uint32_t n_starts, next_start, room;

	enum phase phase;
	struct mts_random random; /* of the session */
	uint32_t left;		  /* short video: events; shop: requests */
	int64_t now;		  /* the session's next event, at its end the last */
	int64_t free_at;	  /* end of the session before */

	struct mts_trace_request row;
	int64_t row_time; /* below 0 where it lies before the clock's origin */
};

struct mts_gen {
	struct mts_gen_options o;
	int64_t begin, end; /* window in ms */
	uint64_t n_heap;
	struct user **heap;
	struct user *users;
};

/* --- One user's rows --- */

/* Finds the next session that does not begin inside the one before: 1, 0 none, -errno. */
static int next_session(const struct mts_gen *g, struct user *u)
{
	for (;;) {
		int n;

		while (u->next_start < u->n_starts) {
			uint32_t k = u->next_start++;

			if (u->starts[k] < u->free_at)
				continue;
			u->random = mts_person_session(&u->person, u->day, k, &u->left);
			u->now = u->starts[k];
			return 1;
		}
		if (++u->day * MTS_DAY_MS >= g->end)
			return 0;
		n = mts_person_day(&u->person, u->day, &u->starts, &u->room);
		if (n < 0)
			return n;
		u->n_starts = (uint32_t)n;
		u->next_start = 0;
	}
}

static void set_row(struct user *u, int64_t time, uint32_t candidates, enum mts_trace_hint hint)
{
	u->row_time = time;
	u->row = (struct mts_trace_request){ .user = u->person.id, .history = u->history,
					     .candidates = candidates, .hint = hint };
}

/* The events that follow a request; those before the window are part of the earlier history. */
static void watch_items(const struct mts_gen *g, struct user *u)
{
	for (uint32_t i = 0; i < g->o.request_every && u->left; i++) {
		if (u->now >= g->begin)
			u->history++;
		if (--u->left)
			u->now += mts_person_gap(&u->person, &u->random);
	}
}

static void view_page(const struct mts_gen *g, struct user *u)
{
	uint32_t events = mts_person_shop_events(&u->random);

	if (u->now >= g->begin)
		u->history += events;
	if (--u->left)
		u->now += mts_person_gap(&u->person, &u->random);
}

static void make_request(const struct mts_gen *g, struct user *u)
{
	set_row(u, u->now, g->o.candidates, MTS_TRACE_HINT_NONE);
	if (g->o.profile == MTS_GEN_SHOP)
		view_page(g, u);
	else
		watch_items(g, u);
	u->phase = u->left ? RUNNING : ENDING;
}

/* Moves from phase to phase until there is a row: 1, 0 after the last, -errno. */
static int step(const struct mts_gen *g, struct user *u)
{
	int64_t lead;
	int ret;

	if (u->phase == ENDING) {
		u->free_at = u->now;
		u->phase = BETWEEN;
		if (g->o.hints) {
			set_row(u, u->now, 0, MTS_TRACE_HINT_END);
			return 1;
		}
	}
	if (u->phase == BETWEEN) {
		ret = next_session(g, u);
		if (ret <= 0)
			return ret;
		u->phase = STARTING;
		if (g->o.hints) {
			lead = u->now - OPEN_LEAD_MS;
			set_row(u, lead > u->free_at ? lead : u->free_at, 0, MTS_TRACE_HINT_OPEN);
			return 1;
		}
	}
	make_request(g, u);
	return 1;
}

/* The user's next row inside the window: 1, 0 none, -errno. */
static int advance(const struct mts_gen *g, struct user *u)
{
	int ret;

	do {
		ret = step(g, u);
		if (ret <= 0)
			return ret;
	} while (u->row_time < g->begin);
	u->row.time_ms = (uint64_t)u->row_time;
	return u->row_time < g->end;
}

/* --- All users' rows --- */

static bool before(const struct user *a, const struct user *b)
{
	if (a->row_time != b->row_time)
		return a->row_time < b->row_time;
	return a->person.id < b->person.id;
}

static void sift_down(struct user **heap, uint64_t n, uint64_t i)
{
	struct user *moving = heap[i];

	for (;;) {
		uint64_t child = 2 * i + 1;

		if (child + 1 < n && before(heap[child + 1], heap[child]))
			child++;
		if (child >= n || !before(heap[child], moving))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

static int check_options(const struct mts_gen_options *o, struct mts_error *err)
{
	if (o->profile != MTS_GEN_SHORTVIDEO && o->profile != MTS_GEN_SHOP)
		mts_error_set(err, "unknown profile %d", (int)o->profile);
	else if (o->users < 1 || o->users > 100000000)
		mts_error_set(err, "users is %llu, expected 1 to 100000000",
			      (unsigned long long)o->users);
	else if (!(o->days > 0 && o->days <= 36500))
		mts_error_set(err, "days is %g, expected above 0 and at most 36500", o->days);
	else if (!(o->start_hour >= 0 && o->start_hour < 168))
		mts_error_set(err, "start hour is %g, expected from 0 to below 168", o->start_hour);
	else if (o->request_every < 1 || o->request_every > 1000000)
		mts_error_set(err, "a request every %u events, expected 1 to 1000000",
			      o->request_every);
	else if (o->candidates > MTS_TRACE_CANDIDATES_MAX)
		mts_error_set(err, "candidates is %u, expected at most %u", o->candidates,
			      MTS_TRACE_CANDIDATES_MAX);
	else
		return 0;
	return -EINVAL;
}

static int start_user(const struct mts_gen *g, struct user *u, uint64_t id)
{
	mts_person_draw(&u->person, g->o.profile, g->o.seed, id);
	u->history = g->o.no_earlier ? 0 : u->person.earlier;
	/* From the day before, so that the window opens on sessions already running. */
	u->day = g->begin / MTS_DAY_MS - 2;
	u->free_at = INT64_MIN;
	return advance(g, u);
}

static int fill_heap(struct mts_gen *g)
{
	for (uint64_t i = 0; i < g->o.users; i++) {
		int ret = start_user(g, &g->users[i], i + 1);

		if (ret < 0)
			return ret;
		if (ret)
			g->heap[g->n_heap++] = &g->users[i];
	}
	for (uint64_t i = g->n_heap / 2; i-- > 0;)
		sift_down(g->heap, g->n_heap, i);
	return 0;
}

int mts_gen_open(const struct mts_gen_options *options, struct mts_gen **out,
		 struct mts_error *err)
{
	int ret = check_options(options, err);
	struct mts_gen *g;

	if (ret)
		return ret;
	g = calloc(1, sizeof(*g));
	if (!g)
		goto nomem;
	g->o = *options;
	g->begin = llround(options->start_hour * MTS_HOUR_MS);
	g->end = g->begin + llround(options->days * (double)MTS_DAY_MS);
	g->users = calloc(options->users, sizeof(*g->users));
	g->heap = calloc(options->users, sizeof(struct user *));
	if (!g->users || !g->heap || fill_heap(g))
		goto nomem;
	*out = g;
	return 0;
nomem:
	mts_gen_close(g);
	mts_error_set(err, "out of memory for %llu users", (unsigned long long)options->users);
	return -ENOMEM;
}

int mts_gen_next(struct mts_gen *g, struct mts_trace_request *out, struct mts_error *err)
{
	int ret;

	if (!g->n_heap)
		return 0;
	*out = g->heap[0]->row;
	ret = advance(g, g->heap[0]);
	if (ret < 0) {
		mts_error_set(err, "out of memory for %llu users", (unsigned long long)g->o.users);
		return ret;
	}
	if (!ret)
		g->heap[0] = g->heap[--g->n_heap];
	if (g->n_heap)
		sift_down(g->heap, g->n_heap, 0);
	return 1;
}

void mts_gen_close(struct mts_gen *g)
{
	if (!g)
		return;
	for (uint64_t i = 0; g->users && i < g->o.users; i++)
		free(g->users[i].starts);
	free(g->users);
	free(g->heap);
	free(g);
}
