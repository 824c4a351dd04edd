/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: an event file. What is loaded can be looked up and read.
 */
#include "fuzz.h"

#include "cmd/trace.h"

static volatile uint32_t sink; /* what was read counts as used */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mts_trace_item *item;
	struct mts_events *e;
	struct mts_error err;
	uint64_t n;

	if (mts_events_load(fuzz_file(data, size), &e, &err))
		return 0;
	for (uint64_t user = 0; user < 8; user++) {
		item = mts_events_of(e, user, &n);
		for (uint64_t i = 0; i < n; i++)
			sink ^= item[i].action;
	}
	mts_events_free(e);
	return 0;
}
