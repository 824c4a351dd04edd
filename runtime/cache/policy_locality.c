/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locality: the user whose place is worth least gives way first; worth is learned (idle.h).
 *
 *   class(n):   ACTIVE, ENDED (the caller said so) or EXPECTED (a prefetch: about to ask); each by
 *               the user's own mean gap, shrunk towards everybody's: frequent .. rare
 *   use(n):     learn how long n was idle in its class; n joins its class's list as the newest
 *   victim():   of each class the oldest and the newest; of these the one of least worth
 *   session_end(n): n goes on in an ENDED class
 *
 * Nothing is set by hand. While worth rises with idle time, whoever was served last is worth least:
 * sessions under way stay pinned, and one newcomer after another passes through the same place. Past
 * the idle time where worth falls below a newcomer's, a session is taken for over, and its user gives
 * way. Where worth only falls, the order is LRU's, class by class. O(classes) each.
 *
 * Floor: cache; called through the table.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cache/idle.h"
#include "cache/policy.h"

/* A factor of two in the mean gap from one to the next; a user like everybody is in the middle. */
#define GAP_CLASSES 6
#define CLASSES	    (FAMILIES * GAP_CLASSES)

/* ENDED is looked at last, see consider(). */
enum family { ACTIVE, EXPECTED, ENDED, FAMILIES };

/* A user's mean covers about the last hundred gaps, and counts as if begun with 16 of everybody's. */
#define KEEP   0.99f
#define SHRINK 16.0f
/* Gaps after which the mean over everybody forgets half. */
#define EVERYBODY 100000

TAILQ_HEAD(locality_list, mts_policy_node);

/* What is known of a user; stays with the node while it is outside. */
struct memory {
	uint64_t since_ns; /* when the idle period began; 0: never */
	uint64_t used_ns;  /* the last use; a hint may have come since */
	float gap_s, gaps; /* mean from use to use, and how many it stands for */
	uint8_t class;
	bool inside;
};

static_assert(sizeof(struct memory) <= sizeof(((struct mts_policy_node *)0)->priv), "fits");

struct class {
	struct locality_list list; /* newest first */
	uint32_t n;
	/* A walk over victims: what is left of the list. */
	uint32_t left;
	struct mts_policy_node *newest, *oldest;
};

struct locality {
	struct mts_idle *idle;
	struct class class[CLASSES];
	double gap_sum_s, gaps; /* everybody's */
	uint64_t now_ns;
};

static struct memory *memory(struct mts_policy_node *n)
{
	return (struct memory *)n->priv;
}

static int locality_open(void **state)
{
	static const uint8_t lean_on[FAMILIES] = { ACTIVE, EXPECTED, ENDED };
	struct locality *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	ret = mts_idle_open(FAMILIES, GAP_CLASSES, lean_on, &s->idle);
	if (ret) {
		free(s);
		return ret;
	}
	/* Hints are believed until periods say otherwise: who is expected comes, who ended does not. */
	mts_idle_assume(s->idle, EXPECTED, 8);
	for (unsigned c = 0; c < CLASSES; c++)
		TAILQ_INIT(&s->class[c].list);
	*state = s;
	return 0;
}

static void locality_close(void *state)
{
	struct locality *s = state;

	mts_idle_close(s->idle);
	free(s);
}

/* ---- what is learned of a user ---- */

static void learn_gap(struct locality *s, struct memory *m, double gap_s)
{
	m->gaps = m->gaps * KEEP + 1;
	m->gap_s += ((float)gap_s - m->gap_s) / m->gaps;
	s->gap_sum_s += gap_s;
	if (++s->gaps < EVERYBODY)
		return;
	s->gaps /= 2;
	s->gap_sum_s /= 2;
}

static unsigned class_of(const struct locality *s, const struct memory *m, enum family family)
{
	float all = s->gaps > 0 ? (float)(s->gap_sum_s / s->gaps) : 0;
	float mean = (m->gap_s * m->gaps + all * SHRINK) / (m->gaps + SHRINK);
	int c;

	if (!(mean > 0) || !(all > 0))
		c = GAP_CLASSES / 2;
	else
		c = (int)floorf(log2f(mean / all)) + GAP_CLASSES / 2;
	c = c < 0 ? 0 : c >= GAP_CLASSES ? GAP_CLASSES - 1 : c;
	return family * GAP_CLASSES + (unsigned)c;
}

/* ---- in and out ---- */

static void take_out(struct locality *s, struct mts_policy_node *n)
{
	struct memory *m = memory(n);

	TAILQ_REMOVE(&s->class[m->class].list, n, link);
	s->class[m->class].n--;
	m->inside = false;
}

static void put_in(struct locality *s, struct mts_policy_node *n)
{
	struct memory *m = memory(n);

	TAILQ_INSERT_HEAD(&s->class[m->class].list, n, link);
	s->class[m->class].n++;
	m->inside = true;
}

/* The idle period under way is over, the next one begins in another class, or the same. */
static void next_period(struct locality *s, struct memory *m, uint64_t now_ns, bool used,
			unsigned class)
{
	if (m->since_ns)
		mts_idle_over(s->idle, m->class, m->since_ns, now_ns, used);
	m->class = (uint8_t)class;
	m->since_ns = now_ns ? now_ns : 1;
	mts_idle_begin(s->idle, class, m->since_ns);
}

static void locality_insert(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	struct locality *s = state;
	struct memory *m = memory(n);

	s->now_ns = use->now_ns;
	if (use->expected) {
		/* To be asked for in a moment is as good as a use: what was kept so far, paid. */
		next_period(s, m, use->now_ns, true, class_of(s, m, EXPECTED));
	} else {
		if (m->used_ns)
			learn_gap(s, m, (double)(use->now_ns - m->used_ns) * 1e-9);
		m->used_ns = use->now_ns ? use->now_ns : 1;
		next_period(s, m, use->now_ns, true, class_of(s, m, ACTIVE));
	}
	put_in(s, n);
}

static void locality_use(void *state, struct mts_policy_node *n, const struct mts_policy_use *use)
{
	take_out(state, n);
	locality_insert(state, n, use);
}

static void locality_remove(void *state, struct mts_policy_node *n)
{
	take_out(state, n);
}

static void locality_session_end(void *state, struct mts_policy_node *n, uint64_t now_ns)
{
	struct locality *s = state;
	struct memory *m = memory(n);
	bool inside = m->inside;

	if (!m->since_ns || m->class / GAP_CLASSES == ENDED)
		return;
	if (inside)
		take_out(s, n);
	s->now_ns = now_ns;
	next_period(s, m, now_ns, false, class_of(s, m, ENDED));
	if (inside)
		put_in(s, n);
}

/* ---- who gives way ---- */

struct choice {
	struct mts_policy_node *node;
	float worth;
	unsigned class;
	bool newest;
};

static float worth(const struct locality *s, unsigned class, struct mts_policy_node *n)
{
	return mts_idle_worth(s->idle, class, s->now_ns - memory(n)->since_ns);
}

/*
 * Of two of the same worth the one idle longer goes, as in LRU; but ends are believed, the last one
 * first, until somebody has come back after one.
 */
static void consider(const struct locality *s, unsigned class, bool newest, struct choice *best)
{
	struct mts_policy_node *n = newest ? s->class[class].newest : s->class[class].oldest;
	float w = worth(s, class, n);

	if (best->node && (w > best->worth || (w == best->worth && class / GAP_CLASSES != ENDED &&
					       memory(n)->since_ns >= memory(best->node)->since_ns)))
		return;
	*best = (struct choice){ n, w, class, newest };
}

static void restart(struct locality *s)
{
	for (unsigned c = 0; c < CLASSES; c++) {
		struct class *k = &s->class[c];

		k->left = k->n;
		k->newest = TAILQ_FIRST(&k->list);
		k->oldest = TAILQ_LAST(&k->list, locality_list);
	}
}

static struct mts_policy_node *take(struct locality *s, const struct choice *best)
{
	struct class *k = &s->class[best->class];

	k->left--;
	if (best->newest)
		k->newest = TAILQ_NEXT(best->node, link);
	else
		k->oldest = TAILQ_PREV(best->node, locality_list, link);
	return best->node;
}

static struct mts_policy_node *locality_victim(void *state, struct mts_policy_node *after)
{
	struct locality *s = state;
	struct choice best = { 0 };

	if (!after)
		restart(s);
	for (unsigned c = 0; c < CLASSES; c++) {
		if (!s->class[c].left)
			continue;
		consider(s, c, false, &best);
		consider(s, c, true, &best);
	}
	return best.node ? take(s, &best) : NULL;
}

const struct mts_policy mts_policy_locality = {
	.name = "locality",
	.open = locality_open,
	.close = locality_close,
	.insert = locality_insert,
	.use = locality_use,
	.remove = locality_remove,
	.victim = locality_victim,
	.session_end = locality_session_end,
};
