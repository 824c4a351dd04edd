/* SPDX-License-Identifier: Apache-2.0 */
/* mtserve replay: options, then load, run, report (replay.h). Floor: cmd; one thread. */
#include "cmd/cmd.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/replay.h"
#include "error.h"

enum {
	KEY_TRACE = 256,
	KEY_EVENTS,
	KEY_MODEL,
	KEY_DEVICE,
	KEY_JSON,
	KEY_ARENA,
	KEY_NODE,
	KEY_DEVICE_MEM,
	KEY_HOST_MEM,
	KEY_MODES,
	KEY_THREADS,
	KEY_PAGE,
	KEY_BATCH,
	KEY_STEP,
	KEY_INFLIGHT,
	KEY_SEGMENTS,
	KEY_REQUESTS,
	KEY_KV,
	KEY_APPENDS,
	KEY_LINK,
	KEY_COPY,
	KEY_RE_BATCH,
	KEY_RE_STEP,
	KEY_REQUIRE,
	KEY_OPEN,
	KEY_RATE,
	KEY_SPEEDUP,
	KEY_DEADLINE,
	KEY_WARMUP,
	KEY_PLAN,
	KEY_PLOT,
	KEY_POLICY,
};

static const struct argp_option options[] = {
	{ "trace", KEY_TRACE, "FILE", 0, "Request trace (required); - is standard input", 1 },
	{ "model", KEY_MODEL, "FILE", 0, "Model file (required)", 1 },
	{ "events", KEY_EVENTS, "FILE", 0, "The events behind an imported trace", 1 },
	{ "requests", KEY_REQUESTS, "N", 0, "Only the first N rows of the trace", 1 },
	{ "device", KEY_DEVICE, "NAME", 0, "cpu (default) or nil", 2 },
	{ "threads", KEY_THREADS, "N", 0, "Compute threads of the cpu device; default all cores", 2 },
	{ "device-mem", KEY_DEVICE_MEM, "SIZE", 0,
	  "K/V pages on the device: bytes, 512MiB, or a share of the trace's footprint; default 10%",
	  2 },
	{ "host-mem", KEY_HOST_MEM, "SIZE", 0, "Host tier, in the same way; default 150%", 2 },
	{ "arena", KEY_ARENA, "PROVIDER", 0,
	  "Host memory from auto (default), mtserve:PATH, hugetlbfs:PATH, tmpfs:PATH, memfd, thp, plain, "
	  "or none for the nil device", 2 },
	{ "node", KEY_NODE, "N", 0, "NUMA node of the host tier; default that of the caller", 2 },
	{ "link-gbps", KEY_LINK, "X", 0, "Pace copies to X GB/s each way; default full speed", 2 },
	{ "copy-us", KEY_COPY, "X", 0, "Fixed cost of each copy in microseconds; default 0", 2 },
	{ "modes", KEY_MODES, "LIST", 0,
	  "Of recompute, device_only, hierarchical, unbounded; default all", 3 },
	{ "kv-dtype", KEY_KV, "TYPE", 0, "K/V stored as bf16 (default) or f32", 3 },
	{ "policy", KEY_POLICY, "NAME", 0,
	  "Who gives way: locality (default), lru, s3fifo or gdsf", 3 },
	{ "page-tokens", KEY_PAGE, "N", 0, "Tokens in a page: 16, 32, 64 (default) or 128", 3 },
	{ "batch", KEY_BATCH, "N", 0, "Users in a pass; default 8", 3 },
	{ "step-tokens", KEY_STEP, "N", 0, "Rows in a pass; default 2048", 3 },
	{ "inflight", KEY_INFLIGHT, "N", 0, "Requests in the server at once; default twice the batch; open loop: at most, default 1024",
	  3 },
	{ "plan", KEY_PLAN, "WAY", 0,
	  "How K/V comes back from the host: load, recompute, split (half and half), or auto (default), whichever is expected to end first",
	  3 },
	{ "segments", KEY_SEGMENTS, "N", 0, "Parts in which the modes take turns; default 12", 3 },
	{ "appends", KEY_APPENDS, NULL, 0, "Promise that histories only grow: hash new events only",
	  3 },
	{ "recompute-batch", KEY_RE_BATCH, "N", 0, "Another batch for recompute, to compare bits", 3 },
	{ "recompute-step-tokens", KEY_RE_STEP, "N", 0, "Another pass size for recompute", 3 },
	{ "open-loop", KEY_OPEN, NULL, 0,
	  "Requests arrive at their own times (--rate or --speedup), one mode after the other; hierarchical alone unless --modes says more",
	  4 },
	{ "rate", KEY_RATE, "R", 0, "Open loop: R requests a second on average, at random (Poisson)", 4 },
	{ "speedup", KEY_SPEEDUP, "X", 0, "Open loop: the trace's times, X times as fast", 4 },
	{ "deadline-ms", KEY_DEADLINE, "X", 0,
	  "Open loop: each request's deadline from its arrival; what cannot meet it is refused", 4 },
	{ "warmup", KEY_WARMUP, "N", 0, "Open loop: serve the first N rows before the clock starts", 4 },
	{ "json", KEY_JSON, "FILE", 0, "Write the results as JSON; - is standard output", 4 },
	{ "plot", KEY_PLOT, "DIR", 0,
	  "Draw latency, hits over time and time by stage as SVG into this folder (needs gnuplot)", 4 },
	{ "require", KEY_REQUIRE, "TEXT", 0,
	  "Fail unless \"NAME >= NUMBER\" or \"NAME <= NUMBER\" holds, NAME a dotted path into the JSON "
	  "results; may be given again", 4 },
	{ 0 },
};

static unsigned parse_modes(struct argp_state *state, const char *list)
{
	unsigned modes = 0, m;

	while (*list) {
		size_t n = strcspn(list, ",");

		for (m = 0; m < MTS_MODES; m++)
			if (strlen(mts_mode_names[m]) == n && !strncmp(mts_mode_names[m], list, n))
				break;
		if (m == MTS_MODES)
			argp_error(state, "--modes: unknown \"%.*s\", expected recompute, "
				   "device_only, hierarchical or unbounded", (int)n, list);
		modes |= 1u << m;
		list += n + (list[n] == ',');
	}
	if (!modes)
		argp_error(state, "--modes: expected at least one");
	return modes;
}

static error_t parse_memory(int key, char *arg, struct argp_state *state,
			    struct mts_replay_options *o)
{
	switch (key) {
	case KEY_DEVICE_MEM:
		o->device_mem = mts_arg_amount(state, "device-mem", arg);
		return 0;
	case KEY_HOST_MEM:
		o->host_mem = mts_arg_amount(state, "host-mem", arg);
		return 0;
	case KEY_ARENA:
		o->arena = arg;
		return 0;
	case KEY_POLICY:
		if (!mts_policy_find(arg))
			argp_error(state, "--policy is \"%s\", expected one of %s", arg,
				   mts_policy_names());
		o->policy = arg;
		return 0;
	case KEY_NODE:
		o->node = (int)mts_arg_u64(state, "node", arg, 0, 1023);
		return 0;
	case KEY_LINK:
		o->link_gbps = mts_arg_number(state, "link-gbps", arg);
		return 0;
	case KEY_COPY:
		o->copy_us = mts_arg_number(state, "copy-us", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static unsigned parse_plan(struct argp_state *state, const char *arg)
{
	for (unsigned p = 0; p <= MTS_PLAN_SPLIT; p++)
		if (!strcmp(arg, mts_plan_names[p]))
			return p;
	argp_error(state, "--plan is \"%s\", expected auto, load, recompute or split", arg);
	return 0;
}

static error_t parse_batching(int key, char *arg, struct argp_state *state,
			      struct mts_replay_options *o)
{
	switch (key) {
	case KEY_PAGE:
		o->page_tokens = (unsigned)mts_arg_u64(state, "page-tokens", arg, 16, 128);
		return 0;
	case KEY_BATCH:
		o->batch = (unsigned)mts_arg_u64(state, "batch", arg, 1, 1024);
		return 0;
	case KEY_STEP:
		o->step_tokens = (unsigned)mts_arg_u64(state, "step-tokens", arg, 16, 1 << 20);
		return 0;
	case KEY_INFLIGHT:
		o->inflight = (unsigned)mts_arg_u64(state, "inflight", arg, 1, 1 << 16);
		return 0;
	case KEY_SEGMENTS:
		o->segments = (unsigned)mts_arg_u64(state, "segments", arg, 1, 10000);
		return 0;
	case KEY_RE_BATCH:
		o->recompute_batch = (unsigned)mts_arg_u64(state, "recompute-batch", arg, 1, 1024);
		return 0;
	case KEY_RE_STEP:
		o->recompute_step_tokens = (unsigned)mts_arg_u64(
			state, "recompute-step-tokens", arg, 16, 1 << 20);
		return 0;
	case KEY_PLAN:
		o->plan = parse_plan(state, arg);
		return 0;
	case KEY_THREADS:
		o->threads = (unsigned)mts_arg_u64(state, "threads", arg, 1, 4096);
		return 0;
	}
	return parse_memory(key, arg, state, o);
}

static error_t parse_open(int key, char *arg, struct argp_state *state,
			  struct mts_replay_options *o)
{
	switch (key) {
	case KEY_OPEN:
		o->open_loop = true;
		return 0;
	case KEY_RATE:
		o->rate = mts_arg_number(state, "rate", arg);
		return 0;
	case KEY_SPEEDUP:
		o->speedup = mts_arg_number(state, "speedup", arg);
		return 0;
	case KEY_DEADLINE:
		o->deadline_ms = mts_arg_number(state, "deadline-ms", arg);
		return 0;
	case KEY_WARMUP:
		o->warmup = mts_arg_u64(state, "warmup", arg, 0, INT64_MAX);
		return 0;
	}
	return parse_batching(key, arg, state, o);
}

static void check_open(struct argp_state *state, const struct mts_replay_options *o)
{
	if (o->open_loop && (o->rate > 0) == (o->speedup > 0))
		argp_error(state, "--open-loop: expected either --rate R or --speedup X, above 0");
	if (!o->open_loop && (o->rate > 0 || o->speedup > 0 || o->deadline_ms > 0 || o->warmup))
		argp_error(state, "--rate, --speedup, --deadline-ms and --warmup: only with "
			   "--open-loop");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct mts_replay_options *o = state->input;

	switch (key) {
	case KEY_TRACE:
		o->trace = arg;
		return 0;
	case KEY_EVENTS:
		o->events = arg;
		return 0;
	case KEY_MODEL:
		o->model = arg;
		return 0;
	case KEY_DEVICE:
		o->device = arg;
		return 0;
	case KEY_JSON:
		o->json = arg;
		return 0;
	case KEY_MODES:
		o->modes = parse_modes(state, arg);
		return 0;
	case KEY_REQUESTS:
		o->requests = mts_arg_u64(state, "requests", arg, 1, INT64_MAX);
		return 0;
	case KEY_REQUIRE:
		if (o->requires == sizeof(o->require) / sizeof(o->require[0]))
			argp_error(state, "--require: given more than %u times", o->requires);
		o->require[o->requires++] = arg;
		return 0;
	case KEY_PLOT:
		o->plot = arg;
		return 0;
	case KEY_APPENDS:
		o->appends = true;
		return 0;
	case KEY_KV:
		if (strcmp(arg, "bf16") && strcmp(arg, "f32"))
			argp_error(state, "--kv-dtype is \"%s\", expected bf16 or f32", arg);
		o->kv_bf16 = !strcmp(arg, "bf16");
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->trace || !o->model)
			argp_error(state, "expected --trace FILE and --model FILE");
		check_open(state, o);
		return 0;
	}
	return parse_open(key, arg, state, o);
}

static const struct argp argp = {
	options,
	parse_option,
	NULL,
	"Serve a request trace with K/V in device and host memory, beside recompute, device memory "
	"alone and unbounded device memory, and compare every score.",
	NULL,
	NULL,
	NULL,
};

static int report(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		  const struct mts_model_config *c, const struct mts_replay_result *r,
		  struct mts_error *err)
{
	json_t *json = mts_replay_json(o, t, c, r);
	int ret = 0;

	if (!json) {
		mts_error_set(err, "no memory for the results");
		return -ENOMEM;
	}
	if (!o->json || strcmp(o->json, "-"))
		mts_replay_print(stdout, o, t, r);
	if (o->json)
		ret = mts_replay_write_json(o->json, json, err);
	if (o->plot && !ret)
		ret = mts_replay_plot(o, t, r, err);
	for (unsigned i = 0; i < o->requires && !ret; i++)
		ret = mts_replay_require(json, o->require[i], err);
	json_decref(json);
	return ret;
}

static int replay(const struct mts_replay_options *o, struct mts_model *m, struct mts_error *err)
{
	const struct mts_model_config *c = mts_model_get_config(m);
	struct mts_replay_result result;
	struct mts_replay_trace trace;
	int ret = mts_replay_load(o, c, &trace, err);

	if (ret)
		return ret;
	ret = mts_replay_run(o, &trace, m, &result, err);
	if (!ret)
		ret = report(o, &trace, c, &result, err);
	mts_replay_result_free(&result);
	mts_replay_unload(&trace);
	return ret;
}

int mts_cmd_replay(int argc, char **argv)
{
	struct mts_replay_options o = {
		.device = "cpu",
		.device_mem = { .share = 0.10 },
		.host_mem = { .share = 1.50 },
		.page_tokens = 64,
		.batch = 8,
		.step_tokens = 2048,
		.segments = 12,
		.kv_bf16 = true,
		.node = -1,
	};
	struct mts_error err = { "" };
	struct mts_model *m;
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (!o.modes)
		o.modes = o.open_loop ? 1u << MTS_HIERARCHICAL : (1u << MTS_MODES) - 1;
	if (!o.inflight)
		o.inflight = o.open_loop ? 1024 : 2 * o.batch;
	ret = o.plot ? mts_replay_plot_check(&err) : 0;
	if (!ret)
		ret = mts_model_open(o.model, &m, &err);
	if (!ret) {
		ret = replay(&o, m, &err);
		mts_model_close(m);
	}
	if (ret)
		fprintf(stderr, "mtserve replay: %s\n", err.text[0] ? err.text : strerror(-ret));
	return ret ? 1 : 0;
}
