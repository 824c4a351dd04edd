/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: a request trace through the whole system, in up to four modes side by side.
 *
 * Floor: cmd. One thread. cmd_replay.c reads the options, replay_load.c the trace, replay_run.c runs
 * the modes in a closed loop, replay_open.c in an open one, replay_report.c prints what came out, replay_plot.c draws it.
 */
#ifndef MTS_REPLAY_H
#define MTS_REPLAY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "cmd/args.h"
#include "cmd/trace.h"
#include "engine/engine.h"
#include "engine/histogram.h"

enum mts_mode { MTS_RECOMPUTE, MTS_DEVICE_ONLY, MTS_HIERARCHICAL, MTS_UNBOUNDED, MTS_MODES };

extern const char *const mts_mode_names[MTS_MODES];
extern const char *const mts_plan_names[]; /* by MTS_PLAN_ */

struct mts_replay_options {
	const char *trace, *events, *model, *device, *json, *arena, *policy;
	struct mts_amount device_mem, host_mem;
	unsigned modes; /* bit set of enum mts_mode */
	unsigned threads, page_tokens, batch, step_tokens, inflight, segments, recompute_batch,
		recompute_step_tokens;
	uint64_t requests; /* at most; 0 = all */
	bool kv_bf16, appends;
	double link_gbps, copy_us;
	int node;
	unsigned plan; /* MTS_PLAN_ */
	bool open_loop;
	double rate, speedup; /* open loop: Poisson at so many a second, or the trace's times */
	double deadline_ms;   /* open loop; 0 = none */
	uint64_t warmup;      /* open loop: rows served first, not counted */
	const char *require[32];
	unsigned requires;
	const char *plot; /* folder, or NULL */
};

struct mts_replay_request {
	struct mts_trace_request t;
	uint32_t nth;  /* of its user in the trace; 0: first visit */
	uint32_t slot; /* which user, dense */
	uint64_t log_first; /* life index of the user's first event in the event file */
};

/* The trace in memory, and what it needs. */
struct mts_replay_trace {
	struct mts_replay_request *req;
	size_t n;
	uint32_t users;
	uint32_t max_candidates;
	uint64_t footprint_pages; /* sum over users of their largest window */
	uint32_t largest_window;  /* pages */
	struct mts_events *events; /* or NULL: items by hash */
};

int mts_replay_load(const struct mts_replay_options *o, const struct mts_model_config *c,
		    struct mts_replay_trace *out, struct mts_error *err);
void mts_replay_unload(struct mts_replay_trace *t);
/* Writes the visible window of a request into events; its length. */
uint32_t mts_replay_window(const struct mts_replay_trace *t, const struct mts_replay_request *r,
			   const struct mts_model_config *c, struct mts_event *events,
			   uint64_t *start);

struct mts_hits {
	uint64_t requests, tokens;
	uint64_t token_device, token_host;
	uint64_t request_device, request_host;
};

/* Where a request's time goes; the parts of each request add up to its latency. */
enum mts_stage {
	MTS_QUEUED,   /* until its pages were reserved and its loads submitted */
	MTS_AWAITING,  /* until its first pass was launched */
	MTS_BEHIND,   /* other passes ran, before or between its own */
	MTS_ONLOAD,   /* the computation stood still: a load was not there yet */
	MTS_COMPUTED, /* its passes ran */
	MTS_REPLIED,  /* from the end of its last pass to the reply */
	MTS_STAGES
};

extern const char *const mts_stage_names[MTS_STAGES];

/* What a request turned out to be; refused: by the server, or for lack of room in its queue. */
enum mts_class {
	MTS_DEVICE_HIT,
	MTS_HOST_HIT,
	MTS_WINDOW_MOVE,
	MTS_FIRST_VISIT, /* nothing was cached */
	MTS_REFUSED,
	MTS_CLASSES
};

extern const char *const mts_class_names[MTS_CLASSES];

struct mts_open_result {
	struct mts_histogram class[MTS_CLASSES]; /* ns, from the scheduled time */
	uint64_t offered;     /* requests that came */
	uint64_t refused;     /* by the server: -EBUSY, -ETIME */
	uint64_t turned_away; /* by its queue */
	uint64_t late;        /* served, after their deadline */
	uint64_t late_ns_p99; /* submitted after the scheduled time by */
};

struct mts_mode_result {
	bool ran;
	uint64_t requests, warm_requests, failed;
	uint64_t ns;
	struct mts_histogram latency;
	struct mts_hits hit, hit_warm;
	uint64_t window_moves;
	uint64_t compute_wait_ns;
	struct mts_counters counters; /* at the end */
	uint64_t *warm_ns;            /* [segments] */
	struct mts_hits *segment_hit; /* [segments] all requests */
	struct mts_histogram stage[MTS_STAGES];
	struct mts_open_result open;
	double max_score_diff;
	uint64_t differing; /* requests with any differing score bit */
};

struct mts_replay_result {
	struct mts_mode_result mode[MTS_MODES];
	unsigned segments;
	struct mts_server_info info; /* of the last mode opened */
	struct mts_server_info host; /* of the mode with a host tier, if it ran */
	uint64_t device_bytes, host_bytes, footprint_bytes;
	uint64_t *rss; /* [segments] resident memory of the process at the end of each */
	bool any_diff; /* recompute ran beside another mode */
};

int mts_replay_run(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		   struct mts_model *m, struct mts_replay_result *out, struct mts_error *err);
void mts_replay_result_free(struct mts_replay_result *r);

void mts_replay_print(FILE *f, const struct mts_replay_options *o, const struct mts_replay_trace *t,
		      const struct mts_replay_result *r);
/* The results under their fixed names; NULL without memory. The caller's to json_decref. */
json_t *mts_replay_json(const struct mts_replay_options *o, const struct mts_replay_trace *t,
			const struct mts_model_config *c, const struct mts_replay_result *r);
/* The open loop's part of both: a table, and a mode's object. */
void mts_replay_open_print(FILE *f, const struct mts_replay_options *o,
			   const struct mts_replay_result *r);
json_t *mts_replay_open_json(const struct mts_mode_result *m);
int mts_replay_write_json(const char *path, const json_t *result, struct mts_error *err);
/*
 * "NAME >= NUMBER" or "NAME <= NUMBER", NAME a dotted path into the results: 0; -ERANGE with what it
 * is instead; -EINVAL. A result that is null meets nothing.
 */
int mts_replay_require(const json_t *result, const char *text, struct mts_error *err);

/* 0 where gnuplot can be run; else -ENOENT and what to install. */
int mts_replay_plot_check(struct mts_error *err);
/* Writes latency, hits and stages as NAME.svg into o->plot, and beside each what made it, NAME.gp. */
int mts_replay_plot(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		    const struct mts_replay_result *r, struct mts_error *err);

/* Ratio of two modes' warm time over the segments: median, least, greatest. */
struct mts_ratio {
	bool valid;
	double median, min, max;
};
struct mts_ratio mts_replay_ratio(const struct mts_replay_result *r, enum mts_mode over,
				  enum mts_mode under);

#endif
