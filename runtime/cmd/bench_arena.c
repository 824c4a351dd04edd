/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench arena: what host memory costs from each rung of the ladder that can be had here: until it
 * serves, until it is populated, to map and fault in again, to pin, to give back. Floor: cmd.
 *
 * Beside each population, in the same turn and with as many threads: memset over memory that is
 * there (the machine's single-pass bandwidth), the same page by page (as the kernel has to clear:
 * 4 KiB are too few for the stores past the caches that memset uses on a whole arena), and memset
 * over fresh memory (a pass by the kernel and one by memset).
 */
#include <errno.h>
#include <numa.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/bench.h"
#include "error.h"
#include "memory/arena.h"

#define THREADS_MAX 16u
#define GIB         0x1p30
#define SHARE       0.8 /* of memset */
#define SAMPLES     128u /* more than mts_bench_runs answers by itself */

enum part { OPEN, POPULATE, SHARE_OF_MEMSET, SHARE_BY_PAGE, SHARE_OF_FRESH, MEMSET, BY_PAGE,
	     MAP, FAULT, PIN, RELEASE, PARTS };

static const struct mts_metric metrics[PARTS] = {
	[OPEN] = { "until it serves", "s", false, 0 },
	[POPULATE] = { "populate", "s/GiB", false, 0 },
	[SHARE_OF_MEMSET] = { "populate, share of memset", "1", true, SHARE },
	[SHARE_BY_PAGE] = { "populate, share of memset page by page", "1", true, 0 },
	[SHARE_OF_FRESH] = { "populate, share of memset of fresh memory", "1", true, 0 },
	[MEMSET] = { "memset", "s/GiB", false, 0 },
	[BY_PAGE] = { "memset page by page", "s/GiB", false, 0 },
	[MAP] = { "map again", "s/GiB", false, 0 },
	[FAULT] = { "fault in again", "s/GiB", false, 0 },
	[PIN] = { "pin (mlock)", "s/GiB", false, 0 },
	[RELEASE] = { "release", "s/GiB", false, 0 },
};

struct rung {
	struct mts_bench *b;
	const char *name;
	unsigned threads;
	size_t bytes;
	double gib;
	double *sample[PARTS];
	unsigned n[PARTS]; /* samples taken; a rung that cannot do something has none */
	char why_no_pin[96];
};

static void take(struct rung *r, enum part w, double value)
{
	r->sample[w][r->n[w]++] = value;
}

static double seconds(const struct rung *r, uint64_t start)
{
	return mts_bench_since(r->b, start) * 1e-9;
}

/* ---- memset by several threads ---- */

struct slice {
	char *p;
	size_t bytes, step;
	int node;
};

static void *set(void *arg)
{
	struct slice *s = arg;

	if (numa_available() >= 0)
		numa_run_on_node(s->node);
	for (size_t at = 0; at < s->bytes; at += s->step)
		memset(s->p + at, 1, s->step);
	return NULL;
}

/* In one go for each thread, or (step) by pieces of that size. */
static double memset_seconds(const struct rung *r, char *p, size_t bytes, size_t step, int node)
{
	pthread_t thread[THREADS_MAX];
	struct slice slice[THREADS_MAX];
	size_t part = bytes / r->threads & ~(size_t)((2 << 20) - 1);
	uint64_t start = mts_now();
	unsigned n = 0;

	for (unsigned i = 0; i < r->threads; i++) {
		slice[i] = (struct slice){ p + i * part, part, step, node };
		if (i == r->threads - 1)
			slice[i].bytes = bytes - i * part;
		if (!step)
			slice[i].step = slice[i].bytes;
		if (pthread_create(&thread[n], NULL, set, &slice[i]))
			set(&slice[i]);
		else
			n++;
	}
	while (n)
		pthread_join(thread[--n], NULL);
	return seconds(r, start);
}

/* In pages of the same size as the arena's, where anonymous memory can have them. */
static double fresh_seconds(const struct rung *r, const struct mts_arena *a)
{
	size_t huge = 2 << 20;
	char *whole = mmap(NULL, a->bytes + huge, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *p;
	double s;

	if (whole == MAP_FAILED)
		return 0;
	p = (char *)(((uintptr_t)whole + huge - 1) & ~(uintptr_t)(huge - 1));
	madvise(p, a->bytes, a->info.page_size < huge ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	s = memset_seconds(r, p, a->bytes, 0, a->info.node);
	munmap(whole, a->bytes + huge);
	return s;
}

/* ---- one turn ---- */

/* What another mapping of the same file costs, and touching all of its pages. */
static void map_again(struct rung *r, const struct mts_arena *a)
{
	uint64_t start = mts_now();
	volatile char *p;

	if (a->fd < 0)
		return;
	p = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	if (p == MAP_FAILED)
		return;
	take(r, MAP, seconds(r, start) / r->gib);
	start = mts_now();
	for (size_t i = 0; i < a->bytes; i += a->info.page_size)
		(void)p[i];
	take(r, FAULT, seconds(r, start) / r->gib);
	munmap((void *)p, a->bytes);
}

/* The kernel's own work for a pin that stays, as far as it can be had without a device. */
static void pin(struct rung *r, const struct mts_arena *a)
{
	uint64_t start = mts_now();

	if (mlock(a->base, a->bytes)) {
		snprintf(r->why_no_pin, sizeof(r->why_no_pin), "mlock: %s", strerror(errno));
		return;
	}
	take(r, PIN, seconds(r, start) / r->gib);
	munlock(a->base, a->bytes);
}

static int turn(struct rung *r, struct mts_error *err)
{
	struct mts_arena_config c = { .provider = r->name, .bytes = r->bytes, .node = -1,
				      .threads = r->threads };
	double again, by_page, fresh;
	struct mts_arena *a;
	uint64_t start = mts_now();
	int ret = mts_arena_open(&c, &a, err);

	if (ret)
		return ret;
	take(r, OPEN, seconds(r, start));
	ret = mts_arena_settle(a, err);
	if (!ret) {
		again = memset_seconds(r, a->base, a->bytes, 0, a->info.node);
		by_page = memset_seconds(r, a->base, a->bytes, 4096, a->info.node);
		take(r, POPULATE, a->info.seconds / r->gib);
		take(r, MEMSET, again / r->gib);
		take(r, BY_PAGE, by_page / r->gib);
		take(r, SHARE_BY_PAGE, by_page / a->info.seconds);
		take(r, SHARE_OF_MEMSET, again / a->info.seconds);
		map_again(r, a);
		pin(r, a);
		fresh = fresh_seconds(r, a);
		if (fresh > 0)
			take(r, SHARE_OF_FRESH, fresh / a->info.seconds);
	}
	start = mts_now();
	mts_arena_close(a);
	take(r, RELEASE, seconds(r, start) / r->gib);
	return ret;
}

/* ---- a rung ---- */

static int print_skip(const struct rung *r, const char *metric, const char *why)
{
	json_t *line = json_pack("{s:s,s:s,s:s,s:s}", "bench", r->b->name, "metric", metric, "shape",
				 r->name, "skipped", why);
	int ret = line ? 0 : -ENOMEM;

	if (!ret && (json_dumpf(line, stdout, JSON_COMPACT) || putchar('\n') == EOF))
		ret = -EIO;
	json_decref(line);
	return ret;
}

static int print_rung(struct rung *r)
{
	char shape[64];
	int ret = 0;

	snprintf(shape, sizeof(shape), "%s, %zu MiB, %u threads", r->name, r->bytes >> 20,
		 r->threads);
	for (int w = 0; w < PARTS && !ret; w++)
		if (r->n[w])
			ret = mts_bench_print(r->b, &metrics[w], shape, r->sample[w], r->n[w]);
	if (!ret && !r->n[PIN])
		ret = print_skip(r, metrics[PIN].name, r->why_no_pin);
	return ret;
}

static int measure(struct rung *r, struct mts_error *err)
{
	unsigned runs = 1;
	uint64_t start = mts_now();
	int ret = turn(r, err);

	if (ret)
		return ret;
	runs = mts_bench_runs(r->b, mts_bench_since(r->b, start));
	memset(r->n, 0, sizeof(r->n)); /* the first one only tells how long it takes */
	for (unsigned i = 0; i < runs && !ret; i++)
		ret = turn(r, err);
	return ret ? ret : print_rung(r);
}

/* A rung that cannot be had is told, and no error: 1. */
static int rung_with(struct mts_bench *b, const char *name, unsigned threads, struct mts_error *err)
{
		struct rung r = { .b = b, .name = name, .threads = threads, .bytes = b->o->bytes };
	unsigned most = b->o->runs > SAMPLES ? b->o->runs : SAMPLES;
	double *samples = calloc((size_t)PARTS * most, sizeof(*samples));
	int ret;

	if (!samples)
		return -ENOMEM;
	r.gib = (double)r.bytes / GIB;
	for (int w = 0; w < PARTS; w++)
		r.sample[w] = samples + (size_t)w * most;
	ret = measure(&r, err);
	if (ret && ret != -EIO && err->text[0]) {
		ret = print_skip(&r, "all", err->text);
		ret = ret ? ret : 1;
	}
	free(samples);
	return ret;
}

int mts_bench_arena(struct mts_bench *b, struct mts_error *err)
{
	unsigned most = b->o->threads ? b->o->threads : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	int ret = 0;

	most = most > THREADS_MAX ? THREADS_MAX : most;
	for (int i = 0; mts_arena_ladder[i] && ret >= 0; i++) {
		ret = 0;
		for (unsigned n = 1; n <= most && !ret; n = n < most && 2 * n > most ? most : 2 * n)
			ret = rung_with(b, mts_arena_ladder[i]->name, n, err);
	}
	return ret < 0 ? ret : 0;
}
