/* SPDX-License-Identifier: Apache-2.0 */
/* Values of command-line options (args.h). Floor: cmd. */
#include "cmd/args.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t mts_arg_u64(const struct argp_state *state, const char *option, const char *text,
		     uint64_t min, uint64_t max)
{
	char *end = NULL;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
		argp_error(state, "--%s is \"%s\", expected a whole number from %llu to %llu",
			   option, text, (unsigned long long)min, (unsigned long long)max);
	return value;
}

double mts_arg_number(const struct argp_state *state, const char *option, const char *text)
{
	char *end = NULL;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value) || value < 0)
		argp_error(state, "--%s is \"%s\", expected a number, zero or more", option, text);
	return value;
}

uint64_t mts_arg_duration_ms(const struct argp_state *state, const char *option, const char *text)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "", 1e3 }, { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 }, { "h", 36e5 },
		      { "d", 864e5 } };
	char *end = NULL;
	double value = strtod(text, &end);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (end != text && !strcmp(end, units[i].unit) && value >= 0 &&
		    value * units[i].ms < 1e15)
			return (uint64_t)llround(value * units[i].ms);
	argp_error(state, "--%s is \"%s\", expected a duration like 90s, 30m or 2h", option, text);
	return 0;
}

struct mts_amount mts_arg_amount(const struct argp_state *state, const char *option,
				 const char *text)
{
	static const struct {
		const char *unit;
		double scale;
	} units[] = { { "", 1 },	    { "K", 0x1p10 },   { "M", 0x1p20 },   { "G", 0x1p30 },
		      { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 } };
	char *end = NULL;
	double value = strtod(text, &end);

	if (end != text && value >= 0 && value < 0x1p62) {
		if (!strcmp(end, "%") && value > 0)
			return (struct mts_amount){ .share = value / 100 };
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (!strcmp(end, units[i].unit) && value * units[i].scale < 0x1p62)
				return (struct mts_amount){ .bytes =
								    (uint64_t)(value * units[i].scale) };
	}
	argp_error(state, "--%s is \"%s\", expected a size like 512MiB or a share like 10%%", option,
		   text);
	return (struct mts_amount){ 0 };
}
