/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace of a simulation (sim.h): a first reading for the footprint and the future, a second one
 * that tells both along with each request. Floor: cmd. One thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/sim.h"
#include "cmd/trace_users.h"
#include "error.h"

struct user {
	uint64_t id;
	uint64_t last;     /* 1 + number of the last request; first reading */
	uint64_t start;    /* second reading: what is encoded, */
	uint32_t encoded;  /* and how many tokens of it */
	uint32_t slot;
	uint32_t window;   /* largest so far; first reading */
	bool seen;         /* second reading */
	UT_hash_handle hh;
};

struct mts_sim_users {
	struct user *head;
};

/* ---- the next use of every request, in a file so that it need not fit in memory ---- */

struct mts_sim_next {
	FILE *file;
	uint64_t *at;
	uint64_t room;
};

static int next_room(struct mts_sim_next *x, uint64_t n)
{
	uint64_t room = x->room ? 2 * x->room : 1u << 16;
	void *p;

	if (n <= x->room)
		return 0;
	if (x->at)
		munmap(x->at, x->room * sizeof(*x->at));
	x->at = NULL;
	if (ftruncate(fileno(x->file), (off_t)(room * sizeof(*x->at))))
		return -errno;
	p = mmap(NULL, room * sizeof(*x->at), PROT_READ | PROT_WRITE, MAP_SHARED, fileno(x->file), 0);
	if (p == MAP_FAILED)
		return -errno;
	x->at = p;
	x->room = room;
	return 0;
}

static int next_open(struct mts_sim_next **out)
{
	struct mts_sim_next *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	*out = x;
	x->file = tmpfile();
	return x->file ? 0 : -errno;
}

static void next_close(struct mts_sim_next *x)
{
	if (!x)
		return;
	if (x->at)
		munmap(x->at, x->room * sizeof(*x->at));
	if (x->file)
		fclose(x->file);
	free(x);
}

/* ---- first reading ---- */

static uint64_t window_start(const struct mts_sim_options *o, uint64_t n)
{
	if (!o->max_history || n <= o->max_history)
		return 0;
	return (n - o->max_history + o->slide - 1) / o->slide * o->slide;
}

static int learn(const struct mts_sim_options *o, struct mts_sim_trace *t,
		 const struct mts_trace_request *r)
{
	uint64_t window = r->history - window_start(o, r->history);
	struct user *u = mts_users_get(t->known->head, r->user, struct user);
	int ret = u ? next_room(t->next, t->requests + 1) : -ENOMEM;

	if (ret)
		return ret;
	if (!u->last)
		u->slot = (uint32_t)t->users++;
	else
		t->next->at[u->last - 1] = t->requests;
	t->next->at[t->requests++] = MTS_SIM_NEVER;
	u->last = t->requests;
	if (window > u->window) {
		t->footprint_tokens += window - u->window;
		u->window = (uint32_t)window;
	}
	return 0;
}

static int learn_all(const struct mts_sim_options *o, struct mts_sim_trace *t, struct mts_error *err)
{
	struct mts_trace_request r;
	struct mts_trace *file;
	int ret = mts_trace_open(o->trace, &file, err);

	if (ret)
		return ret;
	while ((ret = mts_trace_next(file, &r, err)) > 0) {
		if (mts_trace_hint_only(&r))
			continue;
		ret = learn(o, t, &r);
		if (ret) {
			mts_error_set(err, "%s: request %llu: %s", o->trace,
				      (unsigned long long)t->requests, strerror(-ret));
			break;
		}
	}
	mts_trace_close(file);
	if (!ret && !t->requests) {
		mts_error_set(err, "%s: no requests in it", o->trace);
		return -EINVAL;
	}
	return ret;
}

int mts_sim_open(const struct mts_sim_options *o, struct mts_sim_trace *out, struct mts_error *err)
{
	int ret;

	*out = (struct mts_sim_trace){ .known = calloc(1, sizeof(*out->known)) };
	ret = out->known ? next_open(&out->next) : -ENOMEM;
	if (ret)
		mts_error_set(err, "a temporary file: %s", strerror(-ret));
	if (!ret)
		ret = learn_all(o, out, err);
	if (!ret)
		ret = mts_trace_open(o->trace, &out->file, err);
	if (ret)
		mts_sim_close(out);
	return ret;
}

void mts_sim_close(struct mts_sim_trace *t)
{
	struct user *u, *next;

	if (t->known)
		HASH_ITER(hh, t->known->head, u, next) {
			HASH_DEL(t->known->head, u);
			free(u);
		}
	free(t->known);
	next_close(t->next);
	mts_trace_close(t->file);
	*t = (struct mts_sim_trace){ 0 };
}

/* ---- second reading ---- */

/*
 * Content is what was encoded since the window last moved. A history that fell keeps its whole pages;
 * if it ends with one, also what was behind it (the cache's rules, see mts_user_match).
 */
static void describe(const struct mts_sim_options *o, struct user *u, struct mts_sim_request *q)
{
	q->start = window_start(o, q->n);
	q->visible = (uint32_t)(q->n - q->start);
	q->first = !u->seen;
	if (!u->seen || u->start != q->start)
		u->encoded = 0;
	q->valid = u->encoded <= q->visible ? u->encoded :
					      q->visible / o->page_tokens * o->page_tokens;
	if (q->visible > u->encoded || q->valid < q->visible)
		u->encoded = q->visible;
	q->content = u->encoded;
	u->start = q->start;
	u->seen = true;
}

static int read_one(const struct mts_sim_options *o, struct mts_sim_trace *t,
		    struct mts_sim_request *q, struct mts_error *err)
{
	struct mts_trace_request r;
	struct user *u;
	int ret = mts_trace_next(t->file, &r, err);

	if (ret <= 0)
		return ret;
	*q = (struct mts_sim_request){
		.time_ms = r.time_ms,
		.user = r.user,
		.n = r.history,
		.hint = r.hint,
		.hint_only = mts_trace_hint_only(&r),
	};
	if (q->hint_only)
		return 1;
	HASH_FIND(hh, t->known->head, &r.user, sizeof(r.user), u);
	if (!u || t->at >= t->requests) {
		mts_error_set(err, "%s: changed while it was read", o->trace);
		return -EINVAL;
	}
	describe(o, u, q);
	q->slot = u->slot;
	q->next = t->next->at[t->at++];
	return 1;
}

int mts_sim_read(const struct mts_sim_options *o, struct mts_sim_trace *t,
		 struct mts_sim_request *out, unsigned max, struct mts_error *err)
{
	unsigned n;
	int ret;

	for (n = 0; n < max; n++) {
		ret = read_one(o, t, &out[n], err);
		if (ret < 0)
			return ret;
		if (!ret)
			break;
	}
	return (int)n;
}
