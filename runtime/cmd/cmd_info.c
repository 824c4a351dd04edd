/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve info: what this machine and build offer, and what would be chosen: devices, GEMM library
 * and tile, every rung of the arena ladder with its placement, NUMA nodes; or one arena that is there.
 *
 * Floor: cmd; one thread.
 */
#include <argp.h>
#include <errno.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include <mtserve.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "error.h"
#include "memory/arena.h"
#include "model/model.h"

#define TRIAL_BYTES ((size_t)16 << 20)

enum { KEY_MODEL = 256, KEY_NODE, KEY_THREADS, KEY_ARENA, KEY_CHECKSUM };

struct info_options {
	const char *model, *arena;
	int node;
	unsigned threads;
	int checksum;
};

static const struct argp_option options[] = {
	{ "model", KEY_MODEL, "FILE", 0, "Choose for the shapes of this model; default preset small", 0 },
	{ "node", KEY_NODE, "N", 0, "Try arenas on this NUMA node; default that of the caller", 0 },
	{ "threads", KEY_THREADS, "N", 0, "Compute threads of the cpu device; default all cores", 0 },
	{ "arena", KEY_ARENA, "NAME:PATH", 0, "Tell about this arena alone, which must be there", 0 },
	{ "checksum", KEY_CHECKSUM, NULL, 0, "With --arena: the XXH3 of all its bytes", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct info_options *o = state->input;

	switch (key) {
	case KEY_MODEL:
		o->model = arg;
		return 0;
	case KEY_NODE:
		o->node = (int)mts_arg_u64(state, "node", arg, 0, 1023);
		return 0;
	case KEY_THREADS:
		o->threads = (unsigned)mts_arg_u64(state, "threads", arg, 1, 4096);
		return 0;
	case KEY_ARENA:
		if (!strchr(arg, ':'))
			argp_error(state, "--arena is \"%s\", expected NAME:PATH", arg);
		o->arena = arg;
		return 0;
	case KEY_CHECKSUM:
		o->checksum = 1;
		return 0;
	case ARGP_KEY_END:
		if (o->checksum && !o->arena)
			argp_error(state, "--checksum without --arena");
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void print_machine(void)
{
	int last = numa_available() < 0 ? -1 : numa_max_node();
	long long free_bytes, bytes;

	printf("cores      %ld usable of %ld\n", sysconf(_SC_NPROCESSORS_ONLN),
	       sysconf(_SC_NPROCESSORS_CONF));
	if (last < 0)
		printf("NUMA       not available\n");
	for (int n = 0; n <= last; n++) {
		bytes = numa_node_size64(n, &free_bytes);
		if (bytes >= 0)
			printf("NUMA node  %d: %lld MiB, %lld MiB free\n", n, bytes >> 20,
			       free_bytes >> 20);
	}
}

static int shapes_of(const struct info_options *o, struct mts_model_config *c, struct mts_error *err)
{
	struct mts_model *m;
	int ret;

	if (!o->model)
		return mts_preset_config("small", &(struct mts_preset_options){ 0 }, c, err);
	ret = mts_model_open(o->model, &m, err);
	if (ret)
		return ret;
	*c = *mts_model_get_config(m);
	mts_model_close(m);
	return 0;
}

static int print_cpu(const struct info_options *o, struct mts_error *err)
{
	struct mts_device_config dc = { .threads = o->threads };
	struct mts_device_info info;
	struct mts_model_config c;
	struct mts_device *dev;
	int ret = shapes_of(o, &c, err);

	if (ret)
		return ret;
	ret = mts_device_cpu.open(&dc, &dev, err);
	if (ret)
		return ret;
	ret = mts_model_prepare(dev, &c, err);
	if (!ret) {
		dev->ops->info(dev, &info);
		printf("device     %s\n", info.name);
		printf("numerics   %s\n", info.numerics);
		if (info.refused[0])
			printf("  refused  %s\n", info.refused);
	}
	dev->ops->close(dev);
	return ret;
}

/* Each rung is really mapped, populated and looked at, on 16 MiB. */
static void print_rung(const char *name, int node)
{
	struct mts_arena_config ac = { .provider = name, .bytes = TRIAL_BYTES, .node = node };
	struct mts_error err = { "" };
	struct mts_arena *a;

	if (mts_arena_open(&ac, &a, &err)) {
		printf("arena      %-9s no: %s\n", name, err.text);
		return;
	}
	printf("arena      %-9s yes: pages of %zu KiB, %llu of %llu seen on node %d, %llu of %zu MiB "
	       "mapped huge%s%s\n",
	       name, a->info.page_size >> 10, (unsigned long long)a->info.pages_on_node,
	       (unsigned long long)(a->info.pages_on_node + a->info.pages_elsewhere), a->info.node,
	       (unsigned long long)(a->info.huge_bytes >> 20), a->bytes >> 20,
	       a->info.note[0] ? "; " : "", a->info.note);
	mts_arena_close(a);
}

/* As the next process would get it; where another one has it, by looking on. */
static int print_arena(const struct info_options *o, struct mts_error *err)
{
	struct mts_arena_config ac = { .provider = o->arena, .node = o->node };
	struct mts_arena *a;
	int ret = mts_arena_open(&ac, &a, err);

	if (ret == -EBUSY) {
		ac.look = 1;
		ret = mts_arena_open(&ac, &a, err);
	}
	if (!ret && mts_arena_settle(a, err)) {
		ret = -ENOMEM;
		mts_arena_close(a);
	}
	if (ret)
		return ret;
	printf("arena      %s: %zu MiB on node %d, pages of %zu KiB, %llu of %llu seen there, %llu MiB "
	       "mapped huge%s\n",
	       o->arena, a->bytes >> 20, a->info.node, a->info.page_size >> 10,
	       (unsigned long long)a->info.pages_on_node,
	       (unsigned long long)(a->info.pages_on_node + a->info.pages_elsewhere),
	       (unsigned long long)(a->info.huge_bytes >> 20),
	       ac.look ? "; another process uses it" : "");
	if (o->checksum)
		printf("checksum   %016llx\n", (unsigned long long)XXH3_64bits(a->base, a->bytes));
	mts_arena_close(a);
	return 0;
}

static int print_all(const struct info_options *o, struct mts_error *err)
{
	int ret;

	printf("mtserve    %s\n", mts_version());
	print_machine();
	ret = print_cpu(o, err);
	for (int i = 0; !ret && mts_arena_ladder[i]; i++)
		print_rung(mts_arena_ladder[i]->name, o->node);
	return ret;
}

int mts_cmd_info(int argc, char **argv)
{
	static const struct argp argp = {
		options, parse_option, NULL,
		"Tell what this machine and build offer, and what would be chosen.", NULL, NULL, NULL,
	};
	struct info_options o = { .node = -1 };
	struct mts_error err = { "" };
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	ret = o.arena ? print_arena(&o, &err) : print_all(&o, &err);
	if (!ret && fflush(stdout))
		ret = -1;
	if (ret)
		fprintf(stderr, "mtserve info: %s\n", err.text[0] ? err.text : "cannot write");
	return ret ? 1 : 0;
}
