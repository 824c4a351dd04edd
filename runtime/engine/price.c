/* SPDX-License-Identifier: Apache-2.0 */
/* What things cost (price.h). Floor: engine. Thread: the engine's. */
#include "engine/price.h"

#include <math.h>

#define N MTS_FIT_TERMS

/* Of a sample's weight when the next one comes. */
#define FADE_PASS 0.99
#define FADE_LINK 0.95

/* Solves for the terms in `use`; the others are 0. Scaled by the diagonal, so that units cancel. */
static void solve(const struct mts_fit *f, const bool use[N], double k[N])
{
	double a[N][N + 1], d[N];

	for (int i = 0; i < N; i++) {
		d[i] = use[i] ? sqrt(f->xx[i][i]) : 0;
		k[i] = 0;
	}
	for (int i = 0; i < N; i++) {
		for (int j = 0; j < N; j++)
			a[i][j] = d[i] > 0 && d[j] > 0 ? f->xx[i][j] / (d[i] * d[j]) : 0;
		/* Terms that always went together are told apart by this grain alone. */
		a[i][i] = d[i] > 0 ? 1 + 1e-6 : 1;
		a[i][N] = d[i] > 0 ? f->xy[i] / d[i] : 0;
	}
	/* Positive definite: no pivoting. */
	for (int p = 0; p < N; p++)
		for (int i = p + 1; i < N; i++)
			for (int j = N; j >= p; j--)
				a[i][j] -= a[i][p] / a[p][p] * a[p][j];
	for (int i = N - 1; i >= 0; i--) {
		double v = a[i][N];

		for (int j = i + 1; j < N; j++)
			v -= a[i][j] * k[j];
		k[i] = v / a[i][i];
	}
	for (int i = 0; i < N; i++)
		k[i] = d[i] > 0 ? k[i] / d[i] : 0;
}

void mts_fit_add(struct mts_fit *f, const double x[N], double y, double fade)
{
	bool use[N] = { true, true, true };
	int worst;

	if (!(y > 0))
		return;
	for (int i = 0; i < N; i++) {
		for (int j = 0; j < N; j++)
			f->xx[i][j] = f->xx[i][j] * fade + x[i] / y * (x[j] / y);
		f->xy[i] = f->xy[i] * fade + x[i] / y;
	}
	do {
		solve(f, use, f->k);
		worst = 0;
		for (int i = 1; i < N; i++)
			if (f->k[i] < f->k[worst])
				worst = i;
		use[worst] = false;
	} while (f->k[worst] < 0);
}

double mts_price_pairs(uint32_t begin, uint32_t history, uint32_t candidates, uint32_t v)
{
	return (double)history * begin + (double)history * (history + 1.0) / 2 +
	       (double)candidates * (v + 1.0);
}

void mts_price_pass(struct mts_price *p, double rows, double pairs, uint64_t ns)
{
	const double x[N] = { 1, rows, pairs };

	mts_fit_add(&p->pass, x, (double)ns, FADE_PASS);
}

double mts_price_rows(const struct mts_price *p, double rows, double pairs)
{
	return p->pass.k[1] * rows + p->pass.k[2] * pairs;
}

/* The positive root of pair/2 r^2 + (row + pair begin) r = ns. */
uint32_t mts_price_fits(const struct mts_price *p, uint32_t begin, double ns)
{
	double a = p->pass.k[2] / 2, b = p->pass.k[1] + p->pass.k[2] * begin, r;

	if (a > 0)
		r = 2 * ns / (b + sqrt(b * b + 4 * a * ns));
	else
		r = b > 0 ? ns / b : INFINITY;
	return r < 1e9 ? (uint32_t)r : 1000000000u;
}

void mts_price_link(struct mts_price *p, uint64_t copies, uint64_t bytes, uint64_t busy_ns)
{
	const double x[N] = { (double)(copies - p->copies), (double)(bytes - p->bytes), 0 };

	/* Time is added up only when the link falls idle: then all three are of the same moment. */
	if (busy_ns == p->busy_ns)
		return;
	if (bytes > p->bytes)
		mts_fit_add(&p->link, x, (double)(busy_ns - p->busy_ns), FADE_LINK);
	p->copies = copies;
	p->bytes = bytes;
	p->busy_ns = busy_ns;
}

double mts_price_load(const struct mts_price *p, double copies, double bytes)
{
	return p->link.k[0] * copies + p->link.k[1] * bytes;
}
