/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promise of the CPU device: a row's result has the same bits however its pass was cut, packed
 * or shared out over threads. Compared by memcmp with the user's whole life, alone on one thread.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/cpu.h"
#include "scene.h"

enum { USER = 1, EVENTS = 203, CANDIDATES = 29, MAX_THREADS = 3 };

static const struct mts_kv_layout layouts[] = {
	{ 2, 2, 32, 32, 16, MTS_F32 },  { 2, 2, 32, 32, 16, MTS_BF16 },
	{ 2, 1, 128, 128, 32, MTS_BF16 }, { 2, 3, 20, 12, 16, MTS_F32 },
	{ 2, 2, 17, 33, 64, MTS_BF16 },
};

static const uint32_t windows[] = { 0, 8, 90 };

struct baseline {
	const struct mts_kv_layout *y;
	uint32_t window;
	float *o; /* [EVENTS + CANDIDATES][h * dv] */
};

static size_t row_floats(const struct mts_kv_layout *y)
{
	return y->heads * y->dv;
}

/* Appends and attends; o of all rows. */
static float *run_scene(struct mts_cpu *cpu, const struct scene *sc, uint32_t window)
{
	struct mts_op_append append = scene_append(sc);
	struct mts_op_attention attention = scene_attention(sc, 200.0f, window);

	mts_cpu_append(cpu, &append);
	ck_assert_int_eq(mts_cpu_attention(cpu, &attention), 0);
	return attention.o;
}

static void make_baseline(struct mts_cpu *cpu, struct baseline *b)
{
	static const struct scene_span whole = { USER, 0, EVENTS, CANDIDATES };
	size_t bytes = (EVENTS + CANDIDATES) * row_floats(b->y) * sizeof(float);
	struct scene sc;

	scene_build(&sc, b->y, &whole, 1, 0);
	b->o = malloc(bytes);
	ck_assert_ptr_nonnull(b->o);
	memcpy(b->o, run_scene(cpu, &sc, b->window), bytes);
	guarded_check_all();
	guarded_free_all();
}

/* The rows of span n, which is the user's, against the baseline. */
static void compare_span(const struct baseline *b, const struct scene *sc, uint32_t n,
			 const float *o)
{
	const struct mts_span *s = &sc->pass.span[n];
	size_t floats = row_floats(b->y);

	for (uint32_t i = 0; i < s->history + s->candidates; i++) {
		uint32_t at = i < s->history ? s->begin + i : EVENTS + i - s->history;

		if (memcmp(o + (s->row + i) * floats, b->o + at * floats, floats * sizeof(float)))
			ck_abort_msg("begin %u, %u new, row %u: other bits", s->begin, s->history,
				     i);
	}
}

static struct scene_span stranger(uint64_t seed, uint32_t n)
{
	uint64_t x = mix(seed, n);

	return (struct scene_span){ 100 + n, x % 80, x / 80 % 90, x / 7200 % 20 };
}

/* The user's span among `others` strangers, at a place of the seed's choosing. */
static void compare_packed(struct mts_cpu *cpu, const struct baseline *b, struct scene_span user,
			   uint32_t others, uint64_t seed)
{
	struct scene_span spans[8];
	uint32_t place = mix(seed, 77) % (others + 1);
	struct scene sc;

	for (uint32_t n = 0; n < others + 1; n++)
		spans[n] = n == place ? user : stranger(seed, n);
	scene_build(&sc, b->y, spans, others + 1, seed);
	compare_span(b, &sc, place, run_scene(cpu, &sc, b->window));
	guarded_check_all();
	guarded_free_all();
}

static void each_isa(void (*test)(struct mts_cpu *const cpu[], const struct baseline *),
		     unsigned layout)
{
	for (const char *const *isa = test_isas(); *isa; isa++) {
		struct mts_cpu *cpu[MAX_THREADS];

		for (unsigned t = 0; t < MAX_THREADS; t++)
			cpu[t] = open_cpu(*isa, t + 1);
		for (unsigned w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
			struct baseline b = { &layouts[layout], windows[w], NULL };

			make_baseline(cpu[0], &b);
			test(cpu, &b);
			free(b.o);
		}
		for (unsigned t = 0; t < MAX_THREADS; t++)
			mts_cpu_close(cpu[t]);
	}
}

static void all_splits(struct mts_cpu *const cpu[], const struct baseline *b)
{
	for (uint32_t begin = 0; begin <= EVENTS; begin++)
		compare_packed(cpu[begin % MAX_THREADS], b,
			       (struct scene_span){ USER, begin, EVENTS - begin, CANDIDATES }, 0,
			       begin);
}

START_TEST(every_split)
{
	each_isa(all_splits, 0);
}
END_TEST

static void random_cuts(struct mts_cpu *const cpu[], const struct baseline *b)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		uint64_t x = mix(seed, 5);
		uint32_t begin = x % (EVENTS + 1), rest = EVENTS - begin;
		struct scene_span user = { USER, begin, rest, x / 1000 % (CANDIDATES + 1) };

		if (seed % 2) /* a chunk from the middle: no candidates */
			user = (struct scene_span){ USER, begin, x / 1000 % (rest + 1), 0 };
		compare_packed(cpu[seed % MAX_THREADS], b, user, seed % 7, seed);
	}
}

START_TEST(any_cut_and_company)
{
	each_isa(random_cuts, (unsigned)_i);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bits");
	TCase *tc = tcase_create("attention");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, every_split);
	tcase_add_loop_test(tc, any_cut_and_company, 0, sizeof(layouts) / sizeof(layouts[0]));
	suite_add_tcase(s, tc);
	return run_suite(s);
}
