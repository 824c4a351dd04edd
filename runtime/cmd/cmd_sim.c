/* SPDX-License-Identifier: Apache-2.0 */
/* mtserve sim: options, then read, run, report (sim.h). Floor: cmd; one thread. */
#include "cmd/cmd.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/sim.h"
#include "error.h"
#include "model/model.h"

enum { KEY_TRACE = 256, KEY_MODEL, KEY_BYTES, KEY_HISTORY, KEY_SLIDE, KEY_PAGE, KEY_DEVICE_MEM,
       KEY_HOST_MEM, KEY_POLICY, KEY_JSON, KEY_PLOT, KEY_KV };

static const struct argp_option options[] = {
	{ "trace", KEY_TRACE, "FILE", 0, "Request trace (required); read twice", 1 },
	{ "model", KEY_MODEL, "FILE", 0, "Model file: its K/V bytes a token, its H and S", 1 },
	{ "kv-dtype", KEY_KV, "TYPE", 0, "With --model: K/V stored as bf16 (default) or f32", 1 },
	{ "bytes-per-token", KEY_BYTES, "N", 0, "Instead of a model: K/V bytes a token takes", 1 },
	{ "max-history", KEY_HISTORY, "H", 0,
	  "Cap on visible history; default the model's, else none", 1 },
	{ "slide", KEY_SLIDE, "S", 0, "By how much a full window moves; divides H; default half of H",
	  1 },
	{ "page-tokens", KEY_PAGE, "N", 0, "Tokens in a page: 16, 32, 64 (default) or 128", 2 },
	{ "device-mem", KEY_DEVICE_MEM, "LIST", 0,
	  "Device memory: sizes like 512MiB, or shares of the trace's footprint like 5%, separated by "
	  "commas; default 1%,5%,10%,25%", 2 },
	{ "host-mem", KEY_HOST_MEM, "LIST", 0,
	  "Host memory in the same way, 0 for none; default without end", 2 },
	{ "policy", KEY_POLICY, "LIST", 0, "all (default), or names separated by commas", 2 },
	{ "json", KEY_JSON, "FILE", 0, "Write the results as JSON; - is standard output", 3 },
	{ "plot", KEY_PLOT, "DIR", 0, "Draw miss curves there (SVG, by gnuplot)", 3 },
	{ 0 },
};

struct arguments {
	struct mts_sim_options o;
	const char *model, *json, *plot;
	bool kv_f32;
	char *lists[3]; /* the texts that names and sizes were cut from */
	unsigned n_lists;
};

/* ---- lists ---- */

/* The parts of a list, cut in place; the text is kept until the end. */
static unsigned cut_list(struct argp_state *state, struct arguments *a, const char *option,
			 const char *text, const char ***out)
{
	char *copy = strdup(text), *save = NULL;
	const char **part = calloc(strlen(text) / 2 + 1, sizeof(*part));
	unsigned n = 0;

	if (!copy || !part)
		argp_failure(state, 1, ENOMEM, "--%s", option);
	if (a->n_lists == 3)
		argp_error(state, "--%s: lists given too often", option);
	a->lists[a->n_lists++] = copy;
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save))
		part[n++] = p;
	if (!n)
		argp_error(state, "--%s is \"%s\", expected a list", option, text);
	*out = part;
	return n;
}

static void parse_sizes(struct argp_state *state, struct arguments *a, const char *option,
			const char *text, struct mts_amount **out, unsigned *n)
{
	const char **part;

	if (*out)
		argp_error(state, "--%s: given twice", option);
	*n = cut_list(state, a, option, text, &part);
	*out = calloc(*n, sizeof(**out));
	if (!*out)
		argp_failure(state, 1, ENOMEM, "--%s", option);
	for (unsigned i = 0; i < *n; i++)
		(*out)[i] = mts_arg_amount(state, option, part[i]);
	free(part);
}

static void all_policies(struct argp_state *state, struct arguments *a)
{
	unsigned n = 0;

	while (mts_policies[n])
		n++;
	a->o.policy = calloc(n + 1, sizeof(*a->o.policy));
	if (!a->o.policy)
		argp_failure(state, 1, ENOMEM, "--policy");
	for (unsigned i = 0; i < n; i++)
		a->o.policy[i] = mts_policies[i]->name;
	a->o.policy[n] = "belady";
	a->o.policies = n + 1;
}

static void parse_policies(struct argp_state *state, struct arguments *a, const char *text)
{
	if (a->o.policy)
		argp_error(state, "--policy: given twice");
	if (!strcmp(text, "all")) {
		all_policies(state, a);
		return;
	}
	a->o.policies = cut_list(state, a, "policy", text, &a->o.policy);
	for (unsigned i = 0; i < a->o.policies; i++)
		if (strcmp(a->o.policy[i], "belady") && !mts_policy_find(a->o.policy[i]))
			argp_error(state, "--policy: unknown \"%s\", expected all, belady or one of %s",
				   a->o.policy[i], mts_policy_names());
}

/* ---- options ---- */

static void finish(struct argp_state *state, struct arguments *a)
{
	if (!a->o.trace || !a->model == !a->o.bytes_per_token)
		argp_error(state, "expected --trace FILE, and --model FILE or --bytes-per-token N");
	if (!strcmp(a->o.trace, "-"))
		argp_error(state, "--trace: expected a file, it is read twice");
	if (!a->o.policy)
		all_policies(state, a);
	if (!a->o.device)
		parse_sizes(state, a, "device-mem", "1%,5%,10%,25%", &a->o.device, &a->o.devices);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case KEY_TRACE:
		a->o.trace = arg;
		return 0;
	case KEY_MODEL:
		a->model = arg;
		return 0;
	case KEY_KV:
		if (strcmp(arg, "bf16") && strcmp(arg, "f32"))
			argp_error(state, "--kv-dtype is \"%s\", expected bf16 or f32", arg);
		a->kv_f32 = !strcmp(arg, "f32");
		return 0;
	case KEY_BYTES:
		a->o.bytes_per_token = mts_arg_u64(state, "bytes-per-token", arg, 1, 1ull << 30);
		return 0;
	case KEY_HISTORY:
		a->o.max_history = mts_arg_u64(state, "max-history", arg, 1, MTS_TRACE_HISTORY_MAX);
		return 0;
	case KEY_SLIDE:
		a->o.slide = mts_arg_u64(state, "slide", arg, 1, MTS_TRACE_HISTORY_MAX);
		return 0;
	case KEY_PAGE:
		a->o.page_tokens = (uint32_t)mts_arg_u64(state, "page-tokens", arg, 16, 128);
		if (a->o.page_tokens & (a->o.page_tokens - 1))
			argp_error(state, "--page-tokens is %s, expected 16, 32, 64 or 128", arg);
		return 0;
	case KEY_DEVICE_MEM:
		parse_sizes(state, a, "device-mem", arg, &a->o.device, &a->o.devices);
		return 0;
	case KEY_HOST_MEM:
		parse_sizes(state, a, "host-mem", arg, &a->o.host, &a->o.hosts);
		return 0;
	case KEY_POLICY:
		parse_policies(state, a, arg);
		return 0;
	case KEY_JSON:
		a->json = arg;
		return 0;
	case KEY_PLOT:
		a->plot = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
		return 0;
	case ARGP_KEY_END:
		finish(state, a);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Run a request trace through the cache and its replacement policies alone, at several "
	       "sizes at once, beside a reference that knows the future (belady).",
};

/* ---- the run ---- */

static void show_progress(uint64_t done, uint64_t all)
{
	static time_t last;
	time_t now = time(NULL);

	if (now == last && done < all)
		return;
	last = now;
	fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " requests%s", done, all,
		done < all ? "" : "\r\033[K");
}

static int take_model(struct arguments *a, struct mts_error *err)
{
	enum mts_dtype kv = a->kv_f32 ? MTS_F32 : MTS_BF16;
	const struct mts_model_config *c;
	struct mts_model *m;
	int ret = mts_model_open(a->model, &m, err);

	if (ret)
		return ret;
	c = mts_model_get_config(m);
	a->o.bytes_per_token = mts_model_token_bytes(c, kv);
	if (!a->o.max_history) {
		a->o.max_history = c->max_history;
		a->o.slide = a->o.slide ? a->o.slide : c->slide;
	}
	mts_model_close(m);
	return 0;
}

static int check_window(struct mts_sim_options *o, struct mts_error *err)
{
	if (!o->slide)
		o->slide = o->max_history % 2 ? o->max_history : o->max_history / 2;
	if (!o->max_history || o->max_history % o->slide == 0)
		return 0;
	mts_error_set(err, "--slide is %" PRIu64 ", expected a divisor of %" PRIu64, o->slide,
		      o->max_history);
	return -EINVAL;
}

static int write_json(const char *path, json_t *json, struct mts_error *err)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "we") : stdout;
	int ret = 0;

	errno = 0;
	if (!f || !json || json_dumpf(json, f, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) ||
	    fputc('\n', f) == EOF || fflush(f))
		ret = errno ? -errno : -ENOMEM;
	if (f && f != stdout && fclose(f) && !ret)
		ret = -errno;
	if (ret)
		mts_error_set(err, "--json %s: %s", path, strerror(-ret));
	json_decref(json);
	return ret;
}

static int report(const struct arguments *a, const struct mts_sim_trace *t,
		  const struct mts_sim_result *r, struct mts_error *err)
{
	int ret = 0;

	if (!a->json || strcmp(a->json, "-"))
		mts_sim_print(stdout, &a->o, t, r);
	if (a->json)
		ret = write_json(a->json, mts_sim_json(&a->o, t, r), err);
	if (!ret && a->plot)
		ret = mts_sim_plot(a->plot, &a->o, t, r, err);
	return ret;
}

static int simulate(struct arguments *a, struct mts_error *err)
{
	struct mts_sim_result result = { 0 };
	struct mts_sim_trace trace;
	int ret = a->model ? take_model(a, err) : 0;

	if (!ret)
		ret = check_window(&a->o, err);
	if (!ret)
		ret = mts_sim_open(&a->o, &trace, err);
	if (ret)
		return ret;
	ret = mts_sim_run(&a->o, &trace, isatty(STDERR_FILENO) ? show_progress : NULL, &result, err);
	if (!ret)
		ret = report(a, &trace, &result, err);
	mts_sim_result_free(&result);
	mts_sim_close(&trace);
	return ret;
}

int mts_cmd_sim(int argc, char **argv)
{
	struct arguments a = { .o = { .page_tokens = 64 } };
	struct mts_error err = { "" };
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	ret = simulate(&a, &err);
	if (ret)
		fprintf(stderr, "mtserve sim: %s\n", err.text[0] ? err.text : strerror(-ret));
	free(a.o.device);
	free(a.o.host);
	free(a.o.policy);
	for (unsigned i = 0; i < a.n_lists; i++)
		free(a.lists[i]);
	return ret ? 1 : 0;
}
