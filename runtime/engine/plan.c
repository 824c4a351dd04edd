/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: look up, reserve, onload. What is waiting is taken in order; a request that finds no
 * pages stops those behind it, so that none starves; one whose user is busy lets others pass.
 *
 * Floor: engine. Thread: the engine's.
 */
#include <errno.h>

#include "engine/engine.h"

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

static void describe(struct mts_job *j, const struct mts_match *m)
{
	j->visible = m->visible;
	j->cursor = m->device_tokens + m->host_tokens;
	j->scored = 0;
	j->loads = m->host_tokens > 0;
	if (!(j->reply.flags & MTS_REPLY_RETRIED))
		j->reply.flags |= m->flags;
	j->reply.visible = m->visible;
	j->reply.device_tokens = m->device_tokens;
	j->reply.host_tokens = m->host_tokens;
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
	TAILQ_REMOVE(&s->waiting, j, link);
	mts_engine_reply(s, j, 0);
}

/* What the tier does not look at. */
static int check_request(const struct mts_request *r)
{
	if (r->deadline_ns && r->deadline_ns < mts_now())
		return -ETIME;
	if (r->reserved || (r->ncandidates && (!r->candidates || !r->scores)))
		return -EINVAL;
	return 0;
}

/* Begins with what the tier holds of it; its loads are submitted. */
static int start(struct mts_server *s, struct mts_job *j)
{
	int err = check_ids(s, j);

	if (!err)
		err = mts_tier_onload(s->tier, j->lease, j->req.deadline_ns);
	if (err) {
		let_go(s, j);
		return err;
	}
	TAILQ_REMOVE(&s->waiting, j, link);
	TAILQ_INSERT_TAIL(&s->active, j, link);
	s->actives++;
	return 0;
}

/* 0: the job left the waiting list; -EBUSY: later; -EAGAIN: later, and nobody behind it either. */
static int admit_request(struct mts_server *s, struct mts_job *j)
{
	int err = check_request(&j->req);

	if (!err)
		err = mts_tier_reserve(s->tier, &j->req.history, &j->lease);
	if (!err) {
		describe(j, mts_lease_match(j->lease));
		if (j->cursor == j->visible && !j->req.ncandidates) {
			warm_up_done(s, j);
			return 0;
		}
		err = start(s, j);
	}
	if (!err || err == -EBUSY || err == -EAGAIN)
		return err;
	TAILQ_REMOVE(&s->waiting, j, link);
	mts_engine_reply(s, j, err);
	return 0;
}

static int admit_hint(struct mts_server *s, struct mts_job *j)
{
	uint64_t user = j->req.history.user;
	int ret = 0;

	if (j->kind == MTS_JOB_FORGET)
		ret = mts_tier_forget(s->tier, user);
	else if (j->kind == MTS_JOB_PREFETCH)
		(void)mts_tier_prefetch(s->tier, user);
	else
		(void)mts_tier_session_end(s->tier, user);
	if (ret == -EBUSY)
		return ret;
	TAILQ_REMOVE(&s->waiting, j, link);
	if (ret == -EINPROGRESS)
		TAILQ_INSERT_TAIL(&s->erasing, j, link);
	else
		mts_engine_reply(s, j, ret);
	return 0;
}

bool mts_engine_admit(struct mts_server *s)
{
	struct mts_job *j, *next;
	bool any = false;
	int err;

	for (j = TAILQ_FIRST(&s->waiting); j; j = next) {
		next = TAILQ_NEXT(j, link);
		if (j->kind == MTS_JOB_REQUEST && s->actives >= MTS_STEPS * s->cfg.batch)
			break;
		err = j->kind == MTS_JOB_REQUEST ? admit_request(s, j) : admit_hint(s, j);
		if (err == -EAGAIN)
			break;
		any |= !err;
	}
	return any;
}
