/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru: the least recently used user gives way first.
 *
 *   use(n):     move n to the front
 *   victim():   the last; then towards the front
 *
 * It takes no hints: it is the bar that the others are measured by.
 *
 * O(1) each. Floor: cache; called by tier.c through the table.
 */
#include <errno.h>
#include <stdlib.h>
#include "policy.h"

TAILQ_HEAD(lru_list, mts_policy_node);

static int lru_open(void **state)
{
	struct lru_list *list = malloc(sizeof(*list));

	if (!list)
		return -ENOMEM;
	TAILQ_INIT(list);
	*state = list;
	return 0;
}

static void lru_close(void *state)
{
	free(state);
}

static void lru_insert(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	struct lru_list *list = state;

	(void)use;
	TAILQ_INSERT_HEAD(list, n, link);
}

static void lru_remove(void *state, struct mts_policy_node *n)
{
	struct lru_list *list = state;

	TAILQ_REMOVE(list, n, link);
}

static void lru_use(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	lru_remove(state, n);
	lru_insert(state, n, use);
}

static struct mts_policy_node *lru_victim(void *state, struct mts_policy_node *after)
{
	struct lru_list *list = state;

	return after ? TAILQ_PREV(after, lru_list, link) : TAILQ_LAST(list, lru_list);
}

const struct mts_policy mts_policy_lru = {
	.name = "lru",
	.open = lru_open,
	.close = lru_close,
	.insert = lru_insert,
	.use = lru_use,
	.remove = lru_remove,
	.victim = lru_victim,
};
