/* SPDX-License-Identifier: Apache-2.0 */
/* mtserve bench: options and the list of benches (bench.h). Floor: cmd; one thread. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/bench.h"
#include "cmd/cmd.h"

enum { KEY_PRESET = 256, KEY_THREADS, KEY_RUNS, KEY_USERS, KEY_SIZE };

static const struct bench {
	const char *name;
	int (*run)(struct mts_bench *b, struct mts_error *err);
} benches[] = {
	{ "ring", mts_bench_ring },	      { "plan", mts_bench_plan },
	{ "copy", mts_bench_copy },	      { "gemm", mts_bench_gemm },
	{ "attention", mts_bench_attention }, { "forward", mts_bench_forward },
	{ "arena", mts_bench_arena },
};

enum { BENCHES = sizeof(benches) / sizeof(benches[0]) };

struct options {
	struct mts_bench_options o;
	unsigned chosen; /* bit set */
};

static const struct argp_option options[] = {
	{ "preset", KEY_PRESET, "NAME", 0, "forward: the model's shape; default kuairand", 0 },
	{ "users", KEY_USERS, "N", 0, "plan: users on the device; default 100000", 0 },
	{ "size", KEY_SIZE, "SIZE", 0, "arena: its size; default 1GiB", 0 },
	{ "threads", KEY_THREADS, "N", 0,
	  "Compute threads, or, arena, the most that populate it; default all cores", 0 },
	{ "runs", KEY_RUNS, "N", 0, "Samples of each metric; default what some seconds allow", 0 },
	{ 0 },
};

static unsigned find(struct argp_state *state, const char *name)
{
	if (!strcmp(name, "all"))
		return (1u << BENCHES) - 1;
	for (unsigned i = 0; i < BENCHES; i++)
		if (!strcmp(name, benches[i].name))
			return 1u << i;
	argp_error(state, "unknown bench \"%s\", expected ring, plan, copy, gemm, attention, forward, "
		   "arena or all", name);
	return 0;
}

static uint64_t size_of(struct argp_state *state, const char *text)
{
	struct mts_amount a = mts_arg_amount(state, "size", text);

	if (a.share > 0 || !a.bytes || a.bytes % (2 << 20))
		argp_error(state, "--size is \"%s\", expected a multiple of 2MiB", text);
	return a.bytes;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case KEY_PRESET:
		o->o.preset = arg;
		return 0;
	case KEY_THREADS:
		o->o.threads = (unsigned)mts_arg_u64(state, "threads", arg, 1, 4096);
		return 0;
	case KEY_RUNS:
		o->o.runs = (unsigned)mts_arg_u64(state, "runs", arg, 1, 100000);
		return 0;
	case KEY_USERS:
		o->o.users = mts_arg_u64(state, "users", arg, 1000, 1000000);
		return 0;
	case KEY_SIZE:
		o->o.bytes = size_of(state, arg);
		return 0;
	case ARGP_KEY_ARG:
		o->chosen |= find(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->chosen)
			argp_error(state, "expected the name of a bench");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int mts_cmd_bench(int argc, char **argv)
{
	static const struct argp argp = {
		options, parse_option, "ring|plan|copy|gemm|attention|forward|arena|all...",
		"Measure parts of mtserve beside what bounds them; JSON lines on standard output.",
		NULL, NULL, NULL,
	};
	struct options o = { .o = { .preset = "kuairand", .users = 100000, .bytes = 1 << 30 } };
	struct mts_bench b = { .o = &o.o };
	struct mts_error err = { "" };
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	ret = mts_bench_begin(&b, &err);
	for (unsigned i = 0; i < BENCHES && !ret; i++) {
		b.name = benches[i].name;
		if (o.chosen & 1u << i)
			ret = benches[i].run(&b, &err);
	}
	if (ret)
		fprintf(stderr, "mtserve bench: %s\n", err.text[0] ? err.text : strerror(-ret));
	return ret ? 1 : 0;
}
