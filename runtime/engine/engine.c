/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine thread: takes submissions, polls the tier, finishes passes, plans the next one while the
 * last still runs, sleeps when there is nothing to do.
 *
 * Floor: engine. Everything here runs on the engine thread but mts_server_ring, which others call.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine/engine.h"

static void count_reply(struct mts_server *s, const struct mts_job *j)
{
	const struct mts_reply *r = &j->reply;
	struct mts_counters *n = &s->n;

	n->requests++;
	n->failed += r->result != 0;
	n->refused += r->result == -EBUSY;
	n->retried += (r->flags & MTS_REPLY_RETRIED) != 0;
	if (r->result)
		return;
	n->first_visits += (r->flags & MTS_REPLY_FIRST_VISIT) != 0;
	n->window_moves += (r->flags & MTS_REPLY_WINDOW_MOVED) != 0;
	n->divergences += (r->flags & MTS_REPLY_DIVERGED) != 0;
	n->tokens += r->visible;
	n->tokens_device += r->device_tokens;
	n->tokens_host += r->host_tokens;
	n->requests_host += r->host_tokens > 0;
	n->requests_device += r->device_tokens > 0 && !r->host_tokens;
}

void mts_engine_reply(struct mts_server *s, struct mts_job *j, int result)
{
	struct mts_gate *done = j->done; /* once unlocked, the job is another caller's */

	j->reply.result = result;
	j->reply.user_data = j->req.user_data;
	j->reply.replied_ns = mts_now();
	mts_engine_cost(s, j, 0);
	mts_turn_pass(s, j);
	if (j->kind == MTS_JOB_REQUEST) {
		count_reply(s, j);
		TAILQ_INSERT_TAIL(&s->replies, j, link);
		return;
	}
	pthread_mutex_lock(&s->lock);
	TAILQ_INSERT_TAIL(&s->free, j, link);
	pthread_mutex_unlock(&s->lock);
	if (done)
		mts_gate_arrive(done, result);
}

/* Shows callers the replies since the last time. */
static void show_replies(struct mts_server *s)
{
	if (TAILQ_EMPTY(&s->replies))
		return;
	pthread_mutex_lock(&s->lock);
	TAILQ_CONCAT(&s->outbox, &s->replies, link);
	/* All of them: one alone may take only a part. */
	pthread_cond_broadcast(&s->replied);
	pthread_mutex_unlock(&s->lock);
}

static void leave_active(struct mts_server *s, struct mts_job *j)
{
	TAILQ_REMOVE(&s->active, j, link);
	s->actives--;
	s->active_of[j->pace]--;
	j->lease = NULL;
}

void mts_engine_retry(struct mts_server *s, struct mts_job *j, int error)
{
	mts_tier_abandon(s->tier, j->lease);
	leave_active(s, j);
	j->error = 0;
	if (j->reply.flags & MTS_REPLY_RETRIED) {
		mts_engine_reply(s, j, error);
		return;
	}
	j->reply.flags |= MTS_REPLY_RETRIED;
	mts_engine_wait(s, j, true);
}

static void finish_job(struct mts_server *s, struct mts_job *j)
{
	if (j->passes)
		return;
	if (j->error) {
		mts_engine_retry(s, j, j->error);
		return;
	}
	if (j->cursor < j->visible || j->scored < j->req.ncandidates)
		return;
	mts_tier_release(s->tier, j->lease);
	leave_active(s, j);
	mts_engine_reply(s, j, 0);
}

/* Stores what a part computed; a job that failed in an earlier pass is past helping. */
static void finish_part(struct mts_server *s, const struct mts_step *step, uint32_t i, int error,
			uint32_t *row)
{
	const struct mts_span *span = &step->span[i];
	const struct mts_part *part = &step->part[i];
	struct mts_job *j = part->job;
	size_t floats = (size_t)span->candidates * s->tasks;

	j->passes--;
	j->reply.computed_ns = step->computed_ns;
	j->reply.wait_ns += step->after.wait_ns - step->before.wait_ns;
	j->reply.run_ns += step->after.run_ns - step->before.run_ns;
	if (!j->error)
		j->error = error;
	if (!j->error)
		j->error = mts_tier_commit(s->tier, j->lease, part->upto);
	if (!j->error && floats)
		memcpy(j->req.scores + (size_t)part->first_candidate * s->tasks,
		       step->scores + (size_t)*row * s->tasks, floats * sizeof(float));
	*row += span->candidates;
	finish_job(s, j);
}

/* What the pass says of prices, and of when those still in flight should be over. */
static void learn(struct mts_server *s, const struct mts_step *step)
{
	const struct mts_step *next = &s->step[s->finished % MTS_STEPS];
	double work = step->cost_ns[MTS_QUICK] + step->cost_ns[MTS_SLOW], since;
	struct mts_transfer_stats link;

	mts_price_pass(&s->price, step->pass.rows, step->pairs,
		       step->after.run_ns - step->before.run_ns);
	if (s->tier->transfer) {
		mts_transfer_stats(s->tier->transfer, &link);
		mts_price_link(&s->price, link.copies[MTS_H2D], link.bytes[MTS_H2D],
			       link.busy_ns[MTS_H2D]);
	}
	since = (double)(step->computed_ns - s->computed_ns);
	if (s->computed_ns && since > 0 && since >= work / 2)
		s->quick_share += (step->cost_ns[MTS_QUICK] / since - s->quick_share) / 32;
	s->computed_ns = step->computed_ns;
	s->busy_ns = step->computed_ns;
	if (s->finished != s->launched)
		s->busy_ns += (uint64_t)(next->cost_ns[MTS_QUICK] + next->cost_ns[MTS_SLOW] +
					 s->price.pass.k[0]);
}

/* Passes end in the order they were launched. */
static bool finish_steps(struct mts_server *s)
{
	bool any = false;

	while (s->finished < s->launched) {
		struct mts_step *step = &s->step[s->finished % MTS_STEPS];
		uint32_t row = 0;
		int error;

		if (!mts_gate_poll(&step->done, &error))
			break;
		/* Waits until pass_done() has returned: the watch is used again, the server freed. */
		mts_gate_unwatch(&step->watch);
		mts_tier_poll(s->tier);
		/* It began where the one before it ended, if that was still under way. */
		if (step->follows)
			step->before = s->last;
		s->last = step->after;
		step->busy = false;
		s->finished++;
		if (!error)
			learn(s, step);
		for (uint32_t i = 0; i < step->pass.spans; i++)
			finish_part(s, step, i, error, &row);
		any = true;
	}
	return any;
}

/* On the device's thread, which has not gone on to the next pass yet. */
static void pass_done(struct mts_gate_watch *w)
{
	struct mts_step *step = (struct mts_step *)((char *)w - offsetof(struct mts_step, watch));
	struct mts_device *dev = step->server->dev;

	dev->ops->stats(dev, &step->after);
	step->computed_ns = mts_now();
	mts_server_ring(step->server);
}

static void take_start(struct mts_server *s, struct mts_step *step)
{
	uint64_t now = mts_now();

	step->follows = s->finished != s->launched;
	s->dev->ops->stats(s->dev, &step->before);
	for (uint32_t i = 0; i < step->pass.spans; i++)
		if (!step->part[i].job->reply.launched_ns)
			step->part[i].job->reply.launched_ns = now;
}

static void launch(struct mts_server *s, struct mts_step *step)
{
	struct mts_forward f = {
		.pass = &step->pass,
		.kv = &s->tier->kv,
		.ready = step->ready,
		.readies = step->readies,
		.done = &step->done,
		.scores = step->scores,
		.slot = s->launched % MTS_STEPS,
	};
	int error;

	take_start(s, step);
	step->busy = true;
	s->launched++;
	s->n.passes++;
	s->n.rows += step->pass.rows;
	mts_gate_init(&step->done, 1);
	step->watch = (struct mts_gate_watch){ .fn = pass_done };
	step->server = s;
	(void)mts_gate_watch(&step->done, &step->watch);
	error = mts_forward(s->weights, &f);
	if (error) /* refused: nothing was launched, the gate is still ours */
		mts_gate_arrive(&step->done, error);
}

/*
 * Whether a pass filled now could only lose by it: one is running, it will not end soon, and the next
 * has room left for whoever comes meanwhile.
 */
static bool too_early(const struct mts_server *s, uint64_t now)
{
	return s->finished != s->launched && now < s->plan_ns && !mts_engine_full(s, now);
}

/* When the next pass is to be filled: in time for the device to go on without a pause. */
static void expect(struct mts_server *s, const struct mts_step *step, uint64_t now)
{
	uint64_t ns = (uint64_t)(step->cost_ns[MTS_QUICK] + step->cost_ns[MTS_SLOW] +
				 s->price.pass.k[0]);

	if (s->busy_ns < now || s->launched - s->finished == 1)
		s->busy_ns = now;
	s->busy_ns += ns;
	s->plan_ns = s->busy_ns - ns / 4;
}

static void expect_fresh(struct mts_server *s)
{
	uint64_t user[MTS_EXPECT];
	const struct mts_job *j;
	unsigned n = 0;

	TAILQ_FOREACH(j, &s->fresh, link) {
		user[n++] = j->req.history.user;
		if (n == MTS_EXPECT)
			break;
	}
	mts_users_expect(s->tier, user, n);
}

/* Looks the fresh ones up and prices them: a part of planning. */
static bool take_fresh(struct mts_server *s)
{
	uint64_t began;
	bool any;

	if (TAILQ_EMPTY(&s->fresh))
		return false;
	began = mts_now();
	expect_fresh(s);
	any = mts_engine_take(s);
	s->planning_ns += mts_now() - began;
	return any;
}

static bool plan_step(struct mts_server *s)
{
	struct mts_step *step = &s->step[s->launched % MTS_STEPS];
	uint64_t began = mts_now(), now;
	bool any = mts_engine_admit(s);

	now = mts_now();
	s->planning_ns += now - began;
	s->wake_ns = UINT64_MAX;
	if (step->busy || TAILQ_EMPTY(&s->active))
		return any;
	if (too_early(s, now)) {
		s->wake_ns = s->plan_ns;
		return any;
	}
	if (!mts_engine_fill(s, step, now))
		return any;
	s->planning_ns += mts_now() - now;
	pthread_mutex_lock(&s->lock);
	mts_histogram_add(&s->plan, s->planning_ns);
	pthread_mutex_unlock(&s->lock);
	s->planning_ns = 0;
	launch(s, step);
	expect(s, step, now);
	return true;
}

static void finish_erasing(struct mts_server *s)
{
	struct mts_job *j;

	if (s->tier->erasing)
		return;
	while ((j = TAILQ_FIRST(&s->erasing))) {
		TAILQ_REMOVE(&s->erasing, j, link);
		mts_engine_reply(s, j, 0);
	}
}

/* Takes the inbox and shows the counters: the one place where the engine meets its callers. */
static bool meet_callers(struct mts_server *s, uint64_t *rings)
{
	struct mts_counters n;
	bool closing;

	mts_tier_counters(s->tier, &n);
	n.requests = s->n.requests;
	n.failed = s->n.failed;
	n.refused = s->n.refused;
	n.plan_load = s->n.plan_load;
	n.plan_recompute = s->n.plan_recompute;
	n.plan_split = s->n.plan_split;
	n.retried = s->n.retried;
	n.first_visits = s->n.first_visits;
	n.window_moves = s->n.window_moves;
	n.divergences = s->n.divergences;
	n.tokens = s->n.tokens;
	n.tokens_device = s->n.tokens_device;
	n.tokens_host = s->n.tokens_host;
	n.requests_device = s->n.requests_device;
	n.requests_host = s->n.requests_host;
	n.passes = s->n.passes;
	n.rows = s->n.rows;
	pthread_mutex_lock(&s->lock);
	s->published = n;
	TAILQ_CONCAT(&s->fresh, &s->inbox, link);
	*rings = s->rings;
	closing = s->closing;
	pthread_mutex_unlock(&s->lock);
	return closing;
}

static void sleep_until_rung(struct mts_server *s, uint64_t rings)
{
	uint64_t until = s->deadline_ns < s->wake_ns ? s->deadline_ns : s->wake_ns;
	struct timespec t = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };

	pthread_mutex_lock(&s->lock);
	while (s->rings == rings && mts_now() < until)
		pthread_cond_timedwait(&s->wake, &s->lock, &t);
	pthread_mutex_unlock(&s->lock);
}

static bool expire_line(struct mts_server *s, struct mts_job_list *line, uint64_t now)
{
	struct mts_job *j, *next;
	bool any = false;

	for (j = TAILQ_FIRST(line); j; j = next) {
		next = TAILQ_NEXT(j, link);
		if (!j->req.deadline_ns)
			continue;
		if (j->req.deadline_ns > now) {
			if (j->req.deadline_ns < s->deadline_ns)
				s->deadline_ns = j->req.deadline_ns;
			continue;
		}
		TAILQ_REMOVE(line, j, link);
		mts_engine_reply(s, j, -ETIME);
		any = true;
	}
	return any;
}

/* Those behind a request that finds no room are not looked at by admission. */
static bool expire_waiting(struct mts_server *s)
{
	uint64_t now = mts_now();
	bool any = false;

	if (now < s->deadline_ns)
		return false;
	s->deadline_ns = UINT64_MAX;
	for (int pace = 0; pace < MTS_PACES; pace++)
		any |= expire_line(s, &s->waiting[pace], now);
	return any;
}

static struct mts_job *take_waiting(struct mts_server *s)
{
	struct mts_job_list *list = &s->fresh;
	struct mts_job *j;

	for (int pace = 0; TAILQ_EMPTY(list) && pace < MTS_PACES; pace++)
		list = &s->waiting[pace];
	j = TAILQ_FIRST(list);
	if (j)
		TAILQ_REMOVE(list, j, link);
	return j;
}

/* What has not started will not: its callers are told, and those behind it. */
static void cancel_waiting(struct mts_server *s)
{
	struct mts_job *j;

	while ((j = take_waiting(s)))
		mts_engine_reply(s, j, -ECANCELED);
}

static void cancel_active(struct mts_server *s)
{
	struct mts_job *j;

	while ((j = TAILQ_FIRST(&s->active))) {
		mts_tier_abandon(s->tier, j->lease);
		leave_active(s, j);
		mts_engine_reply(s, j, -ECANCELED);
	}
}

static void cancel_erasing(struct mts_server *s)
{
	struct mts_job *j;

	while ((j = TAILQ_FIRST(&s->erasing))) {
		TAILQ_REMOVE(&s->erasing, j, link);
		mts_engine_reply(s, j, -ECANCELED);
	}
}

/* Debug builds stop at the step that broke something, not where it shows. */
static void check_invariants(const struct mts_server *s)
{
#ifdef MTS_INVARIANTS
	struct mts_error err = { "" };
	int broken = mts_tier_verify(s->tier, &err);

	if (broken == -EUCLEAN) /* out of memory, nothing was checked */
		__assert_fail(err.text, __FILE__, __LINE__, __func__);
#endif
}

void *mts_engine_main(void *server)
{
	struct mts_server *s = server;
	uint64_t rings;
	bool closing, worked;

	for (;;) {
		closing = meet_callers(s, &rings);
		worked = mts_tier_poll(s->tier) > 0;
		worked |= finish_steps(s);
		show_replies(s);
		finish_erasing(s);
		if (closing) {
			cancel_waiting(s);
			s->wake_ns = UINT64_MAX;
			if (s->finished == s->launched)
				break;
		} else {
			worked |= take_fresh(s);
			worked |= plan_step(s);
		}
		show_replies(s);
		check_invariants(s);
		if (!worked && !expire_waiting(s))
			sleep_until_rung(s, rings);
	}
	cancel_active(s);
	cancel_erasing(s);
	cancel_waiting(s);
	show_replies(s);
	return NULL;
}
