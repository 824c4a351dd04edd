/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What idle periods are like: how long users stay away, learned from all of them, by class.
 *
 * Floor: cache; for policies. A period begins when a user was served (or told something), and is over
 * when the user asks again, or when a hint changes what is known. Periods not over yet count too: of
 * all that have lasted as long as this one, how many ended soon? (Kaplan and Meier's estimate.)
 *
 * From that follows what a place in the cache is worth after an idle time t, in uses per second of
 * occupancy, if it is kept exactly as long as that pays (Gittins' index):
 *
 *      worth(t) = max over T > t of  P(used by T | idle at t) / E[time until used or T | idle at t]
 *
 * Where users come back with a falling chance, worth falls and the order is LRU's. Where a pause is
 * usual and then ends (sessions), worth first rises: who was served a moment ago is further from
 * asking again than who was served a minute ago.
 *
 * Classes come in families. A class of few periods of its own leans on those of a whole family.
 *
 * begin, over, worth: O(log) without memory allocation; every so many periods the fit of one class, in
 * turn, some microseconds. Old periods fade: half weight every 2^17. Thread: the policy's.
 */
#ifndef MTS_IDLE_H
#define MTS_IDLE_H

#include <stdbool.h>
#include <stdint.h>

struct mts_idle;

/* lean_on[f]: the family that the classes of family f lean on. At most 8 families. */
int mts_idle_open(unsigned families, unsigned classes_each, const uint8_t *lean_on,
		  struct mts_idle **out);
/* As if so many periods of the family had ended in a use, in 0.1 to 100 s; fades as others do. */
void mts_idle_assume(struct mts_idle *s, unsigned family, double periods);
void mts_idle_close(struct mts_idle *s);
/* A period begins now. class: family * classes_each + which. Times never fall. */
void mts_idle_begin(struct mts_idle *s, unsigned class, uint64_t now_ns);
/* The period of that class begun then is over: by a use, or because it goes on in another class. */
void mts_idle_over(struct mts_idle *s, unsigned class, uint64_t begun_ns, uint64_t now_ns, bool used);
float mts_idle_worth(const struct mts_idle *s, unsigned class, uint64_t idle_ns);

#endif
