/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device operations on host cores, synchronous: a call returns when its result is in memory.
 *
 * Below the memory floor; the only caller is the CPU device, which adds queues and asynchrony.
 * The shapes of all operands are those of ops.h. A row's result depends on that row's inputs
 * alone: not on the rows beside it, on how a pass was cut or packed, or on the number of threads.
 *
 * Threads: one caller at a time per handle; it takes part in the work beside the handle's own
 * workers. Handles are independent of each other.
 */
#ifndef MTS_CPU_H
#define MTS_CPU_H

#include "ops.h"

struct mts_cpu;
struct mts_error;

/*
 * threads: caller and workers together, 0 = one per core this process may use. Chooses the
 * instruction set: the best of avx512, avx2, scalar that the machine has, or the one named by the
 * environment variable MTS_CPU_ISA.
 *
 * -EINVAL: MTS_CPU_ISA names no instruction set; -ENOTSUP: the machine lacks it; -ENOMEM, -EAGAIN:
 * out of memory or threads.
 */
int mts_cpu_open(unsigned threads, struct mts_cpu **out, struct mts_error *err);
void mts_cpu_close(struct mts_cpu *cpu);

/*
 * Checks BLAS on every shape {n, k} (columns and inner length of b in mts_op_gemm) and chooses the
 * library and the row tile with which a row's bits do not depend on its place in the tile. Needed
 * before mts_cpu_gemm, again for other shapes (an earlier choice is dropped).
 *
 * -ENODEV: no BLAS library found that passes; -EINVAL: a shape of 0; -ENOMEM. After a failure
 * nothing is prepared.
 */
int mts_cpu_prepare(struct mts_cpu *cpu, const uint32_t (*nk)[2], unsigned shapes,
		    struct mts_error *err);

/*
 * What the results' bits depend on: instruction set, BLAS library, version, core and tile. One
 * line, cut to `size` bytes including the end. Complete once prepared; never the thread count.
 */
void mts_cpu_describe(const struct mts_cpu *cpu, char *out, size_t size);

/* For a person: which BLAS candidates were refused before the chosen one, and why; may be "". */
const char *mts_cpu_refused(const struct mts_cpu *cpu);

unsigned mts_cpu_threads(const struct mts_cpu *cpu);

/* One operation each; those that need scratch memory may return -ENOMEM. */
void mts_cpu_embed(struct mts_cpu *cpu, const struct mts_op_embed *op);
void mts_cpu_norm(struct mts_cpu *cpu, const struct mts_op_norm *op);
/* -EINVAL: {n, k} was not among the shapes of mts_cpu_prepare. c must not overlap a or b. */
int mts_cpu_gemm(struct mts_cpu *cpu, const struct mts_op_gemm *op);
void mts_cpu_append(struct mts_cpu *cpu, const struct mts_op_append *op);
int mts_cpu_attention(struct mts_cpu *cpu, const struct mts_op_attention *op);
void mts_cpu_modulate(struct mts_cpu *cpu, const struct mts_op_modulate *op);
void mts_cpu_pick(struct mts_cpu *cpu, const struct mts_op_pick *op);
void mts_cpu_score(struct mts_cpu *cpu, const struct mts_op_score *op);

#endif
