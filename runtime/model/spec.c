/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of tensors (spec.h): names and shapes by role. Floor: model. Any thread.
 */
#include "model/spec.h"

#include <stdio.h>

static const char *const weight_names[MTS_W_ROLES] = {
	[MTS_W_ITEMS] = "item_embedding",
	[MTS_W_ACTIONS] = "action_embedding",
	[MTS_W_POSITIONS] = "position_embedding",
	[MTS_W_IN_NORM_WEIGHT] = "in_norm.weight",
	[MTS_W_IN_NORM_BIAS] = "in_norm.bias",
	[MTS_W_UVQK_WEIGHT] = "uvqk.weight",
	[MTS_W_UVQK_BIAS] = "uvqk.bias",
	[MTS_W_OUT_NORM_WEIGHT] = "out_norm.weight",
	[MTS_W_OUT_NORM_BIAS] = "out_norm.bias",
	[MTS_W_OUT_WEIGHT] = "out.weight",
	[MTS_W_HEAD_NORM_WEIGHT] = "head.norm.weight",
	[MTS_W_HEAD_NORM_BIAS] = "head.norm.bias",
	[MTS_W_HEAD0_WEIGHT] = "head.0.weight",
	[MTS_W_HEAD0_BIAS] = "head.0.bias",
	[MTS_W_HEAD1_WEIGHT] = "head.1.weight",
	[MTS_W_HEAD1_BIAS] = "head.1.bias",
};

unsigned mts_weight_count(const struct mts_model_config *c)
{
	return mts_weight_index(c, MTS_W_HEAD1_BIAS, 0) + 1;
}

static void set_role(const struct mts_model_config *c, unsigned index, struct mts_weight_spec *s)
{
	const unsigned per_layer = MTS_W_HEAD_NORM_WEIGHT - MTS_W_IN_NORM_WEIGHT;

	s->layer = 0;
	if (index < MTS_W_IN_NORM_WEIGHT) {
		s->role = (enum mts_weight)index;
	} else if (index < MTS_W_IN_NORM_WEIGHT + c->layers * per_layer) {
		s->layer = (index - MTS_W_IN_NORM_WEIGHT) / per_layer;
		s->role = (enum mts_weight)(index - s->layer * per_layer);
	} else {
		s->role = (enum mts_weight)(index - (c->layers - 1) * per_layer);
	}
}

static void set_shape(struct mts_weight_spec *s, uint32_t rows, uint32_t columns)
{
	s->rank = columns ? 2 : 1;
	s->shape[0] = rows;
	s->shape[1] = columns;
}

static void set_shape_of_role(const struct mts_model_config *c, struct mts_weight_spec *s)
{
	switch (s->role) {
	case MTS_W_ITEMS:
		return set_shape(s, c->items, c->d);
	case MTS_W_ACTIONS:
		return set_shape(s, c->actions, c->d);
	case MTS_W_POSITIONS:
		return set_shape(s, c->positions, c->d);
	case MTS_W_UVQK_WEIGHT:
		return set_shape(s, c->d, mts_config_zcols(c));
	case MTS_W_UVQK_BIAS:
		return set_shape(s, mts_config_zcols(c), 0);
	case MTS_W_OUT_NORM_WEIGHT:
	case MTS_W_OUT_NORM_BIAS:
		return set_shape(s, mts_config_hdv(c), 0);
	case MTS_W_OUT_WEIGHT:
		return set_shape(s, mts_config_ycols(c), c->d);
	case MTS_W_HEAD0_WEIGHT:
		return set_shape(s, c->d, c->head_hidden);
	case MTS_W_HEAD0_BIAS:
		return set_shape(s, c->head_hidden, 0);
	case MTS_W_HEAD1_WEIGHT:
		return set_shape(s, c->head_hidden, c->tasks);
	case MTS_W_HEAD1_BIAS:
		return set_shape(s, c->tasks, 0);
	default:
		return set_shape(s, c->d, 0);
	}
}

void mts_weight_describe(const struct mts_model_config *c, unsigned index,
			 struct mts_weight_spec *out)
{
	set_role(c, index, out);
	set_shape_of_role(c, out);
	if (out->role >= MTS_W_IN_NORM_WEIGHT && out->role < MTS_W_HEAD_NORM_WEIGHT)
		snprintf(out->name, sizeof(out->name), "layer.%u.%s", out->layer,
			 weight_names[out->role]);
	else
		snprintf(out->name, sizeof(out->name), "%s", weight_names[out->role]);
}
