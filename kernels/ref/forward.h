/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole model in double precision, in plain loops: the reference that everything else is
 * measured against. No pages, no tiles, no threads, nothing clever.
 *
 * For tests. Any thread; each call stands alone.
 */
#ifndef MTS_REF_FORWARD_H
#define MTS_REF_FORWARD_H

#include "model/model.h"

struct mts_ref_forward {
	double *k;	/* [layers][v][h·dq] */
	double *v;	/* [layers][v][h·dv] */
	double *hidden; /* [v + c][d] after the last layer */
	double *scores; /* [c][tasks] */
};

/*
 * Runs the model over v visible events (oldest first) and c candidates. The ids must lie inside the
 * model's tables. -ENOMEM. On success the caller frees with mts_ref_forward_free.
 */
int mts_ref_forward(const struct mts_model *m, const uint32_t *items, const uint32_t *actions,
		    uint32_t v, const uint32_t *candidates, uint32_t c,
		    struct mts_ref_forward *out);
void mts_ref_forward_free(struct mts_ref_forward *r);

#endif
