/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of ops.h again, as plainly as it can be written: loops over the formulas, in
 * double precision, from the same structs. For tests and checks; slow. Reads pages and `own` in
 * their stored type; results go to `out`, in double, in place of the op's own output (which is not
 * touched). No state, any thread.
 */
#ifndef MTS_REF_OPS_H
#define MTS_REF_OPS_H

#include "ops.h"

void mts_ref_embed(const struct mts_op_embed *op, double *out);       /* [rows, d] */
void mts_ref_norm(const struct mts_op_norm *op, double *out);         /* [rows, d] */
void mts_ref_gemm(const struct mts_op_gemm *op, double *out);         /* [m, n]; c only read */
void mts_ref_attention(const struct mts_op_attention *op, double *out); /* [rows, h * dv] */
void mts_ref_modulate(const struct mts_op_modulate *op, double *out); /* [rows, (1|3) h * dv] */
void mts_ref_pick(const struct mts_op_pick *op, double *out);         /* [candidates, d] */
void mts_ref_score(const struct mts_op_score *op, double *out);       /* [rows, tasks] */

/* Writes pages and own, rounded as stored: the only reference that has to. */
void mts_ref_append(const struct mts_op_append *op);

/* x in the K/V type and back again. */
double mts_ref_round_kv(enum mts_dtype type, double x);

#endif
