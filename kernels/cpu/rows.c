/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that work row by row: embed, norm, append, modulate, score, and what is left of a
 * GEMM once BLAS has multiplied. Compiled once per instruction set (isa.h).
 *
 * Sums over a row run in an order fixed by the row's length alone.
 */
#include "isa_parts.h"

/* Part of span s that lies in packed rows [first, end): rows [*lo, *hi) of the span. */
static int span_part(const struct mts_span *s, uint32_t first, uint32_t end, uint32_t *lo,
		     uint32_t *hi)
{
	uint32_t rows = s->history + s->candidates;

	if (s->row >= end || s->row + rows <= first)
		return 0;
	*lo = s->row < first ? first - s->row : 0;
	*hi = v_min_u(rows, end - s->row);
	return 1;
}

static void embed_row(const struct mts_op_embed *op, uint32_t r, uint32_t position)
{
	size_t d = op->d;
	uint32_t at = v_min_u(position, op->max_positions - 1);
	const float *item = op->items + op->pass->item[r] * d;
	const float *action = op->actions + op->pass->action[r] * d;
	const float *pos = op->positions + at * d;
	float *x = op->x + r * d;

	for (unsigned i = 0; i < d; i += VW) {
		unsigned n = v_min_u(VW, op->d - i);
		vf a = v_add(v_load_n(item + i, n), v_load_n(action + i, n));

		v_store_n(x + i, v_add(a, v_load_n(pos + i, n)), n);
	}
}

void MTS_ISA(mts_embed_rows)(const struct mts_op_embed *op, uint32_t first, uint32_t end)
{
	const struct mts_pass *pass = op->pass;
	uint32_t lo, hi;

	for (const struct mts_span *s = pass->span; s < pass->span + pass->spans; s++) {
		if (!span_part(s, first, end, &lo, &hi))
			continue;
		for (uint32_t i = lo; i < hi; i++)
			embed_row(op, s->row + i, i < s->history ? s->begin + i : s->v);
	}
}

struct moments {
	vf mean, scale;
};

/* two passes: the variance of large, close values survives */
static struct moments row_moments(const float *x, unsigned d, float eps)
{
	vf sum = v_set1(0.0f), square = v_set1(0.0f);
	struct moments m;

	for (unsigned i = 0; i < d; i += VW)
		sum = v_add(sum, v_load_n(x + i, v_min_u(VW, d - i)));
	m.mean = v_set1(v_sum(sum) / (float)d);
	for (unsigned i = 0; i < d; i += VW) {
		unsigned n = v_min_u(VW, d - i);
		vf c = v_first_n(v_sub(v_load_n(x + i, n), m.mean), n);

		square = v_fma(c, c, square);
	}
	m.scale = v_set1(1.0f / sqrtf(v_sum(square) / (float)d + eps));
	return m;
}

inline_always vf normalize(struct moments m, vf x, vf weight, vf bias)
{
	return v_fma(v_mul(v_sub(x, m.mean), m.scale), weight, bias);
}

void MTS_ISA(mts_norm_rows)(const struct mts_op_norm *op, uint32_t first, uint32_t end)
{
	for (uint32_t r = first; r < end; r++) {
		const float *x = op->x + (size_t)r * op->d;
		float *y = op->y + (size_t)r * op->d;
		struct moments m = row_moments(x, op->d, op->eps);

		for (unsigned i = 0; i < op->d; i += VW) {
			unsigned n = v_min_u(VW, op->d - i);

			v_store_n(y + i,
				  normalize(m, v_load_n(x + i, n), v_load_n(op->weight + i, n),
					    v_load_n(op->bias + i, n)),
				  n);
		}
	}
}

static void modulate_row(const struct mts_op_modulate *op, uint32_t r)
{
	unsigned hdv = op->hdv;
	const float *u = op->z + (size_t)r * op->zcols;
	const float *o = op->o + (size_t)r * hdv;
	float *out = op->out + (size_t)r * hdv * (op->concat ? 3 : 1);
	float *y = op->concat ? out + 2 * hdv : out;
	struct moments m = row_moments(o, hdv, op->eps);

	for (unsigned i = 0; i < hdv; i += VW) {
		unsigned n = v_min_u(VW, hdv - i);
		vf ui = v_load_n(u + i, n), oi = v_load_n(o + i, n);
		vf yi = normalize(m, oi, v_load_n(op->weight + i, n), v_load_n(op->bias + i, n));

		v_store_n(y + i, v_mul(ui, yi), n);
		if (op->concat) {
			v_store_n(out + i, ui, n);
			v_store_n(out + hdv + i, oi, n);
		}
	}
}

void MTS_ISA(mts_modulate_rows)(const struct mts_op_modulate *op, uint32_t first, uint32_t end)
{
	for (uint32_t r = first; r < end; r++)
		modulate_row(op, r);
}

/* to nearest, ties to even; a NaN stays one whatever its low bits */
static inline uint16_t bf16_round(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void store_kv(enum mts_dtype type, void *dst, const float *src, size_t n)
{
	uint16_t *half = dst;

	if (type == MTS_F32) {
		memcpy(dst, src, n * sizeof(*src));
		return;
	}
	for (size_t i = 0; i < n; i++)
		half[i] = bf16_round(src[i]);
}

static void append_row(const struct mts_op_append *op, uint32_t r, void *k, void *v)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	size_t hq = (size_t)y->heads * y->dq, hv = (size_t)y->heads * y->dv;
	const float *z = op->z + r * 2 * (hq + hv);

	store_kv(y->dtype, v, z + hv, hv);
	store_kv(y->dtype, k, z + 2 * hv + hq, hq);
}

static void append_history(const struct mts_op_append *op, const struct mts_span *s, uint32_t i)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	uint32_t at = s->begin + i, slot = at % y->page_tokens;
	char *page = mts_kv_page(op->kv, op->layer, s->pages[at / y->page_tokens]);

	append_row(op, s->row + i, page + slot * mts_kv_k_bytes(y),
		   page + y->page_tokens * mts_kv_k_bytes(y) + slot * mts_kv_v_bytes(y));
}

void MTS_ISA(mts_append_rows)(const struct mts_op_append *op, uint32_t first, uint32_t end)
{
	const struct mts_pass *pass = op->pass;
	size_t k_bytes = mts_kv_k_bytes(&op->kv->layout);
	size_t own_bytes = k_bytes + mts_kv_v_bytes(&op->kv->layout);
	uint32_t before = 0, lo, hi;

	for (const struct mts_span *s = pass->span; s < pass->span + pass->spans; s++) {
		if (span_part(s, first, end, &lo, &hi)) {
			for (uint32_t i = lo; i < v_min_u(hi, s->history); i++)
				append_history(op, s, i);
			for (uint32_t i = lo > s->history ? lo : s->history; i < hi; i++) {
				char *own = (char *)op->own + (before + i - s->history) * own_bytes;

				append_row(op, s->row + i, own, own + k_bytes);
			}
		}
		before += s->candidates;
	}
}

void MTS_ISA(mts_score_rows)(const struct mts_op_score *op, uint32_t first, uint32_t end)
{
	for (uint32_t r = first; r < end; r++) {
		const float *a = op->a + (size_t)r * op->k;

		for (unsigned t = 0; t < op->tasks; t += VW) {
			unsigned n = v_min_u(VW, op->tasks - t);
			vf sum = v_set1(0.0f);

			for (size_t i = 0; i < op->k; i++)
				sum = v_fma(v_set1(a[i]), v_load_n(op->w + i * op->tasks + t, n),
					    sum);
			sum = v_add(sum, v_load_n(op->bias + t, n));
			v_store_n(op->scores + (size_t)r * op->tasks + t, v_sigmoid(sum), n);
		}
	}
}

/* n elements of row r from column j on */
inline_always void finish_vector(const struct mts_op_gemm *op, vf x, uint32_t r, uint32_t j,
				 unsigned n)
{
	float *c = op->c + (size_t)r * op->n + j;

	if (op->bias)
		x = v_add(x, v_load_n(op->bias + j, n));
	if (op->accumulate)
		x = v_add(v_load_n(c, n), x);
	if (op->act == MTS_ACT_SILU && j + n <= op->act_cols)
		x = v_silu(x);
	v_store_n(c, x, n);
	if (op->act == MTS_ACT_SILU && j < op->act_cols && j + n > op->act_cols)
		v_store_n(c, v_silu(x), op->act_cols - j);
}

static void finish_plain(const struct mts_op_gemm *op, const struct mts_gemm_tile *t)
{
	for (uint32_t r = 0; r < t->rows; r++) {
		const float *p = t->product + r * t->ld;

		for (uint32_t j = 0; j < t->cols; j += VW) {
			unsigned n = v_min_u(VW, t->cols - j);

			finish_vector(op, v_load_n(p + j, n), t->row + r, t->col + j, n);
		}
	}
}

static void finish_block(const struct mts_op_gemm *op, const struct mts_gemm_tile *t, uint32_t r,
			 uint32_t j)
{
	unsigned rows = v_min_u(VW, t->rows - r), cols = v_min_u(VW, t->cols - j);
	vf x[VW];

	for (unsigned i = 0; i < VW; i++)
		x[i] = i < cols ? v_load(t->product + (j + i) * t->ld + r) : v_set1(0.0f);
	v_transpose(x);
	for (unsigned i = 0; i < rows; i++)
		finish_vector(op, x[i], t->row + r + i, t->col + j, cols);
}

void MTS_ISA(mts_gemm_finish)(const struct mts_op_gemm *op, const struct mts_gemm_tile *tile)
{
	if (!tile->transposed) {
		finish_plain(op, tile);
		return;
	}
	for (uint32_t r = 0; r < tile->rows; r += VW)
		for (uint32_t j = 0; j < tile->cols; j += VW)
			finish_block(op, tile, r, j);
}
