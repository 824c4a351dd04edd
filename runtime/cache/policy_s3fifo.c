/* SPDX-License-Identifier: Apache-2.0 */
/*
 * s3fifo: most newcomers are seen once; a small queue keeps them away from the rest (Yang et al.,
 * SOSP 2023), by users, their sizes in tokens.
 *
 *   insert(n):  to the head of the main queue if n gave way not long ago, else of the small queue
 *   use(n):     n.uses + 1, at most 3; n stays where it is
 *   victim():   while the small queue holds more than a tenth: its tail; but one used since goes to
 *               the main queue; else the main queue's tail; but one used since goes back to its
 *               head, with one use less
 *   "not long ago": as many users have given way since as the main queue holds
 *
 * O(1) each, amortised. Floor: cache; called through the table.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cache/policy.h"

TAILQ_HEAD(s3_list, mts_policy_node);

struct s3_memory {
	uint64_t gone; /* its number among those that gave way; 0: it never did */
	uint32_t tokens;
	uint8_t uses;
	bool in_main;
};

static_assert(sizeof(struct s3_memory) <= sizeof(((struct mts_policy_node *)0)->priv), "fits");

struct s3 {
	struct s3_list small, main;
	uint64_t small_tokens, main_tokens, main_n, gone;
	bool began_in_main; /* a walk over victims */
};

static struct s3_memory *memory(struct mts_policy_node *n)
{
	return (struct s3_memory *)n->priv;
}

static int s3_open(void **state)
{
	struct s3 *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	TAILQ_INIT(&s->small);
	TAILQ_INIT(&s->main);
	*state = s;
	return 0;
}

static void s3_close(void *state)
{
	free(state);
}

static void push(struct s3 *s, struct mts_policy_node *n, bool to_main)
{
	struct s3_memory *m = memory(n);

	m->in_main = to_main;
	if (to_main) {
		TAILQ_INSERT_HEAD(&s->main, n, link);
		s->main_tokens += m->tokens;
		s->main_n++;
	} else {
		TAILQ_INSERT_HEAD(&s->small, n, link);
		s->small_tokens += m->tokens;
	}
}

static void pull(struct s3 *s, struct mts_policy_node *n)
{
	struct s3_memory *m = memory(n);

	if (m->in_main) {
		TAILQ_REMOVE(&s->main, n, link);
		s->main_tokens -= m->tokens;
		s->main_n--;
	} else {
		TAILQ_REMOVE(&s->small, n, link);
		s->small_tokens -= m->tokens;
	}
}

static void s3_insert(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	struct s3 *s = state;
	struct s3_memory *m = memory(n);

	m->tokens = use->tokens;
	m->uses = 0;
	push(s, n, m->gone && s->gone - m->gone < s->main_n);
}

static void s3_use(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	struct s3 *s = state;
	struct s3_memory *m = memory(n);

	*(m->in_main ? &s->main_tokens : &s->small_tokens) += (uint64_t)use->tokens - m->tokens;
	m->tokens = use->tokens;
	if (m->uses < 3)
		m->uses++;
}

static void s3_remove(void *state, struct mts_policy_node *n)
{
	struct s3 *s = state;

	pull(s, n);
	memory(n)->gone = ++s->gone;
}

static struct mts_policy_node *first_victim(struct s3 *s)
{
	for (;;) {
		bool small = s->small_tokens * 10 > s->small_tokens + s->main_tokens ||
			     TAILQ_EMPTY(&s->main);
		struct mts_policy_node *n = small ? TAILQ_LAST(&s->small, s3_list) :
						    TAILQ_LAST(&s->main, s3_list);

		if (!n || !memory(n)->uses)
			return n;
		pull(s, n);
		memory(n)->uses = small ? 0 : memory(n)->uses - 1;
		push(s, n, true);
	}
}

/* Where the first choice must stay, the queues are gone through from the tail. */
static struct mts_policy_node *s3_victim(void *state, struct mts_policy_node *after)
{
	struct s3 *s = state;
	struct mts_policy_node *n;

	if (!after) {
		n = first_victim(s);
		s->began_in_main = n && memory(n)->in_main;
		return n;
	}
	n = TAILQ_PREV(after, s3_list, link);
	if (n || memory(after)->in_main != s->began_in_main)
		return n;
	return TAILQ_LAST(s->began_in_main ? &s->small : &s->main, s3_list);
}

const struct mts_policy mts_policy_s3fifo = {
	.name = "s3fifo",
	.open = s3_open,
	.close = s3_close,
	.insert = s3_insert,
	.use = s3_use,
	.remove = s3_remove,
	.victim = s3_victim,
};
