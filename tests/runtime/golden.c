/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the golden files (golden.h).
 */
#include "golden.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/expect.h"
#include "error.h"

const char *const golden_cases[] = {"stu-small",  "hstu-small",   "hstu-window",
				    "hstu-slide", "hstu-head256", NULL};

void golden_open(const char *name, struct golden *g)
{
	struct mts_error err;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.model.safetensors", GOLDEN, name);
	ck_assert_msg(!mts_model_open(path, &g->model, &err), "%s", err.text);
	g->c = mts_model_get_config(g->model);
	snprintf(path, sizeof(path), "%s/%s.expect.safetensors", GOLDEN, name);
	ck_assert_msg(!mts_expect_open(path, g->c, &g->expect, &err), "%s", err.text);
	ck_assert_uint_eq(g->expect->users, GOLDEN_USERS);
}

void golden_close(struct golden *g)
{
	mts_expect_close(g->expect);
	mts_model_close(g->model);
}

void golden_user_open(const struct golden *g, unsigned user, struct golden_user *u)
{
	const struct mts_expect_user *e = &g->expect->user[user];

	*u = (struct golden_user){.v = e->v,
				  .candidates = e->candidates,
				  .items = calloc(e->v + 1, sizeof(u->items[0])),
				  .actions = calloc(e->v + 1, sizeof(u->actions[0])),
				  .candidate = e->candidate,
				  .k = e->k,
				  .v_ = e->v_,
				  .hidden = e->hidden,
				  .scores = e->scores};
	for (uint32_t i = 0; i < e->v; i++) {
		u->items[i] = e->events[e->n - e->v + i].item;
		u->actions[i] = e->events[e->n - e->v + i].action;
	}
}

void golden_user_close(struct golden_user *u)
{
	free(u->items);
	free(u->actions);
}

double largest_difference(const double *a, const float *b, size_t n)
{
	double most = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs(a[i] - (double)b[i]);

		if (!(d <= most)) /* a NaN counts as the largest */
			most = isnan(d) ? INFINITY : d;
	}
	return most;
}

double largest_difference_f(const float *a, const float *b, size_t n)
{
	double most = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - (double)b[i]);

		if (!(d <= most))
			most = isnan(d) ? INFINITY : d;
	}
	return most;
}
