/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdsf: greedy dual size frequency (Cherkasova 1998): small and often used stay.
 *
 *   insert(n):  n.uses = 1
 *   use(n):     n.uses + 1
 *   either:     n.rank = age + n.uses / n.tokens
 *   victim():   the lowest rank
 *   remove(n):  if n was a victim, age = n.rank: whoever is not used falls behind in time
 *
 * It counts users, not tokens: fewer of them miss where sizes vary, but the large ones miss more. A
 * pairing heap in the nodes, O(log n) amortised, without allocation. Floor: cache; called through the
 * table.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "cache/policy.h"

struct gdsf_memory {
	struct mts_policy_node *child, *next, *back; /* back: elder sibling, or parent of a first child */
	double rank;
	uint32_t uses;
	bool passed; /* returned as a victim: out of the heap until the next walk */
};

static_assert(sizeof(struct gdsf_memory) <= sizeof(((struct mts_policy_node *)0)->priv), "fits");

TAILQ_HEAD(gdsf_list, mts_policy_node);

struct gdsf {
	struct mts_policy_node *root;
	struct gdsf_list passed;
	double age;
};

static struct gdsf_memory *memory(struct mts_policy_node *n)
{
	return (struct gdsf_memory *)n->priv;
}

static int gdsf_open(void **state)
{
	struct gdsf *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	TAILQ_INIT(&s->passed);
	*state = s;
	return 0;
}

static void gdsf_close(void *state)
{
	free(state);
}

/* ---- the heap ---- */

static struct mts_policy_node *meld(struct mts_policy_node *a, struct mts_policy_node *b)
{
	struct mts_policy_node *t;

	if (!a || !b)
		return a ? a : b;
	if (memory(b)->rank < memory(a)->rank) {
		t = a;
		a = b;
		b = t;
	}
	memory(b)->next = memory(a)->child;
	memory(b)->back = a;
	if (memory(a)->child)
		memory(memory(a)->child)->back = b;
	memory(a)->child = b;
	return a;
}

/* Siblings into one heap: by pairs from the left, then together from the right. */
static struct mts_policy_node *meld_all(struct mts_policy_node *first)
{
	struct mts_policy_node *pairs = NULL, *a, *b, *rest, *heap = NULL;

	while ((a = first)) {
		b = memory(a)->next;
		first = b ? memory(b)->next : NULL;
		memory(a)->next = memory(a)->back = NULL;
		if (b)
			memory(b)->next = memory(b)->back = NULL;
		a = meld(a, b);
		memory(a)->next = pairs;
		pairs = a;
	}
	for (; pairs; pairs = rest) {
		rest = memory(pairs)->next;
		memory(pairs)->next = NULL;
		heap = meld(heap, pairs);
	}
	return heap;
}

static void heap_add(struct gdsf *s, struct mts_policy_node *n)
{
	memory(n)->child = memory(n)->next = memory(n)->back = NULL;
	s->root = meld(s->root, n);
}

static void heap_take(struct gdsf *s, struct mts_policy_node *n)
{
	struct gdsf_memory *m = memory(n);
	struct mts_policy_node *below = meld_all(m->child);

	m->child = NULL;
	if (n == s->root) {
		s->root = below;
		return;
	}
	if (memory(m->back)->child == n)
		memory(m->back)->child = m->next;
	else
		memory(m->back)->next = m->next;
	if (m->next)
		memory(m->next)->back = m->back;
	s->root = meld(s->root, below);
}

/* ---- the table ---- */

static void take_out(struct gdsf *s, struct mts_policy_node *n)
{
	if (memory(n)->passed)
		TAILQ_REMOVE(&s->passed, n, link);
	else
		heap_take(s, n);
	memory(n)->passed = false;
}

static void put_in(struct gdsf *s, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	struct gdsf_memory *m = memory(n);

	m->rank = s->age + (double)m->uses / (use->tokens ? use->tokens : 1);
	heap_add(s, n);
}

static void gdsf_insert(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	memory(n)->uses = 1;
	put_in(state, n, use);
}

static void gdsf_use(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	take_out(state, n);
	memory(n)->uses++;
	put_in(state, n, use);
}

static void gdsf_remove(void *state, struct mts_policy_node *n)
{
	struct gdsf *s = state;

	if (memory(n)->passed && memory(n)->rank > s->age)
		s->age = memory(n)->rank;
	take_out(s, n);
}

static struct mts_policy_node *gdsf_victim(void *state, struct mts_policy_node *after)
{
	struct gdsf *s = state;
	struct mts_policy_node *n;

	while (!after && (n = TAILQ_FIRST(&s->passed))) {
		take_out(s, n);
		heap_add(s, n);
	}
	n = s->root;
	if (!n)
		return NULL;
	heap_take(s, n);
	memory(n)->passed = true;
	TAILQ_INSERT_TAIL(&s->passed, n, link);
	return n;
}

const struct mts_policy mts_policy_gdsf = {
	.name = "gdsf",
	.open = gdsf_open,
	.close = gdsf_close,
	.insert = gdsf_insert,
	.use = gdsf_use,
	.remove = gdsf_remove,
	.victim = gdsf_victim,
};
