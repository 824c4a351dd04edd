/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pass made up for tests: lives of users, cut and packed at will, over scattered pages.
 *
 * What a user's row holds depends on (user, position) or (user, candidate number) alone, so that
 * the same row can be met again in another pass, another cut and other company. Every buffer has
 * sentinels around it; every byte of the pool that no position has claimed is NaN.
 */
#ifndef MTS_TEST_SCENE_H
#define MTS_TEST_SCENE_H

#include "ops.h"

/* ---- memory with sentinels on both sides, filled with NaN ---- */

void *guarded_alloc(size_t bytes);
/* Fails the test if a sentinel was overwritten. Memory lives until guarded_free_all(). */
void guarded_check_all(void);
void guarded_free_all(void);

/* ---- numbers ---- */

uint64_t mix(uint64_t a, uint64_t b);
/* n floats in [-1, 1), a function of the key */
void fill_floats(float *p, size_t n, uint64_t key);
float *random_floats(size_t n, uint64_t key); /* guarded */

/* ---- passes ---- */

struct scene_span {
	uint32_t user, begin, history, candidates;
};

struct scene {
	struct mts_kv_layout layout;
	struct mts_kv_pool kv;
	struct mts_pass pass;
	const struct scene_span *shape;
	uint32_t layer;
	float *z;
	void *own;
};

/*
 * Builds the pass of n spans; positions before `begin` are in the pages already. Pages are drawn
 * at random by `seed`; `spans` must outlive the scene.
 */
void scene_build(struct scene *sc, const struct mts_kv_layout *y, const struct scene_span *spans,
		 uint32_t n, uint64_t seed);

uint32_t scene_zcols(const struct mts_kv_layout *y);

struct mts_op_append scene_append(const struct scene *sc);
struct mts_op_attention scene_attention(const struct scene *sc, float scale_len, uint32_t window);

/* ---- running ---- */

struct Suite;

/* Runs a suite as TAP; the exit status. */
int run_suite(struct Suite *s);

/* Instruction sets of this machine, ends with NULL. */
const char *const *test_isas(void);
/* Opens with the given instruction set. */
struct mts_cpu *open_cpu(const char *isa, unsigned threads);

#endif
