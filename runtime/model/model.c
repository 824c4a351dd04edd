/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model file, checked and mapped. Floor: model. Read-only once open: any thread.
 *
 * Opening reads every byte once, for the hash and for the search for NaN and infinity: a weight
 * that is not a number would turn into a score that is not one, long after this file is forgotten.
 */
#include "model/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "error.h"
#include "model/config.h"
#include "model/dtype.h"
#include "model/safetensors.h"
#include "model/spec.h"

struct mts_model {
	struct mts_safetensors *st;
	struct mts_model_config config;
	uint64_t hash[2];
	const struct mts_st_tensor **tensor; /* [mts_weight_count], in the order of spec.h */
};

static void shape_text(char *out, size_t size, unsigned rank, const uint64_t *shape)
{
	size_t at = (size_t)snprintf(out, size, "[");

	for (unsigned i = 0; i < rank && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, i ? ", %" PRIu64 : "%" PRIu64,
				       shape[i]);
	if (at < size)
		snprintf(out + at, size - at, "]");
}

static int check_tensor(const struct mts_st_tensor *t, const struct mts_weight_spec *s,
			struct mts_error *err)
{
	uint64_t shape[2] = {s->shape[0], s->shape[1]};
	char have[96], want[64];

	if (strcmp(t->dtype, "F32") && strcmp(t->dtype, "BF16") && strcmp(t->dtype, "F16")) {
		mts_error_set(err, "tensor \"%s\": dtype is %s, expected F32, BF16 or F16", s->name,
			      t->dtype);
		return -EINVAL;
	}
	if (t->rank == s->rank && memcmp(t->shape, shape, s->rank * sizeof(shape[0])) == 0)
		return 0;
	shape_text(have, sizeof(have), t->rank, t->shape);
	shape_text(want, sizeof(want), s->rank, shape);
	mts_error_set(err, "tensor \"%s\": shape is %s, expected %s", s->name, have, want);
	return -EINVAL;
}

/* A dimension that only a tensor's shape tells. */
static int free_dimension(const struct mts_safetensors *st, const char *name, unsigned which,
			  uint32_t max, uint32_t *out, struct mts_error *err)
{
	const struct mts_st_tensor *t = mts_safetensors_find(st, name);

	if (!t) {
		mts_error_set(err, "tensor \"%s\" is missing", name);
		return -EINVAL;
	}
	if (t->rank != 2 || t->shape[which] < 1 || t->shape[which] > max) {
		mts_error_set(err,
			      "tensor \"%s\": expected two dimensions, dimension %u from 1 to %u",
			      name, which, max);
		return -EINVAL;
	}
	*out = (uint32_t)t->shape[which];
	return 0;
}

static int read_dimensions(struct mts_model *m, struct mts_error *err)
{
	struct mts_model_config *c = &m->config;
	int rc = free_dimension(m->st, "item_embedding", 0, UINT32_MAX / 2, &c->items, err);

	if (rc == 0)
		rc = free_dimension(m->st, "action_embedding", 0, 1 << 24, &c->actions, err);
	if (rc == 0)
		rc = free_dimension(m->st, "head.0.weight", 1, 65536, &c->head_hidden, err);
	return rc;
}

/* Some tensor of the file that the list does not have. */
static int refuse_extra(const struct mts_model *m, struct mts_error *err)
{
	unsigned count = mts_weight_count(&m->config);

	for (size_t i = 0; i < mts_safetensors_count(m->st); i++) {
		const struct mts_st_tensor *t = mts_safetensors_at(m->st, i);
		unsigned k = 0;

		while (k < count && m->tensor[k] != t)
			k++;
		if (k == count) {
			mts_error_set(err,
				      "tensor \"%.80s\" is not part of %s: it may change the "
				      "mathematics (relative positions or times cannot be cached)",
				      t->name, MTS_MODEL_FORMAT);
			return -EINVAL;
		}
	}
	return 0;
}

static int find_tensors(struct mts_model *m, struct mts_error *err)
{
	unsigned count = mts_weight_count(&m->config);
	struct mts_weight_spec s;
	int rc;

	m->tensor = calloc(count, sizeof(m->tensor[0]));
	if (!m->tensor)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		mts_weight_describe(&m->config, i, &s);
		m->tensor[i] = mts_safetensors_find(m->st, s.name);
		if (!m->tensor[i]) {
			mts_error_set(err, "tensor \"%s\" is missing", s.name);
			return -EINVAL;
		}
		rc = check_tensor(m->tensor[i], &s, err);
		if (rc)
			return rc;
	}
	return mts_safetensors_count(m->st) == count ? 0 : refuse_extra(m, err);
}

/* Index of the first element whose exponent bits are all set (NaN or infinity), or n. */
static uint64_t first_not_finite(const struct mts_st_tensor *t)
{
	const unsigned char *p = t->data;
	uint16_t ones = t->dtype[0] == 'B' ? 0x7f80 : 0x7c00;
	uint64_t i;

	for (i = 0; i < t->elements && t->bytes_each == 4; i++) {
		uint32_t u;

		memcpy(&u, p + 4 * i, 4);
		if ((u & 0x7f800000) == 0x7f800000)
			return i;
	}
	for (i = 0; i < t->elements && t->bytes_each == 2; i++) {
		uint16_t u;

		memcpy(&u, p + 2 * i, 2);
		if ((u & ones) == ones)
			return i;
	}
	return t->elements;
}

static int check_finite(const struct mts_model *m, struct mts_error *err)
{
	for (unsigned i = 0; i < mts_weight_count(&m->config); i++) {
		const struct mts_st_tensor *t = m->tensor[i];
		uint64_t at = first_not_finite(t);

		if (at < t->elements) {
			mts_error_set(err,
				      "tensor \"%s\": element %" PRIu64
				      " is NaN or infinite, expected finite weights",
				      t->name, at);
			return -EINVAL;
		}
	}
	return 0;
}

static void hash_file(struct mts_model *m)
{
	size_t len;
	const void *bytes = mts_safetensors_bytes(m->st, &len);
	XXH128_hash_t hash = XXH3_128bits(bytes, len);

	m->hash[0] = hash.low64;
	m->hash[1] = hash.high64;
}

static int check_model(struct mts_model *m, struct mts_error *err)
{
	int rc = mts_config_parse(m->st, &m->config, err);

	if (rc == 0)
		rc = read_dimensions(m, err);
	if (rc == 0)
		rc = find_tensors(m, err);
	if (rc == 0)
		rc = check_finite(m, err);
	if (rc == 0)
		hash_file(m);
	return rc;
}

/* Takes st over, also on failure. */
static int model_from(struct mts_safetensors *st, struct mts_model **out, struct mts_error *err)
{
	struct mts_model *m = calloc(1, sizeof(*m));
	int rc;

	mts_error_set(err, "out of memory");
	if (!m) {
		mts_safetensors_close(st);
		return -ENOMEM;
	}
	m->st = st;
	rc = check_model(m, err);
	if (rc)
		mts_model_close(m);
	else
		*out = m;
	return rc;
}

int mts_model_open(const char *path, struct mts_model **out, struct mts_error *err)
{
	struct mts_safetensors *st;
	struct mts_error why;
	int rc = mts_safetensors_open(path, &st, err);

	if (rc)
		return rc;
	rc = model_from(st, out, &why);
	if (rc)
		mts_error_set(err, "%.120s: %s", path, why.text);
	return rc;
}

int mts_model_parse(const void *buf, size_t len, struct mts_model **out, struct mts_error *err)
{
	struct mts_safetensors *st;
	int rc = mts_safetensors_parse(buf, len, &st, err);

	return rc ? rc : model_from(st, out, err);
}

void mts_model_close(struct mts_model *m)
{
	if (!m)
		return;
	mts_safetensors_close(m->st);
	free(m->tensor);
	free(m);
}

const struct mts_model_config *mts_model_get_config(const struct mts_model *m)
{
	return &m->config;
}

void mts_model_hash(const struct mts_model *m, uint64_t out[2])
{
	out[0] = m->hash[0];
	out[1] = m->hash[1];
}

uint64_t mts_window_start(const struct mts_model_config *c, uint64_t n)
{
	uint64_t excess = n > c->max_history ? n - c->max_history : 0;

	return excess / c->slide * c->slide + (excess % c->slide ? c->slide : 0);
}

size_t mts_model_token_bytes(const struct mts_model_config *c, enum mts_dtype kv)
{
	return (size_t)c->layers * c->heads * (c->dq + c->dv) * mts_dtype_bytes(kv);
}

enum mts_dtype mts_model_dtype(const struct mts_model *m, enum mts_weight role, uint32_t layer)
{
	const struct mts_st_tensor *t = m->tensor[mts_weight_index(&m->config, role, layer)];

	return t->bytes_each == 4 ? MTS_F32 : t->dtype[0] == 'B' ? MTS_BF16 : MTS_F16;
}

void mts_model_read(const struct mts_model *m, enum mts_weight role, uint32_t layer, size_t at,
		    size_t n, float *out)
{
	const struct mts_st_tensor *t = m->tensor[mts_weight_index(&m->config, role, layer)];
	enum mts_dtype dtype = mts_model_dtype(m, role, layer);
	const unsigned char *p = (const unsigned char *)t->data + at * t->bytes_each;
	uint16_t h;

	if (dtype == MTS_F32) {
		memcpy(out, p, n * 4);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(&h, p + 2 * i, 2);
		out[i] = dtype == MTS_BF16 ? mts_bf16_to_f32(h) : mts_f16_to_f32(h);
	}
}
