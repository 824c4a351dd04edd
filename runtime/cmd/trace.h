/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request traces: reading, writing, generating, importing, describing them.
 *
 * Top floor (cmd), beneath the commands; depends on error.h and
 * engine/histogram.h alone.
 * Nothing here prints or exits. Every handle belongs to one thread at a time.
 *
 * A request file is CSV with a header; columns are found by name, in any order:
 *
 *	time_ms     when, in ms from any origin; rows ascend
 *	user_id     any unsigned 64-bit number
 *	history     events in the user's life at that time; may stay or fall
 *	candidates  items to be scored; 0 is a request that encodes only
 *	hint        optional: "open" (the user is about to ask), "end" (the session is over),
 *	            "none" or empty
 *
 * A row with a hint and no candidates is the hint alone, not a request: nothing is to be served.
 * A row with a hint and candidates is a request, with "open" told before it or "end" after it.
 *
 * An event file has the columns time_ms, user_id, item_id, action, rows ascending in time; the
 * ids are those of the log it came from. A user's first event there follows the `history` of that
 * user's first request in the request file written beside it.
 *
 * Errors: -EINVAL with "FILE:LINE: what, expected what" for content; -ENOENT, -EACCES, -EIO,
 * -ENOSPC ... from the system with "FILE: reason"; -ENOMEM.
 */
#ifndef MTS_TRACE_H
#define MTS_TRACE_H

#include "error.h"

#include <stdbool.h>
#include <stdint.h>

/* Larger numbers are refused as absurd: the end of the year 9999, a life of 10^9 events, ... */
#define MTS_TRACE_TIME_MAX	 253402300799999ULL
#define MTS_TRACE_HISTORY_MAX	 1000000000ULL
#define MTS_TRACE_CANDIDATES_MAX 65536U

enum mts_trace_hint {
	MTS_TRACE_HINT_NONE = 0,
	MTS_TRACE_HINT_END = 1,
	MTS_TRACE_HINT_OPEN = 2,
};

struct mts_trace_request {
	uint64_t time_ms;
	uint64_t user;
	uint64_t history;
	uint32_t candidates;
	uint8_t hint; /* enum mts_trace_hint */
};

/* True where the row only carries a hint (above). */
static inline bool mts_trace_hint_only(const struct mts_trace_request *r)
{
	return r->hint != MTS_TRACE_HINT_NONE && r->candidates == 0;
}

/* --- Reading requests (trace_read.c) --- */

struct mts_trace;

/*
 * Opens a request file and reads its header; path "-" is standard input. On success *out must be
 * closed by the caller. Memory is constant, whatever the file's length.
 */
int mts_trace_open(const char *path, struct mts_trace **out, struct mts_error *err);

/* Next row into *out: 1, or 0 at the end, or -errno; after an error only close is useful. */
int mts_trace_next(struct mts_trace *t, struct mts_trace_request *out, struct mts_error *err);

/* NULL is allowed. */
void mts_trace_close(struct mts_trace *t);

/* --- Writing requests and events (trace_write.c) --- */

struct mts_trace_writer;

/* Which columns a writer has. */
enum mts_trace_kind {
	MTS_TRACE_REQUESTS, /* time_ms,user_id,history,candidates */
	MTS_TRACE_HINTED,   /* the same and hint */
	MTS_TRACE_EVENTS,   /* time_ms,user_id,item_id,action */
};

/* An event as a log has it; ids are not yet mapped to a model's. */
struct mts_trace_log_event {
	uint64_t time_ms;
	uint64_t user;
	uint64_t item;
	uint32_t action;
};

/* Creates or truncates the file; path "-" is standard output. */
int mts_trace_create(const char *path, enum mts_trace_kind kind, struct mts_trace_writer **out,
		     struct mts_error *err);

/*
 * One row each; the caller keeps times ascending and uses the function that fits the kind. A
 * failure to write is kept and told by mts_trace_commit.
 */
void mts_trace_put(struct mts_trace_writer *w, const struct mts_trace_request *r);
void mts_trace_put_event(struct mts_trace_writer *w, const struct mts_trace_log_event *e);

/*
 * Ends the writing: flushes, closes, frees w in any case. -errno if anything did not reach the
 * file, which is then removed, so that a cut trace is never taken for a whole one.
 */
int mts_trace_commit(struct mts_trace_writer *w, struct mts_error *err);

/* Gives up: closes and removes what was written, frees w. NULL is allowed. */
void mts_trace_discard(struct mts_trace_writer *w);

/* --- Items and actions (trace_event.c) --- */

/*
 * Event number `index` (from 0) of a user's life, where the trace has no items: a fixed hash, so
 * that a history is the same wherever it is rebuilt. *item in [0, items), *action in
 * [1, actions - 1]. items >= 1, actions >= 2.
 */
void mts_trace_event(uint64_t user, uint64_t index, uint32_t items, uint32_t actions,
		     uint32_t *item, uint32_t *action);

/* Candidate j of a user's request number `request` (from 0), in [0, items). */
uint32_t mts_trace_candidate(uint64_t user, uint64_t request, uint32_t j, uint32_t items);

struct mts_trace_item {
	uint64_t item;
	uint32_t action;
};

/* A log's ids mapped to a model's, with the ranges of mts_trace_event. */
void mts_trace_map(const struct mts_trace_item *e, uint32_t items, uint32_t actions,
		   uint32_t *item, uint32_t *action);

struct mts_events;

/* Loads an event file ("-": standard input) into memory, 16 bytes an event. */
int mts_events_load(const char *path, struct mts_events **out, struct mts_error *err);

/*
 * A user's events in the file, oldest first; NULL and *count = 0 for a stranger. They stay where
 * they are until mts_events_free. Any number of threads may look up at once.
 */
const struct mts_trace_item *mts_events_of(const struct mts_events *e, uint64_t user,
					   uint64_t *count);

/* NULL is allowed. */
void mts_events_free(struct mts_events *e);

/* --- Generating (trace_gen.c) --- */

enum mts_gen_profile { MTS_GEN_SHORTVIDEO, MTS_GEN_SHOP };

struct mts_gen_options {
	enum mts_gen_profile profile;
	uint64_t users;		/* ids 1 .. users */
	double days;		/* length; fractions allowed */
	double start_hour;	/* time_ms counts from Monday 0 h; so does this */
	uint64_t seed;
	uint32_t request_every;	/* events; short video only */
	uint32_t candidates;
	bool hints;		/* rows for session starts and ends too */
	bool no_earlier;	/* every history begins at 0 instead of in mid life */
};

struct mts_gen;

/*
 * Starts a generator. Rows depend on the options alone. A user's sessions depend on seed, user and
 * day, not on the window, so that a short window is a cut out of the long trace (only `history`
 * is counted from the window's start). -EINVAL for options out of range, -ENOMEM. Memory grows
 * with users, not with days.
 */
int mts_gen_open(const struct mts_gen_options *options, struct mts_gen **out,
		 struct mts_error *err);

/* Next row, ascending in time, ties by user: 1, or 0 at the end, or -ENOMEM. */
int mts_gen_next(struct mts_gen *g, struct mts_trace_request *out, struct mts_error *err);

/* NULL is allowed. */
void mts_gen_close(struct mts_gen *g);

/*
 * Events a user had before a trace begins: lognormal, median and sigma by profile (8,327 and 0.85
 * for short video, 600 and 1.25 for shops). For a log that shows only a part of a life, seeded
 * with the user id alone.
 */
uint64_t mts_gen_earlier(enum mts_gen_profile profile, uint64_t user);

/* --- Importing public logs (trace_import.c) --- */

enum mts_import_earlier { MTS_EARLIER_FORMAT, MTS_EARLIER_NONE, MTS_EARLIER_SHOP,
			  MTS_EARLIER_SHORTVIDEO };

struct mts_import_options {
	const char *format;	   /* a name of mts_import_formats() */
	uint64_t session_gap_ms;   /* a longer silence begins a new request */
	uint32_t request_every;	   /* events; so does this many */
	bool mtserve_rule;	   /* instead of both: one request per 60 s of a user's activity */
	enum mts_import_earlier earlier; /* MTS_EARLIER_FORMAT: what suits the format */
	uint64_t users;		   /* keep at most so many, drawn by seed; 0 keeps all */
	uint64_t seed;
	uint32_t candidates;
	bool skip_bad;		   /* leave unusable rows out instead of refusing the file */
};

struct mts_import_result {
	uint64_t events, requests, users, skipped;
};

/* "kuairand, movielens, ...": for a help text. */
const char *mts_import_formats(void);

/*
 * Reads the files of one log whole (40 bytes an event), sorts by time, groups and writes the
 * requests to `requests`, the events to `events` unless NULL ("-": standard output). A request is
 * made at the first event of its group and does not know it yet: history counts the events before.
 */
int mts_import(const struct mts_import_options *options, const char *const *files, int n_files,
	       const char *requests, const char *events, struct mts_import_result *result,
	       struct mts_error *err);

/* --- Telling session ends (trace_hints.c) --- */

struct mts_hints_options {
	double reliability;	 /* share of the ends that are told, 0 to 1 */
	uint64_t session_gap_ms; /* a longer silence ends a session; so does the trace's end */
	uint64_t after_ms;	 /* told so long after the session's last request; at most the gap */
	uint64_t seed;		 /* of which ends are left out */
};

struct mts_hints_result {
	uint64_t requests, sessions, hints;
};

/*
 * Copies a request file, which is read twice, to `output` ("-": standard output) with a row `end`
 * for each session's end; rows that carry hints already stay. Memory grows with users, and by a bit
 * a request.
 */
int mts_trace_hints(const struct mts_hints_options *options, const char *path, const char *output,
		    struct mts_hints_result *result, struct mts_error *err);

/* --- Describing (trace_stat.c) --- */

struct mts_stat_options {
	uint64_t max_history;	 /* H and S of the model: a window holds H-S+1 to H events; */
	uint64_t slide;		 /* max_history 0: no cap */
	uint64_t session_gap_ms; /* a longer silence ends a session */
};

struct mts_stat_spread {
	double mean;
	uint64_t p10, p50, p90, p99, max; /* within 1.6 % */
};

struct mts_trace_stat {
	uint64_t requests, hints, users;
	uint64_t first_ms, last_ms;
	struct mts_stat_spread history;	      /* at each request */
	struct mts_stat_spread new_events;    /* a user's last history less its first */
	struct mts_stat_spread interval_ms;   /* from a request to the same user's next */
	double again_5min, again_1h;	      /* share of requests with the user back by then */
	uint64_t sessions;
	double open_mean;		      /* sessions open at once, over time, from first to */
	uint64_t open_p99;		      /* last request of each */
	double back_1h, back_1d;	      /* share of sessions with another begun by then */
	uint64_t past_cap, window_moves;      /* requests */
	uint64_t footprint_tokens;	      /* sum over users of their largest visible window */
};

/* Reads the trace once ("-": standard input); memory grows with users only. */
int mts_trace_stat(const char *path, const struct mts_stat_options *options,
		   struct mts_trace_stat *out, struct mts_error *err);

#endif
