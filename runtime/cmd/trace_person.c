/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a generated user is (trace_person.h). Documentation/workloads.md has the laws in words, and
 * what in them is measured and what is assumed.
 */
#include "cmd/trace_person.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { STREAM_PERSON, STREAM_DAY, STREAM_SESSION, STREAM_EARLIER };

struct law {
	double earlier_median, earlier_sigma;
	double gap_median_ms;
	double hours[24];
};

static const struct law laws[] = {
	[MTS_GEN_SHORTVIDEO] = {
		.earlier_median = 8327, .earlier_sigma = 0.85, .gap_median_ms = 10000,
		.hours = { .028, .018, .012, .009, .009, .013, .026, .036, .038, .038, .040, .043,
			   .055, .052, .042, .040, .041, .045, .053, .060, .070, .080, .082, .058 },
	},
	[MTS_GEN_SHOP] = {
		.earlier_median = 600, .earlier_sigma = 1.25, .gap_median_ms = 25000,
		.hours = { .016, .009, .005, .004, .004, .007, .015, .028, .045, .061, .073, .080,
			   .066, .056, .054, .055, .062, .074, .074, .060, .052, .048, .038, .026 },
	},
};

/* Both profiles. */
#define GAP_SIGMA	 1.1
#define GAP_MAX_MS	 1500000.0
#define OWN_HOURS_SHARE	 0.35
#define OWN_HOUR_SIGMA	 0.75
#define HOUR_SHIFT_SIGMA 1.5

/* Short video. */
#define COUNT_MEDIAN	  8327.0 /* events in 31 days */
#define COUNT_SIGMA_BELOW 1.11
#define COUNT_SIGMA_ABOVE 0.85
#define COUNT_MAX	  130000.0
#define LENGTH_AT_MEDIAN  100.0 /* events in a session of the median user */
#define LENGTH_POWER	  0.3
#define LENGTH_SIGMA	  1.1

/* Shop. */
#define RATE_MEDIAN 0.5 /* sessions a day */
#define RATE_SIGMA  1.08
#define REQUESTS    4.0 /* in a session */
#define NEW_EVENTS  1.7 /* after a request */

/* How far the length of the life so far follows the present activity; assumed. */
#define EARLIER_CORRELATION 0.8

/* Monday first; its mean is close to 1. */
static const double weekday[7] = { .96, .95, .95, .94, 1.02, 1.11, 1.06 };

/* Means of the eight equally likely parts of Gamma(shape 2, mean 1), the factor of a day. */
static const double day_factor[8] = { .1924, .3941, .5660, .7440, .9453, 1.1947, 1.5514, 2.4120 };

/* --- Hours --- */

static double wrap(double hour)
{
	hour = fmod(hour, 24);
	return hour < 0 ? hour + 24 : hour;
}

static double sum_hours(const struct law *law)
{
	double total = 0;

	for (int h = 0; h < 24; h++)
		total += law->hours[h];
	return total;
}

static double draw_profile_hour(const struct law *law, struct mts_random *r)
{
	double at = sum_hours(law) * mts_random_uniform(r);
	int hour = 0;

	while (hour < 23 && at >= law->hours[hour])
		at -= law->hours[hour++];
	return hour + mts_random_uniform(r);
}

static double draw_hour(const struct mts_person *p, struct mts_random *r)
{
	if (mts_random_uniform(r) < OWN_HOURS_SHARE) {
		double own = p->own_hour[mts_random_uniform(r) < 0.5];

		return wrap(own + OWN_HOUR_SIGMA * mts_random_normal(r));
	}
	return wrap(draw_profile_hour(&laws[p->profile], r) + p->hour_shift);
}

/* Density of draw_hour, per hour. */
static double hour_density(const struct mts_person *p, double hour)
{
	const struct law *law = &laws[p->profile];
	double own = 0;

	for (int i = 0; i < 2; i++) {
		double d = (wrap(hour - p->own_hour[i] + 12) - 12) / OWN_HOUR_SIGMA;

		own += exp(-d * d / 2) / (OWN_HOUR_SIGMA * sqrt(2 * M_PI)) / 2;
	}
	return OWN_HOURS_SHARE * own + (1 - OWN_HOURS_SHARE) / sum_hours(law) *
					       law->hours[(int)wrap(hour - p->hour_shift)];
}

/* --- Activity --- */

/* Sessions a day that begin while none is open, at `rate` drawn and a span in hours. */
static double sessions_kept(const double *density, double rate, double span)
{
	double kept = 0;

	for (int hour = 0; hour < 24; hour++)
		for (int i = 0; i < 8; i++) {
			double begun = rate * day_factor[i] * density[hour];

			kept += begun / (1 + begun * span) / 8;
		}
	return kept;
}

/*
 * Sessions that begin inside another are thinned out, which takes most from the most active: a
 * fifth of all events. So more are drawn, by what an Erlang loss system with one place would lose
 * in each hour.
 */
static void make_up_for_thinning(struct mts_person *p)
{
	double mean_gap = laws[p->profile].gap_median_ms * exp(GAP_SIGMA * GAP_SIGMA / 2);
	double span = p->mean_length * mean_gap / MTS_HOUR_MS;
	double low = p->sessions_a_day, high = 20 * low, density[24];

	for (int hour = 0; hour < 24; hour++)
		density[hour] = hour_density(p, hour + 0.5);
	for (int i = 0; i < 16; i++) {
		double rate = (low + high) / 2;

		if (sessions_kept(density, rate, span) < p->sessions_a_day)
			low = rate;
		else
			high = rate;
	}
	p->sessions_a_day = low;
}

/* z is the user's activity as a normal deviate. */
static void draw_activity(struct mts_person *p, double z)
{
	double count;

	if (p->profile == MTS_GEN_SHOP) {
		p->sessions_a_day = RATE_MEDIAN * exp(RATE_SIGMA * z);
		p->mean_length = REQUESTS;
		return;
	}
	count = COUNT_MEDIAN * exp(z * (z < 0 ? COUNT_SIGMA_BELOW : COUNT_SIGMA_ABOVE));
	if (count > COUNT_MAX)
		count = COUNT_MAX;
	p->mean_length = LENGTH_AT_MEDIAN * pow(count / COUNT_MEDIAN, LENGTH_POWER);
	p->sessions_a_day = count / 31 / p->mean_length;
}

static uint64_t earlier_events(const struct law *law, double deviate)
{
	double n = law->earlier_median * exp(law->earlier_sigma * deviate);

	return (uint64_t)llround(n < COUNT_MAX ? n : COUNT_MAX);
}

uint64_t mts_gen_earlier(enum mts_gen_profile profile, uint64_t user)
{
	struct mts_random r = mts_random_stream(0, user, STREAM_EARLIER, 0);

	return earlier_events(&laws[profile], mts_random_normal(&r));
}

void mts_person_draw(struct mts_person *p, enum mts_gen_profile profile, uint64_t seed,
		     uint64_t id)
{
	const struct law *law = &laws[profile];
	struct mts_random r = mts_random_stream(seed, id, STREAM_PERSON, 0);
	double z = mts_random_normal(&r), c = EARLIER_CORRELATION;

	p->profile = profile;
	p->seed = seed;
	p->id = id;
	draw_activity(p, z);
	/* Correlated with the activity, yet with the law's own median and sigma. */
	p->earlier = earlier_events(law, c * z + sqrt(1 - c * c) * mts_random_normal(&r));
	p->hour_shift = HOUR_SHIFT_SIGMA * mts_random_normal(&r);
	p->own_hour[0] = draw_profile_hour(law, &r);
	p->own_hour[1] = mts_random_uniform(&r) < 0.5 ? draw_profile_hour(law, &r) : p->own_hour[0];
	make_up_for_thinning(p);
}

/* --- Days, sessions, gaps --- */

static int compare_starts(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int mts_person_day(const struct mts_person *p, int64_t day, int64_t **starts, uint32_t *room)
{
	struct mts_random r = mts_random_stream(p->seed, p->id, STREAM_DAY, (uint64_t)day);
	double mean = p->sessions_a_day * weekday[(day % 7 + 7) % 7] * mts_random_gamma2(&r);
	uint32_t n = mts_random_poisson(&r, mean);

	if (n > *room) {
		int64_t *more = reallocarray(*starts, n, sizeof(*more));

		if (!more)
			return -ENOMEM;
		*starts = more;
		*room = n;
	}
	for (uint32_t i = 0; i < n; i++)
		(*starts)[i] = day * MTS_DAY_MS + llround(MTS_HOUR_MS * draw_hour(p, &r));
	if (n)
		qsort(*starts, n, sizeof(**starts), compare_starts);
	return (int)n;
}

static uint32_t draw_length(const struct mts_person *p, struct mts_random *r)
{
	double n;

	if (p->profile == MTS_GEN_SHOP) /* geometric */
		n = 1 + floor(log(mts_random_uniform(r)) / log(1 - 1 / p->mean_length));
	else /* a lognormal's mean is exp(sigma^2 / 2) times its median */
		n = round(mts_random_lognormal(r, p->mean_length *
					       exp(-LENGTH_SIGMA * LENGTH_SIGMA / 2),
					       LENGTH_SIGMA));
	if (n < 1)
		return 1;
	return (uint32_t)(n < COUNT_MAX ? n : COUNT_MAX);
}

struct mts_random mts_person_session(const struct mts_person *p, int64_t day, uint32_t k,
				     uint32_t *length)
{
	uint64_t index = ((uint64_t)day << 20) + k;
	struct mts_random r = mts_random_stream(p->seed, p->id, STREAM_SESSION, index);

	*length = draw_length(p, &r);
	return r;
}

int64_t mts_person_gap(const struct mts_person *p, struct mts_random *session)
{
	double gap = mts_random_lognormal(session, laws[p->profile].gap_median_ms, GAP_SIGMA);

	return llround(gap < GAP_MAX_MS ? gap : GAP_MAX_MS);
}

uint32_t mts_person_shop_events(struct mts_random *session)
{
	return 1 + mts_random_poisson(session, NEW_EVENTS - 1);
}
