/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacement: which user gives way when a tier is full. One const table per policy, one file each.
 *
 * Floor: cache. A tier keeps one instance of a policy for the device and one for the host; a user has
 * a node for each, which is inside the policy while the user has content there. The policy orders
 * users; the cache decides whether a candidate may go (pinned users, and users with a copy under way,
 * may not) and asks for the next. It may take a part of a user's pages and leave the user inside.
 * Thread: the tier's owner.
 */
#ifndef MTS_POLICY_H
#define MTS_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * priv is the policy's own. It is zero for a user not known before, and is kept while the user is
 * known to the tier at all: from one stay inside to the next, if another tier holds content.
 */
struct mts_policy_node {
	TAILQ_ENTRY(mts_policy_node) link;
	uint64_t priv[6];
};

/* What is known at a use. */
struct mts_policy_use {
	uint64_t now_ns; /* never falls */
	uint32_t tokens; /* the user's size in this tier */
	bool expected;   /* content loaded ahead: the user is about to ask, and has not yet */
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
	/*
	 * The user to give way first; after != NULL: the one after it, which is the one returned last.
	 * NULL: no more; every node inside has then been returned once. Between the calls of such a
	 * walk only nodes already returned are removed, and the next `after` is not one of them.
	 */
	struct mts_policy_node *(*victim)(void *state, struct mts_policy_node *after);
	/* Optional: the caller says the user's session is over. n may be outside. */
	void (*session_end)(void *state, struct mts_policy_node *n, uint64_t now_ns);
};

extern const struct mts_policy mts_policy_lru;
extern const struct mts_policy mts_policy_s3fifo;
extern const struct mts_policy mts_policy_gdsf;
extern const struct mts_policy mts_policy_locality;

/* policy.c: all of them, ended by NULL; the one of that name, or NULL; their names for a message. */
extern const struct mts_policy *const mts_policies[];
const struct mts_policy *mts_policy_find(const char *name);
const char *mts_policy_names(void);

#endif
