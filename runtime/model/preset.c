/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The presets: published shapes under a name. Floor: model. Any thread.
 */
#include "model/model.h"

#include <errno.h>
#include <string.h>

#include "error.h"

#define PRESET(l, dim, h, dh, act, cat, history)                                                   \
	{                                                                                          \
		.layers = l, .d = dim, .heads = h, .dq = dh, .dv = dh, .items = 100000,            \
		.actions = 256, .positions = (history) + 1, .head_hidden = 64, .tasks = 4,         \
		.max_history = history, .slide = (history) / 2, .scale_len = (history) + 256,      \
		.eps = 1e-6f, .act_all = act, .concat = cat                                        \
	}

const struct mts_preset mts_presets[] = {
	{"tiny", PRESET(2, 64, 2, 32, 1, 0, 2048), "tests"},
	{"small", PRESET(3, 256, 4, 64, 1, 0, 2048), "a first run on two cores"},
	{"kuairand", PRESET(3, 512, 4, 128, 1, 0, 2048),
	 "the published KuaiRand-1K inference example"},
	{"mtserve", PRESET(8, 1024, 4, 128, 1, 0, 2048), "the paper's set-up"},
	{"hstu-bench", PRESET(8, 1024, 4, 256, 1, 0, 4096),
	 "NVIDIA's published block and end-to-end benchmarks"},
	{"dlrm-v3", PRESET(5, 512, 4, 128, 0, 1, 2048), "MLPerf Inference DLRMv3"},
	{.name = NULL},
};

static const struct mts_preset *preset_find(const char *name)
{
	const struct mts_preset *p = mts_presets;

	while (p->name && strcmp(p->name, name))
		p++;
	return p->name ? p : NULL;
}

int mts_preset_config(const char *name, const struct mts_preset_options *o,
		      struct mts_model_config *out, struct mts_error *err)
{
	const struct mts_preset *p = preset_find(name);

	if (!p) {
		mts_error_set(err,
			      "preset \"%.40s\" is not known, expected tiny, small, kuairand, "
			      "mtserve, hstu-bench or dlrm-v3",
			      name);
		return -ENOENT;
	}
	*out = p->config;
	if (o->items)
		out->items = o->items;
	if (o->max_history) {
		out->max_history = o->max_history;
		out->slide = o->max_history / 2;
		out->positions = o->max_history + 1;
		out->scale_len = (float)o->max_history + 256;
	}
	if (o->slide)
		out->slide = o->slide;
	return mts_model_config_check(out, err);
}
