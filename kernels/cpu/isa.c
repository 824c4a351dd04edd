/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of one instruction set (isa.h); compiled once for each, as rows.c and attention.c are.
 */
#include "isa_parts.h"

const struct mts_isa MTS_ISA(mts_isa) = {
	.name = MTS_ISA_STRING,
	.embed = MTS_ISA(mts_embed_rows),
	.norm = MTS_ISA(mts_norm_rows),
	.append = MTS_ISA(mts_append_rows),
	.modulate = MTS_ISA(mts_modulate_rows),
	.score = MTS_ISA(mts_score_rows),
	.gemm_finish = MTS_ISA(mts_gemm_finish),
	.attention_scratch = MTS_ISA(mts_attention_scratch),
	.attention = MTS_ISA(mts_attention_rows),
};
