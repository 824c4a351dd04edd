/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking on a futex (park.h). Floor: memory. Any thread.
 */
#include "memory/park.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { AWAKE, WOKEN, ASLEEP };

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
}

uint64_t mts_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t mts_deadline(int64_t timeout_ns)
{
	return timeout_ns < 0 ? MTS_FOREVER : mts_now() + (uint64_t)timeout_ns;
}

void mts_sleep_until(uint64_t until_ns)
{
	struct timespec t = to_timespec(until_ns);

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
		;
}

void mts_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until_ns)
{
	struct timespec t = to_timespec(until_ns);

	/* WAIT_BITSET, not WAIT: its time is absolute, so that a spurious wake costs no drift. */
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
		until_ns == MTS_FOREVER ? NULL : &t, NULL, FUTEX_BITSET_MATCH_ANY);
}

void mts_futex_wake(_Atomic uint32_t *word, int threads)
{
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, threads, NULL, NULL, 0);
}

void mts_park_wait(struct mts_park *p, uint64_t until_ns)
{
	uint32_t awake = AWAKE;

	if (atomic_compare_exchange_strong_explicit(&p->state, &awake, ASLEEP, memory_order_relaxed,
						    memory_order_relaxed)) {
		while (atomic_load_explicit(&p->state, memory_order_relaxed) == ASLEEP) {
			mts_futex_wait(&p->state, ASLEEP, until_ns);
			if (until_ns != MTS_FOREVER && mts_now() >= until_ns)
				break;
		}
	}
	/* Acquire, with the release in mts_park_wake: what was published before it is seen. */
	atomic_exchange_explicit(&p->state, AWAKE, memory_order_acquire);
}

void mts_park_wake(struct mts_park *p)
{
	/*
	 * An exchange even where the state is WOKEN already: the sleeper may be about to consume
	 * that older wake, and only a write after ours in the state's order makes it look again.
	 * Release pairs with the acquire in mts_park_wait.
	 */
	if (atomic_exchange_explicit(&p->state, WOKEN, memory_order_release) == ASLEEP)
		mts_futex_wake(&p->state, 1);
}
