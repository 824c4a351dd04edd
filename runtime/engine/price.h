/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What things cost, learned while serving: a pass by its rows and by the keys they attend to, a load
 * by its copies and bytes.
 *
 * Floor: engine. Thread: the engine's. Both are straight lines through what was seen, fitted by least
 * squares of the relative error with old passes fading out; no term is ever negative. Nothing is known
 * before the first sample: then everything costs nothing.
 */
#ifndef MTS_PRICE_H
#define MTS_PRICE_H

#include <stdbool.h>
#include <stdint.h>

#define MTS_FIT_TERMS 3

/* y = sum of k[i] * x[i], all k >= 0. */
struct mts_fit {
	double xx[MTS_FIT_TERMS][MTS_FIT_TERMS], xy[MTS_FIT_TERMS];
	double k[MTS_FIT_TERMS];
};

/* One sample; y <= 0 is ignored. `fade`: what is left of older samples' weight, below 1. */
void mts_fit_add(struct mts_fit *f, const double x[MTS_FIT_TERMS], double y, double fade);

struct mts_price {
	struct mts_fit pass; /* ns: 1, rows, pairs of query and key */
	struct mts_fit link; /* ns: copies, bytes, nothing */
	uint64_t copies, bytes, busy_ns; /* of the link when it was looked at last */
};

/* Keys that rows [begin, begin + history) and `candidates` rows at v attend to. */
double mts_price_pairs(uint32_t begin, uint32_t history, uint32_t candidates, uint32_t v);
static inline bool mts_price_known(const struct mts_price *p)
{
	return p->pass.k[1] > 0 || p->pass.k[2] > 0;
}

void mts_price_pass(struct mts_price *p, double rows, double pairs, uint64_t ns);
/* ns that such rows add to a pass. */
double mts_price_rows(const struct mts_price *p, double rows, double pairs);
/* How many history rows from `begin` on cost at most `ns`. */
uint32_t mts_price_fits(const struct mts_price *p, uint32_t begin, double ns);
/* Totals of the link so far. */
void mts_price_link(struct mts_price *p, uint64_t copies, uint64_t bytes, uint64_t busy_ns);
double mts_price_load(const struct mts_price *p, double copies, double bytes);

#endif
