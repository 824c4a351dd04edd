/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace stat: prints what a request trace is like, and its footprint for a model.
 */
#include "cmd/cmd_trace.h"
#include "cmd/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { OPT_BYTES = 256, OPT_HISTORY, OPT_SLIDE, OPT_GAP, OPT_JSON };

static const struct argp_option options[] = {
	{ "bytes-per-token", OPT_BYTES, "N", 0,
	  "K/V bytes a token takes in the model: the footprint in bytes too", 0 },
	{ "max-history", OPT_HISTORY, "H", 0,
	  "the model's cap on visible history (2048; 0 is none)", 0 },
	{ "slide", OPT_SLIDE, "S", 0,
	  "by how much a full window moves; divides H (half of H)", 0 },
	{ "session-gap", OPT_GAP, "TIME", 0, "a longer silence ends a session (30m)", 0 },
	{ "json", OPT_JSON, "FILE", 0, "write the numbers to FILE (-: instead of the table)", 0 },
	{ 0 },
};

struct arguments {
	struct mts_stat_options o;
	bool slide_given;
	uint64_t bytes_per_token;
	const char *trace, *json;
};

static void check_all(const struct argp_state *state, struct arguments *a)
{
	if (!a->trace)
		argp_error(state, "no trace, expected a FILE");
	if (!a->slide_given)
		a->o.slide = a->o.max_history % 2 ? a->o.max_history : a->o.max_history / 2;
	if (a->o.max_history && a->o.max_history % a->o.slide)
		argp_error(state, "--slide is %" PRIu64 ", expected a divisor of %" PRIu64,
			   a->o.slide, a->o.max_history);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPT_BYTES:
		a->bytes_per_token = mts_arg_u64(state, "bytes-per-token", arg, 1,
						       1ULL << 30);
		return 0;
	case OPT_HISTORY:
		a->o.max_history = mts_arg_u64(state, "max-history", arg, 0,
						     MTS_TRACE_HISTORY_MAX);
		return 0;
	case OPT_SLIDE:
		a->o.slide = mts_arg_u64(state, "slide", arg, 1, MTS_TRACE_HISTORY_MAX);
		a->slide_given = true;
		return 0;
	case OPT_GAP:
		a->o.session_gap_ms = mts_arg_duration_ms(state, "session-gap", arg);
		return 0;
	case OPT_JSON:
		a->json = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->trace)
			argp_error(state, "unexpected \"%s\", expected one trace", arg);
		a->trace = arg;
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
	.args_doc = "FILE",
	.doc = "Describe a request trace (-: standard input): users, histories, times between "
	       "requests, sessions, and how much K/V it needs in all (the footprint: the sum over "
	       "users of their largest visible window).",
};

static double seconds(const struct mts_trace_stat *s)
{
	return (double)(s->last_ms - s->first_ms) / 1e3;
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static void print_spread(const char *name, const struct mts_stat_spread *s, double unit)
{
	printf("%-22s %10.1f %10.1f %10.1f %10.1f %10.1f %12.1f\n", name, s->mean / unit,
	       (double)s->p10 / unit, (double)s->p50 / unit, (double)s->p90 / unit,
	       (double)s->p99 / unit, (double)s->max / unit);
}

static void print_table(const struct arguments *a, const struct mts_trace_stat *s)
{
	printf("users %" PRIu64 ", requests %" PRIu64 ", hints %" PRIu64 ", %.0f s\n\n", s->users,
	       s->requests, s->hints, seconds(s));
	printf("%-22s %10s %10s %10s %10s %10s %12s\n", "", "mean", "p10", "p50", "p90", "p99",
	       "max");
	print_spread("history at a request", &s->history, 1);
	print_spread("new events a user", &s->new_events, 1);
	print_spread("s between requests", &s->interval_ms, 1e3);
	printf("\nsame user again        %.3f of requests within 5 min, %.3f within 1 h\n",
	       s->again_5min, s->again_1h);
	printf("sessions               %" PRIu64 ", open at once: mean %.1f, p99 %" PRIu64 "\n",
	       s->sessions, s->open_mean, s->open_p99);
	printf("session back           %.3f within 1 h, %.3f within a day\n", s->back_1h,
	       s->back_1d);
	if (a->o.max_history)
		printf("window (%" PRIu64 ", %" PRIu64 ")%*s%.3f of requests past the cap, %" PRIu64
		       " window moves (%.4f)\n", a->o.max_history, a->o.slide, 3, "",
		       share(s->past_cap, s->requests), s->window_moves,
		       share(s->window_moves, s->requests));
	printf("footprint              %" PRIu64 " tokens", s->footprint_tokens);
	if (a->bytes_per_token)
		printf(", %.1f MiB", (double)s->footprint_tokens * (double)a->bytes_per_token /
		       (1 << 20));
	printf("\n");
}

static json_t *json_spread(const struct mts_stat_spread *s, double unit)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "mean", s->mean / unit, "p10",
			 (double)s->p10 / unit, "p50", (double)s->p50 / unit, "p90",
			 (double)s->p90 / unit, "p99", (double)s->p99 / unit, "max",
			 (double)s->max / unit);
}

static json_t *json_sessions(const struct arguments *a, const struct mts_trace_stat *s)
{
	return json_pack("{s:I, s:f, s:f, s:I, s:f, s:f}", "count", (json_int_t)s->sessions,
			 "gap_s", (double)a->o.session_gap_ms / 1e3, "open_mean", s->open_mean,
			 "open_p99", (json_int_t)s->open_p99, "back_1h", s->back_1h, "back_1d",
			 s->back_1d);
}

static json_t *json_window(const struct arguments *a, const struct mts_trace_stat *s)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "max_history", (json_int_t)a->o.max_history,
			 "slide", (json_int_t)a->o.slide, "past_cap", (json_int_t)s->past_cap,
			 "moves", (json_int_t)s->window_moves);
}

static json_t *json_footprint(const struct arguments *a, const struct mts_trace_stat *s)
{
	json_t *bytes = json_null();

	if (a->bytes_per_token)
		bytes = json_integer((json_int_t)(s->footprint_tokens * a->bytes_per_token));
	return json_pack("{s:I, s:o}", "tokens", (json_int_t)s->footprint_tokens, "bytes", bytes);
}

static json_t *json_all(const struct arguments *a, const struct mts_trace_stat *s)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:{s:f, s:f}, s:o, s:o, s:o}",
			 "trace", a->trace, "users", (json_int_t)s->users, "requests",
			 (json_int_t)s->requests, "hints", (json_int_t)s->hints, "seconds",
			 seconds(s), "history", json_spread(&s->history, 1), "new_events_per_user",
			 json_spread(&s->new_events, 1), "interval_s",
			 json_spread(&s->interval_ms, 1e3), "again", "5min", s->again_5min, "1h",
			 s->again_1h, "sessions", json_sessions(a, s), "window", json_window(a, s),
			 "footprint", json_footprint(a, s));
}

static int write_json(const struct arguments *a, const struct mts_trace_stat *s)
{
	bool standard = !strcmp(a->json, "-");
	FILE *f = standard ? stdout : fopen(a->json, "we");
	json_t *json = json_all(a, s);
	int failed = !f || !json || json_dumpf(json, f, JSON_INDENT(2)) || fputc('\n', f) == EOF;
	int error = errno;

	json_decref(json);
	if (f && (standard ? fflush(f) : fclose(f)) && !failed) {
		failed = 1;
		error = errno;
	}
	if (failed)
		fprintf(stderr, "mtserve trace: %s: cannot write: %s\n", a->json, strerror(error));
	return failed;
}

int mts_cmd_trace_stat(int argc, char **argv)
{
	struct arguments a = { .o = { .max_history = 2048, .session_gap_ms = 30 * 60000 } };
	struct mts_trace_stat s;
	struct mts_error err;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (mts_trace_stat(a.trace, &a.o, &s, &err)) {
		fprintf(stderr, "mtserve trace: %s\n", err.text);
		return 1;
	}
	if (!a.json || strcmp(a.json, "-"))
		print_table(&a, &s);
	if (fflush(stdout)) {
		fprintf(stderr, "mtserve trace: cannot write: %s\n", strerror(errno));
		return 1;
	}
	return a.json ? write_json(&a, &s) : 0;
}
