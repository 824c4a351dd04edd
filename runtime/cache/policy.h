/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacement: which user gives way when a tier is full. One const table per policy, one file each.
 *
 * Floor: cache. A tier keeps one instance of a policy; every user with content in that tier has one
 * node in it. The policy orders users; the cache decides whether a candidate may go (pinned users,
 * and users with a copy under way, may not) and asks for the next. Thread: the tier's owner.
 */
#ifndef MTS_POLICY_H
#define MTS_POLICY_H

#include <stdint.h>
#include <sys/queue.h>

struct mts_policy_node {
	TAILQ_ENTRY(mts_policy_node) link;
	uint64_t priv[2]; /* the policy's own */
};

/* What is known at a use: time and the user's size in this tier. */
struct mts_policy_use {
	uint64_t now_ns;
	uint32_t tokens;
};

struct mts_policy {
	const char *name;
	int (*open)(void **state);
	void (*close)(void *state);
	/* The user's first content in this tier. */
	void (*insert)(void *state, struct mts_policy_node *n, const struct mts_policy_use *use);
	/* A read or an append: both count as use. */
	void (*use)(void *state, struct mts_policy_node *n, const struct mts_policy_use *use);
	/* No content is left, whether evicted or dropped. */
	void (*remove)(void *state, struct mts_policy_node *n);
	/* The user to give way first; after != NULL: the one after it. NULL: no more. */
	struct mts_policy_node *(*victim)(void *state, struct mts_policy_node *after);
	/* Optional: the caller says the user's session is over. */
	void (*session_end)(void *state, struct mts_policy_node *n);
};

extern const struct mts_policy mts_policy_lru;

/* policy.c: all of them, ended by NULL; the one of that name, or NULL; their names for a message. */
extern const struct mts_policy *const mts_policies[];
const struct mts_policy *mts_policy_find(const char *name);
const char *mts_policy_names(void);

#endif
