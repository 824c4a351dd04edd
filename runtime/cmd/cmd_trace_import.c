/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace import: makes a request trace from a public log of events.
 */
#include "cmd/cmd_trace.h"
#include "cmd/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OPT_FORMAT = 256, OPT_GAP, OPT_EVERY, OPT_MTSERVE, OPT_EARLIER, OPT_USERS, OPT_SEED,
       OPT_CANDIDATES, OPT_EVENTS, OPT_SKIP };

static const struct argp_option options[] = {
	{ "format", OPT_FORMAT, "NAME", 0, "kuairand, movielens, retailrocket or taobao", 0 },
	{ "session-gap", OPT_GAP, "TIME", 0, "a longer silence begins a new request (30m)", 0 },
	{ "request-every", OPT_EVERY, "N", 0, "so do N events (6)", 0 },
	{ "mtserve-rule", OPT_MTSERVE, NULL, 0,
	  "instead of both: one request per 60 s of a user's activity", 0 },
	{ "earlier", OPT_EARLIER, "LAW", 0,
	  "history before the log, drawn by user id: shop, shortvideo or none (what suits the "
	  "format)", 0 },
	{ "users", OPT_USERS, "N", 0, "keep at most N users, drawn by --seed (all)", 0 },
	{ "seed", OPT_SEED, "S", 0, "which users are drawn (1)", 0 },
	{ "candidates", OPT_CANDIDATES, "N", 0, "items to score in each request (100)", 0 },
	{ "events", OPT_EVENTS, "FILE", 0, "also write the events, with items and actions", 0 },
	{ "skip-bad", OPT_SKIP, NULL, 0,
	  "leave unusable rows out and tell how many, instead of refusing the file", 0 },
	{ "output", 'o', "FILE", 0, "where to write the requests (-: standard output)", 0 },
	{ 0 },
};

struct arguments {
	struct mts_import_options o;
	const char *output, *events;
	const char *const *files;
	int n_files;
};

static enum mts_import_earlier parse_earlier(const struct argp_state *state, const char *text)
{
	if (!strcmp(text, "shop"))
		return MTS_EARLIER_SHOP;
	if (!strcmp(text, "shortvideo"))
		return MTS_EARLIER_SHORTVIDEO;
	if (strcmp(text, "none"))
		argp_error(state, "--earlier is \"%s\", expected shop, shortvideo or none", text);
	return MTS_EARLIER_NONE;
}

static void check_all(const struct argp_state *state, const struct arguments *a)
{
	if (!a->o.format)
		argp_error(state, "no format, expected --format with one of %s",
			   mts_import_formats());
	if (!a->n_files)
		argp_error(state, "no log, expected at least one FILE");
	if (a->events && !strcmp(a->events, a->output))
		argp_error(state, "requests and events go to the same place, expected two");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPT_FORMAT:
		a->o.format = arg;
		return 0;
	case OPT_GAP:
		a->o.session_gap_ms = mts_arg_duration_ms(state, "session-gap", arg);
		return 0;
	case OPT_EVERY:
		a->o.request_every = (uint32_t)mts_arg_u64(state, "request-every", arg, 1,
								 1000000);
		return 0;
	case OPT_MTSERVE:
		a->o.mtserve_rule = true;
		return 0;
	case OPT_EARLIER:
		a->o.earlier = parse_earlier(state, arg);
		return 0;
	case OPT_USERS:
		a->o.users = mts_arg_u64(state, "users", arg, 1, UINT64_MAX);
		return 0;
	case OPT_SEED:
		a->o.seed = mts_arg_u64(state, "seed", arg, 0, UINT64_MAX);
		return 0;
	case OPT_CANDIDATES:
		a->o.candidates = (uint32_t)mts_arg_u64(state, "candidates", arg, 0,
							MTS_TRACE_CANDIDATES_MAX);
		return 0;
	case OPT_EVENTS:
		a->events = arg;
		return 0;
	case OPT_SKIP:
		a->o.skip_bad = true;
		return 0;
	case 'o':
		a->output = arg;
		return 0;
	case ARGP_KEY_ARGS:
		a->files = (const char *const *)state->argv + state->next;
		a->n_files = state->argc - state->next;
		return 0;
	case ARGP_KEY_END:
		check_all(state, a);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "--format NAME FILE...",
	.doc = "Make a request trace from the files of a public log of events: sorted by time, "
	       "grouped into requests, with an earlier history where the log shows only a part of "
	       "its users' lives.",
};

int mts_cmd_trace_import(int argc, char **argv)
{
	struct arguments a = { .o = { .session_gap_ms = 30 * 60000, .request_every = 6, .seed = 1,
				      .candidates = 100 }, .output = "-" };
	struct mts_import_result result;
	struct mts_error err;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (mts_import(&a.o, a.files, a.n_files, a.output, a.events, &result, &err)) {
		fprintf(stderr, "mtserve trace: %s\n", err.text);
		return 1;
	}
	fprintf(stderr, "%" PRIu64 " events, %" PRIu64 " users, %" PRIu64 " requests",
		result.events, result.users, result.requests);
	if (a.o.skip_bad)
		fprintf(stderr, ", %" PRIu64 " rows skipped", result.skipped);
	fputc('\n', stderr);
	return 0;
}
