/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers out of files of /proc and /sys. Floor: memory. Any thread.
 */
#ifndef MTS_PROC_H
#define MTS_PROC_H

#include <stdint.h>

/*
 * The number behind `key` in a file of lines "[words] key[:] number"; key NULL: the file's first
 * line is the number. 1 and *out, or 0 (no such file, no such line, no number: "max").
 */
int mts_proc_number(const char *path, const char *key, uint64_t *out);

#endif
