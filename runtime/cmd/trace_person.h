/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a generated user is: how active, at what hours, and what a day, a session and a gap of that
 * user look like. Beneath trace_gen.c, above trace_random.h; one thread per user.
 */
#ifndef MTS_TRACE_PERSON_H
#define MTS_TRACE_PERSON_H

#include "cmd/trace.h"
#include "cmd/trace_random.h"

#define MTS_HOUR_MS 3600000.0
#define MTS_DAY_MS  86400000LL

struct mts_person {
	enum mts_gen_profile profile;
	uint64_t seed, id;
	uint64_t earlier;	/* events before the trace begins */
	double mean_length;	/* of a session: events for short video, requests for a shop */
	double sessions_a_day;	/* drawn; more than are kept, see below */
	double hour_shift, own_hour[2];
};

void mts_person_draw(struct mts_person *p, enum mts_gen_profile profile, uint64_t seed,
		     uint64_t id);

/*
 * The starts of a day's sessions, ascending, in ms; day 0 is the Monday the clock counts from, its
 * predecessors are negative. *starts is grown as needed (*room entries) and belongs to the caller.
 * Returns their number or -ENOMEM. Sessions that begin inside the one before are to be left out:
 * sessions_a_day is raised so that the count the user was drawn with remains.
 */
int mts_person_day(const struct mts_person *p, int64_t day, int64_t **starts, uint32_t *room);

/* The random numbers of a day's session number k, and its length (>= 1) in units of mean_length. */
struct mts_random mts_person_session(const struct mts_person *p, int64_t day, uint32_t k,
				     uint32_t *length);

/* Silence before the session's next event (shop: next request), in ms. */
int64_t mts_person_gap(const struct mts_person *p, struct mts_random *session);

/* Events that follow a shop's request (>= 1). */
uint32_t mts_person_shop_events(struct mts_random *session);

#endif
