/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace gen: writes a generated request trace.
 */
#include "cmd/cmd_trace.h"
#include "cmd/trace.h"

#include <stdio.h>
#include <string.h>

enum { OPT_PROFILE = 256, OPT_USERS, OPT_DAYS, OPT_SEED, OPT_START, OPT_EVERY, OPT_CANDIDATES,
       OPT_HINTS, OPT_NO_EARLIER };

static const struct argp_option options[] = {
	{ "profile", OPT_PROFILE, "NAME", 0, "shortvideo (default) or shop", 0 },
	{ "users", OPT_USERS, "N", 0, "number of users (1000)", 0 },
	{ "days", OPT_DAYS, "D", 0, "length in days, fractions allowed (1)", 0 },
	{ "start-hour", OPT_START, "H", 0,
	  "begin H hours after Monday 0:00 (0); with a short --days this cuts out a window, "
	  "say the evening from 20", 0 },
	{ "seed", OPT_SEED, "S", 0, "the same seed makes the same trace (1)", 0 },
	{ "request-every", OPT_EVERY, "N", 0, "a request every N events, short video only (6)", 0 },
	{ "candidates", OPT_CANDIDATES, "N", 0, "items to score in each request (100)", 0 },
	{ "hints", OPT_HINTS, NULL, 0,
	  "add the column hint, and rows that tell when a session opens and ends", 0 },
	{ "no-earlier", OPT_NO_EARLIER, NULL, 0,
	  "begin every user's history at 0 instead of in mid life", 0 },
	{ "output", 'o', "FILE", 0, "where to write; - is standard output", 0 },
	{ 0 },
};

struct arguments {
	struct mts_gen_options o;
	bool every_given;
	const char *output;
};

static enum mts_gen_profile parse_profile(const struct argp_state *state, const char *text)
{
	if (strcmp(text, "shop") && strcmp(text, "shortvideo"))
		argp_error(state, "--profile is \"%s\", expected shortvideo or shop", text);
	return strcmp(text, "shop") ? MTS_GEN_SHORTVIDEO : MTS_GEN_SHOP;
}

static void check_all(const struct argp_state *state, const struct arguments *a)
{
	if (!a->output)
		argp_error(state, "no output, expected -o FILE");
	if (a->every_given && a->o.profile == MTS_GEN_SHOP)
		argp_error(state, "--request-every has no meaning for the shop profile");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPT_PROFILE:
		a->o.profile = parse_profile(state, arg);
		return 0;
	case OPT_USERS:
		a->o.users = mts_arg_u64(state, "users", arg, 1, 100000000);
		return 0;
	case OPT_DAYS:
		a->o.days = mts_arg_number(state, "days", arg);
		return 0;
	case OPT_START:
		a->o.start_hour = mts_arg_number(state, "start-hour", arg);
		return 0;
	case OPT_SEED:
		a->o.seed = mts_arg_u64(state, "seed", arg, 0, UINT64_MAX);
		return 0;
	case OPT_EVERY:
		a->o.request_every = (uint32_t)mts_arg_u64(state, "request-every", arg, 1,
								 1000000);
		a->every_given = true;
		return 0;
	case OPT_CANDIDATES:
		a->o.candidates = (uint32_t)mts_arg_u64(state, "candidates", arg, 0,
							MTS_TRACE_CANDIDATES_MAX);
		return 0;
	case OPT_HINTS:
		a->o.hints = true;
		return 0;
	case OPT_NO_EARLIER:
		a->o.no_earlier = true;
		return 0;
	case 'o':
		a->output = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected \"%s\"", arg);
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
	.args_doc = "-o FILE",
	.doc = "Generate a request trace of users who come and go like those of a short-video app "
	       "(calibrated on KuaiRand-1K) or of a shop.",
};

static int write_all(struct mts_gen *g, const struct arguments *a, struct mts_error *err)
{
	enum mts_trace_kind kind = a->o.hints ? MTS_TRACE_HINTED : MTS_TRACE_REQUESTS;
	struct mts_trace_writer *w;
	struct mts_trace_request r;
	int ret = mts_trace_create(a->output, kind, &w, err);

	if (ret)
		return ret;
	while ((ret = mts_gen_next(g, &r, err)) > 0)
		mts_trace_put(w, &r);
	if (ret < 0) {
		mts_trace_discard(w);
		return ret;
	}
	return mts_trace_commit(w, err);
}

int mts_cmd_trace_gen(int argc, char **argv)
{
	struct arguments a = { .o = { .users = 1000, .days = 1, .seed = 1, .request_every = 6,
				      .candidates = 100 } };
	struct mts_error err;
	struct mts_gen *g;
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	ret = mts_gen_open(&a.o, &g, &err);
	if (!ret) {
		ret = write_all(g, &a, &err);
		mts_gen_close(g);
	}
	if (ret)
		fprintf(stderr, "mtserve trace: %s\n", err.text);
	return ret ? 1 : 0;
}
