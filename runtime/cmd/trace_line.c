/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines, fields and numbers of untrusted text files (trace_line.h).
 *
 * buf holds [begin, end) unread bytes; a line is handed out in place, so nothing is copied except
 * the piece of a line left at the end of the buffer before a refill.
 */
#include "cmd/trace_line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void set_name(struct mts_lines *l, const char *path)
{
	size_t len = strlen(path), room = sizeof(l->name) - 4;

	if (!strcmp(path, "-"))
		path = "standard input";
	if (len > room)
		snprintf(l->name, sizeof(l->name), "...%s", path + len - room);
	else
		snprintf(l->name, sizeof(l->name), "%s", path);
}

int mts_lines_open(struct mts_lines *l, const char *path, struct mts_error *err)
{
	l->eof = false;
	l->begin = l->end = 0;
	l->number = 0;
	set_name(l, path);
	l->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (l->fd < 0) {
		int e = errno;

		mts_error_set(err, "%s: %s", l->name, strerror(e));
		return -e;
	}
	return 0;
}

void mts_lines_close(struct mts_lines *l)
{
	if (l->fd > STDIN_FILENO)
		close(l->fd);
	l->fd = -1;
}

static int refill(struct mts_lines *l, struct mts_error *err)
{
	size_t left = l->end - l->begin;
	ssize_t got;

	memmove(l->buf, l->buf + l->begin, left);
	l->begin = 0;
	l->end = left;
	do {
		got = read(l->fd, l->buf + left, sizeof(l->buf) - left);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		int e = errno;

		mts_error_set(err, "%s: %s", l->name, strerror(e));
		return -e;
	}
	l->end += (size_t)got;
	l->eof = got == 0;
	return 0;
}

static struct mts_field trimmed(const struct mts_lines *l, const char *text, size_t len)
{
	static const char mark[] = "\xef\xbb\xbf";

	if (l->number == 1 && len >= 3 && !memcmp(text, mark, 3)) {
		text += 3;
		len -= 3;
	}
	if (len && text[len - 1] == '\r')
		len--;
	return (struct mts_field){ text, len };
}

int mts_lines_next(struct mts_lines *l, struct mts_field *line, struct mts_error *err)
{
	for (;;) {
		const char *text = l->buf + l->begin;
		size_t left = l->end - l->begin;
		const char *newline = memchr(text, '\n', left);
		size_t len = newline ? (size_t)(newline - text) : left;
		int ret;

		if (len > MTS_LINE_MAX) {
			l->number++;
			return mts_lines_bad(l, err, "line too long, expected at most %d "
					     "characters", MTS_LINE_MAX);
		}
		if (newline || (l->eof && left)) {
			l->number++;
			l->begin += len + (newline != NULL);
			*line = trimmed(l, text, len);
			return 1;
		}
		if (l->eof)
			return 0;
		ret = refill(l, err);
		if (ret)
			return ret;
	}
}

int mts_fields_split(struct mts_field line, const char *sep, struct mts_field *fields)
{
	const char *at = line.text, *end = line.text + line.len;
	size_t width = strlen(sep);

	for (int n = 0; n < MTS_FIELD_MAX; n++) {
		const char *cut = memmem(at, (size_t)(end - at), sep, width);

		fields[n].text = at;
		fields[n].len = (size_t)((cut ? cut : end) - at);
		if (!cut)
			return n + 1;
		at = cut + width;
	}
	return MTS_FIELD_MAX + 1;
}

bool mts_field_is(struct mts_field f, const char *word)
{
	return f.len == strlen(word) && !memcmp(f.text, word, f.len);
}

int mts_lines_bad(const struct mts_lines *l, struct mts_error *err, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	mts_error_set(err, "%s:%llu: %s", l->name, (unsigned long long)l->number, text);
	return -EINVAL;
}

static bool parse_u64(struct mts_field f, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (!f.len)
		return false;
	for (size_t i = 0; i < f.len; i++) {
		unsigned int digit = (unsigned char)f.text[i] - (unsigned int)'0';

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return value <= max;
}

int mts_lines_u64(const struct mts_lines *l, const char *what, struct mts_field f, uint64_t max,
		  uint64_t *out, struct mts_error *err)
{
	if (parse_u64(f, max, out))
		return 0;
	return mts_lines_bad(l, err, "%s is \"%.*s\", expected a whole number from 0 to %llu", what,
			     f.len < 40 ? (int)f.len : 40, f.text, (unsigned long long)max);
}

static int find_name(struct mts_field f, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (mts_field_is(f, names[i]))
			return i;
	return -1;
}

int mts_columns_read(const struct mts_lines *l, struct mts_field header, const char *const *names,
		     int n, int required, bool only, struct mts_columns *out, struct mts_error *err)
{
	struct mts_field fields[MTS_FIELD_MAX];

	out->count = mts_fields_split(header, ",", fields);
	if (out->count > MTS_FIELD_MAX)
		return mts_lines_bad(l, err, "more than %d columns", MTS_FIELD_MAX);
	for (int i = 0; i < n; i++)
		out->at[i] = -1;
	for (int i = 0; i < out->count; i++) {
		int name = find_name(fields[i], names, n);
		int shown = fields[i].len < 40 ? (int)fields[i].len : 40;

		if (name < 0 && only)
			return mts_lines_bad(l, err, "unknown column \"%.*s\", expected a header "
					     "with %s, ...", shown, fields[i].text, names[0]);
		if (name >= 0 && out->at[name] >= 0)
			return mts_lines_bad(l, err, "column %s twice, expected once", names[name]);
		if (name >= 0)
			out->at[name] = i;
	}
	for (int i = 0; i < required; i++)
		if (out->at[i] < 0)
			return mts_lines_bad(l, err, "no column %s in the header", names[i]);
	return 0;
}

int mts_columns_row(const struct mts_lines *l, const struct mts_columns *c, struct mts_field line,
		    struct mts_field *fields, struct mts_error *err)
{
	int n = mts_fields_split(line, ",", fields);

	if (n != c->count)
		return mts_lines_bad(l, err, "%d fields, expected the header's %d",
				     line.len ? n : 0, c->count);
	return 0;
}
