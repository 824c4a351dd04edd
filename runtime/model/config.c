/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata of a model file, one table row per number (config.h). Floor: model. Any thread.
 *
 * Real numbers go through the JSON library both ways: it is the one number parser at hand that does
 * not depend on the process's locale.
 */
#include "model/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "model/safetensors.h"
#include "model/spec.h"

#define NAME "\"%.60s\""

/*
 * Bounds on whole numbers. They keep every product of two of them, and of three dimensions, inside
 * of the types that carry it: h(2dv + 2dq) < 2^21, positions and history below 2^24.
 */
static const struct config_key {
	const char *name;
	size_t offset;
	uint32_t min, max;
} config_keys[] = {
#define KEY(key, field, lo, hi)                                                                    \
	{                                                                                          \
		key, offsetof(struct mts_model_config, field), lo, hi                              \
	}
	KEY("layers", layers, 1, 1024),
	KEY("d_model", d, 1, 65536),
	KEY("heads", heads, 1, 512),
	KEY("d_qk", dq, 1, 1024),
	KEY("d_v", dv, 1, 1024),
	KEY("concat_ux", concat, 0, 1),
	KEY("max_attn_len", window, 0, 1 << 24),
	KEY("max_positions", positions, 1, 1 << 24),
	KEY("tasks", tasks, 1, 4096),
	KEY("max_history", max_history, 1, 1 << 24),
	KEY("history_slide", slide, 1, 1 << 24),
#undef KEY
};

#define CONFIG_KEYS (sizeof(config_keys) / sizeof(config_keys[0]))

static const char *const known_keys[] = {
	"format",
	"layers",
	"d_model",
	"heads",
	"d_qk",
	"d_v",
	"uvqk_act",
	"concat_ux",
	"attn_scale_len",
	"max_attn_len",
	"max_positions",
	"norm_eps",
	"tasks",
	"max_history",
	"history_slide",
	/* these say nothing about the mathematics */
	"name",
	"comment",
	"license",
	NULL,
};

static uint32_t *config_field(struct mts_model_config *c, const struct config_key *key)
{
	return (uint32_t *)((char *)c + key->offset);
}

/* Digits only: strtoul alone would take signs, spaces and a tail. */
static int parse_whole(const struct config_key *key, const char *text, uint32_t *out,
		       struct mts_error *err)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long long value = digits > 0 && digits < 18 ? strtoull(text, NULL, 10) : 0;

	if (digits == 0 || digits >= 18 || text[digits] || value < key->min || value > key->max) {
		mts_error_set(err,
			      "metadata key \"%s\" is " NAME
			      ", expected a whole number from %u to %u",
			      key->name, text, key->min, key->max);
		return -EINVAL;
	}
	*out = (uint32_t)value;
	return 0;
}

static int parse_real(const char *key, const char *text, double max, float *out,
		      struct mts_error *err)
{
	json_t *number = json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
	double value = json_is_real(number) ? json_real_value(number) : -1;

	json_decref(number);
	if (!(value > 0 && value <= max) || (float)value < 0x1p-126f) {
		mts_error_set(err,
			      "metadata key \"%s\" is " NAME
			      ", expected a number above 0 and at most %g",
			      key, text, max);
		return -EINVAL;
	}
	*out = (float)value;
	return 0;
}

static const char *required(const struct mts_safetensors *st, const char *key,
			    struct mts_error *err)
{
	const char *text = mts_safetensors_meta(st, key);

	if (!text)
		mts_error_set(err, "metadata key \"%s\" is missing", key);
	return text;
}

static int check_format(const struct mts_safetensors *st, struct mts_error *err)
{
	const char *format = required(st, "format", err);
	const char *odd;

	if (!format)
		return -EINVAL;
	if (strcmp(format, MTS_MODEL_FORMAT)) {
		mts_error_set(err, "metadata key \"format\" is " NAME ", expected \"%s\"", format,
			      MTS_MODEL_FORMAT);
		return -EINVAL;
	}
	odd = mts_safetensors_meta_unknown(st, known_keys);
	if (odd) {
		mts_error_set(err,
			      "metadata key " NAME " is not part of %s: it may change the "
			      "mathematics (relative positions or times cannot be cached)",
			      odd, MTS_MODEL_FORMAT);
		return -EINVAL;
	}
	return 0;
}

static int parse_activation(const struct mts_safetensors *st, struct mts_model_config *c,
			    struct mts_error *err)
{
	const char *act = required(st, "uvqk_act", err);

	if (!act)
		return -EINVAL;
	if (strcmp(act, "all") && strcmp(act, "u")) {
		mts_error_set(err,
			      "metadata key \"uvqk_act\" is " NAME ", expected \"all\" or \"u\"",
			      act);
		return -EINVAL;
	}
	c->act_all = strcmp(act, "all") == 0;
	return 0;
}

static int parse_wholes(const struct mts_safetensors *st, struct mts_model_config *c,
			struct mts_error *err)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];
		int optional = key->offset == offsetof(struct mts_model_config, max_history) ||
			       key->offset == offsetof(struct mts_model_config, slide);
		const char *text = mts_safetensors_meta(st, key->name);
		int rc;

		if (!text && optional)
			continue;
		if (!required(st, key->name, err))
			return -EINVAL;
		rc = parse_whole(key, text, config_field(c, key), err);
		if (rc)
			return rc;
	}
	return 0;
}

static int parse_reals(const struct mts_safetensors *st, struct mts_model_config *c,
		       struct mts_error *err)
{
	const char *scale = required(st, "attn_scale_len", err);
	const char *eps = scale ? required(st, "norm_eps", err) : NULL;
	int rc;

	if (!eps)
		return -EINVAL;
	rc = parse_real("attn_scale_len", scale, 1 << 24, &c->scale_len, err);
	return rc ? rc : parse_real("norm_eps", eps, 1, &c->eps, err);
}

int mts_config_parse(const struct mts_safetensors *st, struct mts_model_config *out,
		     struct mts_error *err)
{
	int rc = check_format(st, err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = parse_wholes(st, out, err);
	if (rc == 0)
		rc = parse_activation(st, out, err);
	if (rc == 0)
		rc = parse_reals(st, out, err);
	if (rc)
		return rc;
	if (!out->max_history)
		out->max_history = out->positions;
	if (!out->slide)
		out->slide = out->max_history / 2;
	return mts_model_config_check(out, err);
}

static int check_wholes(const struct mts_model_config *c, struct mts_error *err)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];
		uint32_t value = *(const uint32_t *)((const char *)c + key->offset);

		if (value < key->min || value > key->max) {
			mts_error_set(err, "%s is %u, expected %u to %u", key->name, value,
				      key->min, key->max);
			return -EINVAL;
		}
	}
	return 0;
}

int mts_model_config_check(const struct mts_model_config *c, struct mts_error *err)
{
	/* the slide first: its default is 0 for a history of 1 */
	if (c->slide == 0 || c->max_history % c->slide) {
		mts_error_set(err,
			      "history_slide is %u, expected a divisor of max_history, which is %u",
			      c->slide, c->max_history);
		return -EINVAL;
	}
	if (!(c->scale_len > 0 && c->scale_len <= 1 << 24) || !(c->eps > 0 && c->eps <= 1)) {
		mts_error_set(err, "attn_scale_len is %g and norm_eps %g, expected above 0",
			      (double)c->scale_len, (double)c->eps);
		return -EINVAL;
	}
	return check_wholes(c, err);
}

static int put_whole(json_t *meta, const char *key, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return json_object_set_new(meta, key, json_string(text));
}

/* 1: `digits` significant digits read back as the same float, and are stored; 0: too few; -1. */
static int put_digits(json_t *meta, const char *key, float value, size_t digits)
{
	const size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits);
	json_t *number = json_real((double)value);
	char *text = json_dumps(number, flags);
	json_t *back = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	int rc = -1;

	if (back && (float)json_real_value(back) != value)
		rc = 0;
	else if (back)
		rc = json_object_set_new(meta, key, json_string(text)) ? -1 : 1;
	json_decref(back);
	free(text);
	json_decref(number);
	return rc;
}

/* The shortest decimal that reads back as the same float. */
static int put_real(json_t *meta, const char *key, float value)
{
	int rc = 0;

	if (value == floorf(value))
		return put_whole(meta, key, (uint32_t)value);
	for (size_t digits = 1; digits <= 9 && rc == 0; digits++)
		rc = put_digits(meta, key, value, digits);
	return rc == 1 ? 0 : -1;
}

json_t *mts_config_format(const struct mts_model_config *c)
{
	json_t *meta = json_object();
	int rc = meta ? json_object_set_new(meta, "format", json_string(MTS_MODEL_FORMAT)) : -1;

	for (size_t i = 0; i < CONFIG_KEYS && rc == 0; i++)
		rc = put_whole(meta, config_keys[i].name,
			       *(const uint32_t *)((const char *)c + config_keys[i].offset));
	if (rc == 0)
		rc = json_object_set_new(meta, "uvqk_act", json_string(c->act_all ? "all" : "u"));
	if (rc == 0)
		rc = put_real(meta, "attn_scale_len", c->scale_len);
	if (rc == 0)
		rc = put_real(meta, "norm_eps", c->eps);
	if (rc == 0)
		return meta;
	json_decref(meta);
	return NULL;
}
