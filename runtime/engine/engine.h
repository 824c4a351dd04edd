/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's insides: a request's life from submission to reply.
 *
 * Floor: engine. One engine thread owns the tier, the weights and everything here but the two locked
 * lists; callers reach it through them.
 *
 *   submit ─> inbox ─> waiting ─> active (leased) ─> passes in flight ─> outbox ─> reap
 *   any thread        |------------- engine thread -------------------|          any thread
 *
 *   engine.c   the thread: take, poll, finish, plan, sleep
 *   batch.c    which rows go into the next pass
 *   plan.c     admit: look up, reserve, onload
 *   server.c   the public calls
 */
#ifndef MTS_ENGINE_H
#define MTS_ENGINE_H

#include <pthread.h>
#include <stdbool.h>

#include "cache/tier.h"
#include "engine/histogram.h"
#include "memory/park.h"
#include "model/model.h"

enum mts_job_kind { MTS_JOB_REQUEST, MTS_JOB_SESSION_END, MTS_JOB_PREFETCH, MTS_JOB_FORGET };

struct mts_job {
	TAILQ_ENTRY(mts_job) link;
	enum mts_job_kind kind;
	struct mts_request req;
	struct mts_reply reply;
	struct mts_lease *lease;
	uint32_t visible;
	uint32_t cursor;     /* history tokens stored, or in a pass under way */
	uint32_t scored;     /* candidates scored, or in a pass under way */
	uint32_t passes;     /* under way with rows of it */
	bool loads;          /* its first pass waits for the lease's gates */
	int error;           /* first failure of a pass */
	struct mts_gate *done; /* FORGET: the caller waits here */
};

TAILQ_HEAD(mts_job_list, mts_job);

/* One job's part of a pass. */
struct mts_part {
	struct mts_job *job;
	uint32_t upto;       /* history tokens stored once the pass has run */
	uint32_t first_candidate;
};

/* A pass under way: double-buffered, so that one is planned while the other runs. */
struct mts_step {
	bool busy;
	struct mts_pass pass;
	struct mts_span *span;  /* [batch] */
	struct mts_part *part;  /* [batch] */
	uint32_t *item, *action; /* [step_tokens] */
	float *scores;          /* [step_tokens, tasks] */
	struct mts_gate **ready; /* [batch] gates of the loads it waits for */
	unsigned readies;
	struct mts_gate done;
	struct mts_gate_watch watch; /* on done: takes the time, rings the server */
	struct mts_device_stats before, after; /* of the compute queue; before: unless it follows */
	bool follows;        /* launched while another was under way */
	uint64_t computed_ns;
	struct mts_server *server;
};

#define MTS_STEPS 2

struct mts_server {
	struct mts_server_config cfg;
	struct mts_device *dev;
	bool own_device;
	struct mts_model *model;
	bool own_model;
	struct mts_weights *weights;
	bool own_weights;
	struct mts_tier *tier;
	uint32_t tasks;
	char numerics[160];

	/* the locked part */
	pthread_mutex_t lock;
	pthread_cond_t wake;    /* engine thread: inbox, completions, passes done */
	pthread_cond_t replied; /* reapers */
	uint64_t rings;         /* of the wake bell */
	bool closing;
	struct mts_job_list free, inbox, outbox;
	struct mts_counters published;
	struct mts_histogram plan; /* ns per pass: look up, reserve, submit, fill */

	/* the engine thread's */
	pthread_t thread;
	bool started;
	struct mts_job *jobs;
	struct mts_job_list waiting, active, erasing;
	unsigned actives;
	struct mts_step step[MTS_STEPS];
	unsigned launched, finished; /* passes so far; in flight between */
	struct mts_device_stats last; /* of the compute queue, when the last finished pass ended */
	struct mts_job_list replies; /* to go to the outbox together: callers are woken once */
	struct mts_counters n;
};

/* server.c: wakes the engine thread; any thread */
void mts_server_ring(struct mts_server *s);
/*
 * server.c: opens on a device and model that the caller owns and that outlive the server. weights may
 * be NULL (the server makes its own); given, they have MTS_STEPS slots of step_tokens rows, and only
 * one of the servers that share them has requests under way at a time.
 */
int mts_server_open_on(const struct mts_server_config *cfg, struct mts_device *dev,
		       struct mts_model *m, struct mts_weights *weights, struct mts_server **out,
		       struct mts_error *err);

/* engine.c */
void *mts_engine_main(void *server);
void mts_engine_reply(struct mts_server *s, struct mts_job *j, int result);
/* Drops the lease and starts over without the cache, or gives up if that was tried. */
void mts_engine_retry(struct mts_server *s, struct mts_job *j, int error);

/* plan.c: moves what can start from waiting to active, its loads submitted. */
bool mts_engine_admit(struct mts_server *s);
/* batch.c: fills the step from the active jobs; its rows. */
uint32_t mts_engine_fill(struct mts_server *s, struct mts_step *step);

#endif
