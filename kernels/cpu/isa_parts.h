/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the functions behind struct mts_isa, ending in the instruction set they are compiled
 * for. Shared by the files compiled per instruction set only.
 */
#ifndef MTS_ISA_PARTS_H
#define MTS_ISA_PARTS_H

#include "isa.h"
#include "simd.h"

#define MTS_STRING_(x) #x
#define MTS_STRING(x) MTS_STRING_(x)
#define MTS_ISA_STRING MTS_STRING(MTS_ISA_NAME)

void MTS_ISA(mts_embed_rows)(const struct mts_op_embed *op, uint32_t first, uint32_t end);
void MTS_ISA(mts_norm_rows)(const struct mts_op_norm *op, uint32_t first, uint32_t end);
void MTS_ISA(mts_append_rows)(const struct mts_op_append *op, uint32_t first, uint32_t end);
void MTS_ISA(mts_modulate_rows)(const struct mts_op_modulate *op, uint32_t first, uint32_t end);
void MTS_ISA(mts_score_rows)(const struct mts_op_score *op, uint32_t first, uint32_t end);
void MTS_ISA(mts_gemm_finish)(const struct mts_op_gemm *op, const struct mts_gemm_tile *tile);
size_t MTS_ISA(mts_attention_scratch)(const struct mts_kv_layout *y);
void MTS_ISA(mts_attention_rows)(const struct mts_op_attention *op,
				 const struct mts_attention_task *task, void *scratch);

#endif
