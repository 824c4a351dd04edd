/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace: dispatch to gen, import and stat, and the values their options share
 * (cmd_trace.h).
 */
#include "cmd/cmd.h"
#include "cmd/cmd_trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: mtserve trace gen|import|stat [OPTION...]\n"
	"Make and describe request traces.\n"
	"\n"
	"  gen     generate a trace of short-video or shop users\n"
	"  import  make a trace from a public log of events\n"
	"  stat    describe a trace: users, histories, sessions, footprint\n"
	"\n"
	"mtserve trace COMMAND --help tells more.\n";

static const struct {
	const char *name;
	char *shown; /* argp shows argv[0] in its messages */
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "gen", (char[]){ "mtserve trace gen" }, mts_cmd_trace_gen },
	{ "import", (char[]){ "mtserve trace import" }, mts_cmd_trace_import },
	{ "stat", (char[]){ "mtserve trace stat" }, mts_cmd_trace_stat },
};

int mts_cmd_trace(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name)) {
			argv[1] = commands[i].shown;
			return commands[i].run(argc - 1, argv + 1);
		}
	if (!strcmp(name, "--help") || !strcmp(name, "-?")) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc > 1)
		fprintf(stderr, "mtserve trace: unknown command \"%s\"\n", name);
	fputs(usage, stderr);
	return argp_err_exit_status;
}

uint64_t mts_trace_arg_u64(const struct argp_state *state, const char *option, const char *text,
		     uint64_t min, uint64_t max)
{
	char *end = NULL;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
		argp_error(state, "--%s is \"%s\", expected a whole number from %llu to %llu",
			   option, text, (unsigned long long)min, (unsigned long long)max);
	return value;
}

double mts_trace_arg_number(const struct argp_state *state, const char *option, const char *text)
{
	char *end = NULL;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value))
		argp_error(state, "--%s is \"%s\", expected a number", option, text);
	return value;
}

uint64_t mts_trace_arg_duration_ms(const struct argp_state *state, const char *option,
				   const char *text)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "", 1e3 }, { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 }, { "h", 36e5 },
		      { "d", 864e5 } };
	char *end = NULL;
	double value = strtod(text, &end);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (end != text && !strcmp(end, units[i].unit) && value >= 0 &&
		    value * units[i].ms < 1e15)
			return (uint64_t)llround(value * units[i].ms);
	argp_error(state, "--%s is \"%s\", expected a duration like 90s, 30m or 2h", option, text);
	return 0;
}
