/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sub-commands of `mtserve trace`. Floor: cmd; the rules of cmd.h hold.
 */
#ifndef MTS_CMD_TRACE_H
#define MTS_CMD_TRACE_H

#include "cmd/args.h"

/* Sub-commands; argv[0] is the name to show in messages. */
int mts_cmd_trace_gen(int argc, char **argv);
int mts_cmd_trace_import(int argc, char **argv);
int mts_cmd_trace_hints(int argc, char **argv);
int mts_cmd_trace_stat(int argc, char **argv);

#endif
