/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiled GEMM over BLAS, and the self-test that chooses the tile (gemm.h).
 *
 * BLAS promises nothing about bits: kernels differ for the last rows of a matrix, for few rows,
 * for small products, so the same row may come out differently beside other rows. Here BLAS only
 * ever sees tiles: a fixed number of rows, and columns cut at multiples of PIECE. Per library and
 * processor one scheme is chosen under which every row of a tile gets the same bits:
 *
 *   tile    guard | rows that count | guard      guards: neighbouring rows, or zeros at the ends
 *
 * Guard rows are there because some kernels treat the outer rows of a matrix alone differently
 * (OpenBLAS for AVX2: the outer 8, when our rows run along its M; along its N they alternate by 6).
 * Tiles of other heights are used too where they gave the very bits of the base height: tall ones
 * are faster, low ones save work on few rows.
 *
 * Tasks are (row tile, piece of columns); bias, activation and accumulation follow on the product
 * while it is in the cache.
 */
#include "gemm.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blas.h"
#include "error.h"

#define PIECE 256u
#define MAX_ROWS 256
#define MAX_GUARD 8
#define MAX_TILE (MAX_ROWS + 2 * MAX_GUARD)
#define ALIGN 64

struct scheme {
	enum mts_blas_id library;
	int generic_too; /* also where the library has no kernel made for this processor */
	int transposed;  /* our rows along the library's M, the product comes out by columns */
	uint32_t guard;  /* rows at either end of a tile that do not count */
	uint32_t base;   /* rows that count in the tile that sets the bits */
};

/* In order of preference: a fixed order, not measured speed, so that every start chooses alike. */
static const struct scheme schemes[] = {
	{ MTS_OPENBLAS, .base = 64 },
	{ MTS_OPENBLAS, .base = 64, .transposed = 1, .guard = 8 },
	{ MTS_BLIS, .base = 64 },
	{ MTS_OPENBLAS, .base = 8 },
	{ MTS_BLIS, .base = 64, .generic_too = 1 },
	{ MTS_OPENBLAS, .base = 1 },
};

static const uint32_t heights[] = { 1, 8, 16, 32, 48, 64, 96, 112, 128, MAX_ROWS };
#define HEIGHTS (sizeof(heights) / sizeof(heights[0]))

struct shape {
	uint32_t n, k;
	unsigned count;           /* heights with the bits of the base, ascending */
	uint32_t height[HEIGHTS];
};

struct mts_gemm {
	struct mts_pool *pool;
	const struct mts_isa *isa;
	const struct scheme *scheme; /* NULL before prepare */
	const struct mts_blas *blas;
	struct shape *shape;
	unsigned shapes;
	float *scratch; /* per worker: tile [MAX_TILE][max k], product [MAX_TILE][PIECE] */
	size_t scratch_floats, tile_floats;
	char choice[128];
	char refused[512];
};

static float *worker_tile(const struct mts_gemm *g, unsigned worker)
{
	return g->scratch + worker * g->scratch_floats;
}

static float *worker_product(const struct mts_gemm *g, unsigned worker)
{
	return worker_tile(g, worker) + g->tile_floats;
}

static uint32_t min_u(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t pieces_of(uint32_t n)
{
	return (n + PIECE - 1) / PIECE;
}

static uint32_t piece_cols(uint32_t n, uint32_t piece)
{
	return min_u(PIECE, n - piece * PIECE);
}

/* product = rows of a times one piece of b; `rows` includes the guards */
static void multiply(const struct mts_gemm *g, uint32_t rows, const float *a, const float *b,
		     uint32_t n, uint32_t k, uint32_t piece, float *product)
{
	int m = (int)rows, cols = (int)piece_cols(n, piece), ld = (int)n, kk = (int)k;

	b += (size_t)piece * PIECE;
	if (g->scheme->transposed)
		g->blas->sgemm(MTS_BLAS_COL_MAJOR, MTS_BLAS_TRANS, MTS_BLAS_TRANS, m, cols, kk,
			       1.0f, a, kk, b, ld, 0.0f, product, m);
	else
		g->blas->sgemm(MTS_BLAS_ROW_MAJOR, MTS_BLAS_NO_TRANS, MTS_BLAS_NO_TRANS, m, cols,
			       kk, 1.0f, a, kk, b, ld, 0.0f, product, (int)PIECE);
}

static size_t product_ld(const struct mts_gemm *g, uint32_t rows)
{
	return g->scheme->transposed ? rows : PIECE;
}

/* ---- running ---- */

struct row_tile {
	uint32_t row, rows, height;
};

struct run {
	const struct mts_gemm *g;
	const struct mts_op_gemm *op;
	uint32_t pieces;
	uint32_t bulk_height, bulk; /* `bulk` full tiles of that height, then the rest */
	unsigned rest;
	struct row_tile rest_tile[HEIGHTS + 1];
};

static struct row_tile tile_at(const struct run *run, uint32_t i)
{
	if (i >= run->bulk)
		return run->rest_tile[i - run->bulk];
	return (struct row_tile){ i * run->bulk_height, run->bulk_height, run->bulk_height };
}

/* The tile's rows of a with its guards: in place, or copied with zeros where a has no rows. */
static const float *tile_rows(const struct run *run, struct row_tile t, float *copy)
{
	const struct mts_op_gemm *op = run->op;
	uint32_t guard = run->g->scheme->guard, all = t.height + 2 * guard;
	uint32_t above = min_u(guard, t.row), from = t.row - above;
	uint32_t have = min_u(op->m - from, all - (guard - above));
	size_t k = op->k;
	float *to = copy + (guard - above) * k;

	if (have == all)
		return op->a + from * k;
	memset(copy, 0, (guard - above) * k * sizeof(*copy));
	memcpy(to, op->a + from * k, have * k * sizeof(*copy));
	memset(to + have * k, 0, (all - (guard - above) - have) * k * sizeof(*copy));
	return copy;
}

static void run_task(void *arg, unsigned task, unsigned worker)
{
	const struct run *run = arg;
	const struct mts_gemm *g = run->g;
	const struct mts_op_gemm *op = run->op;
	uint32_t piece = task % run->pieces, guard = g->scheme->guard;
	struct row_tile t = tile_at(run, task / run->pieces);
	uint32_t all = t.height + 2 * guard;
	float *product = worker_product(g, worker);
	struct mts_gemm_tile tile = {
		.ld = product_ld(g, all), .transposed = g->scheme->transposed,
		.row = t.row, .rows = t.rows, .col = piece * PIECE,
		.cols = piece_cols(op->n, piece),
	};

	tile.product = product + guard * (tile.transposed ? 1 : tile.ld);
	multiply(g, all, tile_rows(run, t, worker_tile(g, worker)), op->b, op->n, op->k, piece,
		 product);
	g->isa->gemm_finish(op, &tile);
}

/* Packing b costs about as much as this many rows of a tile, whatever its height. */
enum { TILE_COST = 48 };

/* Height of the next tile for the last `rows` rows: one that holds them all, or a full one. */
static uint32_t rest_height(const struct shape *s, uint32_t rows)
{
	uint32_t above = 0, below = 0;

	for (unsigned i = s->count; i-- && s->height[i] >= rows;)
		above = s->height[i];
	for (unsigned i = 0; i < s->count && s->height[i] <= rows; i++)
		below = s->height[i];
	if (!above || !below)
		return above ? above : below;
	return above <= TILE_COST + rows ? above : below;
}

static void cut_rest(struct run *run, const struct shape *s, uint32_t row)
{
	while (row < run->op->m) {
		uint32_t left = run->op->m - row, height = rest_height(s, left);

		run->rest_tile[run->rest++] = (struct row_tile){ row, min_u(left, height), height };
		row += min_u(left, height);
	}
}

/* The tallest tile that still leaves every worker something to do, but not below the base. */
static uint32_t bulk_height(const struct run *run, const struct shape *s)
{
	uint32_t want = 2 * mts_pool_threads(run->g->pool), height = run->g->scheme->base;

	for (unsigned i = 0; i < s->count; i++)
		if (s->height[i] > height && run->op->m / s->height[i] * run->pieces >= want)
			height = s->height[i];
	return height;
}

int mts_gemm_run(struct mts_gemm *g, const struct mts_op_gemm *op)
{
	struct run run = { .g = g, .op = op, .pieces = pieces_of(op->n) };
	const struct shape *s = g->shape, *end = g->shape + g->shapes;

	while (s < end && (s->n != op->n || s->k != op->k))
		s++;
	if (s == end)
		return -EINVAL;
	run.bulk_height = bulk_height(&run, s);
	run.bulk = op->m / run.bulk_height;
	cut_rest(&run, s, run.bulk * run.bulk_height);
	mts_pool_run(g->pool, run_task, &run, (run.bulk + run.rest) * run.pieces);
	return 0;
}

/* ---- the self-test ---- */

enum { ARRANGEMENTS = 3 }; /* the probe row everywhere; at odd places; at even places */

struct trial {
	const struct mts_gemm *g;
	uint32_t n, k;
	float *a[ARRANGEMENTS]; /* [MAX_TILE][k]: the probe row among others */
	float *b;
	float *expected;        /* [n]: the probe row's product in the base tile */
	atomic_uint differs;    /* bit i: heights[i] gave other bits somewhere */
};

static int is_probe(int arrangement, uint32_t row)
{
	return arrangement == 0 || row % 2 == (unsigned)arrangement % 2;
}

static void fill_random(float *p, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		p[i] = (float)(int32_t)(*state >> 32) * 0x1p-31f;
	}
}

static void fill_trial(struct trial *t)
{
	uint64_t state = 1;
	float *probe = t->a[0];

	fill_random(t->b, (size_t)t->n * t->k, &state);
	fill_random(probe, t->k, &state);
	for (int x = 0; x < ARRANGEMENTS; x++)
		for (uint32_t row = 0; row < MAX_TILE; row++) {
			float *to = t->a[x] + (size_t)row * t->k;

			if (!is_probe(x, row))
				fill_random(to, t->k, &state);
			else if (to != probe)
				memcpy(to, probe, t->k * sizeof(*to));
		}
}

/* Does the probe row at `row` of a product have the expected bits? */
static int same_bits(const struct trial *t, const float *product, uint32_t rows, uint32_t row,
		     uint32_t piece)
{
	const float *want = t->expected + piece * PIECE;
	uint32_t cols = piece_cols(t->n, piece);

	if (!t->g->scheme->transposed)
		return !memcmp(product + (size_t)row * PIECE, want, cols * sizeof(*want));
	for (uint32_t j = 0; j < cols; j++)
		if (memcmp(&product[(size_t)j * rows + row], &want[j], sizeof(*want)))
			return 0;
	return 1;
}

static void trial_task(void *arg, unsigned task, unsigned worker)
{
	struct trial *t = arg;
	unsigned h = task % HEIGHTS, piece = task / HEIGHTS;
	uint32_t guard = t->g->scheme->guard, rows = heights[h] + 2 * guard;
	float *product = worker_product(t->g, worker);

	for (int x = 0; x < ARRANGEMENTS; x++) {
		/* relaxed: only saves work; the pool orders the final reading */
		if (atomic_load_explicit(&t->differs, memory_order_relaxed) & 1u << h)
			return;
		multiply(t->g, rows, t->a[x], t->b, t->n, t->k, piece, product);
		for (uint32_t r = guard; r < rows - guard; r++)
			if (is_probe(x, r) && !same_bits(t, product, rows, r, piece)) {
				atomic_fetch_or_explicit(&t->differs, 1u << h,
							 memory_order_relaxed);
				return;
			}
	}
}

static void expect(struct trial *t)
{
	uint32_t guard = t->g->scheme->guard, rows = t->g->scheme->base + 2 * guard;
	float *product = worker_product(t->g, 0);
	size_t ld = product_ld(t->g, rows);

	for (uint32_t piece = 0; piece < pieces_of(t->n); piece++) {
		multiply(t->g, rows, t->a[0], t->b, t->n, t->k, piece, product);
		for (uint32_t j = 0; j < piece_cols(t->n, piece); j++)
			t->expected[piece * PIECE + j] = t->g->scheme->transposed ?
							 product[j * ld + guard] :
							 product[guard * ld + j];
	}
}

/* Any order of float32 additions errs by at most about k ulp of the sum of magnitudes. */
static int accurate(const struct trial *t)
{
	uint32_t step = t->n / 64 + 1;

	for (uint32_t j = 0; j < t->n; j += step) {
		double sum = 0, size = 0;

		for (uint32_t i = 0; i < t->k; i++) {
			double x = (double)t->a[0][i] * t->b[(size_t)i * t->n + j];

			sum += x;
			size += fabs(x);
		}
		if (!(fabs(t->expected[j] - sum) <= (t->k + 1) * 0x1p-24 * size))
			return 0;
	}
	return 1;
}

static void refuse(struct mts_gemm *g, const struct scheme *s, const char *why,
		   const struct shape *shape)
{
	size_t used = strlen(g->refused);

	snprintf(g->refused + used, sizeof(g->refused) - used,
		 "%s%s, tiles of %u x %u%s: %s (n %u, k %u)",
		 used ? "; " : "", mts_blas_get(s->library)->name, s->base, PIECE,
		 s->guard ? " between guards" : "", why, shape->n, shape->k);
}

/* Tries the current scheme on one shape: NULL, or why it will not do. */
static const char *try_shape(struct mts_gemm *g, struct trial *t, struct shape *s)
{
	t->n = s->n;
	t->k = s->k;
	atomic_store_explicit(&t->differs, 0, memory_order_relaxed);
	fill_trial(t);
	expect(t);
	if (!accurate(t))
		return "wrong results";
	mts_pool_run(g->pool, trial_task, t, HEIGHTS * pieces_of(s->n));
	s->count = 0;
	for (unsigned h = 0; h < HEIGHTS; h++) {
		int same = !(atomic_load_explicit(&t->differs, memory_order_relaxed) & 1u << h);

		if (!same && heights[h] == g->scheme->base)
			return "a row's bits depend on its place";
		/* a base of 1 is the last resort: each row alone, whatever else agrees */
		if (same && (heights[h] == g->scheme->base || g->scheme->base > 1))
			s->height[s->count++] = heights[h];
	}
	return NULL;
}

static int try_scheme(struct mts_gemm *g, struct trial *t, const struct scheme *s)
{
	g->scheme = s;
	g->blas = mts_blas_get(s->library);
	for (unsigned i = 0; i < g->shapes; i++) {
		const char *why = try_shape(g, t, &g->shape[i]);

		if (why) {
			refuse(g, s, why, &g->shape[i]);
			return 0;
		}
	}
	snprintf(g->choice, sizeof(g->choice), "%s, tiles of %u x %u%s", g->blas->name, s->base,
		 PIECE, s->guard ? " between guards" : "");
	return 1;
}

static int choose(struct mts_gemm *g, struct trial *t, struct mts_error *err)
{
	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		const struct mts_blas *b = mts_blas_get(schemes[i].library);

		if (b->sgemm && b->tuned != schemes[i].generic_too && try_scheme(g, t, &schemes[i]))
			return 0;
	}
	g->scheme = NULL;
	g->shapes = 0;
	mts_error_set(err, "no usable BLAS library: OpenBLAS: %s; BLIS: %s; %s",
		      mts_blas_get(MTS_OPENBLAS)->why_not, mts_blas_get(MTS_BLIS)->why_not,
		      g->refused);
	return -ENODEV;
}

static float *alloc_floats(size_t n)
{
	return aligned_alloc(ALIGN, (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN);
}

static uint32_t largest(const uint32_t (*nk)[2], unsigned shapes, int which)
{
	uint32_t most = 0;

	for (unsigned i = 0; i < shapes; i++)
		if (nk[i][which] > most)
			most = nk[i][which];
	return most;
}

static int alloc_trial(struct trial *t, const struct mts_gemm *g, uint32_t n, uint32_t k,
		       size_t b_floats)
{
	int ok = 1;

	*t = (struct trial){ .g = g };
	for (int x = 0; x < ARRANGEMENTS; x++)
		ok &= !!(t->a[x] = alloc_floats((size_t)MAX_TILE * k));
	ok &= !!(t->b = alloc_floats(b_floats));
	ok &= !!(t->expected = alloc_floats(n));
	return ok ? 0 : -ENOMEM;
}

static void free_trial(struct trial *t)
{
	for (int x = 0; x < ARRANGEMENTS; x++)
		free(t->a[x]);
	free(t->b);
	free(t->expected);
}

static void forget(struct mts_gemm *g)
{
	free(g->shape);
	free(g->scratch);
	g->shape = NULL;
	g->scratch = NULL;
	g->shapes = 0;
	g->scheme = NULL;
	g->choice[0] = g->refused[0] = '\0';
}

static int reserve(struct mts_gemm *g, const uint32_t (*nk)[2], unsigned shapes)
{
	g->tile_floats = (size_t)MAX_TILE * largest(nk, shapes, 1);
	g->scratch_floats = (g->tile_floats + (size_t)MAX_TILE * PIECE + 15) / 16 * 16;
	g->scratch = alloc_floats(g->scratch_floats * mts_pool_threads(g->pool));
	g->shape = calloc(shapes, sizeof(*g->shape));
	if (!g->scratch || !g->shape)
		return -ENOMEM;
	for (unsigned i = 0; i < shapes; i++)
		g->shape[i] = (struct shape){ .n = nk[i][0], .k = nk[i][1] };
	g->shapes = shapes;
	return 0;
}

int mts_gemm_prepare(struct mts_gemm *g, const uint32_t (*nk)[2], unsigned shapes,
		     struct mts_error *err)
{
	struct trial t = { 0 };
	size_t b_floats = 0;
	int rc;

	forget(g);
	for (unsigned i = 0; i < shapes; i++) {
		size_t floats = (size_t)nk[i][0] * nk[i][1];

		if (!floats || nk[i][0] > INT_MAX || nk[i][1] > INT_MAX) {
			mts_error_set(err, "matrix product of n %u, k %u: expected 1 to %d",
				      nk[i][0], nk[i][1], INT_MAX);
			return -EINVAL;
		}
		b_floats = floats > b_floats ? floats : b_floats;
	}
	rc = reserve(g, nk, shapes);
	if (!rc)
		rc = alloc_trial(&t, g, largest(nk, shapes, 0), largest(nk, shapes, 1), b_floats);
	if (rc)
		mts_error_set(err, "no memory for the matrix product's self-test");
	else
		rc = choose(g, &t, err);
	free_trial(&t);
	if (rc)
		forget(g);
	return rc;
}

int mts_gemm_open(struct mts_pool *pool, const struct mts_isa *isa, struct mts_gemm **out)
{
	struct mts_gemm *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->pool = pool;
	g->isa = isa;
	*out = g;
	return 0;
}

void mts_gemm_close(struct mts_gemm *g)
{
	if (!g)
		return;
	forget(g);
	free(g);
}

const char *mts_gemm_choice(const struct mts_gemm *g)
{
	return g->choice;
}

const char *mts_gemm_refused(const struct mts_gemm *g)
{
	return g->refused;
}
