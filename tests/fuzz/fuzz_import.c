/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the importers of public logs. The first byte chooses the format and the options.
 */
#include "fuzz.h"

#include <string.h>

#include "cmd/trace.h"

/* The i-th word of the list of formats, counted round. */
static const char *format(unsigned i)
{
	static char names[256], *word[32];
	static unsigned n;

	if (!n) {
		snprintf(names, sizeof(names), "%s", mts_import_formats());
		for (char *w = strtok(names, ", "); w && n < 32; w = strtok(NULL, ", "))
			word[n++] = w;
	}
	return word[i % n];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mts_import_options o = { .request_every = 3, .session_gap_ms = 1000, .candidates = 5 };
	struct mts_import_result result;
	struct mts_error err;
	const char *path;

	if (!size)
		return 0;
	o.format = format(data[0] & 15);
	o.skip_bad = data[0] & 16;
	o.mtserve_rule = data[0] & 32;
	o.users = data[0] & 64 ? 2 : 0;
	path = fuzz_file(data + 1, size - 1);
	(void)mts_import(&o, &path, 1, "/dev/null", "/dev/null", &result, &err);
	return 0;
}
