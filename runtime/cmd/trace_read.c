/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming reader of request files (trace.h has the format). Top floor, under the commands; one
 * thread per reader.
 */
#include "cmd/trace.h"
#include "cmd/trace_line.h"

#include <errno.h>
#include <stdlib.h>

enum { TIME, USER, HISTORY, CANDIDATES, HINT, N_COLUMNS };

static const char *const names[N_COLUMNS] = { "time_ms", "user_id", "history", "candidates",
					      "hint" };

struct mts_trace {
	struct mts_columns columns;
	uint64_t time_ms; /* of the row before */
	struct mts_lines lines;
};

static int read_header(struct mts_trace *t, struct mts_error *err)
{
	struct mts_field line;
	int ret = mts_lines_next(&t->lines, &line, err);

	if (ret < 0)
		return ret;
	if (ret == 0) {
		mts_error_set(err, "%s: empty, expected the header "
			      "time_ms,user_id,history,candidates", t->lines.name);
		return -EINVAL;
	}
	return mts_columns_read(&t->lines, line, names, N_COLUMNS, HINT, true, &t->columns, err);
}

int mts_trace_open(const char *path, struct mts_trace **out, struct mts_error *err)
{
	struct mts_trace *t = malloc(sizeof(*t));
	int ret;

	if (!t) {
		mts_error_set(err, "%s: out of memory", path);
		return -ENOMEM;
	}
	t->time_ms = 0;
	ret = mts_lines_open(&t->lines, path, err);
	if (ret)
		goto free;
	ret = read_header(t, err);
	if (ret)
		goto close;
	*out = t;
	return 0;
close:
	mts_lines_close(&t->lines);
free:
	free(t);
	return ret;
}

static int read_hint(const struct mts_trace *t, struct mts_field f, uint8_t *out,
		     struct mts_error *err)
{
	if (f.len == 0 || mts_field_is(f, "none"))
		*out = MTS_TRACE_HINT_NONE;
	else if (mts_field_is(f, "end"))
		*out = MTS_TRACE_HINT_END;
	else if (mts_field_is(f, "open"))
		*out = MTS_TRACE_HINT_OPEN;
	else
		return mts_lines_bad(&t->lines, err,
				     "hint is \"%.*s\", expected none, end or open",
				     f.len < 40 ? (int)f.len : 40, f.text);
	return 0;
}

static int read_row(const struct mts_trace *t, const struct mts_field *f,
		    struct mts_trace_request *out, struct mts_error *err)
{
	static const uint64_t max[] = { MTS_TRACE_TIME_MAX, UINT64_MAX, MTS_TRACE_HISTORY_MAX,
					MTS_TRACE_CANDIDATES_MAX };
	uint64_t value[HINT];
	int hint = t->columns.at[HINT];

	for (int i = 0; i < HINT; i++) {
		int ret = mts_lines_u64(&t->lines, names[i], f[t->columns.at[i]], max[i],
					&value[i], err);

		if (ret)
			return ret;
	}
	out->time_ms = value[TIME];
	out->user = value[USER];
	out->history = value[HISTORY];
	out->candidates = (uint32_t)value[CANDIDATES];
	out->hint = MTS_TRACE_HINT_NONE;
	return hint < 0 ? 0 : read_hint(t, f[hint], &out->hint, err);
}

int mts_trace_next(struct mts_trace *t, struct mts_trace_request *out, struct mts_error *err)
{
	struct mts_field line, fields[MTS_FIELD_MAX];
	int ret = mts_lines_next(&t->lines, &line, err);

	if (ret <= 0)
		return ret;
	ret = mts_columns_row(&t->lines, &t->columns, line, fields, err);
	if (ret)
		return ret;
	ret = read_row(t, fields, out, err);
	if (ret)
		return ret;
	if (out->time_ms < t->time_ms)
		return mts_lines_bad(&t->lines, err, "time_ms falls from %llu to %llu, expected "
				     "rows to ascend in time", (unsigned long long)t->time_ms,
				     (unsigned long long)out->time_ms);
	t->time_ms = out->time_ms;
	return 1;
}

void mts_trace_close(struct mts_trace *t)
{
	if (!t)
		return;
	mts_lines_close(&t->lines);
	free(t);
}
