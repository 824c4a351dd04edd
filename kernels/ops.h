/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shapes every device operation works on: the one vocabulary shared by the model (which
 * launches operations), the devices (which run them) and the reference (which checks them).
 *
 * Pure data, no functions with state: any thread may use it. All matrices are row-major. Pointers
 * named here are device pointers, except in struct mts_pass and struct mts_span, which are host
 * memory that stays valid and unchanged until the pass has run.
 */
#ifndef MTS_OPS_H
#define MTS_OPS_H

#include <stddef.h>
#include <stdint.h>

enum mts_dtype { MTS_F32, MTS_BF16, MTS_F16 };

static inline size_t mts_dtype_bytes(enum mts_dtype t)
{
	return t == MTS_F32 ? 4 : 2;
}

/*
 * K/V on a device: [layer][page][K|V][token][head · dim].
 *
 *   layer l, page p:   base + l * layer_stride + p * page_bytes
 *     K of token t     + t * k_bytes                              t < page_tokens
 *     V of token t     + page_tokens * k_bytes + t * v_bytes
 *
 * The host tier keeps pages in this same format, so that a copy needs no staging. A page id is
 * valid for all layers: one page table serves the whole model.
 */
struct mts_kv_layout {
	uint32_t layers;
	uint32_t heads;
	uint32_t dq;          /* per head: length of q and k */
	uint32_t dv;          /* per head: length of v */
	uint32_t page_tokens; /* T: a power of two, 16..128 */
	enum mts_dtype dtype; /* MTS_F32 or MTS_BF16 */
};

static inline size_t mts_kv_k_bytes(const struct mts_kv_layout *y)
{
	return (size_t)y->heads * y->dq * mts_dtype_bytes(y->dtype);
}

static inline size_t mts_kv_v_bytes(const struct mts_kv_layout *y)
{
	return (size_t)y->heads * y->dv * mts_dtype_bytes(y->dtype);
}

/* bytes of one page in one layer */
static inline size_t mts_kv_page_bytes(const struct mts_kv_layout *y)
{
	return y->page_tokens * (mts_kv_k_bytes(y) + mts_kv_v_bytes(y));
}

struct mts_kv_pool {
	struct mts_kv_layout layout;
	uint32_t pages;
	size_t layer_stride; /* bytes; >= pages * mts_kv_page_bytes() */
	void *base;
};

static inline void *mts_kv_page(const struct mts_kv_pool *kv, uint32_t layer, uint32_t page)
{
	return (char *)kv->base + layer * kv->layer_stride + page * mts_kv_page_bytes(&kv->layout);
}

/*
 * The rows of one request in one pass: `history` new events, then `candidates` candidates, packed
 * behind the rows of other requests.
 *
 * History row i stands at visible position begin + i; every candidate at position v. A span with
 * candidates ends the history: begin + history == v. Positions [0, begin) are in the pages already;
 * the pass appends [begin, begin + history).
 */
struct mts_span {
	uint32_t row; /* first packed row */
	uint32_t history;
	uint32_t candidates;
	uint32_t begin;
	uint32_t v;
	const uint32_t *pages; /* pages[p] holds positions [p * T, (p + 1) * T) */
};

/* One run of the model over packed rows. */
struct mts_pass {
	uint32_t rows;  /* sum over spans of history + candidates */
	uint32_t spans;
	uint32_t candidates; /* sum over spans */
	const struct mts_span *span;
	const uint32_t *item;   /* [rows] */
	const uint32_t *action; /* [rows]; 0 for candidates */
};

/* x[r] = items[item_r] + actions[action_r] + positions[min(pos_r, max_positions - 1)]   [rows, d] */
struct mts_op_embed {
	const struct mts_pass *pass;
	const float *items;     /* [items, d] */
	const float *actions;   /* [actions, d] */
	const float *positions; /* [max_positions, d] */
	uint32_t d;
	uint32_t max_positions;
	float *x;
};

/* y[r] = (x[r] - mean) / sqrt(var + eps) * weight + bias, var the biased variance over d */
struct mts_op_norm {
	uint32_t rows, d;
	float eps;
	const float *x;
	const float *weight, *bias; /* [d] */
	float *y;
};

enum mts_act { MTS_ACT_NONE, MTS_ACT_SILU };

/*
 * c = act(a · b + bias), or c += a · b + bias where `accumulate` is set (then act is NONE).
 * The activation applies to columns [0, act_cols). bias may be NULL.
 */
struct mts_op_gemm {
	uint32_t m, n, k;
	const float *a; /* [m, k] */
	const float *b; /* [k, n] */
	const float *bias; /* [n] or NULL */
	float *c; /* [m, n] */
	enum mts_act act;
	uint32_t act_cols;
	int accumulate;
};

/*
 * From z [rows, h(2dv + 2dq)], columns U | V | Q | K, each [h, dim]: K and V of history rows go to
 * their pages, those of candidate rows to `own` [candidates][K | V][head · dim], both rounded (to
 * nearest even) to the K/V type. What attention reads is what is stored.
 */
struct mts_op_append {
	const struct mts_pass *pass;
	const struct mts_kv_pool *kv;
	uint32_t layer;
	const float *z;
	void *own;
};

/*
 * o[r] = sum_j SiLU(q_r · k_j / sqrt(dq)) / scale_len · v_j   [rows, h·dv]
 * over the keys row r may see: a history row at position t sees positions j <= t; a candidate sees
 * j < v and itself, last. With window = W > 0 only keys at distance <= W (a candidate stands at v).
 */
struct mts_op_attention {
	const struct mts_pass *pass;
	const struct mts_kv_pool *kv;
	uint32_t layer;
	const float *z; /* q is read from here */
	const void *own;
	float scale_len;
	uint32_t window; /* 0: all */
	float *o;
};

/*
 * y = U ⊙ LayerNorm(o; weight, bias), U the first h·dv columns of z.
 * concat = 0: out [rows, h·dv] = y;  concat = 1: out [rows, 3·h·dv] = [U, o, y].
 */
struct mts_op_modulate {
	uint32_t rows, hdv, zcols;
	float eps;
	const float *z;
	const float *o;
	const float *weight, *bias;
	int concat;
	float *out;
};

/* Gathers the candidate rows of x in order: y [candidates, d]. */
struct mts_op_pick {
	const struct mts_pass *pass;
	uint32_t d;
	const float *x;
	float *y;
};

/* scores[r] = sigmoid(a[r] · w + bias)   a [rows, k], w [k, tasks], own dot product per score */
struct mts_op_score {
	uint32_t rows, k, tasks;
	const float *a;
	const float *w;
	const float *bias;
	float *scores; /* [rows, tasks] */
};

#endif
