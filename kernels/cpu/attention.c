/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fused attention over pages, one (span, head, range of rows) at a time; compiled once per
 * instruction set (isa.h). No n x n matrix: keys go by in blocks of BLOCK, anchored at position 0.
 *
 *   block:   K  transposed to float32 panels [dq][PANEL keys], V to [BLOCK][dv], once for all rows
 *   panel:   A = SiLU(q · k) / scale_len   for TILE rows x PANEL keys, q scaled by 1/sqrt(dq)
 *   block:   O += A · V                    for TILE rows x 2 vectors of columns, O kept in scratch
 *
 * Bits. q · k is one chain of fused multiply-adds in the order of dims, a lane being a key; O is
 * one chain per element in the order of keys. Which rows share a tile, where a pass begins and
 * which block a key falls into change neither. A key outside a row's bounds takes no part in its
 * chain at all: it is not multiplied by 0, since what lies there may be NaN, and 0 may be -0.
 *
 * Bounds [lo, hi) of a task's rows never decrease from row to row (history positions ascend, all
 * candidates stand at v behind them), so those of a tile are found at its two ends.
 */
#include "isa_parts.h"

#define PANEL_VECTORS 2
#define PANEL (PANEL_VECTORS * VW)
#define BLOCK 64
/* TILE x 2 accumulators, 2 operands and 1 broadcast fill the registers; the last rows of a task
 * make a tile of one or two steps. */
#if VREGS == 32
#define TILE_STEP 4
#else
#define TILE_STEP 2
#endif
#define TILE (3 * TILE_STEP)
#define ROWS MTS_ATTENTION_ROWS

_Static_assert(BLOCK % PANEL == 0 && ROWS % TILE == 0, "whole panels and tiles");

struct job {
	const struct mts_op_attention *op;
	const struct mts_attention_task *task;
	const struct mts_span *span;
	const struct mts_kv_layout *y;
	uint32_t rows, tiled; /* tiled: rows filled up to whole steps */
	uint32_t dq_ld, dv_ld;
	float inv_scale;
	float *q;     /* [tiled][dq_ld] scaled */
	float *o;     /* [tiled][dv_ld] */
	float *a;     /* [tiled][BLOCK] */
	float *k;     /* [BLOCK / PANEL][dq][PANEL] */
	float *v;     /* [BLOCK][dv_ld] */
	uint32_t *lo; /* [tiled] */
	uint32_t *hi;
};

static uint32_t round_up(uint32_t x, uint32_t to)
{
	return (x + to - 1) / to * to;
}

size_t MTS_ISA(mts_attention_scratch)(const struct mts_kv_layout *y)
{
	size_t dq = round_up(y->dq, 16), dv = round_up(y->dv, 16);

	return sizeof(float) *
	       (ROWS * (dq + dv + BLOCK) + BLOCK * (dq + dv) + 2 * round_up(ROWS, 16));
}

static void job_init(struct job *j, const struct mts_op_attention *op,
		     const struct mts_attention_task *task, float *scratch)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	uint32_t dq = round_up(y->dq, 16), dv = round_up(y->dv, 16);
	uint32_t rows = task->end - task->first;

	*j = (struct job){
		.op = op, .task = task, .span = &op->pass->span[task->span], .y = y,
		.rows = rows, .tiled = round_up(rows, TILE_STEP), .dq_ld = dq, .dv_ld = dv,
		.inv_scale = 1.0f / op->scale_len,
		.q = scratch, .o = scratch + ROWS * dq,
	};
	j->a = j->o + ROWS * dv;
	j->k = j->a + ROWS * BLOCK;
	j->v = j->k + BLOCK * dq;
	j->lo = (void *)(j->v + BLOCK * dv);
	j->hi = j->lo + round_up(ROWS, 16);
}

/* The keys in pages that row i of the task sees: [lo, hi). */
static void row_bounds(struct job *j, uint32_t i)
{
	const struct mts_span *s = j->span;
	uint32_t r = j->task->first + i, w = j->op->window;
	uint32_t at = r < s->history ? s->begin + r : s->v;

	j->hi[i] = r < s->history ? at + 1 : at;
	j->lo[i] = w && at > w ? at - w : 0;
}

static void load_queries(struct job *j)
{
	uint32_t dq = j->y->dq, hq = j->y->heads * dq, hv = j->y->heads * j->y->dv;
	const float *z = j->op->z + (size_t)(j->span->row + j->task->first) * 2 * (hq + hv) +
			 2 * hv + j->task->head * dq;
	vf scale = v_set1(1.0f / sqrtf((float)dq));

	for (uint32_t i = 0; i < j->rows; i++, z += 2 * (hq + hv))
		for (uint32_t t = 0; t < dq; t += VW) {
			vf x = v_load_n(z + t, v_min_u(VW, dq - t));

			v_store(j->q + (size_t)i * j->dq_ld + t, v_mul(x, scale));
		}
}

static void init_rows(struct job *j)
{
	size_t fill = j->tiled - j->rows;

	load_queries(j);
	memset(j->q + (size_t)j->rows * j->dq_ld, 0, fill * j->dq_ld * sizeof(float));
	memset(j->o, 0, (size_t)j->tiled * j->dv_ld * sizeof(float));
	for (uint32_t i = 0; i < j->rows; i++)
		row_bounds(j, i);
	for (uint32_t i = j->rows; i < j->tiled; i++) {
		j->lo[i] = j->lo[j->rows - 1];
		j->hi[i] = j->hi[j->rows - 1];
	}
}

inline_always vf load_kv(enum mts_dtype type, const void *row, uint32_t t, unsigned n)
{
	if (type == MTS_F32)
		return v_load_n((const float *)row + t, n);
	return v_load_bf16_n((const uint16_t *)row + t, n);
}

/* This head's K and V of one key: a pointer into its page. */
struct key_rows {
	const void *k, *v;
};

static struct key_rows find_key(const struct job *j, uint32_t key)
{
	const struct mts_kv_layout *y = j->y;
	uint32_t slot = key % y->page_tokens, page = j->span->pages[key / y->page_tokens];
	size_t size = mts_dtype_bytes(y->dtype);
	const char *base = mts_kv_page(j->op->kv, j->op->layer, page);
	const char *v = base + y->page_tokens * mts_kv_k_bytes(y) + slot * mts_kv_v_bytes(y);

	return (struct key_rows){ base + slot * mts_kv_k_bytes(y) + j->task->head * y->dq * size,
				  v + j->task->head * y->dv * size };
}

inline_always void pack_keys(const struct job *j, enum mts_dtype type,
			     const struct key_rows *row, uint32_t keys, float *out)
{
	uint32_t dq = j->y->dq;

	for (uint32_t g = 0; g < PANEL; g += VW)
		for (uint32_t t = 0; t < dq; t += VW) {
			unsigned n = v_min_u(VW, dq - t);
			vf x[VW];

			UNROLL
			for (unsigned i = 0; i < VW; i++)
				x[i] = g + i < keys ? load_kv(type, row[g + i].k, t, n) : v_set1(0);
			v_transpose(x);
			for (unsigned i = 0; i < n; i++)
				v_store(out + (t + i) * PANEL + g, x[i]);
		}
}

inline_always void pack_values(const struct job *j, enum mts_dtype type,
			       const struct key_rows *row, uint32_t keys)
{
	uint32_t dv = j->y->dv;

	for (uint32_t i = 0; i < keys; i++)
		for (uint32_t t = 0; t < dv; t += VW)
			v_store(j->v + i * j->dv_ld + t,
				load_kv(type, row[i].v, t, v_min_u(VW, dv - t)));
}

inline_always void pack_block_as(const struct job *j, enum mts_dtype type,
				 const struct key_rows *row, uint32_t keys)
{
	for (uint32_t p = 0; p < keys; p += PANEL)
		pack_keys(j, type, row + p, v_min_u(PANEL, keys - p), j->k + p * j->y->dq);
	pack_values(j, type, row, keys);
}

/* K and V of keys [from, from + keys) */
static void pack_block(const struct job *j, uint32_t from, uint32_t keys)
{
	struct key_rows row[BLOCK];

	for (uint32_t i = 0; i < keys; i++)
		row[i] = find_key(j, from + i);
	if (j->y->dtype == MTS_F32)
		pack_block_as(j, MTS_F32, row, keys);
	else
		pack_block_as(j, MTS_BF16, row, keys);
}

static uint32_t tile_height(const struct job *j, uint32_t tile)
{
	return v_min_u(TILE, j->tiled - tile);
}

/* a[rows][PANEL] = SiLU(q · k) / scale_len for one panel */
inline_always void weights_of_panel(const struct job *j, const int rows, const float *q,
				    const float *k, float *a)
{
	vf acc[TILE][PANEL_VECTORS], scale = v_set1(j->inv_scale);
	uint32_t dq = j->y->dq, ld = j->dq_ld;

	UNROLL
	for (int i = 0; i < rows; i++)
		UNROLL
		for (int p = 0; p < PANEL_VECTORS; p++)
			acc[i][p] = v_set1(0.0f);
	for (uint32_t t = 0; t < dq; t++, k += PANEL) {
		vf k0 = v_load(k), k1 = v_load(k + VW);

		UNROLL
		for (int i = 0; i < rows; i++) {
			vf x = v_set1(q[i * ld + t]);

			acc[i][0] = v_fma(x, k0, acc[i][0]);
			acc[i][1] = v_fma(x, k1, acc[i][1]);
		}
	}
	UNROLL
	for (int i = 0; i < rows; i++)
		UNROLL
		for (int p = 0; p < PANEL_VECTORS; p++)
			v_store(a + i * BLOCK + p * VW, v_silu_scaled(acc[i][p], scale));
}

/* Keys of a block, counted from its start: rows of a tile see part of [from, full), all of
 * [full, partly), part of [partly, to). */
struct reach {
	uint32_t from, full, partly, to;
};

static uint32_t clamp_u(uint32_t x, uint32_t lo, uint32_t hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

static struct reach tile_reach(const struct job *j, uint32_t tile, uint32_t block, uint32_t keys)
{
	uint32_t last = tile + tile_height(j, tile) - 1;
	struct reach r;

	r.from = clamp_u(j->lo[tile], block, block + keys) - block;
	r.to = clamp_u(j->hi[last], block, block + keys) - block;
	if (r.to < r.from)
		r.to = r.from;
	r.full = clamp_u(j->lo[last], block + r.from, block + r.to) - block;
	r.partly = clamp_u(j->hi[tile], block + r.full, block + r.to) - block;
	return r;
}

/* O[rows][vectors] += A · V over keys [from, to), for rows that see them all */
inline_always void add_values(const int rows, const int vectors, const float *a, const float *v,
			      uint32_t ld, uint32_t from, uint32_t to, vf acc[TILE][2])
{
	for (uint32_t key = from; key < to; key++) {
		vf v0 = v_load(v + key * ld), v1 = v0;

		if (vectors == 2)
			v1 = v_load(v + key * ld + VW);
		UNROLL
		for (int i = 0; i < rows; i++) {
			vf x = v_set1(a[i * BLOCK + key]);

			acc[i][0] = v_fma(x, v0, acc[i][0]);
			if (vectors == 2)
				acc[i][1] = v_fma(x, v1, acc[i][1]);
		}
	}
}

/* The same where only some rows see a key. */
static void add_values_bounded(const struct job *j, uint32_t tile, uint32_t block, uint32_t from,
			       uint32_t to)
{
	uint32_t dv = j->y->dv, end = tile + tile_height(j, tile);

	for (uint32_t key = from; key < to; key++)
		for (uint32_t i = tile; i < end; i++) {
			const float *v = j->v + key * j->dv_ld;
			float *o = j->o + (size_t)i * j->dv_ld;
			vf x = v_set1(j->a[(size_t)i * BLOCK + key]);

			if (block + key < j->lo[i] || block + key >= j->hi[i])
				continue;
			for (uint32_t t = 0; t < dv; t += VW)
				v_store(o + t, v_fma(x, v_load(v + t), v_load(o + t)));
		}
}

inline_always void add_columns(const struct job *j, const int rows, const int vectors,
			       uint32_t tile, uint32_t col, uint32_t from, uint32_t to)
{
	float *o = j->o + (size_t)tile * j->dv_ld + col;
	vf acc[TILE][2];

	UNROLL
	for (int i = 0; i < rows; i++) {
		acc[i][0] = v_load(o + i * j->dv_ld);
		acc[i][1] = vectors == 2 ? v_load(o + i * j->dv_ld + VW) : acc[i][0];
	}
	add_values(rows, vectors, j->a + (size_t)tile * BLOCK, j->v + col, j->dv_ld, from, to, acc);
	UNROLL
	for (int i = 0; i < rows; i++) {
		v_store(o + i * j->dv_ld, acc[i][0]);
		if (vectors == 2)
			v_store(o + i * j->dv_ld + VW, acc[i][1]);
	}
}

inline_always void add_full_keys(const struct job *j, const int rows, uint32_t tile, uint32_t from,
				 uint32_t to)
{
	uint32_t width = round_up(j->y->dv, VW), col = 0;

	for (; col + 2 * VW <= width; col += 2 * VW)
		add_columns(j, rows, 2, tile, col, from, to);
	if (col < width)
		add_columns(j, rows, 1, tile, col, from, to);
}

static void tile_values(const struct job *j, uint32_t tile, uint32_t block, uint32_t keys)
{
	struct reach r = tile_reach(j, tile, block, keys);
	uint32_t rows = tile_height(j, tile);

	add_values_bounded(j, tile, block, r.from, r.full);
	if (r.full < r.partly && rows == TILE)
		add_full_keys(j, TILE, tile, r.full, r.partly);
	else if (r.full < r.partly && rows == 2 * TILE_STEP)
		add_full_keys(j, 2 * TILE_STEP, tile, r.full, r.partly);
	else if (r.full < r.partly)
		add_full_keys(j, TILE_STEP, tile, r.full, r.partly);
	add_values_bounded(j, tile, block, r.partly, r.to);
}

static void tile_weights(const struct job *j, uint32_t tile, uint32_t block, uint32_t keys,
			 uint32_t panel)
{
	struct reach r = tile_reach(j, tile, block, keys);
	uint32_t rows = tile_height(j, tile);
	const float *q = j->q + (size_t)tile * j->dq_ld, *k = j->k + panel * j->y->dq;
	float *a = j->a + (size_t)tile * BLOCK + panel;

	if (panel >= r.to || panel + PANEL <= r.from)
		return;
	if (rows == TILE)
		weights_of_panel(j, TILE, q, k, a);
	else if (rows == 2 * TILE_STEP)
		weights_of_panel(j, 2 * TILE_STEP, q, k, a);
	else
		weights_of_panel(j, TILE_STEP, q, k, a);
}

/*
 * Asks for this head's K and V of keys [from, to): rows of a few hundred bytes, a page's width
 * apart, which the processor does not foresee.
 */
static void prefetch_keys(const struct job *j, uint32_t from, uint32_t to)
{
	size_t size = mts_dtype_bytes(j->y->dtype);

	for (uint32_t key = from; key < to; key++) {
		struct key_rows row = find_key(j, key);

		for (size_t b = 0; b < j->y->dq * size; b += 64)
			__builtin_prefetch((const char *)row.k + b, 0, 2);
		for (size_t b = 0; b < j->y->dv * size; b += 64)
			__builtin_prefetch((const char *)row.v + b, 0, 2);
	}
}

/* Keys [block, block + keys); a share of the next block's, up to `end`, is asked for per tile. */
static void attend_block(const struct job *j, uint32_t block, uint32_t keys, uint32_t end)
{
	uint32_t next = block + keys, ahead = v_min_u(BLOCK, end - next), tiles, n = 0;

	tiles = (j->tiled + TILE - 1) / TILE;
	pack_block(j, block, keys);
	for (uint32_t panel = 0; panel < keys; panel += PANEL)
		for (uint32_t tile = 0; tile < j->tiled; tile += TILE)
			tile_weights(j, tile, block, keys, panel);
	for (uint32_t tile = 0; tile < j->tiled; tile += TILE, n++) {
		prefetch_keys(j, next + ahead * n / tiles, next + ahead * (n + 1) / tiles);
		tile_values(j, tile, block, keys);
	}
}

/* A candidate's own key, behind all others. Row i of the task. */
static void attend_own(const struct job *j, uint32_t i)
{
	const struct mts_kv_layout *y = j->y;
	size_t k_bytes = mts_kv_k_bytes(y), size = mts_dtype_bytes(y->dtype);
	uint32_t c = j->task->candidate + j->task->first + i - j->span->history;
	const char *k = (const char *)j->op->own + c * (k_bytes + mts_kv_v_bytes(y));
	const char *v = k + k_bytes + j->task->head * y->dv * size;
	const float *q = j->q + (size_t)i * j->dq_ld;
	float *o = j->o + (size_t)i * j->dv_ld;
	vf s = v_set1(0.0f);

	k += j->task->head * y->dq * size;
	for (uint32_t t = 0; t < y->dq; t += VW) {
		unsigned n = v_min_u(VW, y->dq - t);

		s = v_fma(v_load_n(q + t, n), load_kv(y->dtype, k, t, n), s);
	}
	s = v_silu_scaled(v_set1(v_sum(s)), v_set1(j->inv_scale));
	for (uint32_t t = 0; t < y->dv; t += VW)
		v_store(o + t, v_fma(s, load_kv(y->dtype, v, t, v_min_u(VW, y->dv - t)),
				     v_load(o + t)));
}

static void store_rows(const struct job *j)
{
	uint32_t dv = j->y->dv, hv = j->y->heads * dv;
	float *out = j->op->o + (size_t)(j->span->row + j->task->first) * hv + j->task->head * dv;

	for (uint32_t i = 0; i < j->rows; i++, out += hv)
		for (uint32_t t = 0; t < dv; t += VW)
			v_store_n(out + t, v_load(j->o + (size_t)i * j->dv_ld + t),
				  v_min_u(VW, dv - t));
}

void MTS_ISA(mts_attention_rows)(const struct mts_op_attention *op,
				 const struct mts_attention_task *task, void *scratch)
{
	struct job j;
	uint32_t end, i;

	job_init(&j, op, task, scratch);
	init_rows(&j);
	end = j.hi[j.rows - 1];
	for (uint32_t b = j.lo[0] / BLOCK * BLOCK; b < end; b += BLOCK)
		attend_block(&j, b, v_min_u(BLOCK, end - b), end);
	i = task->first < j.span->history ? j.span->history - task->first : 0;
	for (; i < j.rows; i++)
		attend_own(&j, i);
	store_rows(&j);
}
