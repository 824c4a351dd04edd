/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines, fields and numbers of untrusted text files, with messages that name file and line.
 *
 * Beneath the trace readers and importers; nobody else. One thread per struct mts_lines.
 */
#ifndef MTS_TRACE_LINE_H
#define MTS_TRACE_LINE_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MTS_LINE_MAX  4096 /* characters; a longer line is refused */
#define MTS_FIELD_MAX 32   /* fields of one line */

struct mts_lines {
	int fd;
	bool eof;
	size_t begin, end;  /* unread bytes of buf */
	uint64_t number;    /* of the line read last, from 1 */
	char name[128];	    /* for messages: the path, or its end */
	char buf[64 * 1024];
};

struct mts_field {
	const char *text; /* not terminated */
	size_t len;
};

/* Where the named columns stand in a row. */
struct mts_columns {
	int count;		/* fields in every row */
	int at[MTS_FIELD_MAX];	/* by name: field number, or -1 where an optional one is absent */
};

/* path "-" is standard input. On success mts_lines_close must follow. */
int mts_lines_open(struct mts_lines *l, const char *path, struct mts_error *err);
void mts_lines_close(struct mts_lines *l);

/*
 * Next line without its end (\n or \r\n; a byte order mark at the file's start is dropped): 1, or
 * 0 at the end, or -errno. The text lives until the next call.
 */
int mts_lines_next(struct mts_lines *l, struct mts_field *line, struct mts_error *err);

/* Cuts a line at each sep ("," or "::"); the number of fields, MTS_FIELD_MAX + 1 if more. */
int mts_fields_split(struct mts_field line, const char *sep, struct mts_field *fields);

bool mts_field_is(struct mts_field f, const char *word);

/* Sets "FILE:LINE: text" and returns -EINVAL. */
int mts_lines_bad(const struct mts_lines *l, struct mts_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A whole number in [0, max] without sign or blanks; `what` names the field in the message. */
int mts_lines_u64(const struct mts_lines *l, const char *what, struct mts_field f, uint64_t max,
		  uint64_t *out, struct mts_error *err);

/*
 * Reads a header: names[0..n) must be there once each, of which those from `required` on may be
 * missing. only: refuse any other column.
 */
int mts_columns_read(const struct mts_lines *l, struct mts_field header, const char *const *names,
		     int n, int required, bool only, struct mts_columns *out,
		     struct mts_error *err);

/* Splits a row at commas and checks its number of fields. */
int mts_columns_row(const struct mts_lines *l, const struct mts_columns *c, struct mts_field line,
		    struct mts_field *fields, struct mts_error *err);

#endif
