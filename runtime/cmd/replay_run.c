/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a trace in up to four modes, interleaved segment by segment, and compares every score with
 * recompute's.
 *
 * Floor: cmd. One thread drives; each mode has a server of its own over one device and one set of
 * weights, and only one of them has work at a time.
 *
 * Closed loop: `inflight` requests are in the server at once. A segment is served in blocks; in each
 * block the first visits go first, off the clock of the ratios, because these are about requests that
 * could hit. A user's own order never changes.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/replay_run.h"
#include "error.h"

#define BLOCK 64

const char *const mts_mode_names[MTS_MODES] = { "recompute", "device_only", "hierarchical",
						"unbounded" };

const char *const mts_plan_names[] = { "auto", "load", "recompute", "split" };

const char *const mts_stage_names[MTS_STAGES] = { "queued",	"awaiting pass", "behind others",
						  "onload wait", "computed", "replied" };

/* ---- one request ---- */

static void account_stages(struct mts_mode_result *m, const struct mts_reply *r)
{
	uint64_t behind = r->computed_ns - r->launched_ns - r->wait_ns - r->run_ns;

	if (!r->launched_ns) /* an encode-only request that found all it had */
		return;
	mts_histogram_add(&m->stage[MTS_QUEUED], r->admitted_ns - r->submitted_ns);
	mts_histogram_add(&m->stage[MTS_AWAITING], r->launched_ns - r->admitted_ns);
	mts_histogram_add(&m->stage[MTS_BEHIND], behind);
	mts_histogram_add(&m->stage[MTS_ONLOAD], r->wait_ns);
	mts_histogram_add(&m->stage[MTS_COMPUTED], r->run_ns);
	mts_histogram_add(&m->stage[MTS_REPLIED], r->replied_ns - r->computed_ns);
}

void mts_run_account(const struct mts_run *x, struct mts_mode_result *m, const struct mts_reply *r,
		     uint64_t latency_ns)
{
	const struct mts_replay_request *q = &x->t->req[x->ticket[r->user_data].request];
	struct mts_hits *h[3] = { &m->hit, &m->segment_hit[x->segment], &m->hit_warm };

	m->requests++;
	m->warm_requests += q->nth > 0;
	m->failed += r->result != 0;
	m->window_moves += (r->flags & MTS_REPLY_WINDOW_MOVED) != 0;
	mts_histogram_add(&m->latency, latency_ns);
	if (!r->result)
		account_stages(m, r);
	for (int i = 0; i < (q->nth ? 3 : 2); i++) {
		h[i]->requests++;
		h[i]->tokens += r->visible;
		h[i]->token_device += r->device_tokens;
		h[i]->token_host += r->host_tokens;
		h[i]->request_host += r->host_tokens > 0;
		h[i]->request_device += r->device_tokens > 0 && !r->host_tokens;
	}
}

/* Waits for at least one reply: 0, or the first failed request's error. */
static int reap(struct mts_run *x, enum mts_mode mode, struct mts_error *err)
{
	struct mts_reply r[32];
	int n = mts_server_reap(x->server[mode], r, 32, -1), ret = 0;

	for (int i = 0; i < n; i++) {
		const struct mts_replay_request *q =
			&x->t->req[x->ticket[r[i].user_data].request];

		if (!x->silent)
			mts_run_account(x, &x->out->mode[mode], &r[i],
					r[i].replied_ns - r[i].submitted_ns);
		x->free_ticket[x->free_tickets++] = (unsigned)r[i].user_data;
		if (!r[i].result || ret)
			continue;
		ret = r[i].result;
		mts_error_set(err, "%s: user %llu with %llu events: %s", mts_mode_names[mode],
			      (unsigned long long)q->t.user, (unsigned long long)q->t.history,
			      ret == -ENOSPC ? "device memory holds less than this one window" :
					       strerror(-ret));
	}
	return ret;
}

void mts_run_fill(struct mts_run *x, enum mts_mode mode, size_t i, unsigned ticket,
		  struct mts_request *out)
{
	const struct mts_replay_request *q = &x->t->req[i];
	struct mts_ticket *k = &x->ticket[ticket];
	uint64_t start;
	uint32_t count = mts_replay_window(x->t, q, x->c, k->events, &start);

	for (uint32_t j = 0; j < q->t.candidates; j++)
		k->candidates[j] = mts_trace_candidate(q->t.user, q->nth, j, x->c->items);
	k->request = i;
	*out = (struct mts_request){
		.history = { q->t.user, q->t.history, start, k->events, count,
			     x->o->appends ? MTS_HISTORY_APPENDS : 0 },
		.candidates = k->candidates,
		.ncandidates = q->t.candidates,
		.scores = k->scores ? k->scores :
				      x->scores[mode] + (i - x->segment_first) *
								mts_run_score_floats(x),
		.user_data = ticket,
	};
}

void mts_run_hint(struct mts_run *x, enum mts_mode mode, const struct mts_trace_request *t)
{
	/* A hint that finds the queue full is lost, as a caller's would be. */
	if (t->hint == MTS_TRACE_HINT_OPEN)
		(void)mts_server_prefetch(x->server[mode], t->user);
	else if (t->hint == MTS_TRACE_HINT_END)
		(void)mts_server_session_end(x->server[mode], t->user);
}

static int serve_one(struct mts_run *x, enum mts_mode mode, size_t i, struct mts_error *err)
{
	const struct mts_trace_request *t = &x->t->req[i].t;
	struct mts_request req;
	int ret = 0;

	if (t->hint == MTS_TRACE_HINT_OPEN || mts_trace_hint_only(t))
		mts_run_hint(x, mode, t);
	if (mts_trace_hint_only(t))
		return 0;
	while (!x->free_tickets && !ret)
		ret = reap(x, mode, err);
	if (ret)
		return ret;
	mts_run_fill(x, mode, i, x->free_ticket[--x->free_tickets], &req);
	ret = mts_server_submit(x->server[mode], &req, 1);
	if (ret < 0) {
		mts_error_set(err, "%s: cannot submit: %s", mts_mode_names[mode], strerror(-ret));
		return ret;
	}
	if (t->hint == MTS_TRACE_HINT_END)
		mts_run_hint(x, mode, t);
	return 0;
}

static int drain(struct mts_run *x, enum mts_mode mode, struct mts_error *err)
{
	int ret = 0;

	while (x->free_tickets < x->o->inflight && !ret)
		ret = reap(x, mode, err);
	return ret;
}

/* ---- segments ---- */

static int serve_some(struct mts_run *x, enum mts_mode mode, size_t from, size_t to, bool first_visits,
		      uint64_t *ns, struct mts_error *err)
{
	uint64_t began = mts_now();
	int ret = 0;

	for (size_t i = from; i < to && !ret; i++)
		if ((x->t->req[i].nth == 0) == first_visits)
			ret = serve_one(x, mode, i, err);
	if (!ret)
		ret = drain(x, mode, err);
	*ns += mts_now() - began;
	return ret;
}

static int serve_segment(struct mts_run *x, enum mts_mode mode, unsigned segment, struct mts_error *err)
{
	struct mts_mode_result *m = &x->out->mode[mode];
	size_t end = x->segment_first + x->segment_n;
	uint64_t first_ns = 0, warm_ns = 0;
	struct mts_device_stats before, after;
	int ret = 0;

	x->dev->ops->stats(x->dev, &before);
	for (size_t i = x->segment_first; i < end && !ret; i += BLOCK) {
		size_t to = i + BLOCK < end ? i + BLOCK : end;

		ret = serve_some(x, mode, i, to, true, &first_ns, err);
		if (!ret)
			ret = serve_some(x, mode, i, to, false, &warm_ns, err);
	}
	x->dev->ops->stats(x->dev, &after);
	m->compute_wait_ns += after.wait_ns - before.wait_ns;
	m->warm_ns[segment] = warm_ns;
	m->ns += first_ns + warm_ns;
	return ret;
}

/* A request counts once if any bit differs. */
void mts_run_compare(const struct mts_run *x, enum mts_mode mode, size_t i)
{
	struct mts_mode_result *m = &x->out->mode[mode];
	size_t stride = mts_run_score_floats(x);
	size_t n = (size_t)x->t->req[x->segment_first + i].t.candidates * x->c->tasks;
	const float *a = x->scores[MTS_RECOMPUTE] + i * stride, *b = x->scores[mode] + i * stride;

	if (!memcmp(a, b, n * sizeof(float)))
		return;
	m->differing++;
	for (size_t k = 0; k < n; k++) {
		double d = fabs((double)a[k] - b[k]);

		/* A NaN on one side only is as different as can be. */
		if (!(d <= m->max_score_diff))
			m->max_score_diff = isnan(d) ? INFINITY : d;
	}
}

static uint64_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int run_segment(struct mts_run *x, unsigned s, struct mts_error *err)
{
	int ret = 0;

	x->segment = s;
	x->segment_first = x->t->n * s / x->out->segments;
	x->segment_n = x->t->n * (s + 1) / x->out->segments - x->segment_first;
	/* The order rotates, so that no mode always runs on a warm or a cold machine. */
	for (unsigned k = 0; k < MTS_MODES && !ret; k++) {
		enum mts_mode mode = (k + s) % MTS_MODES;

		if (x->server[mode])
			ret = serve_segment(x, mode, s, err);
	}
	x->out->rss[s] = resident_bytes();
	if (!x->server[MTS_RECOMPUTE] || ret)
		return ret;
	for (unsigned mode = 0; mode < MTS_MODES; mode++)
		if (mode != MTS_RECOMPUTE && x->server[mode])
			for (size_t i = 0; i < x->segment_n; i++)
				mts_run_compare(x, mode, i);
	return 0;
}

/* ---- the open loop ---- */

static int warm_up(struct mts_run *x, enum mts_mode mode, size_t rows, struct mts_error *err)
{
	int ret = 0;

	x->silent = true;
	for (size_t i = 0; i < rows && !ret; i++)
		ret = serve_one(x, mode, i, err);
	if (!ret)
		ret = drain(x, mode, err);
	x->silent = false;
	return ret;
}

static void compare_served(struct mts_run *x, enum mts_mode mode)
{
	for (size_t i = 0; i < x->segment_n; i++)
		if (x->served[MTS_RECOMPUTE][i] && x->served[mode][i])
			mts_run_compare(x, mode, i);
}

/* Mode after mode: each meets the same requests at the same times. */
static int run_open(struct mts_run *x, struct mts_error *err)
{
	size_t first = x->o->warmup < x->t->n ? x->o->warmup : x->t->n;
	int ret = 0;

	x->segment_n = x->t->n;
	for (unsigned mode = 0; mode < MTS_MODES && !ret; mode++) {
		if (!x->server[mode])
			continue;
		ret = warm_up(x, mode, first, err);
		if (!ret)
			ret = mts_run_open(x, mode, first, x->t->n, err);
	}
	for (unsigned mode = 0; mode < MTS_MODES && !ret; mode++)
		if (mode != MTS_RECOMPUTE && x->server[mode] && x->server[MTS_RECOMPUTE])
			compare_served(x, mode);
	return ret;
}

/* ---- set-up ---- */

static uint64_t amount(const struct mts_amount *a, uint64_t footprint)
{
	return a->share > 0 ? (uint64_t)(a->share * (double)footprint) : a->bytes;
}

/* Room for all users' windows and, beside them, for those in flight. */
static uint64_t all_pages(const struct mts_run *x)
{
	unsigned leases = 2 * MTS_STEPS * x->o->batch;

	return x->t->footprint_pages +
	       (uint64_t)x->t->largest_window * (x->o->inflight < leases ? x->o->inflight : leases);
}

/* Whether every score is kept, to be compared with recompute's. */
static bool compares(const struct mts_replay_options *o)
{
	return o->modes & 1u << MTS_RECOMPUTE;
}

static int open_mode(struct mts_run *x, enum mts_mode mode, struct mts_model *model,
		     struct mts_weights *weights, uint64_t page_bytes, struct mts_error *err)
{
	struct mts_server_config cfg = {
		.size = sizeof(cfg),
		.page_tokens = x->o->page_tokens,
		.batch = x->o->batch,
		.step_tokens = x->o->step_tokens,
		.kv_bf16 = x->o->kv_bf16,
		.plan = x->o->plan,
		.device_bytes = x->out->device_bytes,
		.arena = x->o->arena,
		.policy = x->o->policy,
		.node = x->o->node,
		.queue = x->o->inflight + 64, /* and hints */
	};

	if (mode == MTS_RECOMPUTE) {
		cfg.no_cache = 1;
		cfg.device_bytes = ((uint64_t)x->t->largest_window * 2 * MTS_STEPS * x->o->batch + 1) *
				   page_bytes;
		if (x->o->recompute_batch)
			cfg.batch = x->o->recompute_batch;
		if (x->o->recompute_step_tokens)
			cfg.step_tokens = x->o->recompute_step_tokens;
	}
	if (mode == MTS_UNBOUNDED)
		cfg.device_bytes = all_pages(x) * page_bytes;
	if (mode == MTS_HIERARCHICAL)
		cfg.host_bytes = x->out->host_bytes;
	x->out->mode[mode].warm_ns = calloc(x->out->segments, sizeof(uint64_t));
	x->out->mode[mode].segment_hit = calloc(x->out->segments, sizeof(struct mts_hits));
	if (!x->ticket[0].scores)
		x->scores[mode] = calloc((x->t->n / x->out->segments + 1) *
					 mts_run_score_floats(x) + 1, sizeof(float));
	if (x->o->open_loop && compares(x->o))
		x->served[mode] = calloc(x->t->n, sizeof(bool));
	if (!x->out->mode[mode].warm_ns || !x->out->mode[mode].segment_hit ||
	    (!x->ticket[0].scores && !x->scores[mode]) ||
	    (x->o->open_loop && compares(x->o) && !x->served[mode])) {
		mts_error_set(err, "no memory for the scores of a segment");
		return -ENOMEM;
	}
	x->out->mode[mode].ran = true;
	return mts_server_open_on(&cfg, x->dev, model, weights, &x->server[mode], err);
}

static int open_tickets(struct mts_run *x, struct mts_error *err)
{
	unsigned n = x->o->inflight;
	bool ok;

	x->ticket = calloc(n, sizeof(*x->ticket));
	x->free_ticket = calloc(n, sizeof(*x->free_ticket));
	ok = x->ticket && x->free_ticket;
	for (unsigned i = 0; i < n && ok; i++) {
		x->ticket[i].events = calloc(x->c->max_history, sizeof(struct mts_event));
		x->ticket[i].candidates = calloc(x->t->max_candidates + 1, sizeof(uint32_t));
		ok = x->ticket[i].events && x->ticket[i].candidates;
		if (x->o->open_loop && !compares(x->o)) {
			x->ticket[i].scores = calloc(mts_run_score_floats(x) + 1, sizeof(float));
			ok &= x->ticket[i].scores != NULL;
		}
		x->free_ticket[x->free_tickets++] = i;
	}
	if (ok)
		return 0;
	mts_error_set(err, "no memory for %u requests in flight", n);
	return -ENOMEM;
}

static void close_all(struct mts_run *x)
{
	for (unsigned m = 0; m < MTS_MODES; m++) {
		mts_server_close(x->server[m]);
		free(x->scores[m]);
		free(x->served[m]);
	}
	for (unsigned i = 0; x->ticket && i < x->o->inflight; i++) {
		free(x->ticket[i].events);
		free(x->ticket[i].candidates);
		free(x->ticket[i].scores);
	}
	free(x->ticket);
	free(x->free_ticket);
}

/*
 * Until the host tier has all its memory: threads that populate it would take time from whichever
 * mode runs first.
 */
static void wait_for_host(struct mts_run *x)
{
	const struct timespec tick = { .tv_nsec = 1000 * 1000 };
	struct mts_server *s = x->server[MTS_HIERARCHICAL];

	if (!s)
		return;
	for (mts_server_info(s, &x->out->host); x->out->host.host_ready < x->out->host.host_bytes;
	     mts_server_info(s, &x->out->host))
		nanosleep(&tick, NULL);
}

static int run_modes(struct mts_run *x, struct mts_model *model, struct mts_weights *weights,
		     struct mts_error *err)
{
	uint64_t page_bytes = x->o->page_tokens *
			      mts_model_token_bytes(x->c, x->o->kv_bf16 ? MTS_BF16 : MTS_F32);
	int ret = open_tickets(x, err);

	x->out->footprint_bytes = x->t->footprint_pages * page_bytes;
	x->out->device_bytes = amount(&x->o->device_mem, x->out->footprint_bytes);
	x->out->host_bytes = amount(&x->o->host_mem, x->out->footprint_bytes);
	if (!ret && x->out->device_bytes / page_bytes < x->t->largest_window) {
		mts_error_set(err, "device memory: %llu bytes hold %llu pages, expected at least %u, "
			      "the largest window of this trace",
			      (unsigned long long)x->out->device_bytes,
			      (unsigned long long)(x->out->device_bytes / page_bytes),
			      x->t->largest_window);
		ret = -EINVAL;
	}
	for (unsigned m = 0; m < MTS_MODES && !ret; m++)
		if (x->o->modes & 1u << m)
			ret = open_mode(x, m, model, weights, page_bytes, err);
	if (!ret)
		wait_for_host(x);
	if (!ret && x->o->open_loop)
		ret = run_open(x, err);
	for (unsigned s = 0; s < x->out->segments && !ret && !x->o->open_loop; s++)
		ret = run_segment(x, s, err);
	for (unsigned m = 0; m < MTS_MODES && !ret; m++)
		if (x->server[m]) {
			mts_server_counters(x->server[m], &x->out->mode[m].counters);
			mts_server_info(x->server[m], &x->out->info);
			x->out->any_diff |= m != MTS_RECOMPUTE && x->server[MTS_RECOMPUTE];
		}
	return ret;
}

static int open_device(const struct mts_replay_options *o, struct mts_device **dev,
		       struct mts_error *err)
{
	const struct mts_device_ops *ops = mts_device_find(o->device);
	struct mts_device_config dc = {
		.threads = o->threads,
		.link_gbps = o->link_gbps,
		.copy_us = o->copy_us,
	};

	if (!ops) {
		mts_error_set(err, "--device %s: not in this build, expected cpu or nil", o->device);
		return -ENODEV;
	}
	return ops->open(&dc, dev, err);
}

static unsigned larger(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

int mts_replay_run(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		   struct mts_model *m, struct mts_replay_result *out, struct mts_error *err)
{
	struct mts_run x = { .o = o, .t = t, .c = mts_model_get_config(m), .out = out };
	unsigned rows = larger(o->step_tokens, o->recompute_step_tokens);
	struct mts_weights *weights;
	int ret;

	memset(out, 0, sizeof(*out));
	out->segments = o->open_loop ? 1 : o->segments < t->n ? o->segments : (unsigned)t->n;
	out->rss = calloc(out->segments, sizeof(*out->rss));
	if (!out->rss) {
		mts_error_set(err, "no memory for %u segments", out->segments);
		return -ENOMEM;
	}
	ret = open_device(o, &x.dev, err);
	if (ret)
		return ret;
	ret = mts_weights_open(x.dev, m, rows, rows, MTS_STEPS, o->kv_bf16 ? MTS_BF16 : MTS_F32,
			       &weights, err);
	if (!ret) {
		ret = run_modes(&x, m, weights, err);
		close_all(&x);
		mts_weights_close(weights);
	}
	x.dev->ops->close(x.dev);
	return ret;
}

void mts_replay_result_free(struct mts_replay_result *r)
{
	free(r->rss);
	for (unsigned m = 0; m < MTS_MODES; m++) {
		free(r->mode[m].warm_ns);
		free(r->mode[m].segment_hit);
	}
}
