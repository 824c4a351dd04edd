/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public logs of events made into request traces (trace.h). Top floor, under the commands; one
 * thread.
 *
 * The log is held in memory, because none of these logs is sorted by time as a whole:
 * read all files -> keep the users drawn -> sort -> group into requests and write.
 */
#include "cmd/trace.h"
#include "cmd/trace_format.h"
#include "cmd/trace_users.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define MTSERVE_RULE_MS 60000

struct entry {
	struct mts_trace_log_event e;
	uint64_t order; /* in the input: what decides between equal times */
};

struct user {
	uint64_t id;
	uint64_t rank;	   /* by which users are drawn */
	uint64_t history;
	uint64_t last_ms;  /* last event */
	uint64_t group_ms; /* first event of the open group */
	uint32_t in_group; /* 0: no group yet */
	UT_hash_handle hh;
};

struct import {
	const struct mts_import_options *o;
	const struct mts_format *format;
	enum mts_import_earlier earlier;
	struct mts_import_result *result;
	struct entry *entries;
	uint64_t count, room;
	struct user *users;
};

const char *mts_import_formats(void)
{
	return "kuairand, movielens, retailrocket, taobao";
}

static const struct mts_format *find_format(const char *name)
{
	for (const struct mts_format *f = mts_formats; f->name; f++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

static int check_options(const struct mts_import_options *o, struct mts_error *err)
{
	if (!o->format || !find_format(o->format))
		mts_error_set(err, "format is \"%.40s\", expected one of %s",
			      o->format ? o->format : "", mts_import_formats());
	else if (!o->request_every)
		mts_error_set(err, "a request every 0 events, expected at least 1");
	else if (o->candidates > MTS_TRACE_CANDIDATES_MAX)
		mts_error_set(err, "candidates is %u, expected at most %u", o->candidates,
			      MTS_TRACE_CANDIDATES_MAX);
	else
		return 0;
	return -EINVAL;
}

/* --- Reading --- */

static int keep(struct import *im, const struct mts_trace_log_event *e)
{
	struct user *u;

	if (im->count == im->room) {
		uint64_t room = im->room ? 2 * im->room : 1024;
		struct entry *more = reallocarray(im->entries, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		im->entries = more;
		im->room = room;
	}
	u = mts_users_get(im->users, e->user, struct user);
	if (!u)
		return -ENOMEM;
	im->entries[im->count] = (struct entry){ *e, im->count };
	im->count++;
	return 0;
}

static int read_line(struct import *im, struct mts_format_state *state, struct mts_field line,
		     struct mts_error *err)
{
	struct mts_trace_log_event e;
	int ret = 0;

	if (state->lines->number == 1 && im->format->first)
		ret = im->format->first(state, line, err);
	if (ret)
		return ret < 0 ? ret : 0;
	ret = im->format->row(state, line, &e, err);
	if (ret == -EINVAL && im->o->skip_bad) {
		im->result->skipped++;
		return 0;
	}
	if (ret)
		return ret;
	ret = keep(im, &e);
	if (ret)
		mts_error_set(err, "out of memory after %llu events",
			      (unsigned long long)im->count);
	return ret;
}

static int read_file(struct import *im, const char *path, struct mts_lines *lines,
		     struct mts_error *err)
{
	struct mts_format_state state = { .lines = lines };
	struct mts_field line;
	int ret = mts_lines_open(lines, path, err);

	if (ret)
		return ret;
	while ((ret = mts_lines_next(lines, &line, err)) > 0) {
		ret = read_line(im, &state, line, err);
		if (ret)
			break;
	}
	mts_lines_close(lines);
	return ret;
}

static int read_files(struct import *im, const char *const *files, int n, struct mts_error *err)
{
	struct mts_lines *lines = malloc(sizeof(*lines));
	int ret = 0;

	if (!lines) {
		mts_error_set(err, "out of memory");
		return -ENOMEM;
	}
	for (int i = 0; i < n && !ret; i++)
		ret = read_file(im, files[i], lines, err);
	free(lines);
	return ret;
}

/* --- Drawing users, sorting --- */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The rank that o->users users do not exceed. XXH64 of 8 bytes is a bijection, so ranks differ. */
static int last_rank(struct import *im, uint64_t *out)
{
	uint64_t n = HASH_COUNT(im->users), i = 0;
	uint64_t *ranks = malloc(n * sizeof(*ranks));

	if (!ranks)
		return -ENOMEM;
	for (struct user *u = im->users; u; u = u->hh.next) {
		u->rank = XXH64(&u->id, sizeof(u->id), im->o->seed);
		ranks[i++] = u->rank;
	}
	qsort(ranks, n, sizeof(*ranks), compare_u64);
	*out = ranks[im->o->users - 1];
	free(ranks);
	return 0;
}

static int draw_users(struct import *im, struct mts_error *err)
{
	uint64_t last, kept = 0;

	im->result->users = HASH_COUNT(im->users);
	if (!im->o->users || im->result->users <= im->o->users)
		return 0;
	if (last_rank(im, &last)) {
		mts_error_set(err, "out of memory");
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < im->count; i++) {
		const struct user *u;

		HASH_FIND(hh, im->users, &im->entries[i].e.user, sizeof(uint64_t), u);
		if (u->rank <= last)
			im->entries[kept++] = im->entries[i];
	}
	im->count = kept;
	im->result->users = im->o->users;
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->e.time_ms != y->e.time_ms)
		return x->e.time_ms < y->e.time_ms ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

/* --- Grouping --- */

static uint64_t earlier_history(const struct import *im, uint64_t user)
{
	if (im->earlier == MTS_EARLIER_NONE)
		return 0;
	return mts_gen_earlier(im->earlier == MTS_EARLIER_SHOP ? MTS_GEN_SHOP : MTS_GEN_SHORTVIDEO,
			       user);
}

static bool begins_request(const struct import *im, const struct user *u, uint64_t time_ms)
{
	if (!u->in_group)
		return true;
	if (im->o->mtserve_rule)
		return time_ms - u->group_ms >= MTSERVE_RULE_MS;
	return u->in_group >= im->o->request_every || time_ms - u->last_ms > im->o->session_gap_ms;
}

static void write_event(struct import *im, const struct mts_trace_log_event *e,
			struct mts_trace_writer *requests, struct mts_trace_writer *events)
{
	struct user *u;

	HASH_FIND(hh, im->users, &e->user, sizeof(e->user), u);
	if (!u->in_group)
		u->history = earlier_history(im, u->id);
	if (begins_request(im, u, e->time_ms)) {
		const struct mts_trace_request r = { .time_ms = e->time_ms, .user = u->id,
						     .history = u->history,
						     .candidates = im->o->candidates };

		mts_trace_put(requests, &r);
		im->result->requests++;
		u->group_ms = e->time_ms;
		u->in_group = 0;
	}
	u->in_group++;
	u->history++;
	u->last_ms = e->time_ms;
	if (events)
		mts_trace_put_event(events, e);
}

static int write_all(struct import *im, const char *requests, const char *events,
		     struct mts_error *err)
{
	struct mts_trace_writer *r, *e = NULL;
	int ret = mts_trace_create(requests, MTS_TRACE_REQUESTS, &r, err);

	if (ret)
		return ret;
	if (events)
		ret = mts_trace_create(events, MTS_TRACE_EVENTS, &e, err);
	if (ret) {
		mts_trace_discard(r);
		return ret;
	}
	for (uint64_t i = 0; i < im->count; i++)
		write_event(im, &im->entries[i].e, r, e);
	if (e)
		ret = mts_trace_commit(e, err);
	if (ret) {
		mts_trace_discard(r);
		return ret;
	}
	return mts_trace_commit(r, err);
}

static void release(struct import *im)
{
	struct user *u, *next;

	HASH_ITER(hh, im->users, u, next) {
		HASH_DEL(im->users, u);
		free(u);
	}
	free(im->entries);
}

int mts_import(const struct mts_import_options *options, const char *const *files, int n_files,
	       const char *requests, const char *events, struct mts_import_result *result,
	       struct mts_error *err)
{
	struct import im = { .o = options, .result = result };
	int ret = check_options(options, err);

	if (ret)
		return ret;
	*result = (struct mts_import_result){ 0 };
	im.format = find_format(options->format);
	im.earlier = options->earlier == MTS_EARLIER_FORMAT ? im.format->earlier : options->earlier;
	ret = read_files(&im, files, n_files, err);
	if (!ret && !im.count) {
		mts_error_set(err, "%.150s: no event, expected at least one", files[0]);
		ret = -EINVAL;
	}
	if (!ret)
		ret = draw_users(&im, err);
	if (!ret) {
		qsort(im.entries, im.count, sizeof(*im.entries), compare_entries);
		result->events = im.count;
		ret = write_all(&im, requests, events, err);
	}
	release(&im);
	return ret;
}
