/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking: how one thread sleeps until another has something for it.
 *
 * Floor: memory; used by every thread of the runtime that waits for work. One thread waits on a
 * struct mts_park, any thread wakes it. A wake before the wait is not lost: the next wait returns
 * at once. It may also return for no reason: look for work, wait, look again. The kernel is entered
 * only to sleep, and to wake a thread that does sleep.
 */
#ifndef MTS_PARK_H
#define MTS_PARK_H

#include <stdatomic.h>
#include <stdint.h>

#define MTS_FOREVER UINT64_MAX

struct mts_park {
	_Atomic uint32_t state;
};

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t mts_now(void);

/* now + timeout_ns; for ever where timeout_ns < 0 or the sum would overflow. */
uint64_t mts_deadline(int64_t timeout_ns);

/* Sleeps until `until_ns` on the mts_now() clock. */
void mts_sleep_until(uint64_t until_ns);

/*
 * Sleeps while *word == value, until until_ns (MTS_FOREVER: no limit). Returns early on a wake or a
 * signal: check, and call again. Used by gates; everything else parks.
 */
void mts_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until_ns);
void mts_futex_wake(_Atomic uint32_t *word, int threads);

void mts_park_wait(struct mts_park *p, uint64_t until_ns);
void mts_park_wake(struct mts_park *p);

#endif
