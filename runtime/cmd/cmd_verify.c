/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve verify: a model against what another implementation computed, whole and at every split
 * through the cache. Exit status 1 past the bounds, and on the CPU device also when a score differs
 * in a single bit between a split and computing it all.
 *
 * Floor: cmd. Main thread.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "error.h"

enum { KEY_MODEL = 256, KEY_EXPECT, KEY_KV, KEY_DEVICE, KEY_THREADS };

static const struct argp_option options[] = {
	{"model", KEY_MODEL, "FILE", 0, "The model (required)", 0},
	{"expect", KEY_EXPECT, "FILE", 0, "What is expected of it (required)", 0},
	{"kv-dtype", KEY_KV, "TYPE", 0, "K/V stored as f32 (default) or bf16", 0},
	{"device", KEY_DEVICE, "NAME", 0, "Where to compute; default cpu", 0},
	{"threads", KEY_THREADS, "N", 0, "Compute threads of the cpu device; default all", 0},
	{0},
};

static enum mts_dtype kv_type(struct argp_state *state, const char *text)
{
	if (strcmp(text, "f32") && strcmp(text, "bf16"))
		argp_error(state, "--kv-dtype is \"%s\", expected f32 or bf16", text);
	return text[0] == 'b' ? MTS_BF16 : MTS_F32;
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct mts_verify_options *o = state->input;

	switch (key) {
	case KEY_MODEL:
		o->model = arg;
		return 0;
	case KEY_EXPECT:
		o->expect = arg;
		return 0;
	case KEY_KV:
		o->kv = kv_type(state, arg);
		return 0;
	case KEY_DEVICE:
		o->device = arg;
		return 0;
	case KEY_THREADS:
		o->threads = (unsigned)mts_arg_u64(state, "threads", arg, 1, 4096);
		return 0;
	case ARGP_KEY_END:
		if (!o->model || !o->expect)
			argp_error(state, "--model FILE and --expect FILE are required");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void print_user(unsigned user, const struct mts_verify_user *u)
{
	static const char *const names[] = {"whole", "device", "host"};

	printf("user %u: %u events, %u visible, %u candidates\n", user, u->events, u->visible,
	       u->candidates);
	for (int s = 0; s < MTS_VERIFY_SOURCES; s++) {
		const struct mts_verify_error *e = &u->by[s];

		printf("  %-7s %6u  %8.1e %8.1e %8.1e  ", names[s], e->splits, e->scores, e->k,
		       e->v);
		if (s == MTS_FROM_NOTHING)
			printf("%8.1e", e->hidden);
		else
			printf("%8s", "");
		printf("  %5.1f %%  %u\n", 100 * e->of_bound, e->other_bits);
	}
}

static int within(const struct mts_verify_user *u, int bits)
{
	for (int s = 0; s < MTS_VERIFY_SOURCES; s++)
		if (!(u->by[s].of_bound <= 1) || (bits && u->by[s].other_bits))
			return 0;
	return 1;
}

static void print_bounds(const struct mts_verify *v, enum mts_dtype kv)
{
	struct mts_verify_bounds b = mts_verify_bounds_of(kv, mts_verify_config(v)->layers);

	printf("bounds: scores %.1e, hidden %.1e, K and V %.1e", b.scores, b.hidden, b.kv);
	if (b.kv_relative > 0)
		printf(" + %.1e a layer + %.1e of the value", b.kv_layer, b.kv_relative);
	printf("\n  prefix  splits    scores        K        V    hidden  of bound  other bits\n");
}

/* The number of users out of bounds, or -errno. */
static int verify_all(struct mts_verify *v, const struct mts_verify_options *o,
		      struct mts_error *err)
{
	int bits = strcmp(o->device, "cpu") == 0, failed = 0;
	struct mts_verify_user u;

	print_bounds(v, o->kv);
	for (unsigned i = 0; i < mts_verify_users(v); i++) {
		int rc = mts_verify_run(v, i, &u, err);

		if (rc)
			return rc;
		print_user(i, &u);
		failed += !within(&u, bits);
	}
	if (failed)
		printf("%d of %u users out of bounds\n", failed, mts_verify_users(v));
	else
		printf("all %u users within bounds\n", mts_verify_users(v));
	return failed;
}

int mts_cmd_verify(int argc, char **argv)
{
	static const struct argp argp = {
		options,
		option,
		NULL,
		"Compare a model with what another implementation computed: whole, and at every "
		"split of each history through the cache, from the device and from the host.",
		NULL,
		NULL,
		NULL};
	struct mts_verify_options o = {.device = "cpu", .kv = MTS_F32};
	struct mts_verify *v;
	struct mts_error err;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &o))
		return EXIT_FAILURE;
	rc = mts_verify_open(&o, &v, &err);
	if (rc == 0) {
		rc = verify_all(v, &o, &err);
		mts_verify_close(v);
	}
	if (rc < 0)
		fprintf(stderr, "mtserve verify: %s\n", err.text);
	if (rc == 0 && fflush(stdout)) {
		perror("mtserve verify: standard output");
		return EXIT_FAILURE;
	}
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
