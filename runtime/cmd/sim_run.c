/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes of a simulation (sim.h), served side by side from one reading. Floor: cmd. One thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/sim.h"
#include "error.h"

/* Rows read before each lane serves them in turn: a lane's own data stays in the core's cache. */
#define ROWS 4096

/* Processor time: what else the machine does is no matter. */
static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- sizes ---- */

static uint64_t bytes_of(struct mts_amount a, uint64_t footprint)
{
	return a.share > 0 ? (uint64_t)(a.share * (double)footprint) : a.bytes;
}

static uint64_t *all_bytes(const struct mts_amount *a, unsigned n, uint64_t footprint)
{
	uint64_t *out = calloc(n + 1, sizeof(*out));

	for (unsigned i = 0; out && i < n; i++)
		out[i] = bytes_of(a[i], footprint);
	return out;
}

static int open_tier(const struct mts_sim_options *o, const struct mts_sim_result *r,
		     struct mts_sim_lane *l, struct mts_error *err)
{
	uint64_t page = o->bytes_per_token * o->page_tokens;
	struct mts_lengths_config cfg = {
		.page_tokens = o->page_tokens,
		.max_history = (uint32_t)o->max_history,
		.slide = (uint32_t)o->slide,
		.device_pages = l->pages,
		.host_pages = r->host_bytes[l->host] / page,
		.endless_host = !o->hosts,
		.piece_pages = page < MTS_ARENA_PIECE ? MTS_ARENA_PIECE / page : 1,
	};

	return mts_tier_open_lengths(&cfg, mts_policy_find(o->policy[l->policy]), &l->tier, err);
}

static int open_lane(const struct mts_sim_options *o, const struct mts_sim_trace *t,
		     const struct mts_sim_result *r, struct mts_sim_lane *l, struct mts_error *err)
{
	l->pages = r->device_bytes[l->device] / (o->bytes_per_token * o->page_tokens);
	if (!l->pages) {
		mts_error_set(err, "device memory of %llu bytes: expected at least one page of %llu",
			      (unsigned long long)r->device_bytes[l->device],
			      (unsigned long long)(o->bytes_per_token * o->page_tokens));
		return -EINVAL;
	}
	if (!strcmp(o->policy[l->policy], "belady"))
		return mts_belady_open(l->pages, o->page_tokens, t->users, &l->belady);
	return open_tier(o, r, l, err);
}

/* ---- serving ---- */

static void count(struct mts_sim_miss *m, uint32_t tokens, uint32_t missed, bool request)
{
	m->requests++;
	m->tokens += tokens;
	m->missed_requests += request;
	m->missed_tokens += missed;
}

/* hit: tokens that were on the device. New events always miss, and are no fault of a cache. */
static void tally(struct mts_sim_lane *l, const struct mts_sim_request *q, uint32_t hit)
{
	count(&l->all, q->visible, q->visible - hit, !q->valid || hit < q->valid);
	if (q->valid)
		count(&l->warm, q->valid, q->valid - hit, hit < q->valid);
}

static int serve_tier(struct mts_sim_lane *l, const struct mts_sim_request *q)
{
	static const struct mts_event none;
	const struct mts_history h = { q->user, q->n, q->start, &none, q->visible, 0 };
	struct mts_lease *lease;
	uint32_t hit;
	int ret = mts_tier_reserve(l->tier, &h, &lease);

	if (ret == -ENOSPC) {
		l->too_large++;
		tally(l, q, 0);
		return 0;
	}
	if (ret)
		return ret;
	hit = mts_lease_match(lease)->device_tokens;
	/* After a window too large for it a tier may still hold one that moved and moved back. */
	tally(l, q, hit < q->valid ? hit : q->valid);
	ret = mts_tier_onload(l->tier, lease, 0);
	if (!ret)
		ret = mts_tier_commit(l->tier, lease, q->visible);
	mts_tier_release(l->tier, lease);
	return ret;
}

static int serve_with_hints(struct mts_sim_lane *l, const struct mts_sim_request *q)
{
	int ret = 0;

	mts_tier_tell_time(l->tier, q->time_ms * 1000000u);
	/* A prefetch that finds no room is a hint lost, as in the server. */
	if (q->hint == MTS_TRACE_HINT_OPEN)
		(void)mts_tier_prefetch(l->tier, q->user);
	if (!q->hint_only)
		ret = serve_tier(l, q);
	if (!ret && q->hint == MTS_TRACE_HINT_END)
		ret = mts_tier_session_end(l->tier, q->user);
	return ret;
}

static int serve(struct mts_sim_lane *l, const struct mts_sim_request *q, unsigned n)
{
	double began = now();
	int ret = 0;

	for (unsigned i = 0; i < n && !ret && l->tier; i++)
		ret = serve_with_hints(l, &q[i]);
	for (unsigned i = 0; i < n && l->belady; i++)
		if (!q[i].hint_only) {
			uint32_t hit = mts_belady_serve(l->belady, &q[i]);

			tally(l, &q[i], hit);
			l->onloaded_tokens += q[i].valid - hit;
		}
	l->seconds += now() - began;
	return ret;
}

static int serve_all(const struct mts_sim_options *o, struct mts_sim_trace *t,
		     mts_sim_progress progress, struct mts_sim_result *r,
		     struct mts_sim_request *rows, struct mts_error *err)
{
	double began = now();
	int n, ret;

	while ((n = mts_sim_read(o, t, rows, ROWS, err)) > 0) {
		for (unsigned i = 0; i < r->lanes; i++) {
			ret = serve(&r->lane[i], rows, (unsigned)n);
			if (ret) {
				mts_error_set(err, "%s: %s", o->policy[r->lane[i].policy],
					      strerror(-ret));
				return ret;
			}
		}
		if (progress)
			progress(t->at, t->requests);
	}
	r->read_seconds = now() - began;
	for (unsigned i = 0; i < r->lanes; i++)
		r->read_seconds -= r->lane[i].seconds;
	return n;
}

/* ---- a run ---- */

static int open_lanes(const struct mts_sim_options *o, const struct mts_sim_trace *t,
		      struct mts_sim_result *r, struct mts_error *err)
{
	unsigned hosts = o->hosts ? o->hosts : 1, n = 0;
	int ret = 0;

	for (unsigned d = 0; d < o->devices; d++)
		for (unsigned h = 0; h < hosts; h++)
			for (unsigned p = 0; p < o->policies && !ret; p++) {
				r->lane[n] = (struct mts_sim_lane){ d, h, p };
				ret = open_lane(o, t, r, &r->lane[n++], err);
			}
	return ret;
}

static void gather(struct mts_sim_result *r)
{
	struct mts_counters n;

	for (unsigned i = 0; i < r->lanes; i++) {
		if (!r->lane[i].tier)
			continue;
		mts_tier_counters(r->lane[i].tier, &n);
		r->lane[i].onloaded_tokens = n.bytes_h2d / MTS_LENGTHS_BYTES;
	}
}

int mts_sim_run(const struct mts_sim_options *o, struct mts_sim_trace *t, mts_sim_progress progress,
		struct mts_sim_result *out, struct mts_error *err)
{
	struct mts_sim_request *rows = calloc(ROWS, sizeof(*rows));
	uint64_t footprint = t->footprint_tokens * o->bytes_per_token;
	int ret = -ENOMEM;

	out->lanes = o->devices * (o->hosts ? o->hosts : 1) * o->policies;
	out->lane = calloc(out->lanes, sizeof(*out->lane));
	out->device_bytes = all_bytes(o->device, o->devices, footprint);
	out->host_bytes = all_bytes(o->host, o->hosts, footprint);
	if (rows && out->lane && out->device_bytes && out->host_bytes)
		ret = open_lanes(o, t, out, err);
	else
		mts_error_set(err, "no memory for %u caches", out->lanes);
	if (!ret)
		ret = serve_all(o, t, progress, out, rows, err);
	if (!ret)
		gather(out);
	free(rows);
	if (ret)
		mts_sim_result_free(out);
	return ret;
}

void mts_sim_result_free(struct mts_sim_result *r)
{
	for (unsigned i = 0; r->lane && i < r->lanes; i++) {
		mts_tier_close(r->lane[i].tier);
		mts_belady_close(r->lane[i].belady);
	}
	free(r->lane);
	free(r->device_bytes);
	free(r->host_bytes);
	*r = (struct mts_sim_result){ 0 };
}
