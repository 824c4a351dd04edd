/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counter-based random numbers for the trace generator: a stream is named by what it decides
 * (seed, user, purpose, index), so that a user's sessions do not depend on who else is drawn or
 * where the window lies.
 *
 * SplitMix64 (Steele, Lea, Flood 2014). The integers are the same on every machine; what goes
 * through libm (log, exp, cos) may differ in its last bit between libm versions, which moves a
 * time by 1 ms about once in 10^10 draws. For trace_gen.c and its tests.
 */
#ifndef MTS_TRACE_RANDOM_H
#define MTS_TRACE_RANDOM_H

#include <math.h>
#include <stdint.h>

struct mts_random {
	uint64_t state;
};

static inline uint64_t mts_random_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline uint64_t mts_random_u64(struct mts_random *r)
{
	r->state += 0x9e3779b97f4a7c15ULL;
	return mts_random_mix(r->state);
}

static inline struct mts_random mts_random_stream(uint64_t seed, uint64_t user, uint64_t purpose,
						  uint64_t index)
{
	const uint64_t key[] = { user, purpose, index };
	struct mts_random r = { seed };

	for (int i = 0; i < 3; i++)
		r.state = mts_random_u64(&r) ^ key[i];
	r.state = mts_random_u64(&r);
	return r;
}

/* In the open interval (0, 1). */
static inline double mts_random_uniform(struct mts_random *r)
{
	return ((double)(mts_random_u64(r) >> 11) + 0.5) * 0x1p-53;
}

/* Box-Muller; the second value is not kept, so that a stream's state is one word. */
static inline double mts_random_normal(struct mts_random *r)
{
	double radius = sqrt(-2 * log(mts_random_uniform(r)));

	return radius * cos(2 * 3.14159265358979323846 * mts_random_uniform(r));
}

static inline double mts_random_lognormal(struct mts_random *r, double median, double sigma)
{
	return median * exp(sigma * mts_random_normal(r));
}

/* Gamma with shape 2 and mean 1. */
static inline double mts_random_gamma2(struct mts_random *r)
{
	double a = mts_random_uniform(r);

	return -log(a * mts_random_uniform(r)) / 2;
}

/* Knuth's product of uniforms, in pieces that exp() does not underflow on. */
static inline uint32_t mts_random_poisson(struct mts_random *r, double mean)
{
	uint32_t n = 0;

	while (mean > 0) {
		double piece = mean < 32 ? mean : 32;
		double product = mts_random_uniform(r), floor = exp(-piece);

		for (; product > floor; product *= mts_random_uniform(r))
			n++;
		mean -= piece;
	}
	return n;
}

#endif
