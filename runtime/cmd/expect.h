/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expectation files: users with their histories, and what another implementation of the model
 * computed for them. A .safetensors file with, for each user b from 0 on,
 *
 *   user.b.items, user.b.actions   I64 [n]       the whole life, oldest first
 *   user.b.candidates              I64 [c]
 *   user.b.layer.l.k, .v           F32 [v, h, dq], [v, h, dv] of the v visible events
 *   user.b.hidden                  F32 [v + c, d]  after the last layer
 *   user.b.scores                  F32 [c, tasks]
 *
 * Floor: cmd. Untrusted input. Read-only once opened.
 */
#ifndef MTS_EXPECT_H
#define MTS_EXPECT_H

#include <mtserve.h>

#include "model/model.h"

struct mts_expect_user {
	uint32_t n; /* events in the whole life */
	uint32_t v; /* visible: the last v */
	uint32_t candidates;
	struct mts_event *events; /* [n] */
	uint32_t *candidate;	  /* [candidates] */
	float **k, **v_;	  /* [layers]: [v, h·dq], [v, h·dv] */
	float *hidden;		  /* [v + candidates, d] */
	float *scores;		  /* [candidates, tasks] */
};

struct mts_expect {
	uint32_t layers;
	unsigned users;
	struct mts_expect_user *user;
};

/* -EINVAL: err names the tensor and what was expected of it; -ENOMEM; open's -errno. */
int mts_expect_open(const char *path, const struct mts_model_config *c, struct mts_expect **out,
		    struct mts_error *err);
void mts_expect_close(struct mts_expect *e);

#endif
