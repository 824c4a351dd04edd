/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-linear histogram: 32 equal buckets in each power of two, so a quantile is at most 1/32 off.
 *
 * Floor: engine; also used by the commands. Values are nanoseconds, or any 64-bit count. One thread.
 */
#ifndef MTS_HISTOGRAM_H
#define MTS_HISTOGRAM_H

#include <stdint.h>

#define MTS_HISTOGRAM_SUB     32u
#define MTS_HISTOGRAM_BUCKETS (MTS_HISTOGRAM_SUB * 60u)

struct mts_histogram {
	uint64_t count, sum, min, max;
	uint64_t bucket[MTS_HISTOGRAM_BUCKETS];
};

void mts_histogram_clear(struct mts_histogram *h);
void mts_histogram_add(struct mts_histogram *h, uint64_t value);
/* The same `times` over; with a duration as times, the histogram is one over time. */
void mts_histogram_add_many(struct mts_histogram *h, uint64_t value, uint64_t times);
void mts_histogram_merge(struct mts_histogram *into, const struct mts_histogram *from);
/* The value below which a share q (0..1) lies, as the middle of its bucket, within [min, max]; 0 if
 * empty. q = 0 and q = 1 are exact. */
uint64_t mts_histogram_quantile(const struct mts_histogram *h, double q);

#endif
