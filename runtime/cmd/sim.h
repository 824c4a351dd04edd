/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation: a request trace through the cache and its policies, without model or bytes.
 *
 * Floor: cmd. One thread.
 *
 *   sim_trace.c   the trace read twice: what is in it, then request by request with its future
 *   sim_run.c     one lane per (device memory, host memory, policy); all lanes in one pass
 *   sim_belady.c  the reference that knows the future
 *   sim_report.c  table, JSON, plots
 *   cmd_sim.c     options
 *
 * A lane is a tier opened on lengths (cache/tier.h), so that what decides here is what decides in
 * the server, or the reference. What a request could have found is worked out once for all lanes.
 */
#ifndef MTS_SIM_H
#define MTS_SIM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "cache/tier.h"
#include "cmd/args.h"
#include "cmd/trace.h"

#define MTS_SIM_NEVER UINT64_MAX

struct mts_sim_options {
	const char *trace;
	uint64_t bytes_per_token;
	uint64_t max_history, slide; /* max_history 0: no cap */
	uint32_t page_tokens;
	struct mts_amount *device, *host;
	unsigned devices, hosts;     /* hosts 0: one host without end */
	const char **policy;         /* "belady" is one of them */
	unsigned policies;
};

/* ---- sim_trace.c ---- */

/* One row, and what any cache could know or have of it. */
struct mts_sim_request {
	uint64_t time_ms, user, n, start;
	uint64_t next;      /* number of the user's next request, or MTS_SIM_NEVER */
	uint32_t slot;      /* which user, dense */
	uint32_t visible;   /* tokens in the window */
	uint32_t valid;     /* of these, encoded before and still valid */
	uint32_t content;   /* tokens that stay valid after it; more than visible if it fell */
	bool first;         /* the user's first request */
	bool hint_only;
	uint8_t hint;       /* enum mts_trace_hint */
};

struct mts_sim_trace {
	uint64_t requests, users, footprint_tokens;
	struct mts_sim_users *known;
	struct mts_sim_next *next;
	struct mts_trace *file;
	uint64_t at; /* requests read by mts_sim_read */
};

/*
 * Reads the file once for its footprint and every request's next use (kept in an unlinked temporary
 * file, 8 bytes a request), and opens it again for mts_sim_read. Memory grows with users only.
 */
int mts_sim_open(const struct mts_sim_options *o, struct mts_sim_trace *out, struct mts_error *err);
/* Up to max rows: their number, 0 at the end, -errno. */
int mts_sim_read(const struct mts_sim_options *o, struct mts_sim_trace *t,
		 struct mts_sim_request *out, unsigned max, struct mts_error *err);
void mts_sim_close(struct mts_sim_trace *t);

/* ---- sim_belady.c ---- */

struct mts_belady;

int mts_belady_open(uint64_t pages, uint32_t page_tokens, uint64_t users, struct mts_belady **out);
void mts_belady_close(struct mts_belady *b);
/* Serves a request; how many of its valid tokens were there. */
uint32_t mts_belady_serve(struct mts_belady *b, const struct mts_sim_request *q);

/* ---- sim_run.c ---- */

/* Requests and tokens of a kind, and how many of them missed. */
struct mts_sim_miss {
	uint64_t requests, tokens, missed_requests, missed_tokens;
};

struct mts_sim_lane {
	unsigned device, host, policy; /* indices into the options */
	struct mts_tier *tier;         /* or: */
	struct mts_belady *belady;
	uint64_t pages;
	struct mts_sim_miss all, warm;
	uint64_t onloaded_tokens;
	uint64_t too_large;            /* requests whose window exceeds the device */
	double seconds;                /* of processor time */
};

struct mts_sim_result {
	struct mts_sim_lane *lane; /* [device][host][policy] */
	unsigned lanes;
	uint64_t *device_bytes, *host_bytes;
	double read_seconds;       /* the trace, without the lanes */
};

/* Called every so often; done of all requests. */
typedef void (*mts_sim_progress)(uint64_t done, uint64_t all);

int mts_sim_run(const struct mts_sim_options *o, struct mts_sim_trace *t, mts_sim_progress progress,
		struct mts_sim_result *out, struct mts_error *err);
void mts_sim_result_free(struct mts_sim_result *r);

/* ---- sim_report.c ---- */

void mts_sim_print(FILE *f, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		   const struct mts_sim_result *r);
/* NULL without memory; the caller's to json_decref. */
json_t *mts_sim_json(const struct mts_sim_options *o, const struct mts_sim_trace *t,
		     const struct mts_sim_result *r);
/* Writes DIR/miss-token.svg and DIR/miss-request.svg with gnuplot; makes DIR. */
int mts_sim_plot(const char *dir, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		 const struct mts_sim_result *r, struct mts_error *err);

#endif
