/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification: a model on a device against an expectation file, whole and at every split through
 * the cache, the prefix coming from the device or from the host.
 *
 * Floor: cmd, beneath the command that prints it. One thread.
 */
#ifndef MTS_VERIFY_H
#define MTS_VERIFY_H

#include "model/model.h"

struct mts_verify;

enum mts_verify_source { MTS_FROM_NOTHING, MTS_FROM_DEVICE, MTS_FROM_HOST, MTS_VERIFY_SOURCES };

struct mts_verify_options {
	const char *model, *expect, *device;
	unsigned threads; /* 0: all */
	enum mts_dtype kv;
};

/* Largest absolute differences from what is expected. */
struct mts_verify_error {
	double scores, k, v, hidden; /* hidden: only where nothing is cached */
	double of_bound;	     /* the largest share any of them takes of its bound */
	uint32_t splits;
	uint32_t other_bits; /* splits whose scores differ from computing it all, in any bit */
};

struct mts_verify_user {
	uint32_t events, visible, candidates;
	struct mts_verify_error by[MTS_VERIFY_SOURCES];
};

/*
 * What a difference may be. For K and V the bound of an element is kv + kv_layer · layer +
 * kv_relative · |expected|. Derived in Documentation/numerics.md.
 */
struct mts_verify_bounds {
	double scores, hidden, kv, kv_layer, kv_relative;
};

struct mts_verify_bounds mts_verify_bounds_of(enum mts_dtype kv, uint32_t layers);

int mts_verify_open(const struct mts_verify_options *o, struct mts_verify **out,
		    struct mts_error *err);
void mts_verify_close(struct mts_verify *v);
unsigned mts_verify_users(const struct mts_verify *v);
const struct mts_model_config *mts_verify_config(const struct mts_verify *v);

/*
 * Runs one user through everything. -errno: a step failed (told in err), which is no verdict. What
 * the verdict is, the caller reads from `out`: of_bound <= 1 and other_bits == 0.
 */
int mts_verify_run(struct mts_verify *v, unsigned user, struct mts_verify_user *out,
		   struct mts_error *err);

#endif
