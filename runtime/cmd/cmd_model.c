/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve model init | show: writes a model file of random weights; tells what a model file holds.
 *
 * Floor: cmd. Main thread.
 */
#include "cmd/args.h"
#include "cmd/cmd.h"

#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "model/model.h"

struct init_options {
	const char *preset, *path;
	struct mts_preset_options shape;
	enum mts_dtype dtype;
	uint64_t seed;
};

static enum mts_dtype weight_type(struct argp_state *state, const char *text)
{
	if (strcmp(text, "f32") && strcmp(text, "bf16") && strcmp(text, "f16"))
		argp_error(state, "--dtype is \"%s\", expected f32, bf16 or f16", text);
	return strcmp(text, "f32") == 0 ? MTS_F32 : text[0] == 'b' ? MTS_BF16 : MTS_F16;
}

enum { KEY_ITEMS = 256, KEY_HISTORY, KEY_SLIDE, KEY_DTYPE, KEY_SEED, KEY_PRESET };

static const struct argp_option init_argp_options[] = {
	{"preset", KEY_PRESET, "NAME", 0,
	 "tiny, small, kuairand, mtserve, hstu-bench or dlrm-v3 (required)", 0},
	{"output", 'o', "FILE", 0, "The model file to write (required)", 0},
	{"seed", KEY_SEED, "N", 0, "The same seed gives the same bytes everywhere; default 1", 0},
	{"items", KEY_ITEMS, "N", 0, "Items in the vocabulary; default 100000", 0},
	{"max-history", KEY_HISTORY, "H", 0, "Most visible events; default as the preset", 0},
	{"slide", KEY_SLIDE, "S", 0,
	 "Events dropped at once past the cap, a divisor of H; default half of it", 0},
	{"dtype", KEY_DTYPE, "TYPE", 0, "Weights as f32, bf16 or f16; default f32", 0},
	{0},
};

static error_t init_option(int key, char *arg, struct argp_state *state)
{
	struct init_options *o = state->input;

	switch (key) {
	case KEY_PRESET:
		o->preset = arg;
		return 0;
	case 'o':
		o->path = arg;
		return 0;
	case KEY_SEED:
		o->seed = mts_arg_u64(state, "seed", arg, 0, INT64_MAX);
		return 0;
	case KEY_ITEMS:
		o->shape.items = (uint32_t)mts_arg_u64(state, "items", arg, 1, INT32_MAX);
		return 0;
	case KEY_HISTORY:
		o->shape.max_history =
			(uint32_t)mts_arg_u64(state, "max-history", arg, 1, (1 << 24) - 1);
		return 0;
	case KEY_SLIDE:
		o->shape.slide = (uint32_t)mts_arg_u64(state, "slide", arg, 1, 1 << 24);
		return 0;
	case KEY_DTYPE:
		o->dtype = weight_type(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->preset || !o->path)
			argp_error(state, "--preset NAME and -o FILE are required");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int fail(const struct mts_error *err)
{
	fprintf(stderr, "mtserve model: %s\n", err->text);
	return EXIT_FAILURE;
}

static int model_init(int argc, char **argv)
{
	static const struct argp argp = {init_argp_options,
					 init_option,
					 NULL,
					 "Write a model file of random weights.",
					 NULL,
					 NULL,
					 NULL};
	struct init_options o = {.seed = 1, .dtype = MTS_F32};
	struct mts_model_config c;
	struct mts_error err;

	if (argp_parse(&argp, argc, argv, 0, NULL, &o))
		return EXIT_FAILURE;
	if (mts_preset_config(o.preset, &o.shape, &c, &err) ||
	    mts_model_generate(&c, o.dtype, o.seed, o.path, &err))
		return fail(&err);
	return EXIT_SUCCESS;
}

static void print_config(const struct mts_model_config *c)
{
	printf("layers        %u\n", c->layers);
	printf("d_model       %u\n", c->d);
	printf("heads         %u, d_qk %u, d_v %u\n", c->heads, c->dq, c->dv);
	printf("variant       uvqk_act %s, concat_ux %u\n", c->act_all ? "all" : "u", c->concat);
	printf("attention     scale %g, ", (double)c->scale_len);
	if (c->window)
		printf("window %u\n", c->window);
	else
		printf("all keys\n");
	printf("norm_eps      %g\n", (double)c->eps);
	printf("vocabulary    %u items, %u actions, %u positions\n", c->items, c->actions,
	       c->positions);
	printf("head          %u hidden, %u tasks\n", c->head_hidden, c->tasks);
	printf("history       at most %u visible, slides by %u\n", c->max_history, c->slide);
	printf("K/V a token   %zu bytes in bf16, %zu in f32\n", mts_model_token_bytes(c, MTS_BF16),
	       mts_model_token_bytes(c, MTS_F32));
}

static error_t show_option(int key, char *arg, struct argp_state *state)
{
	const char **path = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (*path)
			argp_error(state, "one FILE expected");
		*path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!*path)
			argp_error(state, "FILE is required");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int model_show(int argc, char **argv)
{
	static const struct argp argp = {
		NULL, show_option, "FILE", "Check a model file and tell what it holds.",
		NULL, NULL,        NULL};
	const char *path = NULL;
	struct mts_model *m;
	struct mts_error err;
	uint64_t hash[2];

	if (argp_parse(&argp, argc, argv, 0, NULL, &path))
		return EXIT_FAILURE;
	if (mts_model_open(path, &m, &err))
		return fail(&err);
	print_config(mts_model_get_config(m));
	mts_model_hash(m, hash);
	printf("hash          %016" PRIx64 "%016" PRIx64 "\n", hash[1], hash[0]);
	mts_model_close(m);
	if (fflush(stdout)) {
		perror("mtserve model: standard output");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int mts_cmd_model(int argc, char **argv)
{
	static const char usage[] = "usage: mtserve model init --preset NAME -o FILE [options]\n"
				    "       mtserve model show FILE\n";

	if (argc >= 2 && strcmp(argv[1], "init") == 0) {
		argv[1] = (char[]){"mtserve model init"};
		return model_init(argc - 1, argv + 1);
	}
	if (argc >= 2 && strcmp(argv[1], "show") == 0) {
		argv[1] = (char[]){"mtserve model show"};
		return model_show(argc - 1, argv + 1);
	}
	if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	fputs(usage, stderr);
	return 64;
}
