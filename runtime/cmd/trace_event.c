/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items and actions of a trace: from a fixed hash where it has none, else from an event file that
 * is held in memory by user (trace.h). Top floor, under the commands. Loading is one thread's;
 * look-ups change nothing.
 */
#include "cmd/trace.h"
#include "cmd/trace_line.h"
#include "cmd/trace_users.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

enum { SEED_ITEM = 0, SEED_ACTION = 1, SEED_CANDIDATE = 2 };

static uint64_t hash(const uint64_t *numbers, unsigned int n, uint64_t seed)
{
	uint64_t le[3];

	for (unsigned int i = 0; i < n; i++)
		le[i] = htole64(numbers[i]);
	return XXH64(le, n * sizeof(le[0]), seed);
}

void mts_trace_event(uint64_t user, uint64_t index, uint32_t items, uint32_t actions,
		     uint32_t *item, uint32_t *action)
{
	const uint64_t key[] = { user, index };

	*item = (uint32_t)(hash(key, 2, SEED_ITEM) % items);
	*action = (uint32_t)(hash(key, 2, SEED_ACTION) % (actions - 1)) + 1;
}

uint32_t mts_trace_candidate(uint64_t user, uint64_t request, uint32_t j, uint32_t items)
{
	const uint64_t key[] = { user, request, j };

	return (uint32_t)(hash(key, 3, SEED_CANDIDATE) % items);
}

void mts_trace_map(const struct mts_trace_item *e, uint32_t items, uint32_t actions,
		   uint32_t *item, uint32_t *action)
{
	*item = (uint32_t)(hash(&e->item, 1, SEED_ITEM) % items);
	*action = e->action % (actions - 1) + 1;
}

enum { TIME, USER, ITEM, ACTION, N_COLUMNS };

static const char *const names[N_COLUMNS] = { "time_ms", "user_id", "item_id", "action" };

struct user {
	uint64_t id;
	uint64_t count, room;
	struct mts_trace_item *events;
	UT_hash_handle hh;
};

struct mts_events {
	struct user *users;
};

static int append(struct mts_events *e, uint64_t id, struct mts_trace_item event)
{
	struct user *u = mts_users_get(e->users, id, struct user);

	if (!u)
		return -ENOMEM;
	if (u->count == u->room) {
		uint64_t room = u->room ? 2 * u->room : 8;
		struct mts_trace_item *more = reallocarray(u->events, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		u->events = more;
		u->room = room;
	}
	u->events[u->count++] = event;
	return 0;
}

static int load_row(struct mts_events *e, const struct mts_lines *l, const struct mts_columns *c,
		    struct mts_field line, uint64_t *time_ms, struct mts_error *err)
{
	static const uint64_t max[] = { MTS_TRACE_TIME_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX };
	struct mts_field f[MTS_FIELD_MAX];
	uint64_t value[N_COLUMNS];
	int ret = mts_columns_row(l, c, line, f, err);

	for (int i = 0; i < N_COLUMNS && !ret; i++)
		ret = mts_lines_u64(l, names[i], f[c->at[i]], max[i], &value[i], err);
	if (ret)
		return ret;
	if (value[TIME] < *time_ms)
		return mts_lines_bad(l, err, "time_ms falls from %llu to %llu, expected rows to "
				     "ascend in time", (unsigned long long)*time_ms,
				     (unsigned long long)value[TIME]);
	*time_ms = value[TIME];
	ret = append(e, value[USER],
		     (struct mts_trace_item){ value[ITEM], (uint32_t)value[ACTION] });
	if (ret)
		mts_error_set(err, "%s: out of memory", l->name);
	return ret;
}

static int load(struct mts_events *e, struct mts_lines *l, struct mts_error *err)
{
	struct mts_columns columns;
	struct mts_field line;
	uint64_t time_ms = 0;
	int ret = mts_lines_next(l, &line, err);

	if (ret == 0) {
		mts_error_set(err, "%s: empty, expected the header time_ms,user_id,item_id,action",
			      l->name);
		return -EINVAL;
	}
	if (ret > 0)
		ret = mts_columns_read(l, line, names, N_COLUMNS, N_COLUMNS, true, &columns, err);
	while (ret == 0) {
		ret = mts_lines_next(l, &line, err);
		if (ret <= 0)
			break;
		ret = load_row(e, l, &columns, line, &time_ms, err);
	}
	return ret;
}

int mts_events_load(const char *path, struct mts_events **out, struct mts_error *err)
{
	struct mts_events *e = calloc(1, sizeof(*e));
	struct mts_lines *l = malloc(sizeof(*l));
	int ret = -ENOMEM;

	if (!e || !l) {
		mts_error_set(err, "%.150s: out of memory", path);
		goto free;
	}
	ret = mts_lines_open(l, path, err);
	if (ret)
		goto free;
	ret = load(e, l, err);
	mts_lines_close(l);
	if (ret)
		goto free;
	free(l);
	*out = e;
	return 0;
free:
	free(l);
	mts_events_free(e);
	return ret;
}

const struct mts_trace_item *mts_events_of(const struct mts_events *e, uint64_t user,
					   uint64_t *count)
{
	const struct user *u;

	HASH_FIND(hh, e->users, &user, sizeof(user), u);
	*count = u ? u->count : 0;
	return u ? u->events : NULL;
}

void mts_events_free(struct mts_events *e)
{
	struct user *u, *next;

	if (!e)
		return;
	HASH_ITER(hh, e->users, u, next) {
		HASH_DEL(e->users, u);
		free(u->events);
		free(u);
	}
	free(e);
}
