/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model on a device: weights in float32, and the activations of each pass in flight.
 *
 * Floor: model; internal to it. Owner's thread (the one that launches).
 */
#ifndef MTS_MODEL_WEIGHTS_H
#define MTS_MODEL_WEIGHTS_H

#include "model/model.h"
#include "model/spec.h"

/* Device memory of one pass in flight; `tail` is the same for candidate rows alone. */
struct mts_activations {
	float *x;  /* [rows, d] the residual stream */
	float *n;  /* [rows, d] normalised */
	float *z;  /* [rows, zcols] U | V | Q | K */
	float *o;  /* [rows, h·dv] out of attention */
	float *y;  /* [rows, ycols] what out.weight is applied to */
	void *own; /* [candidates][K | V] of the candidates themselves */
	float *tail_x;	  /* [candidates, d] */
	float *tail_n;	  /* [candidates, d] */
	float *tail_z;	  /* [candidates, zcols] */
	float *head;	  /* [candidates, m] */
	float *scores;	  /* [candidates, tasks] */
	struct mts_pass tail;	/* the candidate rows of the pass, packed */
	struct mts_span *span;	/* host, [candidates]: those of `tail` */
	struct mts_gate broken; /* open with an error once a launch has failed */
};

struct mts_weights {
	struct mts_device *dev;
	struct mts_model_config config;
	uint32_t rows, candidates;
	enum mts_dtype kv;
	unsigned slots;
	struct mts_activations *slot; /* [slots] */
	float **tensor;	       /* device, [mts_weight_count], in the order of spec.h */
};

static inline const float *mts_weights_get(const struct mts_weights *w, enum mts_weight role,
					   uint32_t layer)
{
	return w->tensor[mts_weight_index(&w->config, role, layer)];
}

#endif
