/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device page pool (pages.h): a bitmap of free pages and a summary of its words. Floor: memory.
 * One thread.
 *
 *   bit p of free[]     page p is free
 *   bit w of summary[]  word w of free[] has a bit set: 4,096 taken pages are skipped at once
 *
 * The search goes on where the last one ended: freed pages get time to grow into runs behind it,
 * and the page after a user's newest one often is still free when that user comes back.
 */
#include "memory/pages.h"

#include <errno.h>
#include <stdlib.h>

/* Runs looked at before the longest seen is taken: bounds an allocation in a shredded pool. */
#define RUNS_MAX 32

struct mts_pages {
	uint32_t total;
	uint32_t available;
	uint32_t cursor;
	uint32_t words;
	uint32_t summary_words;
	uint64_t *free;
	uint64_t *summary;
};

struct run {
	uint32_t first;
	uint32_t n;
};

int mts_pages_open(uint32_t pages, struct mts_pages **out)
{
	struct mts_pages *p;

	if (!pages || pages == UINT32_MAX)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->total = p->available = pages;
	p->words = (pages - 1) / 64 + 1;
	p->summary_words = (p->words - 1) / 64 + 1;
	p->free = calloc(p->words, sizeof(*p->free));
	p->summary = calloc(p->summary_words, sizeof(*p->summary));
	if (!p->free || !p->summary) {
		mts_pages_close(p);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < pages; i++)
		p->free[i / 64] |= 1ull << i % 64;
	for (uint32_t i = 0; i < p->words; i++)
		p->summary[i / 64] |= 1ull << i % 64;
	*out = p;
	return 0;
}

void mts_pages_close(struct mts_pages *p)
{
	if (!p)
		return;
	free(p->summary);
	free(p->free);
	free(p);
}

/* The first free page >= from, or total. */
static uint32_t next_free(const struct mts_pages *p, uint32_t from)
{
	uint32_t w = from / 64, s;
	uint64_t bits;

	if (from >= p->total)
		return p->total;
	bits = p->free[w] & (~0ull << from % 64);
	if (bits)
		return w * 64 + (uint32_t)__builtin_ctzll(bits);
	if (++w >= p->words)
		return p->total;
	s = w / 64;
	bits = p->summary[s] & (~0ull << w % 64);
	while (!bits) {
		if (++s >= p->summary_words)
			return p->total;
		bits = p->summary[s];
	}
	w = s * 64 + (uint32_t)__builtin_ctzll(bits);
	return w * 64 + (uint32_t)__builtin_ctzll(p->free[w]);
}

/* How many pages from `first` on are free, at most `most`. */
static uint32_t run_length(const struct mts_pages *p, uint32_t first, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && first + n < p->total) {
		uint32_t at = first + n;
		uint64_t taken = ~p->free[at / 64] >> at % 64;
		uint32_t here = taken ? (uint32_t)__builtin_ctzll(taken) : 64 - at % 64;

		n += here;
		if (taken)
			break;
	}
	return n < most ? n : most;
}

static void take(struct mts_pages *p, struct run r, uint32_t *ids)
{
	for (uint32_t i = 0; i < r.n; i++) {
		uint32_t at = r.first + i, w = at / 64;

		p->free[w] &= ~(1ull << at % 64);
		if (!p->free[w])
			p->summary[w / 64] &= ~(1ull << w % 64);
		ids[i] = at;
	}
	p->available -= r.n;
}

/* The first run of n pages behind the cursor, or the longest of the first RUNS_MAX. */
static struct run find_run(const struct mts_pages *p, uint32_t n)
{
	struct run best = { 0, 0 };
	uint32_t at = next_free(p, p->cursor);
	int wrapped = 0;

	for (unsigned seen = 0; seen < RUNS_MAX && best.n < n; seen++) {
		uint32_t len;

		if (at >= p->total) {
			if (wrapped++)
				break;
			at = next_free(p, 0);
		}
		len = run_length(p, at, n);
		if (len > best.n)
			best = (struct run){ at, len };
		at = next_free(p, at + len);
	}
	return best;
}

int mts_pages_alloc(struct mts_pages *p, uint32_t n, uint32_t after, uint32_t *ids)
{
	uint32_t got = 0;
	struct run r;

	if (n > p->available)
		return -ENOSPC;
	if (after < p->total && n) {
		r = (struct run){ after + 1, run_length(p, after + 1, n) };
		take(p, r, ids);
		got = r.n;
	}
	while (got < n) {
		r = find_run(p, n - got);
		take(p, r, ids + got);
		got += r.n;
		p->cursor = r.first + r.n;
	}
	return 0;
}

static void put(struct mts_pages *p, uint32_t id)
{
	p->free[id / 64] |= 1ull << id % 64;
	p->summary[id / 4096] |= 1ull << id / 64 % 64;
	p->available++;
}

int mts_pages_free(struct mts_pages *p, const uint32_t *ids, uint32_t n)
{
	uint32_t i, id;

	for (i = 0; i < n; i++) {
		if (ids[i] >= p->total || mts_pages_is_free(p, ids[i]))
			break;
		put(p, ids[i]);
	}
	if (i == n)
		return 0;
	while (i--)
		take(p, (struct run){ ids[i], 1 }, &id);
	return -EINVAL;
}

uint32_t mts_pages_total(const struct mts_pages *p)
{
	return p->total;
}

uint32_t mts_pages_available(const struct mts_pages *p)
{
	return p->available;
}

int mts_pages_is_free(const struct mts_pages *p, uint32_t id)
{
	return id < p->total && p->free[id / 64] >> id % 64 & 1;
}
