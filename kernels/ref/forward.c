/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference (forward.h): each formula once, as it is written in the papers. Any thread.
 */
#include "ref/forward.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/spec.h"

struct ref {
	const struct mts_model *m;
	const struct mts_model_config *c;
	uint32_t v, rows;
	double *x, *n, *z, *o, *y; /* [rows, ...] */
	float *w, *b;              /* the tensors in use */
};

static double silu(double a)
{
	return a / (1 + exp(-a));
}

static void load(const struct ref *r, enum mts_weight role, uint32_t layer, float *to)
{
	struct mts_weight_spec s;

	mts_weight_describe(r->c, mts_weight_index(r->c, role, layer), &s);
	mts_model_read(r->m, role, layer, 0, mts_weight_elements(&s), to);
}

/* y = LayerNorm(x) · weight + bias, for one row */
static void norm_row(const double *x, uint32_t d, double eps, const float *w, const float *b,
		     double *y)
{
	double mean = 0, var = 0;

	for (uint32_t i = 0; i < d; i++)
		mean += x[i] / d;
	for (uint32_t i = 0; i < d; i++)
		var += (x[i] - mean) * (x[i] - mean) / d;
	for (uint32_t i = 0; i < d; i++)
		y[i] = (x[i] - mean) / sqrt(var + eps) * w[i] + b[i];
}

/* y = x · w + bias, for one row; bias may be NULL */
static void multiply_row(const double *x, uint32_t k, uint32_t n, const float *w, const float *b,
			 double *y)
{
	for (uint32_t j = 0; j < n; j++)
		y[j] = b ? b[j] : 0;
	for (uint32_t i = 0; i < k; i++)
		for (uint32_t j = 0; j < n; j++)
			y[j] += x[i] * w[(size_t)i * n + j];
}

static void embed(struct ref *r, const uint32_t *items, const uint32_t *actions,
		  const uint32_t *candidates)
{
	uint32_t d = r->c->d;

	for (uint32_t t = 0; t < r->rows; t++) {
		uint32_t at = t < r->v ? t : r->v;
		size_t position = at < r->c->positions ? at : r->c->positions - 1;
		size_t item = t < r->v ? items[t] : candidates[t - r->v];
		size_t action = t < r->v ? actions[t] : 0;
		float *row = r->w;

		mts_model_read(r->m, MTS_W_ITEMS, 0, item * d, d, row);
		mts_model_read(r->m, MTS_W_ACTIONS, 0, action * d, d, row + d);
		mts_model_read(r->m, MTS_W_POSITIONS, 0, position * d, d, row + 2 * d);
		for (uint32_t i = 0; i < d; i++)
			r->x[(size_t)t * d + i] = (double)row[i] + row[d + i] + row[2 * d + i];
	}
}

static void project(struct ref *r, uint32_t layer)
{
	uint32_t d = r->c->d, cols = mts_config_zcols(r->c);
	uint32_t activated = r->c->act_all ? cols : mts_config_hdv(r->c);

	load(r, MTS_W_IN_NORM_WEIGHT, layer, r->w);
	load(r, MTS_W_IN_NORM_BIAS, layer, r->b);
	for (size_t t = 0; t < r->rows; t++)
		norm_row(r->x + t * d, d, r->c->eps, r->w, r->b, r->n + t * d);
	load(r, MTS_W_UVQK_WEIGHT, layer, r->w);
	load(r, MTS_W_UVQK_BIAS, layer, r->b);
	for (size_t t = 0; t < r->rows; t++) {
		multiply_row(r->n + t * d, d, cols, r->w, r->b, r->z + t * cols);
		for (uint32_t j = 0; j < activated; j++)
			r->z[t * cols + j] = silu(r->z[t * cols + j]);
	}
}

/* May row i look at key j? (rows from v on are candidates, all at position v) */
static int sees(const struct ref *r, uint32_t i, uint32_t j)
{
	uint32_t position = i < r->v ? i : r->v;

	if (i == j)
		return 1;
	if (j >= r->v || j > position)
		return 0;
	return !r->c->window || position - j <= r->c->window;
}

static void attend_head(struct ref *r, uint32_t i, uint32_t head)
{
	const struct mts_model_config *c = r->c;
	size_t cols = mts_config_zcols(c), hdv = mts_config_hdv(c);
	const double *q = r->z + i * cols + 2 * hdv + head * c->dq;
	double *o = r->o + i * hdv + head * c->dv;

	memset(o, 0, c->dv * sizeof(*o));
	for (uint32_t j = 0; j < r->rows; j++) {
		const double *v = r->z + j * cols + hdv + head * c->dv;
		const double *k = r->z + j * cols + 2 * hdv + (c->heads + head) * c->dq;
		double dot = 0;

		if (!sees(r, i, j))
			continue;
		for (uint32_t e = 0; e < c->dq; e++)
			dot += q[e] * k[e];
		for (uint32_t e = 0; e < c->dv; e++)
			o[e] += silu(dot / sqrt(c->dq)) / c->scale_len * v[e];
	}
}

static void modulate(struct ref *r, uint32_t layer)
{
	size_t hdv = mts_config_hdv(r->c), cols = mts_config_zcols(r->c);
	size_t ycols = mts_config_ycols(r->c);

	load(r, MTS_W_OUT_NORM_WEIGHT, layer, r->w);
	load(r, MTS_W_OUT_NORM_BIAS, layer, r->b);
	for (size_t t = 0; t < r->rows; t++) {
		const double *u = r->z + t * cols, *o = r->o + t * hdv;
		double *y = r->y + t * ycols + (r->c->concat ? 2 * hdv : 0);

		norm_row(o, (uint32_t)hdv, r->c->eps, r->w, r->b, y);
		for (size_t e = 0; e < hdv; e++)
			y[e] *= u[e];
		if (r->c->concat) {
			memcpy(r->y + t * ycols, u, hdv * sizeof(*u));
			memcpy(r->y + t * ycols + hdv, o, hdv * sizeof(*o));
		}
	}
}

static void add_output(struct ref *r, uint32_t layer)
{
	uint32_t d = r->c->d, ycols = mts_config_ycols(r->c);

	load(r, MTS_W_OUT_WEIGHT, layer, r->w);
	for (size_t t = 0; t < r->rows; t++) {
		multiply_row(r->y + t * ycols, ycols, d, r->w, NULL, r->n + t * d);
		for (uint32_t e = 0; e < d; e++)
			r->x[t * d + e] += r->n[t * d + e];
	}
}

static void keep_kv(const struct ref *r, uint32_t layer, struct mts_ref_forward *out)
{
	size_t hdv = mts_config_hdv(r->c), hdq = (size_t)r->c->heads * r->c->dq;

	for (size_t t = 0; t < r->v; t++) {
		const double *z = r->z + t * mts_config_zcols(r->c);
		size_t row = (size_t)layer * r->v + t;

		memcpy(out->v + row * hdv, z + hdv, hdv * sizeof(*z));
		memcpy(out->k + row * hdq, z + 2 * hdv + hdq, hdq * sizeof(*z));
	}
}

static void score(struct ref *r, double *scores)
{
	uint32_t d = r->c->d, m = r->c->head_hidden, tasks = r->c->tasks;

	load(r, MTS_W_HEAD_NORM_WEIGHT, 0, r->w);
	load(r, MTS_W_HEAD_NORM_BIAS, 0, r->b);
	for (size_t t = r->v; t < r->rows; t++)
		norm_row(r->x + t * d, d, r->c->eps, r->w, r->b, r->n + t * d);
	load(r, MTS_W_HEAD0_WEIGHT, 0, r->w);
	load(r, MTS_W_HEAD0_BIAS, 0, r->b);
	for (size_t t = r->v; t < r->rows; t++)
		multiply_row(r->n + t * d, d, m, r->w, r->b, r->z + t * m);
	load(r, MTS_W_HEAD1_WEIGHT, 0, r->w);
	load(r, MTS_W_HEAD1_BIAS, 0, r->b);
	for (size_t t = r->v; t < r->rows; t++) {
		double *hidden = r->z + t * m, *to = scores + (t - r->v) * tasks;

		for (uint32_t e = 0; e < m; e++)
			hidden[e] = silu(hidden[e]);
		multiply_row(hidden, m, tasks, r->w, r->b, to);
		for (uint32_t e = 0; e < tasks; e++)
			to[e] = 1 / (1 + exp(-to[e]));
	}
}

static void run(struct ref *r, struct mts_ref_forward *out)
{
	for (uint32_t l = 0; l < r->c->layers; l++) {
		project(r, l);
		keep_kv(r, l, out);
		for (uint32_t i = 0; i < r->rows; i++)
			for (uint32_t head = 0; head < r->c->heads; head++)
				attend_head(r, i, head);
		modulate(r, l);
		add_output(r, l);
	}
	memcpy(out->hidden, r->x, (size_t)r->rows * r->c->d * sizeof(double));
	score(r, out->scores);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* The largest tensor that load() fetches, embeddings left out: they are read by the row. */
static size_t largest_weight(const struct mts_model_config *c)
{
	struct mts_weight_spec s;
	size_t most = 3 * (size_t)c->d;

	for (unsigned i = MTS_W_IN_NORM_WEIGHT; i < mts_weight_count(c); i++) {
		mts_weight_describe(c, i, &s);
		most = larger(most, mts_weight_elements(&s));
	}
	return most;
}

static int allocate(struct ref *r, struct mts_ref_forward *out, uint32_t c)
{
	size_t rows = r->rows + 1, kept = (size_t)r->c->layers * r->v + 1;
	size_t zcols = larger(mts_config_zcols(r->c), r->c->head_hidden);

	r->x = calloc(rows * r->c->d, sizeof(double));
	r->n = calloc(rows * r->c->d, sizeof(double));
	r->z = calloc(rows * zcols, sizeof(double));
	r->o = calloc(rows * mts_config_hdv(r->c), sizeof(double));
	r->y = calloc(rows * mts_config_ycols(r->c), sizeof(double));
	r->w = calloc(largest_weight(r->c), sizeof(float));
	r->b = calloc(largest_weight(r->c), sizeof(float));
	out->k = calloc(kept * r->c->heads * r->c->dq, sizeof(double));
	out->v = calloc(kept * r->c->heads * r->c->dv, sizeof(double));
	out->hidden = calloc(rows * r->c->d, sizeof(double));
	out->scores = calloc((size_t)(c + 1) * r->c->tasks, sizeof(double));
	if (r->x && r->n && r->z && r->o && r->y && r->w && r->b && out->k && out->v &&
	    out->hidden && out->scores)
		return 0;
	mts_ref_forward_free(out);
	return -ENOMEM;
}

int mts_ref_forward(const struct mts_model *m, const uint32_t *items, const uint32_t *actions,
		    uint32_t v, const uint32_t *candidates, uint32_t c, struct mts_ref_forward *out)
{
	struct ref r = {.m = m, .c = mts_model_get_config(m), .v = v, .rows = v + c};
	int rc = allocate(&r, out, c);

	if (rc == 0) {
		embed(&r, items, actions, candidates);
		run(&r, out);
	}
	free(r.x);
	free(r.n);
	free(r.z);
	free(r.o);
	free(r.y);
	free(r.w);
	free(r.b);
	return rc;
}

void mts_ref_forward_free(struct mts_ref_forward *r)
{
	free(r->k);
	free(r->v);
	free(r->hidden);
	free(r->scores);
	*r = (struct mts_ref_forward){0};
}
