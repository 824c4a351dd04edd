/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GEMM whose rows do not depend on each other's company: BLAS in tiles that were checked for it.
 *
 * Inside the CPU kernels. One caller at a time per handle.
 */
#ifndef MTS_GEMM_H
#define MTS_GEMM_H

#include "isa.h"
#include "pool.h"

struct mts_gemm;
struct mts_error;

/* Keeps pool and isa, owns neither. -ENOMEM. */
int mts_gemm_open(struct mts_pool *pool, const struct mts_isa *isa, struct mts_gemm **out);
void mts_gemm_close(struct mts_gemm *g);

/* See mts_cpu_prepare(). */
int mts_gemm_prepare(struct mts_gemm *g, const uint32_t (*nk)[2], unsigned shapes,
		     struct mts_error *err);

/* -EINVAL: a shape that was not prepared. */
int mts_gemm_run(struct mts_gemm *g, const struct mts_op_gemm *op);

/* Library, core and tile in use ("" before prepare); candidates refused on the way ("": none). */
const char *mts_gemm_choice(const struct mts_gemm *g);
const char *mts_gemm_refused(const struct mts_gemm *g);

#endif
