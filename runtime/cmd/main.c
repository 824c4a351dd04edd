/* SPDX-License-Identifier: Apache-2.0 */
/* mtserve: finds the command and runs it. Floor: cmd; one thread. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include <mtserve.h>

#include "cmd/cmd.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	char *shown; /* argp shows argv[0] in its messages */
	const char *what;
} commands[] = {
	{ "info", mts_cmd_info, (char[]){ "mtserve info" },
	  "what this machine and build offer, and what was chosen" },
	{ "replay", mts_cmd_replay, (char[]){ "mtserve replay" },
	  "serve a request trace in four modes and compare every score" },
	{ "sim", mts_cmd_sim, (char[]){ "mtserve sim" },
	  "run a trace through the cache and its replacement policies alone" },
	{ "model", mts_cmd_model, (char[]){ "mtserve model" }, "make and describe model files" },
	{ "trace", mts_cmd_trace, (char[]){ "mtserve trace" },
	  "generate, import and describe request traces" },
	{ "verify", mts_cmd_verify, (char[]){ "mtserve verify" },
	  "compare a model with what another implementation computed" },
	{ "bench", mts_cmd_bench, (char[]){ "mtserve bench" },
	  "measure each part beside what bounds it" },
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: mtserve COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].what);
	fprintf(f, "\nmtserve COMMAND --help tells more; mtserve --version the version.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name)) {
			argv[1] = commands[i].shown;
			return commands[i].run(argc - 1, argv + 1);
		}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(name, "--version")) {
		printf("mtserve %s\n", mts_version());
		return 0;
	}
	if (argc > 1)
		fprintf(stderr, "mtserve: unknown command \"%s\"\n", name);
	usage(stderr);
	return argp_err_exit_status;
}
