/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idle periods (idle.h). Floor: cache. Thread: the policy's.
 *
 *   records   per class: weight of periods over, by length (four buckets an octave from 1 ms), split
 *             into those that ended in a use and those cut short; and of periods still open
 *   cohorts   periods that began at about the same time, older ones wider; an open period is found
 *             again by its beginning, so nothing is kept per user
 */
#include "cache/idle.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 144 /* 1 ms to 2 years */
#define COHORTS 160
#define FAMILIES 8
/* Periods from one fit to the next; less at first, when everything is new. */
#define FIT_EVERY 64
#define FIT_EARLY 8
#define EARLY	  4096
#define COHORT_EVERY 1024
#define FADE_EVERY (1u << 17)
/* A family's periods count as this many of a class's own. */
#define LEAN 64.0

struct record {
	double used[BUCKETS], cut[BUCKETS];
	double open[COHORTS];
	float worth[BUCKETS];
};

struct mts_idle {
	double edge[BUCKETS + 1]; /* seconds */
	uint64_t begin[COHORTS];
	double weight[COHORTS];   /* of one period of the cohort */
	unsigned cohorts;
	uint64_t periods, next_fit, next_cohort, next_fade;
	unsigned families, each, turn;
	uint8_t lean_on[FAMILIES];
	struct record record[]; /* of the families, then of the classes */
};

static unsigned bucket(uint64_t ns)
{
	uint64_t x = ns >> 18;
	unsigned octave, b;

	if (x < 4)
		return 0;
	octave = 61 - (unsigned)__builtin_clzll(x);
	b = octave * 4 + (x >> octave & 3);
	return b < BUCKETS ? b : BUCKETS - 1;
}

static unsigned records(const struct mts_idle *s)
{
	return s->families * (1 + s->each);
}

int mts_idle_open(unsigned families, unsigned each, const uint8_t *lean_on, struct mts_idle **out)
{
	struct mts_idle *s = calloc(1, sizeof(*s) + families * (1 + each) * sizeof(s->record[0]));

	if (!s)
		return -ENOMEM;
	s->families = families;
	s->each = each;
	memcpy(s->lean_on, lean_on, families);
	s->next_fit = s->next_cohort = EARLY / 64;
	s->next_fade = FADE_EVERY;
	for (int b = 1; b <= BUCKETS; b++)
		s->edge[b] = ldexp(1 + b % 4 / 4.0, b / 4 + 20) * 1e-9;
	*out = s;
	return 0;
}

void mts_idle_close(struct mts_idle *s)
{
	free(s);
}

/* ---- cohorts ---- */

static void merge(struct mts_idle *s, unsigned i)
{
	size_t rest = s->cohorts - i - 2;

	s->weight[i] = (s->weight[i] + s->weight[i + 1]) / 2;
	memmove(&s->weight[i + 1], &s->weight[i + 2], rest * sizeof(s->weight[0]));
	memmove(&s->begin[i + 1], &s->begin[i + 2], rest * sizeof(s->begin[0]));
	for (unsigned c = 0; c < records(s); c++) {
		double *open = s->record[c].open;

		open[i] += open[i + 1];
		memmove(&open[i + 1], &open[i + 2], rest * sizeof(open[0]));
	}
	s->cohorts--;
}

/* Two neighbours become one while together they span less than an eighth of their age. */
static void next_cohort(struct mts_idle *s, uint64_t now)
{
	for (unsigned i = 0; i + 2 < s->cohorts;)
		if (s->begin[i + 2] - s->begin[i] < (now - s->begin[i + 2]) / 8)
			merge(s, i);
		else
			i++;
	if (s->cohorts == COHORTS)
		merge(s, 0);
	s->begin[s->cohorts] = now;
	s->weight[s->cohorts] = 1;
	for (unsigned c = 0; c < records(s); c++)
		s->record[c].open[s->cohorts] = 0;
	s->cohorts++;
}

static unsigned cohort_of(const struct mts_idle *s, uint64_t begun)
{
	unsigned low = 0, high = s->cohorts - 1, mid;

	while (low < high) {
		mid = (low + high + 1) / 2;
		if (s->begin[mid] <= begun)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

static void fade(struct mts_idle *s)
{
	for (unsigned i = 0; i < s->cohorts; i++)
		s->weight[i] /= 2;
	for (unsigned c = 0; c < records(s); c++) {
		struct record *r = &s->record[c];

		for (unsigned b = 0; b < BUCKETS; b++) {
			r->used[b] /= 2;
			r->cut[b] /= 2;
		}
		for (unsigned i = 0; i < s->cohorts; i++)
			r->open[i] /= 2;
	}
}

/* ---- the fit ---- */

static double weight_of(const struct mts_idle *s, const struct record *r)
{
	double all = 0;

	for (unsigned b = 0; b < BUCKETS; b++)
		all += r->used[b] + r->cut[b];
	for (unsigned i = 0; i < s->cohorts; i++)
		all += r->open[i];
	return all;
}

/* The periods of a record by length; those still open are cut short at their age. */
static void lengths(const struct mts_idle *s, const struct record *r, uint64_t now, double scale,
		    double used[BUCKETS], double cut[BUCKETS])
{
	for (unsigned b = 0; b < BUCKETS; b++) {
		used[b] += scale * r->used[b];
		cut[b] += scale * r->cut[b];
	}
	for (unsigned i = 0; i < s->cohorts; i++) {
		uint64_t end = i + 1 < s->cohorts ? s->begin[i + 1] : now;

		cut[bucket(now - (s->begin[i] + end) / 2)] += scale * r->open[i];
	}
}

static double slope(const double *uses, const double *time, unsigned from, unsigned to)
{
	return time[to] > time[from] ? (uses[to] - uses[from]) / (time[to] - time[from]) : 0;
}

/* The steepest way on from each point: the upper hull of uses over time, built from the far end. */
static void steepest(const double *uses, const double *time, float *worth)
{
	unsigned hull[BUCKETS + 1], n = 0;

	hull[n++] = BUCKETS;
	for (unsigned b = BUCKETS; b-- > 0;) {
		while (n > 1 && slope(uses, time, b, hull[n - 2]) >= slope(uses, time, b, hull[n - 1]))
			n--;
		worth[b] = (float)slope(uses, time, b, hull[n - 1]);
		hull[n++] = b;
	}
}

/* One rise, one fall: then the least worth of a class is at one of the ends of its list. */
static void smooth(float *worth)
{
	unsigned peak = 0;

	for (unsigned b = 1; b < BUCKETS; b++)
		if (worth[b] > worth[peak])
			peak = b;
	for (unsigned b = peak + 1; b < BUCKETS; b++)
		if (worth[b] > worth[b - 1])
			worth[b] = worth[b - 1];
	for (unsigned b = peak; b-- > 0;)
		if (worth[b] > worth[b + 1])
			worth[b] = worth[b + 1];
}

static void fit(struct mts_idle *s, unsigned class, uint64_t now)
{
	const struct record *family = &s->record[s->lean_on[class / s->each]];
	struct record *r = &s->record[s->families + class];
	double all = weight_of(s, family);
	double used[BUCKETS] = { 0 }, cut[BUCKETS] = { 0 };
	double uses[BUCKETS + 1] = { 0 }, time[BUCKETS + 1] = { 0 }, left = 0;

	lengths(s, r, now, 1, used, cut);
	if (all > 0)
		lengths(s, family, now, LEAN / all, used, cut);
	for (unsigned b = 0; b < BUCKETS; b++)
		left += used[b] + cut[b];
	for (unsigned b = 0; b < BUCKETS; b++) {
		double over = used[b] + cut[b];

		uses[b + 1] = uses[b] + used[b];
		time[b + 1] = time[b] + (left - over / 2) * (s->edge[b + 1] - s->edge[b]);
		left = left > over ? left - over : 0;
	}
	steepest(uses, time, r->worth);
	smooth(r->worth);
}

void mts_idle_assume(struct mts_idle *s, unsigned family, double periods)
{
	unsigned first = bucket(100000000), last = bucket(100000000000);

	for (unsigned b = first; b <= last; b++)
		s->record[family].used[b] += periods / (last - first + 1);
	for (unsigned c = family * s->each; c < (family + 1) * s->each; c++)
		fit(s, c, 0);
}

/* ---- periods ---- */

void mts_idle_begin(struct mts_idle *s, unsigned class, uint64_t now)
{
	if (s->periods++ >= s->next_cohort || !s->cohorts) {
		next_cohort(s, now);
		s->next_cohort = s->periods + (s->periods < EARLY ? EARLY / 64 : COHORT_EVERY);
	}
	if (s->periods >= s->next_fade) {
		s->next_fade += FADE_EVERY;
		fade(s);
	}
	if (s->periods >= s->next_fit) {
		s->next_fit += s->periods < EARLY ? FIT_EARLY : FIT_EVERY;
		fit(s, s->turn, now);
		s->turn = (s->turn + 1) % (s->families * s->each);
	}
	s->record[class / s->each].open[s->cohorts - 1]++;
	s->record[s->families + class].open[s->cohorts - 1]++;
}

static void close_period(struct record *r, unsigned cohort, unsigned length, double weight, bool used)
{
	/* Weights of merged cohorts are averages: never below none. */
	r->open[cohort] = r->open[cohort] > weight ? r->open[cohort] - weight : 0;
	if (used)
		r->used[length] += weight;
	else
		r->cut[length] += weight;
}

void mts_idle_over(struct mts_idle *s, unsigned class, uint64_t begun, uint64_t now, bool used)
{
	unsigned i = cohort_of(s, begun), b = bucket(now - begun);

	close_period(&s->record[class / s->each], i, b, s->weight[i], used);
	close_period(&s->record[s->families + class], i, b, s->weight[i], used);
}

float mts_idle_worth(const struct mts_idle *s, unsigned class, uint64_t idle)
{
	return s->record[s->families + class].worth[bucket(idle)];
}
