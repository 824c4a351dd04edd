/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The golden files: a model, and what another implementation expects of it, user by user. And the
 * largest difference between two arrays, which is what every test on them comes down to.
 *
 * GOLDEN is the folder. For tests: aborts through check on any trouble.
 */
#ifndef MTS_TEST_GOLDEN_H
#define MTS_TEST_GOLDEN_H

#include "model/model.h"

struct mts_expect;

extern const char *const golden_cases[]; /* ends with NULL */
enum { GOLDEN_CASES = 5, GOLDEN_USERS = 4 };

struct golden {
	struct mts_model *model;
	struct mts_expect *expect;
	const struct mts_model_config *c;
};

/* The visible part of a user's life, and what is expected of it. Pointers live as long as golden. */
struct golden_user {
	uint32_t v, candidates;
	uint32_t *items, *actions; /* [v] visible, oldest first */
	const uint32_t *candidate; /* [candidates] */
	float *const *k;	   /* by layer: [v, h·dq] */
	float *const *v_;	   /* by layer: [v, h·dv] */
	const float *hidden;	   /* [v + candidates, d] */
	const float *scores;	   /* [candidates, tasks] */
};

void golden_open(const char *name, struct golden *g);
void golden_close(struct golden *g);
void golden_user_open(const struct golden *g, unsigned user, struct golden_user *u);
void golden_user_close(struct golden_user *u);

double largest_difference(const double *a, const float *b, size_t n);
double largest_difference_f(const float *a, const float *b, size_t n);

#endif
