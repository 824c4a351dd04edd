/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: values of command-line options. A bad one is told, not an accident; a good one lies
 * within what was asked for.
 */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "cmd/args.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* argp_error() then returns instead of printing and leaving. */
	const struct argp_state quiet = { .flags = ARGP_NO_ERRS | ARGP_NO_EXIT };
	char *text = malloc(size + 1);
	struct mts_amount amount;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	(void)mts_arg_u64(&quiet, "n", text, 3, 1000);
	(void)mts_arg_number(&quiet, "x", text);
	(void)mts_arg_duration_ms(&quiet, "t", text);
	amount = mts_arg_amount(&quiet, "a", text);
	if (amount.share > 0 && amount.bytes)
		abort();
	free(text);
	return 0;
}
