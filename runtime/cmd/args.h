/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of command-line options, shared by the commands. A bad one ends in argp_error, which prints
 * the usage and exits. Floor: cmd.
 */
#ifndef MTS_ARGS_H
#define MTS_ARGS_H

#include <argp.h>
#include <stdint.h>

/* A size as the user gave it: bytes, or a share of something known later. */
struct mts_amount {
	double share; /* used if > 0 */
	uint64_t bytes;
};

uint64_t mts_arg_u64(const struct argp_state *state, const char *option, const char *text,
		     uint64_t min, uint64_t max);
/* Finite and >= 0. */
double mts_arg_number(const struct argp_state *state, const char *option, const char *text);
/* A number with an optional unit ms, s, m, h or d (none: seconds). */
uint64_t mts_arg_duration_ms(const struct argp_state *state, const char *option, const char *text);
/* "123", "64KiB", "512MiB", "20GiB" (K, M, G mean the same), or "12.5%". */
struct mts_amount mts_arg_amount(const struct argp_state *state, const char *option,
				 const char *text);

#endif
