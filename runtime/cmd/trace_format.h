/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public logs that can be imported: one table of formats, each a way to read a line.
 *
 * Beneath trace_import.c, above trace_line.h. One thread per struct mts_format_state.
 */
#ifndef MTS_TRACE_FORMAT_H
#define MTS_TRACE_FORMAT_H

#include "cmd/trace.h"
#include "cmd/trace_line.h"

/* What a format remembers of the file it reads; begins zeroed for each file. */
struct mts_format_state {
	const struct mts_lines *lines;
	struct mts_columns columns;
	const char *separator;
};

struct mts_format {
	const char *name;
	enum mts_import_earlier earlier; /* what suits the log: how much of a life it shows */
	/*
	 * Takes a file's first line: 1 if it is a header, 0 if it is a row already, -EINVAL. NULL
	 * where files have no header.
	 */
	int (*first)(struct mts_format_state *s, struct mts_field line, struct mts_error *err);
	int (*row)(const struct mts_format_state *s, struct mts_field line,
		   struct mts_trace_log_event *out, struct mts_error *err);
};

/* Ends with a format whose name is NULL. */
extern const struct mts_format mts_formats[];

#endif
