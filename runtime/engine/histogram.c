/* SPDX-License-Identifier: Apache-2.0 */
/* Log-linear histogram; see histogram.h. Values below 32 have a bucket each. */
#include <string.h>

#include "engine/histogram.h"

static unsigned bucket_of(uint64_t v)
{
	unsigned shift;

	if (v < MTS_HISTOGRAM_SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - 5;
	return (shift + 1) * MTS_HISTOGRAM_SUB + (unsigned)((v >> shift) - MTS_HISTOGRAM_SUB);
}

static uint64_t middle_of(unsigned b)
{
	unsigned shift;

	if (b < MTS_HISTOGRAM_SUB)
		return b;
	shift = b / MTS_HISTOGRAM_SUB - 1;
	return ((uint64_t)(b % MTS_HISTOGRAM_SUB + MTS_HISTOGRAM_SUB) << shift) +
	       ((1ull << shift) >> 1);
}

void mts_histogram_clear(struct mts_histogram *h)
{
	memset(h, 0, sizeof(*h));
}

void mts_histogram_add_many(struct mts_histogram *h, uint64_t value, uint64_t times)
{
	if (!times)
		return;
	if (!h->count || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count += times;
	h->sum += value * times;
	h->bucket[bucket_of(value)] += times;
}

void mts_histogram_add(struct mts_histogram *h, uint64_t value)
{
	mts_histogram_add_many(h, value, 1);
}

void mts_histogram_merge(struct mts_histogram *into, const struct mts_histogram *from)
{
	if (!from->count)
		return;
	if (!into->count || from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	into->count += from->count;
	into->sum += from->sum;
	for (unsigned b = 0; b < MTS_HISTOGRAM_BUCKETS; b++)
		into->bucket[b] += from->bucket[b];
}

uint64_t mts_histogram_quantile(const struct mts_histogram *h, double q)
{
	uint64_t rank, seen = 0, value;

	if (!h->count || q <= 0)
		return h->min;
	if (q >= 1)
		return h->max;
	rank = (uint64_t)(q * (double)h->count);
	for (unsigned b = 0; b < MTS_HISTOGRAM_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen <= rank)
			continue;
		value = middle_of(b);
		return value < h->min ? h->min : value > h->max ? h->max : value;
	}
	return h->max;
}
