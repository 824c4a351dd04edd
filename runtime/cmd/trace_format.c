/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public logs that can be imported (trace_format.h).
 *
 * kuairand     header; one bit of the action for each kind of feedback
 * movielens    u::i::r::s (1M), tab-separated (100K), or a header and commas; action = half stars
 * retailrocket header; view, addtocart, transaction = 1, 2, 3
 * taobao       no header; pv, cart, fav, buy = 1, 2, 3, 4
 */
#include "cmd/trace_format.h"

#include <errno.h>
#include <string.h>

static int number(const struct mts_format_state *s, const char *what, struct mts_field f,
		  uint64_t unit_ms, uint64_t *out, struct mts_error *err)
{
	uint64_t max = unit_ms ? MTS_TRACE_TIME_MAX / unit_ms : UINT64_MAX;
	int ret = mts_lines_u64(s->lines, what, f, max, out, err);

	if (!ret && unit_ms)
		*out *= unit_ms;
	return ret;
}

static int word(const struct mts_format_state *s, const char *what, struct mts_field f,
		const char *const *words, uint32_t *action, struct mts_error *err)
{
	for (uint32_t i = 0; words[i]; i++)
		if (mts_field_is(f, words[i])) {
			*action = i + 1;
			return 0;
		}
	return mts_lines_bad(s->lines, err, "%s is \"%.*s\", expected %s, %s, ...", what,
			     f.len < 40 ? (int)f.len : 40, f.text, words[0], words[1]);
}

static int fields_exactly(const struct mts_format_state *s, struct mts_field line,
			  const char *separator, int n, struct mts_field *fields,
			  struct mts_error *err)
{
	int got = mts_fields_split(line, separator, fields);

	if (got == n)
		return 0;
	return mts_lines_bad(s->lines, err, "%d fields, expected %d", line.len ? got : 0, n);
}

/* --- KuaiRand --- */

enum { K_USER, K_ITEM, K_TIME, K_BITS, K_COLUMNS = K_BITS + 8 };

static const char *const kuairand_names[K_COLUMNS] = {
	"user_id", "video_id", "time_ms", "is_click", "is_like", "is_follow", "is_comment",
	"is_forward", "is_hate", "long_view", "is_profile_enter",
};

static int kuairand_first(struct mts_format_state *s, struct mts_field line, struct mts_error *err)
{
	int ret = mts_columns_read(s->lines, line, kuairand_names, K_COLUMNS, K_COLUMNS, false,
				   &s->columns, err);

	return ret ? ret : 1;
}

static int kuairand_row(const struct mts_format_state *s, struct mts_field line,
			struct mts_trace_log_event *out, struct mts_error *err)
{
	struct mts_field f[MTS_FIELD_MAX];
	const int *at = s->columns.at;
	int ret = mts_columns_row(s->lines, &s->columns, line, f, err);

	if (!ret)
		ret = number(s, "user_id", f[at[K_USER]], 0, &out->user, err);
	if (!ret)
		ret = number(s, "video_id", f[at[K_ITEM]], 0, &out->item, err);
	if (!ret)
		ret = number(s, "time_ms", f[at[K_TIME]], 1, &out->time_ms, err);
	out->action = 0;
	for (int i = K_BITS; i < K_COLUMNS && !ret; i++) {
		uint64_t bit;

		ret = mts_lines_u64(s->lines, kuairand_names[i], f[at[i]], 1, &bit, err);
		if (!ret)
			out->action |= (uint32_t)bit << (i - K_BITS);
	}
	return ret;
}

/* --- MovieLens --- */

static int movielens_first(struct mts_format_state *s, struct mts_field line,
			   struct mts_error *err)
{
	if (memmem(line.text, line.len, "::", 2)) {
		s->separator = "::";
		return 0;
	}
	if (memchr(line.text, '\t', line.len)) {
		s->separator = "\t";
		return 0;
	}
	s->separator = ",";
	if (mts_field_is(line, "userId,movieId,rating,timestamp"))
		return 1;
	return mts_lines_bad(s->lines, err, "expected user::item::rating::time, the same with "
			     "tabs, or the header userId,movieId,rating,timestamp");
}

/* 0.5, 1, 1.0, ... 5.0 as a number of half stars. */
static int half_stars(const struct mts_format_state *s, struct mts_field f, uint32_t *out,
		      struct mts_error *err)
{
	bool digit = f.len && f.text[0] >= '0' && f.text[0] <= '5';
	bool half = f.len == 3 && f.text[1] == '.' && f.text[2] == '5';
	bool full = f.len == 1 || (f.len == 3 && f.text[1] == '.' && f.text[2] == '0');

	*out = digit ? 2 * (uint32_t)(f.text[0] - '0') + half : 0;
	if (digit && (half || full) && *out >= 1 && *out <= 10)
		return 0;
	return mts_lines_bad(s->lines, err, "rating is \"%.*s\", expected 0.5 to 5 in halves",
			     f.len < 40 ? (int)f.len : 40, f.text);
}

static int movielens_row(const struct mts_format_state *s, struct mts_field line,
			 struct mts_trace_log_event *out, struct mts_error *err)
{
	struct mts_field f[MTS_FIELD_MAX];
	int ret = fields_exactly(s, line, s->separator, 4, f, err);

	if (!ret)
		ret = number(s, "user", f[0], 0, &out->user, err);
	if (!ret)
		ret = number(s, "movie", f[1], 0, &out->item, err);
	if (!ret)
		ret = half_stars(s, f[2], &out->action, err);
	if (!ret)
		ret = number(s, "timestamp", f[3], 1000, &out->time_ms, err);
	return ret;
}

/* --- RetailRocket --- */

enum { R_TIME, R_USER, R_EVENT, R_ITEM, R_COLUMNS };

static const char *const retailrocket_names[R_COLUMNS] = { "timestamp", "visitorid", "event",
							   "itemid" };

static int retailrocket_first(struct mts_format_state *s, struct mts_field line,
			      struct mts_error *err)
{
	int ret = mts_columns_read(s->lines, line, retailrocket_names, R_COLUMNS, R_COLUMNS, false,
				   &s->columns, err);

	return ret ? ret : 1;
}

static int retailrocket_row(const struct mts_format_state *s, struct mts_field line,
			    struct mts_trace_log_event *out, struct mts_error *err)
{
	static const char *const words[] = { "view", "addtocart", "transaction", NULL };
	struct mts_field f[MTS_FIELD_MAX];
	const int *at = s->columns.at;
	int ret = mts_columns_row(s->lines, &s->columns, line, f, err);

	if (!ret)
		ret = number(s, "timestamp", f[at[R_TIME]], 1, &out->time_ms, err);
	if (!ret)
		ret = number(s, "visitorid", f[at[R_USER]], 0, &out->user, err);
	if (!ret)
		ret = word(s, "event", f[at[R_EVENT]], words, &out->action, err);
	if (!ret)
		ret = number(s, "itemid", f[at[R_ITEM]], 0, &out->item, err);
	return ret;
}

/* --- Taobao UserBehavior --- */

static int taobao_row(const struct mts_format_state *s, struct mts_field line,
		      struct mts_trace_log_event *out, struct mts_error *err)
{
	static const char *const words[] = { "pv", "cart", "fav", "buy", NULL };
	struct mts_field f[MTS_FIELD_MAX];
	int ret = fields_exactly(s, line, ",", 5, f, err);

	if (!ret)
		ret = number(s, "user", f[0], 0, &out->user, err);
	if (!ret)
		ret = number(s, "item", f[1], 0, &out->item, err);
	if (!ret)
		ret = word(s, "behaviour", f[3], words, &out->action, err);
	if (!ret)
		ret = number(s, "time", f[4], 1000, &out->time_ms, err);
	return ret;
}

const struct mts_format mts_formats[] = {
	{ "kuairand", MTS_EARLIER_SHORTVIDEO, kuairand_first, kuairand_row },
	{ "movielens", MTS_EARLIER_NONE, movielens_first, movielens_row },
	{ "retailrocket", MTS_EARLIER_SHOP, retailrocket_first, retailrocket_row },
	{ "taobao", MTS_EARLIER_SHOP, NULL, taobao_row },
	{ NULL, MTS_EARLIER_NONE, NULL, NULL },
};
