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
 *   turn.c     requests of one user, one at a time
 *   plan.c     take: price, refuse what would be late; admit: look up, reserve, onload
 *   batch.c    which rows go into the next pass, and when
 *   choose.c   load, recompute, or some of both
 *   price.c    what passes and loads cost, learned while serving
 *   server.c   the public calls
 */
#ifndef MTS_ENGINE_H
#define MTS_ENGINE_H

#include <pthread.h>
#include <stdbool.h>

#include "cache/tier.h"
#include "engine/histogram.h"
#include "engine/price.h"
#include "memory/park.h"
#include "model/model.h"

enum mts_job_kind { MTS_JOB_REQUEST, MTS_JOB_SESSION_END, MTS_JOB_PREFETCH, MTS_JOB_FORGET };

/*
 * Quick jobs, device hits above all, go before slow ones, which have much to compute or to load. Each
 * kind is served in the order of arrival.
 */
enum mts_pace { MTS_QUICK, MTS_SLOW, MTS_PACES };

struct mts_job {
	TAILQ_ENTRY(mts_job) link;
	UT_hash_handle hh;       /* turn.c: the first job of its user */
	struct mts_job *behind;  /* turn.c: the user's next job */
	struct mts_job *last;    /* turn.c: of the first job: the end of that chain */
	enum mts_job_kind kind;
	enum mts_pace pace;
	double cost_ns;          /* what is left to compute; part of the server's backlog */
	uint64_t loaded_ns;      /* when its load should be over */
	uint32_t overtaken;      /* requests admitted while it found no room */
	struct mts_request req;
	struct mts_reply reply;
	struct mts_lease *lease;
	uint32_t visible;
	uint32_t cursor;     /* history tokens stored, or in a pass under way */
	uint32_t hole, hole_end; /* history tokens that come by load; cursor skips them */
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
	double pairs;           /* of query and key */
	double cost_ns[MTS_PACES]; /* expected, by whose rows they are */
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
	struct mts_job *turns;  /* uthash: of every user with jobs, the first */
	struct mts_job_list fresh; /* not yet looked at */
	struct mts_job_list waiting[MTS_PACES], active, erasing;
	unsigned actives, active_of[MTS_PACES];
	uint64_t deadline_ns;   /* no waiting job has an earlier one; UINT64_MAX: none has any */
	uint64_t wake_ns;       /* when there may be something to do without a ring */

	struct mts_price price;
	double backlog_ns[MTS_PACES]; /* to compute, of jobs waiting and active */
	uint64_t busy_ns;       /* until when the passes in flight should run */
	uint64_t link_busy_ns;  /* until when the loads under way should run */
	uint64_t plan_ns;       /* when to fill the next pass unless it is full before */
	uint64_t planning_ns;   /* spent since the last pass */
	uint64_t quick_seen_ns; /* when the last quick job came */
	double quick_ns;        /* what quick jobs cost, on average */
	uint64_t computed_ns;   /* when the last pass ended */
	double quick_share;     /* of the time, spent on quick jobs */
	uint32_t unlinked;      /* plans since the last one that loaded */
	double credit_ns;       /* what slow jobs are owed */
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

/* turn.c: 0: it is its user's first; 1: it waits behind another; -ENOMEM */
int mts_turn_take(struct mts_server *s, struct mts_job *j);
/* turn.c: j leaves; the next job of its user becomes fresh */
void mts_turn_pass(struct mts_server *s, struct mts_job *j);

/* plan.c: looks at fresh jobs: hints are followed, requests priced and put into line or refused. */
bool mts_engine_take(struct mts_server *s);
/* plan.c: moves what can start from waiting to active, its loads submitted. */
bool mts_engine_admit(struct mts_server *s);
/* plan.c: into line, among those of its pace; first: before them */
void mts_engine_wait(struct mts_server *s, struct mts_job *j, bool first);
/* plan.c: how long a load of so many tokens takes once it has the link */
double mts_engine_load_ns(const struct mts_server *s, uint32_t tokens);
/*
 * choose.c: the first token to load of those the match has on the host; those before it are computed
 * afresh. queue_ns, link_ns: how long the compute queue and the link are busy already.
 */
uint32_t mts_engine_choose(struct mts_server *s, const struct mts_job *j, const struct mts_match *m,
			   double queue_ns, double link_ns);
/* plan.c: sets what is left of a job to compute */
void mts_engine_cost(struct mts_server *s, struct mts_job *j, double ns);

/* batch.c: whether a pass filled now would be full, so that waiting for more is of no use. */
bool mts_engine_full(const struct mts_server *s, uint64_t now);
/* batch.c: fills the step from the active jobs; its rows. */
uint32_t mts_engine_fill(struct mts_server *s, struct mts_step *step, uint64_t now);

#endif
