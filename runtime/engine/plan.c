/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into line and out of it. Taking: a fresh request is priced by the lengths of what is cached and put
 * into one of two lines, quick or slow; one whose deadline cannot be met is refused at once. Admission:
 * look up, reserve, onload.
 *
 * Floor: engine. Thread: the engine's.
 *
 * Quick requests go first. A request that finds no room lets others pass, but only so many; then
 * nobody is admitted before it. Slow ones take at most half of the places, so that there is always one
 * for a quick one.
 */
#include <errno.h>

#include "engine/engine.h"

#define OVERTAKEN_MAX 64u /* requests that may pass one that finds no room */
#define BLOCKED_MAX   8u  /* of these, looked at in one go */
#define MARGIN	      1.1 /* by which an expected time is taken to be too short */

/* Ids are checked where they enter the computation; cached tokens were checked when they did. */
static int check_ids(const struct mts_server *s, const struct mts_job *j)
{
	const struct mts_model_config *c = mts_model_get_config(s->model);
	const struct mts_history *h = &j->req.history;
	const struct mts_match *m = mts_lease_match(j->lease);
	const struct mts_event *e = h->events + (m->start - h->first);

	for (uint32_t i = j->cursor; i < j->visible; i++)
		if (e[i].item >= c->items || e[i].action >= c->actions)
			return -ERANGE;
	for (uint32_t i = 0; i < j->req.ncandidates; i++)
		if (j->req.candidates[i] >= c->items)
			return -ERANGE;
	return 0;
}

/* ---- prices ---- */

void mts_engine_cost(struct mts_server *s, struct mts_job *j, double ns)
{
	if (ns < 0)
		ns = 0;
	s->backlog_ns[j->pace] += ns - j->cost_ns;
	j->cost_ns = ns;
}

/* Of all that is not loaded: tokens [device, from) and those behind what is on the host. */
static double compute_ns(const struct mts_server *s, const struct mts_job *j,
			 const struct mts_match *m, uint32_t from)
{
	uint32_t begin = m->device_tokens, end = begin + m->host_tokens, c = j->req.ncandidates;

	return mts_price_rows(&s->price, m->visible - end + from - begin + c,
			      mts_price_pairs(end, m->visible - end, c, m->visible) +
				      mts_price_pairs(begin, from - begin, 0, 0));
}

double mts_engine_load_ns(const struct mts_server *s, uint32_t tokens)
{
	const struct mts_kv_layout *y = &s->tier->kv.layout;
	double bytes = (double)tokens * (double)(mts_kv_k_bytes(y) + mts_kv_v_bytes(y));

	/* At least one copy a layer, and one for each slice. */
	return tokens ? mts_price_load(&s->price, y->layers * (1 + bytes / 1048576.0),
				       bytes * y->layers) : 0;
}

static enum mts_pace pace_of(const struct mts_server *s, const struct mts_job *j,
			     const struct mts_match *m, uint32_t from)
{
	uint32_t loaded = m->device_tokens + m->host_tokens - from;
	uint32_t rows = m->visible - m->device_tokens - loaded + j->req.ncandidates;

	if (rows > s->cfg.step_tokens / 4)
		return MTS_SLOW;
	return mts_engine_load_ns(s, loaded) > 4 * compute_ns(s, j, m, from) ? MTS_SLOW : MTS_QUICK;
}

static uint64_t idle_from(uint64_t busy, uint64_t now)
{
	return busy > now ? busy : now;
}

/* When j would be over if `ahead` had to be computed before it. */
static uint64_t expected_end(const struct mts_server *s, const struct mts_job *j, double ahead,
			     double load, uint64_t now)
{
	double share = s->quick_share < 0.875 ? s->quick_share : 0.875;
	double wait = j->pace == MTS_SLOW ? (ahead + j->cost_ns) / (1 - share) : ahead + j->cost_ns;

	if (wait < load)
		wait = load;
	return idle_from(s->busy_ns, now) + (uint64_t)(MARGIN * wait);
}

/* ---- taking ---- */

static int check_arrays(const struct mts_request *r)
{
	if (r->reserved || (r->ncandidates && (!r->candidates || !r->scores)))
		return -EINVAL;
	return 0;
}

void mts_engine_wait(struct mts_server *s, struct mts_job *j, bool first)
{
	if (first)
		TAILQ_INSERT_HEAD(&s->waiting[j->pace], j, link);
	else
		TAILQ_INSERT_TAIL(&s->waiting[j->pace], j, link);
	if (j->req.deadline_ns && j->req.deadline_ns < s->deadline_ns)
		s->deadline_ns = j->req.deadline_ns;
}

static void note_quick(struct mts_server *s, const struct mts_job *j, uint64_t now)
{
	s->quick_seen_ns = now;
	s->quick_ns += ((double)j->cost_ns - s->quick_ns) / 16;
}

static int take_request(struct mts_server *s, struct mts_job *j)
{
	uint64_t now = mts_now(), deadline = j->req.deadline_ns;
	struct mts_match m;
	double ahead;
	int err = check_arrays(&j->req);

	if (!err)
		err = mts_tier_guess(s->tier, &j->req.history, &m);
	if (err)
		return err;
	if (deadline && deadline < now)
		return -ETIME;
	j->pace = pace_of(s, j, &m, m.device_tokens);
	ahead = s->backlog_ns[MTS_QUICK] + (j->pace == MTS_SLOW ? s->backlog_ns[MTS_SLOW] : 0);
	mts_engine_cost(s, j, compute_ns(s, j, &m, m.device_tokens));
	if (j->pace == MTS_QUICK)
		note_quick(s, j, now);
	if (deadline && expected_end(s, j, ahead, mts_engine_load_ns(s, m.host_tokens), now) > deadline)
		return -EBUSY;
	mts_engine_wait(s, j, false);
	return 0;
}

static void follow_hint(struct mts_server *s, struct mts_job *j)
{
	uint64_t user = j->req.history.user;
	int ret = 0;

	if (j->kind == MTS_JOB_FORGET)
		ret = mts_tier_forget(s->tier, user);
	else if (j->kind == MTS_JOB_PREFETCH)
		(void)mts_tier_prefetch(s->tier, user);
	else
		(void)mts_tier_session_end(s->tier, user);
	if (ret == -EINPROGRESS)
		TAILQ_INSERT_TAIL(&s->erasing, j, link);
	else
		mts_engine_reply(s, j, ret);
}

bool mts_engine_take(struct mts_server *s)
{
	struct mts_job *j;
	bool any = false;
	int ret;

	while ((j = TAILQ_FIRST(&s->fresh))) {
		TAILQ_REMOVE(&s->fresh, j, link);
		any = true;
		ret = mts_turn_take(s, j);
		if (ret > 0)
			continue;
		if (!ret && j->kind != MTS_JOB_REQUEST) {
			follow_hint(s, j);
			continue;
		}
		if (!ret)
			ret = take_request(s, j);
		if (ret)
			mts_engine_reply(s, j, ret);
	}
	return any;
}

/* ---- admission ---- */

static double active_ns(const struct mts_server *s, enum mts_pace pace)
{
	const struct mts_job *j;
	double ns = 0;

	TAILQ_FOREACH(j, &s->active, link)
		if (j->pace <= pace)
			ns += j->cost_ns;
	return ns;
}

static double until(uint64_t busy, uint64_t now)
{
	return (double)(idle_from(busy, now) - now);
}

/* What is to be computed, and what comes by load: [hole, hole_end). */
static void split(struct mts_server *s, struct mts_job *j, const struct mts_match *m)
{
	uint64_t now = mts_now();
	uint32_t x = mts_engine_choose(s, j, m,
				       until(s->busy_ns, now) + active_ns(s, MTS_SLOW),
				       until(s->link_busy_ns, now));

	j->hole = x;
	j->hole_end = m->device_tokens + m->host_tokens;
	j->loads = x < j->hole_end;
	j->cursor = x == m->device_tokens ? j->hole_end : m->device_tokens;
	mts_engine_cost(s, j, 0);
	j->pace = pace_of(s, j, m, x);
	mts_engine_cost(s, j, compute_ns(s, j, m, x));
}

static void describe(struct mts_server *s, struct mts_job *j, const struct mts_match *m)
{
	j->visible = m->visible;
	j->scored = 0;
	split(s, j, m);
	if (!(j->reply.flags & MTS_REPLY_RETRIED))
		j->reply.flags |= m->flags;
	j->reply.visible = m->visible;
	j->reply.device_tokens = m->device_tokens;
	j->reply.host_tokens = j->hole_end - j->hole;
	j->reply.admitted_ns = mts_now();
	j->reply.launched_ns = j->reply.computed_ns = 0;
	j->reply.wait_ns = j->reply.run_ns = 0;
}

static void let_go(struct mts_server *s, struct mts_job *j)
{
	mts_tier_release(s->tier, j->lease);
	j->lease = NULL;
}

/* Nothing to compute: an encode-only request whose history is all cached; brought near, if it is not. */
static void warm_up_done(struct mts_server *s, struct mts_job *j)
{
	let_go(s, j);
	(void)mts_tier_prefetch(s->tier, j->req.history.user);
	mts_engine_reply(s, j, 0);
}

/* The refusal that was not clear when it came. */
static int check_deadline(const struct mts_server *s, const struct mts_job *j)
{
	uint64_t now = mts_now(), deadline = j->req.deadline_ns;

	if (!deadline)
		return 0;
	if (deadline < now)
		return -ETIME;
	return expected_end(s, j, active_ns(s, j->pace), 0, now) > deadline ? -EBUSY : 0;
}

static void count_plan(struct mts_server *s, const struct mts_job *j)
{
	const struct mts_match *m = mts_lease_match(j->lease);

	if (!m->host_tokens)
		return;
	s->n.plan_load += j->hole == m->device_tokens;
	s->n.plan_recompute += j->hole == j->hole_end;
	s->n.plan_split += j->hole != m->device_tokens && j->hole != j->hole_end;
}

/* Begins with what the tier holds of it; its loads are submitted. */
static int start(struct mts_server *s, struct mts_job *j)
{
	int err = check_ids(s, j);

	if (!err && j->loads)
		err = mts_tier_onload_from(s->tier, j->lease, j->hole, j->req.deadline_ns);
	if (err) {
		let_go(s, j);
		return err;
	}
	if (j->loads) {
		s->link_busy_ns = idle_from(s->link_busy_ns, mts_now()) +
				  (uint64_t)mts_engine_load_ns(s, j->reply.host_tokens);
		j->loaded_ns = s->link_busy_ns;
	}
	count_plan(s, j);
	TAILQ_INSERT_TAIL(&s->active, j, link);
	s->actives++;
	s->active_of[j->pace]++;
	return 0;
}

/* -EAGAIN: it stays in line, there is no room for it now. Else it has left the line. */
static int admit_request(struct mts_server *s, struct mts_job *j)
{
	enum mts_pace line = j->pace;
	int err = check_deadline(s, j);

	if (!err)
		err = mts_tier_reserve(s->tier, &j->req.history, &j->lease);
	if (err == -EAGAIN)
		return err;
	TAILQ_REMOVE(&s->waiting[line], j, link);
	if (!err) {
		describe(s, j, mts_lease_match(j->lease));
		if (j->cursor == j->visible && !j->req.ncandidates) {
			warm_up_done(s, j);
			return 0;
		}
		err = start(s, j);
	}
	if (err == -EAGAIN)
		mts_engine_wait(s, j, true);
	else if (err)
		mts_engine_reply(s, j, err);
	return err == -EAGAIN ? err : 0;
}

static bool has_place(const struct mts_server *s, enum mts_pace pace)
{
	return s->actives < MTS_STEPS * s->cfg.batch &&
	       (pace == MTS_QUICK || s->active_of[MTS_SLOW] < s->cfg.batch);
}

/* Those who found no room and let another pass. */
static void count_overtaken(struct mts_job **blocked, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		blocked[i]->overtaken++;
}

/* One that has been overtaken too often is tried before all others: false: it still finds no room. */
static bool admit_overdue(struct mts_server *s)
{
	for (int pace = 0; pace < MTS_PACES; pace++) {
		struct mts_job *j = TAILQ_FIRST(&s->waiting[pace]);

		if (j && j->overtaken >= OVERTAKEN_MAX && admit_request(s, j) == -EAGAIN)
			return false;
	}
	return true;
}

bool mts_engine_admit(struct mts_server *s)
{
	struct mts_job *j, *next, *blocked[BLOCKED_MAX];
	unsigned n = 0;
	bool any = false;

	if (!admit_overdue(s))
		return false;
	for (int pace = MTS_PACES - 1; pace >= 0; pace--)
		for (j = TAILQ_FIRST(&s->waiting[pace]); j; j = next) {
			next = TAILQ_NEXT(j, link);
			if (!has_place(s, pace) || n == BLOCKED_MAX)
				break;
			if (admit_request(s, j) == -EAGAIN) {
				blocked[n++] = j;
				continue;
			}
			any = true;
			count_overtaken(blocked, n);
		}
	return any;
}
