/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of the program `mtserve`, one file each. main.c calls them with argv[0] the
 * command's own name ("model", "verify" ...). Each returns the process's exit status: 0, or 1 with
 * a message on stderr. Wrong usage exits with 64 from inside argp.
 *
 * Floor: cmd, the top one. Main thread only.
 */
#ifndef MTS_CMD_H
#define MTS_CMD_H

int mts_cmd_bench(int argc, char **argv);
int mts_cmd_info(int argc, char **argv);
int mts_cmd_replay(int argc, char **argv);
int mts_cmd_model(int argc, char **argv);
int mts_cmd_trace(int argc, char **argv);
int mts_cmd_sim(int argc, char **argv);
int mts_cmd_verify(int argc, char **argv);

#endif
