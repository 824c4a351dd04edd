/* SPDX-License-Identifier: Apache-2.0 */
/* Passes made up for tests (scene.h). One thread. */
#include "scene.h"

#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "error.h"
#include "ref/ref_ops.h"

enum { SENTINEL = 256 };

struct guarded {
	struct guarded *next;
	size_t bytes;
	unsigned char *memory;
};

static struct guarded *guarded_list;

void *guarded_alloc(size_t bytes)
{
	struct guarded *g = malloc(sizeof(*g));

	ck_assert_ptr_nonnull(g);
	*g = (struct guarded){ guarded_list, bytes, NULL };
	g->memory = aligned_alloc(64, (bytes + 2 * SENTINEL + 63) / 64 * 64);
	ck_assert_ptr_nonnull(g->memory);
	memset(g->memory, 0xff, bytes + 2 * SENTINEL);
	memset(g->memory, 0xa5, SENTINEL);
	memset(g->memory + SENTINEL + bytes, 0xa5, SENTINEL);
	guarded_list = g;
	return g->memory + SENTINEL;
}

/* not ck_assert in loops: every one that holds costs a system call */
void guarded_check_all(void)
{
	for (const struct guarded *g = guarded_list; g; g = g->next)
		for (size_t i = 0; i < SENTINEL; i++) {
			if (g->memory[i] != 0xa5)
				ck_abort_msg("write before a buffer");
			if (g->memory[SENTINEL + g->bytes + i] != 0xa5)
				ck_abort_msg("write behind a buffer");
		}
}

void guarded_free_all(void)
{
	while (guarded_list) {
		struct guarded *g = guarded_list;

		guarded_list = g->next;
		free(g->memory);
		free(g);
	}
}

uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u + b;

	x = (x ^ x >> 31) * 0x94d049bb133111ebu;
	return x ^ x >> 29;
}

void fill_floats(float *p, size_t n, uint64_t key)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (float)(int32_t)mix(key, i) * 0x1p-31f;
}

float *random_floats(size_t n, uint64_t key)
{
	float *p = guarded_alloc(n * sizeof(*p));

	fill_floats(p, n, key);
	return p;
}

uint32_t scene_zcols(const struct mts_kv_layout *y)
{
	return 2 * y->heads * (y->dq + y->dv);
}

enum { CANDIDATE = 1 << 30 }; /* numbers candidates apart from positions */

static void fill_row(float *z, uint32_t zcols, uint32_t user, uint32_t at)
{
	fill_floats(z, zcols, mix(user, at));
}

static void shuffle(uint32_t *p, uint32_t n, uint64_t seed)
{
	for (uint32_t i = 0; i < n; i++)
		p[i] = i;
	for (uint32_t i = n; i-- > 1;) {
		uint32_t j = mix(seed, i) % (i + 1), t = p[i];

		p[i] = p[j];
		p[j] = t;
	}
}

static uint32_t span_pages(const struct scene_span *s, const struct mts_kv_layout *y)
{
	return (s->begin + s->history + y->page_tokens - 1) / y->page_tokens;
}

static void build_pool(struct scene *sc, uint32_t pages)
{
	size_t page = mts_kv_page_bytes(&sc->layout);

	sc->layer = 1;
	sc->kv = (struct mts_kv_pool){
		.layout = sc->layout, .pages = pages, .layer_stride = pages * page + 64,
	};
	sc->kv.base = guarded_alloc(sc->layout.layers * sc->kv.layer_stride);
}

/* What earlier passes left in the pages. */
static void store_prefix(struct scene *sc, const struct mts_span *s, uint32_t user)
{
	uint32_t zcols = scene_zcols(&sc->layout);
	float *z = malloc((s->begin + 1) * zcols * sizeof(*z));
	struct mts_span prefix = { .history = s->begin, .v = s->begin, .pages = s->pages };
	struct mts_pass pass = { .rows = s->begin, .spans = 1, .span = &prefix };
	struct mts_op_append op = { &pass, &sc->kv, sc->layer, z, NULL };

	ck_assert_ptr_nonnull(z);
	for (uint32_t i = 0; i < s->begin; i++)
		fill_row(z + (size_t)i * zcols, zcols, user, i);
	mts_ref_append(&op);
	free(z);
}

static void build_rows(struct scene *sc)
{
	uint32_t zcols = scene_zcols(&sc->layout);
	size_t own = mts_kv_k_bytes(&sc->layout) + mts_kv_v_bytes(&sc->layout);

	sc->z = guarded_alloc((size_t)sc->pass.rows * zcols * sizeof(float));
	sc->own = guarded_alloc(sc->pass.candidates * own);
	for (uint32_t n = 0; n < sc->pass.spans; n++) {
		const struct mts_span *s = &sc->pass.span[n];
		uint32_t user = sc->shape[n].user;
		float *z = sc->z + (size_t)s->row * zcols;

		for (uint32_t i = 0; i < s->history; i++, z += zcols)
			fill_row(z, zcols, user, s->begin + i);
		for (uint32_t i = 0; i < s->candidates; i++, z += zcols)
			fill_row(z, zcols, user, CANDIDATE + i);
		store_prefix(sc, s, user);
	}
}

void scene_build(struct scene *sc, const struct mts_kv_layout *y, const struct scene_span *spans,
		 uint32_t n, uint64_t seed)
{
	struct mts_span *span = guarded_alloc(n * sizeof(*span));
	uint32_t pages = 0, used = 0, *table;

	for (uint32_t i = 0; i < n; i++)
		pages += span_pages(&spans[i], y);
	pages += 3;
	table = guarded_alloc(pages * sizeof(*table));
	shuffle(table, pages, seed);
	*sc = (struct scene){ .layout = *y, .shape = spans };
	sc->pass.spans = n;
	sc->pass.span = span;
	for (uint32_t i = 0; i < n; i++) {
		const struct scene_span *s = &spans[i];

		span[i] = (struct mts_span){ sc->pass.rows, s->history, s->candidates, s->begin,
					     s->begin + s->history, table + used };
		used += span_pages(s, y);
		sc->pass.rows += s->history + s->candidates;
		sc->pass.candidates += s->candidates;
	}
	build_pool(sc, pages);
	build_rows(sc);
}

struct mts_op_append scene_append(const struct scene *sc)
{
	return (struct mts_op_append){ &sc->pass, &sc->kv, sc->layer, sc->z, sc->own };
}

struct mts_op_attention scene_attention(const struct scene *sc, float scale_len, uint32_t window)
{
	size_t hdv = sc->layout.heads * sc->layout.dv;

	return (struct mts_op_attention){
		.pass = &sc->pass, .kv = &sc->kv, .layer = sc->layer, .z = sc->z, .own = sc->own,
		.scale_len = scale_len, .window = window,
		.o = guarded_alloc(sc->pass.rows * hdv * sizeof(float)),
	};
}

const char *const *test_isas(void)
{
	static const char *const all[] = { "avx512", "avx2", "scalar" };
	static const char *have[sizeof(all) / sizeof(all[0]) + 1];
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct mts_cpu *cpu;

		setenv("MTS_CPU_ISA", all[i], 1);
		if (!mts_cpu_open(1, &cpu, NULL)) {
			mts_cpu_close(cpu);
			have[n++] = all[i];
		}
	}
	have[n] = NULL;
	return have;
}

struct mts_cpu *open_cpu(const char *isa, unsigned threads)
{
	struct mts_error err = { "" };
	struct mts_cpu *cpu = NULL;

	setenv("MTS_CPU_ISA", isa, 1);
	ck_assert_msg(!mts_cpu_open(threads, &cpu, &err), "%s", err.text);
	return cpu;
}

int run_suite(struct Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	/* buffers come and go by the thousand: keep their memory */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
