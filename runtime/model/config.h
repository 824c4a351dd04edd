/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's configuration as the metadata of a model file: strings on one side, numbers within
 * stated bounds on the other.
 *
 * Floor: model; internal to it. Pure functions: any thread.
 */
#ifndef MTS_MODEL_CONFIG_H
#define MTS_MODEL_CONFIG_H

#include <jansson.h>

#include "model/model.h"

struct mts_safetensors;

/*
 * Fills everything but items, actions and head_hidden, which only the tensors' shapes tell.
 * -EINVAL: err names the key and what was expected. A key that is not known is refused: it may
 * change the mathematics.
 */
int mts_config_parse(const struct mts_safetensors *st, struct mts_model_config *out,
		     struct mts_error *err);

/* The same metadata as a new object of strings, or NULL: out of memory. */
json_t *mts_config_format(const struct mts_model_config *c);

#endif
