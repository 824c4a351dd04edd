/* SPDX-License-Identifier: Apache-2.0 */
/* The reference operations (ref_ops.h). Kept plain on purpose: it is what the rest is held to. */
#include "ref/ref_ops.h"

#include <math.h>
#include <string.h>

static double silu(double x)
{
	return x / (1 + exp(-x));
}

/* visible position of row i of a span */
static uint32_t position(const struct mts_span *s, uint32_t i)
{
	return i < s->history ? s->begin + i : s->v;
}

static uint32_t span_rows(const struct mts_span *s)
{
	return s->history + s->candidates;
}

void mts_ref_embed(const struct mts_op_embed *op, double *out)
{
	size_t d = op->d;

	for (uint32_t n = 0; n < op->pass->spans; n++) {
		const struct mts_span *s = &op->pass->span[n];

		for (uint32_t i = 0; i < span_rows(s); i++) {
			size_t r = s->row + i, at = position(s, i);

			if (at > op->max_positions - 1)
				at = op->max_positions - 1;
			for (size_t j = 0; j < d; j++)
				out[r * d + j] = (double)op->items[op->pass->item[r] * d + j] +
						 op->actions[op->pass->action[r] * d + j] +
						 op->positions[at * d + j];
		}
	}
}

static void layer_norm(const float *x, size_t d, double eps, const float *weight,
		       const float *bias, double *y)
{
	double mean = 0, var = 0;

	for (size_t i = 0; i < d; i++)
		mean += (double)x[i] / d;
	for (size_t i = 0; i < d; i++)
		var += (x[i] - mean) * (x[i] - mean) / d;
	for (size_t i = 0; i < d; i++)
		y[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i];
}

void mts_ref_norm(const struct mts_op_norm *op, double *out)
{
	for (size_t r = 0; r < op->rows; r++)
		layer_norm(op->x + r * op->d, op->d, op->eps, op->weight, op->bias,
			   out + r * op->d);
}

void mts_ref_gemm(const struct mts_op_gemm *op, double *out)
{
	for (size_t r = 0; r < op->m; r++) {
		double *row = out + r * op->n;

		for (size_t j = 0; j < op->n; j++)
			row[j] = op->bias ? op->bias[j] : 0;
		for (size_t i = 0; i < op->k; i++)
			for (size_t j = 0; j < op->n; j++)
				row[j] += (double)op->a[r * op->k + i] * op->b[i * op->n + j];
		for (size_t j = 0; op->act == MTS_ACT_SILU && j < op->act_cols; j++)
			row[j] = silu(row[j]);
		for (size_t j = 0; op->accumulate && j < op->n; j++)
			row[j] += op->c[r * op->n + j];
	}
}

static uint16_t to_bf16(double x)
{
	float f = (float)x;
	uint32_t bits, kept;

	memcpy(&bits, &f, sizeof(bits));
	if (isnan(f))
		return (uint16_t)(bits >> 16 | 0x40);
	kept = bits >> 16;
	bits &= 0xffff;
	if (bits > 0x8000 || (bits == 0x8000 && kept % 2))
		kept++;
	return (uint16_t)kept;
}

static double from_bf16(uint16_t h)
{
	uint32_t bits = (uint32_t)h << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

double mts_ref_round_kv(enum mts_dtype type, double x)
{
	return type == MTS_F32 ? (float)x : from_bf16(to_bf16(x));
}

static double read_kv(enum mts_dtype type, const void *p, size_t i)
{
	return type == MTS_F32 ? ((const float *)p)[i] : from_bf16(((const uint16_t *)p)[i]);
}

static void write_kv(enum mts_dtype type, void *p, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (type == MTS_F32)
			((float *)p)[i] = x[i];
		else
			((uint16_t *)p)[i] = to_bf16(x[i]);
}

/* where K and V of a position, or of a candidate, begin */
static char *page_k(const struct mts_kv_pool *kv, uint32_t layer, const struct mts_span *s,
		    uint32_t at)
{
	const struct mts_kv_layout *y = &kv->layout;

	return (char *)mts_kv_page(kv, layer, s->pages[at / y->page_tokens]) +
	       at % y->page_tokens * mts_kv_k_bytes(y);
}

static char *page_v(const struct mts_kv_pool *kv, uint32_t layer, const struct mts_span *s,
		    uint32_t at)
{
	const struct mts_kv_layout *y = &kv->layout;

	return (char *)mts_kv_page(kv, layer, s->pages[at / y->page_tokens]) +
	       y->page_tokens * mts_kv_k_bytes(y) + at % y->page_tokens * mts_kv_v_bytes(y);
}

static char *own_k(const struct mts_kv_layout *y, const void *own, uint32_t candidate)
{
	return (char *)own + candidate * (mts_kv_k_bytes(y) + mts_kv_v_bytes(y));
}

void mts_ref_append(const struct mts_op_append *op)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	size_t hq = (size_t)y->heads * y->dq, hv = (size_t)y->heads * y->dv;
	uint32_t candidate = 0;

	for (uint32_t n = 0; n < op->pass->spans; n++) {
		const struct mts_span *s = &op->pass->span[n];

		for (uint32_t i = 0; i < span_rows(s); i++) {
			const float *z = op->z + (s->row + i) * 2 * (hq + hv);
			char *k, *v;

			if (i < s->history) {
				k = page_k(op->kv, op->layer, s, s->begin + i);
				v = page_v(op->kv, op->layer, s, s->begin + i);
			} else {
				k = own_k(y, op->own, candidate++);
				v = k + mts_kv_k_bytes(y);
			}
			write_kv(y->dtype, k, z + 2 * hv + hq, hq);
			write_kv(y->dtype, v, z + hv, hv);
		}
	}
}

/* o[dv] += SiLU(q · k / sqrt(dq)) / scale_len * v for one head */
static void attend(const struct mts_op_attention *op, const float *q, const char *k,
		   const char *v, uint32_t head, double *o)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	double s = 0;

	for (uint32_t t = 0; t < y->dq; t++)
		s += q[t] * read_kv(y->dtype, k, head * y->dq + t);
	s = silu(s / sqrt(y->dq)) / op->scale_len;
	for (uint32_t t = 0; t < y->dv; t++)
		o[t] += s * read_kv(y->dtype, v, head * y->dv + t);
}

static void attend_row(const struct mts_op_attention *op, const struct mts_span *s, uint32_t i,
		       uint32_t candidate, uint32_t head, double *o)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	uint32_t at = position(s, i), keys = i < s->history ? at + 1 : at;
	size_t hv = (size_t)y->heads * y->dv, zcols = 2 * (hv + y->heads * y->dq);
	const float *q = op->z + (s->row + i) * zcols + 2 * hv + head * y->dq;

	memset(o, 0, y->dv * sizeof(*o));
	for (uint32_t j = 0; j < keys; j++)
		if (!op->window || at - j <= op->window)
			attend(op, q, page_k(op->kv, op->layer, s, j),
			       page_v(op->kv, op->layer, s, j), head, o);
	if (i >= s->history) {
		const char *k = own_k(y, op->own, candidate + i - s->history);

		attend(op, q, k, k + mts_kv_k_bytes(y), head, o);
	}
}

void mts_ref_attention(const struct mts_op_attention *op, double *out)
{
	const struct mts_kv_layout *y = &op->kv->layout;
	uint32_t before = 0;

	for (uint32_t n = 0; n < op->pass->spans; n++) {
		const struct mts_span *s = &op->pass->span[n];

		for (uint32_t i = 0; i < span_rows(s); i++)
			for (uint32_t h = 0; h < y->heads; h++)
				attend_row(op, s, i, before, h,
					   out + ((size_t)(s->row + i) * y->heads + h) * y->dv);
		before += s->candidates;
	}
}

void mts_ref_modulate(const struct mts_op_modulate *op, double *out)
{
	size_t hdv = op->hdv, cols = op->concat ? 3 * hdv : hdv;

	for (size_t r = 0; r < op->rows; r++) {
		const float *u = op->z + r * op->zcols, *o = op->o + r * hdv;
		double *y = out + r * cols + (op->concat ? 2 * hdv : 0);

		layer_norm(o, hdv, op->eps, op->weight, op->bias, y);
		for (size_t i = 0; i < hdv; i++) {
			y[i] *= u[i];
			if (op->concat) {
				out[r * cols + i] = u[i];
				out[r * cols + hdv + i] = o[i];
			}
		}
	}
}

void mts_ref_pick(const struct mts_op_pick *op, double *out)
{
	for (uint32_t n = 0; n < op->pass->spans; n++) {
		const struct mts_span *s = &op->pass->span[n];
		const float *x = op->x + (size_t)(s->row + s->history) * op->d;

		for (size_t i = 0; i < (size_t)s->candidates * op->d; i++)
			*out++ = x[i];
	}
}

void mts_ref_score(const struct mts_op_score *op, double *out)
{
	for (size_t r = 0; r < op->rows; r++)
		for (size_t t = 0; t < op->tasks; t++) {
			double sum = op->bias[t];

			for (size_t i = 0; i < op->k; i++)
				sum += (double)op->a[r * op->k + i] * op->w[i * op->tasks + t];
			out[r * op->tasks + t] = 1 / (1 + exp(-sum));
		}
}
