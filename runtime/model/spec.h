/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model file holds, for a given configuration: the one list of tensors that the reader
 * checks against, the generator writes from, and the loader and the reference fetch by.
 *
 * Floor: model; internal to it and to the reference. Pure functions: any thread.
 */
#ifndef MTS_MODEL_SPEC_H
#define MTS_MODEL_SPEC_H

#include "model/model.h"

#define MTS_MODEL_FORMAT "mtserve-hstu-1"

enum mts_weight {
	MTS_W_ITEMS,	 /* [items, d] */
	MTS_W_ACTIONS,	 /* [actions, d] */
	MTS_W_POSITIONS, /* [P, d] */
	/* once per layer */
	MTS_W_IN_NORM_WEIGHT, /* [d] */
	MTS_W_IN_NORM_BIAS,   /* [d] */
	MTS_W_UVQK_WEIGHT,    /* [d, h(2dv + 2dq)] */
	MTS_W_UVQK_BIAS,      /* [h(2dv + 2dq)] */
	MTS_W_OUT_NORM_WEIGHT, /* [h·dv] */
	MTS_W_OUT_NORM_BIAS,   /* [h·dv] */
	MTS_W_OUT_WEIGHT,      /* [h·dv · (1 | 3), d] */
	/* the head */
	MTS_W_HEAD_NORM_WEIGHT, /* [d] */
	MTS_W_HEAD_NORM_BIAS,	/* [d] */
	MTS_W_HEAD0_WEIGHT,	/* [d, m] */
	MTS_W_HEAD0_BIAS,	/* [m] */
	MTS_W_HEAD1_WEIGHT,	/* [m, tasks] */
	MTS_W_HEAD1_BIAS,	/* [tasks] */
	MTS_W_ROLES
};

struct mts_weight_spec {
	enum mts_weight role;
	uint32_t layer; /* 0 outside of layers */
	char name[48];
	unsigned rank; /* 1 or 2 */
	uint32_t shape[2];
};

static inline uint32_t mts_config_hdv(const struct mts_model_config *c)
{
	return c->heads * c->dv;
}

/* columns of z: U | V | Q | K */
static inline uint32_t mts_config_zcols(const struct mts_model_config *c)
{
	return 2 * c->heads * (c->dv + c->dq);
}

/* columns of what out.weight is applied to */
static inline uint32_t mts_config_ycols(const struct mts_model_config *c)
{
	return mts_config_hdv(c) * (c->concat ? 3 : 1);
}

/* Tensors of the file, in its order: embeddings, layer by layer, head. */
unsigned mts_weight_count(const struct mts_model_config *c);
void mts_weight_describe(const struct mts_model_config *c, unsigned index,
			 struct mts_weight_spec *out);

static inline unsigned mts_weight_index(const struct mts_model_config *c, enum mts_weight role,
					uint32_t layer)
{
	const unsigned per_layer = MTS_W_HEAD_NORM_WEIGHT - MTS_W_IN_NORM_WEIGHT;

	if (role < MTS_W_IN_NORM_WEIGHT)
		return role;
	if (role < MTS_W_HEAD_NORM_WEIGHT)
		return role + layer * per_layer;
	return role + (c->layers - 1) * per_layer;
}

static inline size_t mts_weight_elements(const struct mts_weight_spec *s)
{
	return (size_t)s->shape[0] * (s->rank == 2 ? s->shape[1] : 1);
}

/* Elements [at, at + n) of a tensor of the file in float32; at + n must lie inside of it. */
void mts_model_read(const struct mts_model *m, enum mts_weight role, uint32_t layer, size_t at,
		    size_t n, float *out);

/* The type a tensor is stored in. */
enum mts_dtype mts_model_dtype(const struct mts_model *m, enum mts_weight role, uint32_t layer);

#endif
