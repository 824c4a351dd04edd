/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs golden users through mts_forward on any device: a pool of pages filled with NaN, shuffled
 * page tables, parts of histories packed into passes, one pass at a time.
 *
 * For tests: aborts through check on any trouble.
 */
#ifndef MTS_TEST_PASSES_H
#define MTS_TEST_PASSES_H

#include "golden.h"

struct passes {
	struct mts_device *dev;
	const struct mts_model_config *c;
	struct mts_weights *weights;
	struct mts_kv_pool kv;
	unsigned seed; /* of the shuffle */
};

enum { PASSES_TOKENS = 16, PASSES_USER_PAGES = 20 };

/* A history's page table; users' pages interleave. */
struct passes_pages {
	uint32_t id[PASSES_USER_PAGES];
};

/* Rows of one user in a pass: events [begin, begin + history), and the candidates where asked. */
struct part {
	const struct golden_user *u;
	const struct passes_pages *pages;
	uint32_t begin, history;
	int candidates;
};

void passes_open(struct passes *p, struct mts_device *dev, const struct golden *g,
		 enum mts_dtype kv);
void passes_close(struct passes *p);

/* Deals all pages of the pool out to n users, at random, and fills the pool with NaN. */
void passes_deal(struct passes *p, struct passes_pages *to, unsigned n);

/*
 * Runs one pass and waits for it; its result. scores: of the parts with candidates, in order;
 * hidden: all rows, or NULL. ready: as of mts_forward.
 */
int passes_run(struct passes *p, const struct part *part, unsigned parts,
	       struct mts_gate *const *ready, unsigned readies, float *scores, float *hidden);

/* Events [from, to) of a user without candidates, in passes of at most `chunk` rows. */
void passes_encode(struct passes *p, const struct golden_user *u, const struct passes_pages *pages,
		   uint32_t from, uint32_t to, uint32_t chunk);

/* Fills positions [from, to) with NaN, in every layer. */
void passes_forget(struct passes *p, const struct passes_pages *pages, uint32_t from, uint32_t to);

/* K and V of layer l, positions [0, v), out of the pages, as float32. */
void passes_read(struct passes *p, const struct passes_pages *pages, uint32_t layer, uint32_t v,
		 float *k, float *values);

#endif
