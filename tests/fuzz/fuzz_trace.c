/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a request trace, read row by row and described. Rows that come out keep what the
 * format promises: ascending times, numbers within bounds.
 */
#include "fuzz.h"

#include "cmd/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mts_stat_options o = { .max_history = 96, .slide = 32, .session_gap_ms = 1000 };
	const char *path = fuzz_file(data, size);
	struct mts_trace_request r;
	struct mts_trace_stat s;
	struct mts_error err;
	struct mts_trace *t;
	uint64_t last = 0;

	if (mts_trace_open(path, &t, &err))
		return 0;
	while (mts_trace_next(t, &r, &err) == 1) {
		if (r.time_ms < last || r.time_ms > MTS_TRACE_TIME_MAX ||
		    r.history > MTS_TRACE_HISTORY_MAX || r.candidates > MTS_TRACE_CANDIDATES_MAX)
			abort();
		last = r.time_ms;
	}
	mts_trace_close(t);
	(void)mts_trace_stat(path, &o, &s, &err);
	return 0;
}
