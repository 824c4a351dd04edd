/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ways of running a trace share: servers, the arrays of requests under way, accounting.
 *
 * Floor: cmd; private to replay_run.c (closed loop) and replay_open.c (open loop).
 */
#ifndef MTS_REPLAY_RUN_H
#define MTS_REPLAY_RUN_H

#include "cmd/replay.h"

/* The arrays of one request under way. */
struct mts_ticket {
	struct mts_event *events;
	uint32_t *candidates;
	float *scores; /* open loop without recompute; else NULL */
	size_t request;
	uint64_t scheduled_ns; /* open loop: when it should have been submitted */
};

struct mts_run {
	const struct mts_replay_options *o;
	const struct mts_replay_trace *t;
	const struct mts_model_config *c;
	struct mts_replay_result *out;
	struct mts_device *dev;
	struct mts_server *server[MTS_MODES];
	struct mts_ticket *ticket;
	unsigned *free_ticket, free_tickets;
	float *scores[MTS_MODES]; /* of one segment: [requests][max_candidates][tasks] */
	bool *served[MTS_MODES];  /* open loop beside recompute: [requests] scores are there */
	size_t segment_first, segment_n;
	unsigned segment;
	bool silent; /* warming up: nothing is accounted */
};

static inline size_t mts_run_score_floats(const struct mts_run *x)
{
	return (size_t)x->t->max_candidates * x->c->tasks;
}

/* Counts one reply, with its latency as the loop sees it. */
void mts_run_account(const struct mts_run *x, struct mts_mode_result *m, const struct mts_reply *r,
		     uint64_t latency_ns);
/* Builds request i of the trace in the arrays of a ticket. */
void mts_run_fill(struct mts_run *x, enum mts_mode mode, size_t i, unsigned ticket,
		  struct mts_request *out);
void mts_run_hint(struct mts_run *x, enum mts_mode mode, const struct mts_trace_request *t);
/* Counts differences of request i's scores to recompute's. */
void mts_run_compare(const struct mts_run *x, enum mts_mode mode, size_t i);

/* Serves requests [from, to) of the trace at their own times; out->mode[mode] and its open part. */
int mts_run_open(struct mts_run *x, enum mts_mode mode, size_t from, size_t to,
		 struct mts_error *err);

#endif
