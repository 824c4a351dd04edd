/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacement policies: random operations on each (no node lost, none twice in a walk), each against
 * a plain model of its order, and what idle periods teach against the definition worked out in full.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/idle.h"
#include "cache/policy.h"

#define NODES 24u
#define SECOND 1000000000ull

struct user {
	struct mts_policy_node node;
	bool inside, returned;
	uint32_t tokens, uses;
	uint64_t used;
	double rank;
};

struct world {
	const struct mts_policy *policy;
	void *state;
	struct user user[NODES];
	uint64_t random, now;
	uint32_t inside;
};

static uint64_t draw(struct world *w, uint64_t below)
{
	/* SplitMix64 */
	uint64_t z = (w->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void open_world(struct world *w, const struct mts_policy *policy, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->policy = policy;
	w->random = seed;
	ck_assert_int_eq(policy->open(&w->state), 0);
}

static struct user *user_of(struct mts_policy_node *n)
{
	return (struct user *)((char *)n - offsetof(struct user, node));
}

static void touch(struct world *w, struct user *u, uint32_t tokens, bool expected)
{
	const struct mts_policy_use use = { w->now, tokens, expected };

	u->tokens = tokens;
	if (u->inside)
		w->policy->use(w->state, &u->node, &use);
	else
		w->policy->insert(w->state, &u->node, &use);
	w->inside += !u->inside;
	u->inside = true;
}

static void leave(struct world *w, struct user *u)
{
	w->policy->remove(w->state, &u->node);
	u->inside = false;
	w->inside--;
}

/* A walk of at most `most` steps, as the tier does it; some of those returned leave on the way. */
static void walk(struct world *w, uint32_t most, unsigned leave_one_in)
{
	struct mts_policy_node *n = w->policy->victim(w->state, NULL), *next;
	uint32_t inside = w->inside, steps = 0;

	for (unsigned i = 0; i < NODES; i++)
		w->user[i].returned = false;
	for (; n && steps < most; n = next, steps++) {
		struct user *u = user_of(n);

		ck_assert(u->inside && !u->returned);
		u->returned = true;
		next = w->policy->victim(w->state, n);
		if (leave_one_in && !draw(w, leave_one_in))
			leave(w, u);
	}
	if (most >= NODES)
		ck_assert_uint_eq(steps, inside);
}

START_TEST(no_node_lost_or_twice)
{
	const struct mts_policy *p = mts_policies[_i];
	struct world *w = malloc(sizeof(*w));

	for (uint64_t seed = 1; seed <= 20; seed++) {
		open_world(w, p, seed);
		for (int i = 0; i < 20000; i++) {
			struct user *u = &w->user[draw(w, 1 + draw(w, NODES))];

			w->now += draw(w, 8) ? draw(w, 2 * SECOND) : draw(w, 4000 * SECOND);
			switch (draw(w, 16)) {
			case 0:
				if (u->inside)
					leave(w, u);
				break;
			case 1:
				if (p->session_end)
					p->session_end(w->state, &u->node, w->now);
				break;
			case 2:
				touch(w, u, 1 + (uint32_t)draw(w, 2000), true);
				break;
			case 3:
				walk(w, NODES, 0);
				break;
			case 4:
				walk(w, NODES, 3);
				break;
			case 5: case 6:
				walk(w, 1 + (uint32_t)draw(w, 4), 1);
				break;
			default:
				touch(w, u, 1 + (uint32_t)draw(w, 2000), false);
			}
		}
		walk(w, NODES, 0);
		p->close(w->state);
	}
	free(w);
}
END_TEST

/* ---- each against its model: who gives way first ---- */

typedef bool (*before_fn)(const struct user *a, const struct user *b);

static bool used_before(const struct user *a, const struct user *b)
{
	return a->used < b->used;
}

static bool ranks_below(const struct user *a, const struct user *b)
{
	return a->rank < b->rank;
}

static const struct user *least(const struct world *w, before_fn before)
{
	const struct user *best = NULL;

	for (unsigned i = 0; i < NODES; i++)
		if (w->user[i].inside && (!best || before(&w->user[i], best)))
			best = &w->user[i];
	return best;
}

START_TEST(lru_order)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, &mts_policy_lru, 3);
	for (uint64_t i = 1; i <= 20000; i++) {
		struct user *u = &w->user[draw(w, NODES)];

		u->used = i;
		touch(w, u, 1, false);
		if (draw(w, 3))
			continue;
		u = user_of(w->policy->victim(w->state, NULL));
		ck_assert_ptr_eq(u, least(w, used_before));
		leave(w, u);
	}
	w->policy->close(w->state);
	free(w);
}
END_TEST

START_TEST(gdsf_order)
{
	struct world *w = malloc(sizeof(*w));
	double age = 0;

	open_world(w, &mts_policy_gdsf, 4);
	for (uint64_t i = 1; i <= 20000; i++) {
		struct user *u = &w->user[draw(w, NODES)];
		uint32_t tokens = 1 + (uint32_t)draw(w, 5000);

		u->uses = u->inside ? u->uses + 1 : 1;
		u->rank = age + (double)u->uses / tokens;
		touch(w, u, tokens, false);
		if (draw(w, 3))
			continue;
		u = user_of(w->policy->victim(w->state, NULL));
		ck_assert_double_eq(u->rank, least(w, ranks_below)->rank);
		age = u->rank;
		leave(w, u);
	}
	w->policy->close(w->state);
	free(w);
}
END_TEST

/* The two queues as arrays, head first. */
struct queue {
	struct user *u[NODES];
	unsigned n;
	uint64_t tokens;
};

static void queue_push(struct queue *q, struct user *u)
{
	memmove(q->u + 1, q->u, q->n++ * sizeof(q->u[0]));
	q->u[0] = u;
	q->tokens += u->tokens;
}

static struct user *queue_pop(struct queue *q)
{
	struct user *u = q->u[--q->n];

	q->tokens -= u->tokens;
	return u;
}

static struct user *s3_victim(struct queue *small, struct queue *main_queue)
{
	for (;;) {
		bool from_small = small->tokens * 10 > small->tokens + main_queue->tokens ||
				  !main_queue->n;
		struct user *u = queue_pop(from_small ? small : main_queue);

		if (!u->uses)
			return u;
		u->uses = from_small ? 0 : u->uses - 1;
		queue_push(main_queue, u);
	}
}

START_TEST(s3fifo_order)
{
	struct queue small = { .n = 0 }, main_queue = { .n = 0 };
	struct world *w = malloc(sizeof(*w));
	uint64_t gone = 0;
	unsigned ghosts = 0;

	open_world(w, &mts_policy_s3fifo, 5);
	for (uint64_t i = 1; i <= 20000; i++) {
		struct user *u = &w->user[draw(w, 1 + draw(w, NODES))];

		if (u->inside) {
			u->uses += u->uses < 3;
		} else {
			bool known = u->used && gone - u->used < main_queue.n;

			u->tokens = 100;
			u->uses = 0;
			queue_push(known ? &main_queue : &small, u);
			ghosts += known;
		}
		touch(w, u, 100, false);
		if (w->inside < NODES / 2)
			continue;
		u = s3_victim(&small, &main_queue);
		ck_assert_ptr_eq(user_of(w->policy->victim(w->state, NULL)), u);
		leave(w, u);
		u->used = ++gone;
	}
	ck_assert_uint_gt(ghosts, 0);
	w->policy->close(w->state);
	free(w);
}
END_TEST

/* ---- idle periods ---- */

#define PERIODS 6000

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Kept from idle time t until it stops paying, straight from the definition. */
static double worth_of(const double *gap, unsigned n, double t)
{
	double best = 0, time = 0;
	unsigned first = 0, i;

	while (first < n && gap[first] <= t)
		first++;
	for (i = first; i < n; i++) {
		double uses = i - first + 1, stay;

		time += gap[i] - t;
		stay = time + (n - i - 1) * (gap[i] - t);
		if (stay > 0 && uses / stay > best)
			best = uses / stay;
	}
	return best;
}

/* Pauses about a minute long, one in eight an hour: worth rises, peaks and falls. */
START_TEST(worth_by_definition)
{
	static const uint8_t lean_on[] = { 0 };
	static double gap[PERIODS];
	struct world w = { .random = 6 };
	struct mts_idle *s;

	ck_assert_int_eq(mts_idle_open(1, 1, lean_on, &s), 0);
	for (unsigned i = 0; i < PERIODS; i++) {
		double u = (double)(1 + draw(&w, 1000)) / 1000;

		gap[i] = draw(&w, 8) ? 40 + 60 * u : 3600 * (1 + u);
		mts_idle_begin(s, 0, w.now);
		mts_idle_over(s, 0, w.now, w.now + (uint64_t)(gap[i] * SECOND), true);
		w.now += (uint64_t)(gap[i] * SECOND);
	}
	mts_idle_begin(s, 0, w.now); /* the fit of the last periods */
	qsort(gap, PERIODS, sizeof(gap[0]), by_value);
	for (double t = 1; t < 7000; t *= 1.3) {
		double want = worth_of(gap, PERIODS, t);
		double have = mts_idle_worth(s, 0, (uint64_t)(t * SECOND));

		/* Buckets are a fifth wide, and worth past the peak never rises again. */
		if (t < 50)
			ck_assert_msg(fabs(have / want - 1) < 0.35, "%g s: %g, not %g", t, have, want);
		if (t > 130)
			ck_assert_double_lt(have, mts_idle_worth(s, 0, SECOND));
	}
	ck_assert_double_gt(mts_idle_worth(s, 0, 40 * SECOND), mts_idle_worth(s, 0, SECOND));
	mts_idle_close(s);
}
END_TEST

/* Most never come back: those still away count, although nothing ever ended them. */
START_TEST(open_periods_count)
{
	static const uint8_t lean_on[] = { 0 };
	uint64_t now = 0;
	struct mts_idle *s;

	ck_assert_int_eq(mts_idle_open(1, 1, lean_on, &s), 0);
	for (unsigned i = 0; i < PERIODS; i++) {
		now += SECOND;
		mts_idle_begin(s, 0, now);
		if (i % 10 == 0)
			mts_idle_over(s, 0, now, now + 10 * SECOND, true);
	}
	/* A tenth come back, after 10 s: 0.1 uses in 10 s, no more than a fifth off by the buckets. */
	ck_assert_double_eq_tol(mts_idle_worth(s, 0, SECOND), 0.011, 0.003);
	ck_assert_double_lt(mts_idle_worth(s, 0, 60 * SECOND), 1e-6);
	mts_idle_close(s);
}
END_TEST

/* ---- what locality makes of them ---- */

/* Users come once a minute; the last eight users before stay. Returns hits of n rounds. */
static unsigned rounds(struct world *w, unsigned users, unsigned room, unsigned n)
{
	unsigned hits = 0;

	for (unsigned r = 0; r < n; r++)
		for (unsigned i = 0; i < users; i++) {
			struct user *u = &w->user[i];

			w->now += 60 * SECOND / users;
			hits += u->inside;
			while (!u->inside && w->inside >= room)
				leave(w, user_of(w->policy->victim(w->state, NULL)));
			touch(w, u, 100, false);
		}
	return hits;
}

/* Where LRU never hits, all places but one keep their users. */
START_TEST(pins_what_comes_round)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, &mts_policy_lru, 1);
	ck_assert_uint_eq(rounds(w, NODES, NODES / 2, 100), 0);
	w->policy->close(w->state);
	open_world(w, &mts_policy_locality, 1);
	rounds(w, NODES, NODES / 2, 100);
	ck_assert_uint_ge(rounds(w, NODES, NODES / 2, 100), 100 * (NODES / 2 - 1));
	w->policy->close(w->state);
	free(w);
}
END_TEST

START_TEST(ended_goes_first_expected_last)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_policy_node *n;

	open_world(w, &mts_policy_locality, 1);
	rounds(w, NODES, NODES, 200);
	w->now += SECOND;
	w->policy->session_end(w->state, &w->user[5].node, w->now);
	w->policy->session_end(w->state, &w->user[9].node, w->now + 1);
	n = w->policy->victim(w->state, NULL);
	ck_assert_ptr_eq(n, &w->user[9].node);
	ck_assert_ptr_eq(w->policy->victim(w->state, n), &w->user[5].node);
	/* Told again to be expected, it is no longer among the first. */
	touch(w, &w->user[9], 100, true);
	n = w->policy->victim(w->state, NULL);
	ck_assert_ptr_eq(n, &w->user[5].node);
	ck_assert_ptr_ne(w->policy->victim(w->state, n), &w->user[9].node);
	w->policy->close(w->state);
	free(w);
}
END_TEST

START_TEST(names)
{
	for (unsigned i = 0; mts_policies[i]; i++) {
		ck_assert_ptr_eq(mts_policy_find(mts_policies[i]->name), mts_policies[i]);
		ck_assert_ptr_nonnull(strstr(mts_policy_names(), mts_policies[i]->name));
	}
	ck_assert_ptr_null(mts_policy_find("belady"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("policy");
	TCase *c = tcase_create("policy");
	int policies = 0, failed;
	SRunner *r;

	while (mts_policies[policies])
		policies++;
	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, no_node_lost_or_twice, 0, policies);
	tcase_add_test(c, lru_order);
	tcase_add_test(c, gdsf_order);
	tcase_add_test(c, s3fifo_order);
	tcase_add_test(c, worth_by_definition);
	tcase_add_test(c, open_periods_count);
	tcase_add_test(c, pins_what_comes_round);
	tcase_add_test(c, ended_goes_first_expected_last);
	tcase_add_test(c, names);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
