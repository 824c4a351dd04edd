/* SPDX-License-Identifier: Apache-2.0 */
/* mtserve trace hints: adds session ends to a trace that lacks them. Floor: cmd; one thread. */
#include "cmd/cmd_trace.h"
#include "cmd/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OPT_RELIABILITY = 256, OPT_GAP, OPT_AFTER, OPT_SEED };

static const struct argp_option options[] = {
	{ "reliability", OPT_RELIABILITY, "P", 0, "share of the ends that are told (1)", 0 },
	{ "session-gap", OPT_GAP, "TIME", 0, "a longer silence ends a session (30m)", 0 },
	{ "after", OPT_AFTER, "TIME", 0, "how long after the last request the end is told (20s)", 0 },
	{ "seed", OPT_SEED, "N", 0, "which ends are left out (1)", 0 },
	{ "output", 'o', "FILE", 0, "where to write (-: standard output)", 0 },
	{ 0 },
};

struct arguments {
	struct mts_hints_options o;
	const char *trace, *output;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPT_RELIABILITY:
		a->o.reliability = mts_arg_number(state, "reliability", arg);
		if (a->o.reliability > 1)
			argp_error(state, "--reliability is %s, expected 0 to 1", arg);
		return 0;
	case OPT_GAP:
		a->o.session_gap_ms = mts_arg_duration_ms(state, "session-gap", arg);
		return 0;
	case OPT_AFTER:
		a->o.after_ms = mts_arg_duration_ms(state, "after", arg);
		return 0;
	case OPT_SEED:
		a->o.seed = mts_arg_u64(state, "seed", arg, 0, UINT64_MAX);
		return 0;
	case 'o':
		a->output = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->trace)
			argp_error(state, "unexpected \"%s\", expected one trace", arg);
		a->trace = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->trace || !strcmp(a->trace, "-"))
			argp_error(state, "expected a FILE, it is read twice");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "FILE",
	.doc = "Add session ends to a request trace, as an application would tell them: some time "
	       "after a session's last request, and not always.",
};

int mts_cmd_trace_hints(int argc, char **argv)
{
	struct arguments a = { .o = { .reliability = 1, .session_gap_ms = 30 * 60000,
				      .after_ms = 20000, .seed = 1 }, .output = "-" };
	struct mts_hints_result result;
	struct mts_error err;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (mts_trace_hints(&a.o, a.trace, a.output, &result, &err)) {
		fprintf(stderr, "mtserve trace: %s\n", err.text);
		return 1;
	}
	fprintf(stderr, "%" PRIu64 " requests, %" PRIu64 " sessions, %" PRIu64 " ends told\n",
		result.requests, result.sessions, result.hints);
	return 0;
}
