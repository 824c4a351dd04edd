/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describes a request trace in one pass (trace.h). Top floor, under the commands; one thread.
 *
 * How many sessions are open is known only when a silence has lasted session_gap, yet must be
 * counted over time without keeping the trace. Users stand in a queue by their last request; the
 * head is closed once it has been silent for long enough, so ends come out in ascending order.
 * Begins wait in a second queue, in ascending order too, until no end before them is outstanding.
 * Merging the two gives the number of open sessions over time, exactly.
 */
#include "cmd/trace.h"
#include "cmd/trace_users.h"
#include "engine/histogram.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#define MINUTE 60000ULL

struct user {
	uint64_t id;
	uint64_t last_ms, session_end_ms;
	uint64_t first_history, history, start, window;
	bool open;	/* a session, by what is known so far */
	bool returned;	/* has had an earlier session */
	TAILQ_ENTRY(user) by_last;
	UT_hash_handle hh;
};

struct begin {
	uint64_t time_ms;
	STAILQ_ENTRY(begin) next;
};

struct stat_run {
	struct mts_stat_options o;
	struct mts_trace_stat *out;
	struct user *users;
	TAILQ_HEAD(user_queue, user) open_users; /* by last request, oldest first */
	STAILQ_HEAD(begin_queue, begin) begins; /* not yet merged */
	uint64_t open, open_since_ms;  /* sessions open, since when */
	uint64_t back_5min, back_1h, session_back_1h, session_back_1d;
	struct mts_histogram history, new_events, interval, sessions_open;
};

static void count_open(struct stat_run *s, uint64_t time_ms, int change)
{
	mts_histogram_add_many(&s->sessions_open, s->open, time_ms - s->open_since_ms);
	s->open_since_ms = time_ms;
	s->open = change > 0 ? s->open + 1 : s->open - 1;
}

static void merge_begins(struct stat_run *s, uint64_t until_ms)
{
	struct begin *b;

	while ((b = STAILQ_FIRST(&s->begins)) && b->time_ms <= until_ms) {
		STAILQ_REMOVE_HEAD(&s->begins, next);
		count_open(s, b->time_ms, 1);
		free(b);
	}
}

/* Ends the sessions whose last request lies before silent_since_ms. */
static void close_sessions(struct stat_run *s, uint64_t silent_since_ms)
{
	struct user *u;

	while ((u = TAILQ_FIRST(&s->open_users)) && u->last_ms < silent_since_ms) {
		TAILQ_REMOVE(&s->open_users, u, by_last);
		merge_begins(s, u->last_ms);
		count_open(s, u->last_ms, -1);
		u->open = false;
		u->returned = true;
		u->session_end_ms = u->last_ms;
	}
}

static int open_session(struct stat_run *s, struct user *u, uint64_t time_ms)
{
	struct begin *b = malloc(sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->time_ms = time_ms;
	STAILQ_INSERT_TAIL(&s->begins, b, next);
	if (u->returned) {
		s->session_back_1h += time_ms - u->session_end_ms <= 60 * MINUTE;
		s->session_back_1d += time_ms - u->session_end_ms <= 1440 * MINUTE;
	}
	u->open = true;
	s->out->sessions++;
	return 0;
}

static uint64_t window_start(const struct mts_stat_options *o, uint64_t n)
{
	if (!o->max_history || n <= o->max_history)
		return 0;
	return (n - o->max_history + o->slide - 1) / o->slide * o->slide;
}

static void count_window(struct stat_run *s, struct user *u, const struct mts_trace_request *r,
			 bool first)
{
	uint64_t start = window_start(&s->o, r->history);
	uint64_t window = r->history - start;

	s->out->past_cap += s->o.max_history && r->history > s->o.max_history;
	s->out->window_moves += !first && start != u->start;
	if (window > u->window) {
		s->out->footprint_tokens += window - u->window;
		u->window = window;
	}
	u->start = start;
	u->history = r->history;
	if (first)
		u->first_history = r->history;
}

static void count_return(struct stat_run *s, const struct user *u, uint64_t time_ms)
{
	uint64_t interval = time_ms - u->last_ms;

	mts_histogram_add(&s->interval, interval);
	s->back_5min += interval <= 5 * MINUTE;
	s->back_1h += interval <= 60 * MINUTE;
}

static int count_request(struct stat_run *s, const struct mts_trace_request *r)
{
	bool first;
	struct user *u;

	if (r->time_ms > s->o.session_gap_ms)
		close_sessions(s, r->time_ms - s->o.session_gap_ms);
	u = mts_users_get(s->users, r->user, struct user);
	if (!u)
		return -ENOMEM;
	first = !u->open && !u->returned;
	if (first)
		s->out->users++;
	else
		count_return(s, u, r->time_ms);
	if (u->open)
		TAILQ_REMOVE(&s->open_users, u, by_last);
	else if (open_session(s, u, r->time_ms))
		return -ENOMEM;
	count_window(s, u, r, first);
	u->last_ms = r->time_ms;
	TAILQ_INSERT_TAIL(&s->open_users, u, by_last);
	mts_histogram_add(&s->history, r->history);
	if (!s->out->requests++)
		s->out->first_ms = s->open_since_ms = r->time_ms;
	s->out->last_ms = r->time_ms;
	return 0;
}

static int count_all(struct stat_run *s, struct mts_trace *t, struct mts_error *err)
{
	struct mts_trace_request r;
	int ret;

	while ((ret = mts_trace_next(t, &r, err)) > 0) {
		if (mts_trace_hint_only(&r)) {
			s->out->hints++;
			continue;
		}
		s->out->hints += r.hint != MTS_TRACE_HINT_NONE;
		if (count_request(s, &r)) {
			mts_error_set(err, "out of memory for %llu users",
				      (unsigned long long)s->out->users);
			return -ENOMEM;
		}
	}
	return ret;
}

static double mean(const struct mts_histogram *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0;
}

static struct mts_stat_spread spread(const struct mts_histogram *h)
{
	return (struct mts_stat_spread){
		.mean = mean(h),
		.p10 = mts_histogram_quantile(h, 0.1),
		.p50 = mts_histogram_quantile(h, 0.5),
		.p90 = mts_histogram_quantile(h, 0.9),
		.p99 = mts_histogram_quantile(h, 0.99),
		.max = h->max,
	};
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static void sum_up(struct stat_run *s)
{
	struct mts_trace_stat *out = s->out;

	close_sessions(s, UINT64_MAX);
	for (const struct user *u = s->users; u; u = u->hh.next)
		mts_histogram_add(&s->new_events, u->history > u->first_history ?
							  u->history - u->first_history : 0);
	out->history = spread(&s->history);
	out->new_events = spread(&s->new_events);
	out->interval_ms = spread(&s->interval);
	out->again_5min = share(s->back_5min, out->requests);
	out->again_1h = share(s->back_1h, out->requests);
	out->open_mean = mean(&s->sessions_open);
	out->open_p99 = mts_histogram_quantile(&s->sessions_open, 0.99);
	out->back_1h = share(s->session_back_1h, out->sessions);
	out->back_1d = share(s->session_back_1d, out->sessions);
}

static void release(struct stat_run *s)
{
	struct user *u, *next;
	struct begin *b;

	while ((b = STAILQ_FIRST(&s->begins))) {
		STAILQ_REMOVE_HEAD(&s->begins, next);
		free(b);
	}
	HASH_ITER(hh, s->users, u, next) {
		HASH_DEL(s->users, u);
		free(u);
	}
	free(s);
}

static int check_options(const struct mts_stat_options *o, struct mts_error *err)
{
	if (o->max_history && (!o->slide || o->max_history % o->slide)) {
		mts_error_set(err, "slide is %llu, expected a divisor of the max history %llu",
			      (unsigned long long)o->slide, (unsigned long long)o->max_history);
		return -EINVAL;
	}
	return 0;
}

int mts_trace_stat(const char *path, const struct mts_stat_options *options,
		   struct mts_trace_stat *out, struct mts_error *err)
{
	struct stat_run *s;
	struct mts_trace *t;
	int ret = check_options(options, err);

	if (ret)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s) {
		mts_error_set(err, "out of memory");
		return -ENOMEM;
	}
	*out = (struct mts_trace_stat){ 0 };
	s->o = *options;
	s->out = out;
	TAILQ_INIT(&s->open_users);
	STAILQ_INIT(&s->begins);
	ret = mts_trace_open(path, &t, err);
	if (!ret) {
		ret = count_all(s, t, err);
		mts_trace_close(t);
	}
	if (!ret)
		sum_up(s);
	release(s);
	return ret;
}
