/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns: a user's requests and hints are worked on one at a time, in the order they came.
 *
 * Floor: engine. Thread: the engine's.
 *
 *   turns (by user) ──> first job ──behind──> next ──> next
 *                           └──────────last──────────────┘
 *
 * The first is waiting, active or being erased; the others are nowhere else.
 */
#include <errno.h>

#include "engine/engine.h"

int mts_turn_take(struct mts_server *s, struct mts_job *j)
{
	uint64_t user = j->req.history.user;
	struct mts_job *first;

	HASH_FIND(hh, s->turns, &user, sizeof(user), first);
	if (first) {
		first->last->behind = j;
		first->last = j;
		return 1;
	}
	if (!j->last)
		j->last = j; /* else it has passed the turn on to itself and those behind it */
	HASH_ADD(hh, s->turns, req.history.user, sizeof(user), j);
	return j->hh.tbl ? 0 : -ENOMEM;
}

void mts_turn_pass(struct mts_server *s, struct mts_job *j)
{
	struct mts_job *next = j->behind;

	if (j->hh.tbl)
		HASH_DEL(s->turns, j);
	j->hh.tbl = NULL;
	if (!next)
		return;
	next->last = j->last;
	/* Before anything that came later. */
	TAILQ_INSERT_HEAD(&s->fresh, next, link);
}
