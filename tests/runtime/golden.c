/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the golden files (golden.h).
 */
#include "golden.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "model/safetensors.h"

const char *const golden_cases[] = {"stu-small",  "hstu-small",   "hstu-window",
				    "hstu-slide", "hstu-head256", NULL};

void golden_open(const char *name, struct golden *g)
{
	struct mts_error err;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.model.safetensors", GOLDEN, name);
	ck_assert_msg(!mts_model_open(path, &g->model, &err), "%s", err.text);
	snprintf(path, sizeof(path), "%s/%s.expect.safetensors", GOLDEN, name);
	ck_assert_msg(!mts_safetensors_open(path, &g->expect, &err), "%s", err.text);
	g->c = mts_model_get_config(g->model);
}

void golden_close(struct golden *g)
{
	mts_safetensors_close(g->expect);
	mts_model_close(g->model);
}

static const struct mts_st_tensor *find(const struct golden *g, unsigned user, const char *what)
{
	const struct mts_st_tensor *t;
	char name[64];

	snprintf(name, sizeof(name), "user.%u.%s", user, what);
	t = mts_safetensors_find(g->expect, name);
	ck_assert_msg(t != NULL, "no tensor %s", name);
	return t;
}

/* The last `count` ids of an I64 tensor. */
static uint32_t *ids(const struct mts_st_tensor *t, uint64_t count)
{
	const char *from = (const char *)t->data + (t->elements - count) * 8;
	uint32_t *out = malloc((count + 1) * sizeof(*out));
	int64_t id;

	for (uint64_t i = 0; i < count; i++) {
		memcpy(&id, from + i * 8, 8);
		out[i] = (uint32_t)id;
	}
	return out;
}

static const float *floats(const struct golden *g, unsigned user, const char *what, size_t n)
{
	const struct mts_st_tensor *t = find(g, user, what);

	ck_assert_str_eq(t->dtype, "F32");
	ck_assert_uint_eq(t->elements, n);
	return t->data;
}

void golden_user_open(const struct golden *g, unsigned user, struct golden_user *u)
{
	const struct mts_st_tensor *items = find(g, user, "items");
	const struct mts_st_tensor *candidates = find(g, user, "candidates");
	char name[32];

	u->v = (uint32_t)(items->elements - mts_window_start(g->c, items->elements));
	u->candidates = (uint32_t)candidates->elements;
	u->items = ids(items, u->v);
	u->actions = ids(find(g, user, "actions"), u->v);
	u->candidate = ids(candidates, u->candidates);
	for (uint32_t l = 0; l < g->c->layers; l++) {
		snprintf(name, sizeof(name), "layer.%u.k", l);
		u->k[l] = floats(g, user, name, (size_t)u->v * g->c->heads * g->c->dq);
		snprintf(name, sizeof(name), "layer.%u.v", l);
		u->v_[l] = floats(g, user, name, (size_t)u->v * g->c->heads * g->c->dv);
	}
	u->hidden = floats(g, user, "hidden", (size_t)(u->v + u->candidates) * g->c->d);
	u->scores = floats(g, user, "scores", (size_t)u->candidates * g->c->tasks);
}

void golden_user_close(struct golden_user *u)
{
	free(u->items);
	free(u->actions);
	free(u->candidate);
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
