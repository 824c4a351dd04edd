/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace: dispatch to gen, import and stat (cmd_trace.h).
 */
#include "cmd/cmd.h"
#include "cmd/cmd_trace.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: mtserve trace gen|import|hints|stat [OPTION...]\n"
	"Make and describe request traces.\n"
	"\n"
	"  gen     generate a trace of short-video or shop users\n"
	"  import  make a trace from a public log of events\n"
	"  hints   add session ends to a trace that lacks them\n"
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
	{ "hints", (char[]){ "mtserve trace hints" }, mts_cmd_trace_hints },
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
