/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sub-commands of `mtserve trace` and what they share. Floor: cmd; the rules of cmd.h hold.
 */
#ifndef MTS_CMD_TRACE_H
#define MTS_CMD_TRACE_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

/* Sub-commands; argv[0] is the name to show in messages. */
int mts_cmd_trace_gen(int argc, char **argv);
int mts_cmd_trace_import(int argc, char **argv);
int mts_cmd_trace_stat(int argc, char **argv);

/*
 * Values of options; a bad one ends in argp_error, which prints usage and exits.
 * A duration is a number with an optional unit ms, s, m, h or d (none: seconds).
 */
uint64_t mts_trace_arg_u64(const struct argp_state *state, const char *option, const char *text,
		     uint64_t min, uint64_t max);
double mts_trace_arg_number(const struct argp_state *state, const char *option, const char *text);
uint64_t mts_trace_arg_duration_ms(const struct argp_state *state, const char *option,
				   const char *text);

#endif
