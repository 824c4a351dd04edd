/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading expectation files (expect.h). Floor: cmd. One thread.
 */
#include "cmd/expect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "model/safetensors.h"

/* Most users, events or candidates; keeps every product of sizes below far inside 64 bits. */
#define MOST (1u << 24)

struct reader {
	const struct mts_safetensors *st;
	const struct mts_model_config *c;
	unsigned user;
	struct mts_error *err;
};

static const struct mts_st_tensor *find(const struct reader *r, const char *what)
{
	const struct mts_st_tensor *t;
	char name[64];

	snprintf(name, sizeof(name), "user.%u.%s", r->user, what);
	t = mts_safetensors_find(r->st, name);
	if (!t)
		mts_error_set(r->err, "tensor \"%s\" is missing", name);
	return t;
}

/* An I64 [count] tensor of ids below `limit`; count UINT64_MAX: any. */
static int read_ids(const struct reader *r, const char *what, uint64_t count, uint32_t limit,
		    uint32_t **out, uint32_t *n)
{
	const struct mts_st_tensor *t = find(r, what);
	int64_t id;

	if (!t)
		return -EINVAL;
	if (strcmp(t->dtype, "I64") || t->rank != 1 || t->elements > MOST ||
	    (count != UINT64_MAX && t->elements != count)) {
		mts_error_set(r->err, "tensor \"%s\": expected I64 [%s]", t->name,
			      count == UINT64_MAX ? "events" : "as many as items");
		return -EINVAL;
	}
	*n = (uint32_t)t->elements;
	*out = calloc(t->elements + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (uint64_t i = 0; i < t->elements; i++) {
		memcpy(&id, (const char *)t->data + 8 * i, 8);
		if (id < 0 || id >= limit) {
			mts_error_set(r->err,
				      "tensor \"%s\": element %" PRIu64 " is %" PRId64
				      ", expected 0 to %u",
				      t->name, i, id, limit - 1);
			return -EINVAL;
		}
		(*out)[i] = (uint32_t)id;
	}
	return 0;
}

/* An F32 tensor of `rows` rows and `columns` columns in all, however it is shaped behind the rows.
 */
static int read_floats(const struct reader *r, const char *what, uint64_t rows, uint64_t columns,
		       float **out)
{
	const struct mts_st_tensor *t = find(r, what);

	if (!t)
		return -EINVAL;
	if (strcmp(t->dtype, "F32") || t->rank < 2 || t->shape[0] != rows ||
	    t->elements != rows * columns) {
		mts_error_set(r->err,
			      "tensor \"%s\": expected F32 with %" PRIu64 " rows of %" PRIu64,
			      t->name, rows, columns);
		return -EINVAL;
	}
	*out = malloc(t->bytes + 1);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, t->data, t->bytes);
	return 0;
}

static int read_events(const struct reader *r, struct mts_expect_user *u)
{
	uint32_t *items = NULL, *actions = NULL, n;
	int rc = read_ids(r, "items", UINT64_MAX, r->c->items, &items, &u->n);

	if (rc == 0)
		rc = read_ids(r, "actions", u->n, r->c->actions, &actions, &n);
	if (rc == 0)
		rc = read_ids(r, "candidates", UINT64_MAX, r->c->items, &u->candidate,
			      &u->candidates);
	u->events = calloc((size_t)u->n + 1, sizeof(u->events[0]));
	if (!u->events && rc == 0)
		rc = -ENOMEM;
	for (uint32_t i = 0; i < u->n && rc == 0; i++)
		u->events[i] = (struct mts_event){.item = items[i], .action = actions[i]};
	u->v = u->n - (uint32_t)mts_window_start(r->c, u->n);
	free(items);
	free(actions);
	return rc;
}

static int read_layers(const struct reader *r, struct mts_expect_user *u)
{
	uint32_t layers = r->c->layers, heads = r->c->heads;
	char name[32];
	int rc = 0;

	u->k = calloc(layers, sizeof(u->k[0]));
	u->v_ = calloc(layers, sizeof(u->v_[0]));
	if (!u->k || !u->v_)
		return -ENOMEM;
	for (uint32_t l = 0; l < layers && rc == 0; l++) {
		snprintf(name, sizeof(name), "layer.%u.k", l);
		rc = read_floats(r, name, u->v, (uint64_t)heads * r->c->dq, &u->k[l]);
		snprintf(name, sizeof(name), "layer.%u.v", l);
		if (rc == 0)
			rc = read_floats(r, name, u->v, (uint64_t)heads * r->c->dv, &u->v_[l]);
	}
	return rc;
}

static int read_user(const struct reader *r, struct mts_expect_user *u)
{
	int rc = read_events(r, u);

	if (rc == 0)
		rc = read_layers(r, u);
	if (rc == 0)
		rc = read_floats(r, "hidden", (uint64_t)u->v + u->candidates, r->c->d, &u->hidden);
	if (rc == 0)
		rc = read_floats(r, "scores", u->candidates, r->c->tasks, &u->scores);
	return rc;
}

static unsigned count_users(const struct mts_safetensors *st)
{
	char name[32];
	unsigned n = 0;

	do {
		snprintf(name, sizeof(name), "user.%u.items", n);
	} while (mts_safetensors_find(st, name) && ++n);
	return n;
}

static int read_users(struct reader *r, struct mts_expect *e)
{
	int rc = 0;

	e->layers = r->c->layers;
	e->users = count_users(r->st);
	if (e->users == 0) {
		mts_error_set(r->err, "tensor \"user.0.items\" is missing");
		return -EINVAL;
	}
	e->user = calloc(e->users, sizeof(e->user[0]));
	if (!e->user)
		return -ENOMEM;
	for (r->user = 0; r->user < e->users && rc == 0; r->user++)
		rc = read_user(r, &e->user[r->user]);
	return rc;
}

int mts_expect_open(const char *path, const struct mts_model_config *c, struct mts_expect **out,
		    struct mts_error *err)
{
	struct mts_error why = {.text = "out of memory"};
	struct mts_safetensors *st;
	struct mts_expect *e;
	struct reader r = {.c = c, .err = &why};
	int rc = mts_safetensors_open(path, &st, err);

	if (rc)
		return rc;
	e = calloc(1, sizeof(*e));
	r.st = st;
	rc = e ? read_users(&r, e) : -ENOMEM;
	mts_safetensors_close(st);
	if (rc) {
		mts_error_set(err, "%.120s: %s", path, why.text);
		mts_expect_close(e);
	} else {
		*out = e;
	}
	return rc;
}

static void free_user(struct mts_expect_user *u, uint32_t layers)
{
	for (uint32_t l = 0; l < layers; l++) {
		if (u->k)
			free(u->k[l]);
		if (u->v_)
			free(u->v_[l]);
	}
	free(u->k);
	free(u->v_);
	free(u->events);
	free(u->candidate);
	free(u->hidden);
	free(u->scores);
}

void mts_expect_close(struct mts_expect *e)
{
	if (!e)
		return;
	for (unsigned i = 0; e->user && i < e->users; i++)
		free_user(&e->user[i], e->layers);
	free(e->user);
	free(e);
}
