/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is compiled once per instruction set: pieces of operations over a range of rows, or one
 * attention task. Inside the CPU kernels; cpu.c and gemm.c share the pieces out over the pool.
 *
 * No state, no locks: pieces of one operation run on any workers at the same time. Row ranges
 * [first, end) are packed rows of the operation.
 */
#ifndef MTS_ISA_H
#define MTS_ISA_H

#include "ops.h"

/* A finished product of `rows` x `cols` on its way to rows [row, ..) and columns [col, ..) of c. */
struct mts_gemm_tile {
	const float *product; /* (r, j) at product[r * ld + j], transposed: product[j * ld + r] */
	size_t ld;            /* transposed: a multiple of 16, reading up to it is allowed */
	int transposed;
	uint32_t row, rows, col, cols;
};

/* Rows [first, end) of span number `span` (history rows, then candidates) for one head. */
struct mts_attention_task {
	uint32_t span, head, first, end;
	uint32_t candidate; /* pass-wide number of the span's first candidate */
};

/* Rows of one attention task; bounds its scratch memory. */
#define MTS_ATTENTION_ROWS 192

struct mts_isa {
	const char *name;
	void (*embed)(const struct mts_op_embed *op, uint32_t first, uint32_t end);
	void (*norm)(const struct mts_op_norm *op, uint32_t first, uint32_t end);
	void (*append)(const struct mts_op_append *op, uint32_t first, uint32_t end);
	void (*modulate)(const struct mts_op_modulate *op, uint32_t first, uint32_t end);
	void (*score)(const struct mts_op_score *op, uint32_t first, uint32_t end);
	/* bias, activation or accumulation, and the store to c */
	void (*gemm_finish)(const struct mts_op_gemm *op, const struct mts_gemm_tile *tile);
	size_t (*attention_scratch)(const struct mts_kv_layout *y); /* bytes, 64-byte aligned */
	void (*attention)(const struct mts_op_attention *op, const struct mts_attention_task *task,
			  void *scratch);
};

extern const struct mts_isa mts_isa_scalar;
#ifdef __x86_64__
extern const struct mts_isa mts_isa_avx2, mts_isa_avx512;
#endif

#endif
