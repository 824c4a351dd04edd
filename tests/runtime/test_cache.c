/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache as another inference engine would use it, checked by stamps: the K/V of a token is a hash
 * of the history up to it, so a byte that went astray shows at once. A manual device delays, reorders
 * and fails copies; invariants are checked after every step. What an operation does depends on the seed
 * and its number alone, so that a failing run can be tried again without some of the others: the
 * shortest list of operations that still fails is printed beside the seed.
 *
 *   MTS_SEED=N        another first seed        MTS_STEPS=N   more steps (default 8000 per variant)
 *   MTS_SHRINK=0      do not look for the shortest list
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "cache/tier.h"
#include "error.h"
#include "memory/device_manual.h"

#define LAYERS 2u
#define T      16u
#define DIM    4u
#define H      96u
#define S      32u
#define USERS  12u
#define LEASES 4u
#define LIFE   400u

struct person {
	uint32_t n;
	struct mts_event life[LIFE];
};

struct holding {
	struct mts_lease *lease;
	uint32_t person;
	struct mts_history h;
	struct mts_event seen[LIFE]; /* the history as it was when asked */
	uint64_t version;
	bool onloaded, loading;
};

struct world {
	uint64_t random;
	struct mts_manual *manual;
	struct mts_device *dev;
	struct mts_tier *tier;
	struct mts_pool_view pool;
	struct person person[USERS];
	struct holding holding[LEASES];
	uint64_t hits_device, hits_host, tokens, failures, versions;
	uint64_t seed;
};

static uint64_t draw(struct world *w, uint64_t below)
{
	/* SplitMix64 */
	uint64_t z = (w->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

/* What a run in a process of its own leaves behind. */
struct verdict {
	uint32_t at; /* operations done */
	bool whole;  /* it is the run as a whole that failed */
	char text[300];
};

static struct verdict *verdict; /* shared with that process; NULL: this is none */

#define fail_seed(w, ...)                                                                    \
	do {                                                                                   \
		char text_[300];                                                               \
		snprintf(text_, sizeof(text_), __VA_ARGS__);                                   \
		if (verdict) {                                                                 \
			memcpy(verdict->text, text_, sizeof(text_));                           \
			_exit(1);                                                              \
		}                                                                              \
		ck_abort_msg("seed %llu: %s", (unsigned long long)(w)->seed, text_);           \
	} while (0)

/* Whose order decides; random_operations takes each in turn. */
static const struct mts_policy *policy = &mts_policy_lru;

static void open_world(struct world *w, uint64_t seed, uint32_t pages, uint32_t host_pages)
{
	struct mts_device_config dc = { .threads = 1 };
	struct mts_tier_config tc = {
		.size = sizeof(tc),
		.layers = LAYERS,
		.heads = 1,
		.d_qk = DIM,
		.d_v = 2 * DIM,
		.page_tokens = T,
		.max_history = H,
		.slide = S,
		.version = { 1, 2 },
		.arena = "plain",
		.node = -1,
		.leases = LEASES,
	};
	struct mts_transfer_config rings = { .entries = 64, .slice_bytes = 1024, .lane_bytes = 2048 };
	size_t page = (size_t)LAYERS * T * 3 * DIM * 4;
	struct mts_error err = { "" };

	memset(w, 0, sizeof(*w));
	w->seed = w->random = seed;
	ck_assert_int_eq(mts_manual_open(seed, &w->manual), 0);
	dc.manual = rings.manual = w->manual;
	ck_assert_int_eq(mts_device_cpu.open(&dc, &w->dev, &err), 0);
	tc.device_bytes = pages * page;
	tc.host_bytes = host_pages * page;
	if (mts_tier_open_on(&tc, w->dev, policy, &rings, &w->tier, &err))
		fail_seed(w, "%s", err.text);
	mts_tier_pool(w->tier, &w->pool);
}

static void close_world(struct world *w)
{
	mts_tier_close(w->tier);
	mts_device_cpu.close(w->dev);
	mts_manual_close(w->manual);
}

/* ---- stamps ---- */

static float *cell(const struct world *w, const uint32_t *pages, uint32_t layer, uint32_t pos, bool v)
{
	char *page = (char *)w->pool.base + layer * w->pool.layer_stride +
		     pages[pos / T] * w->pool.page_bytes;

	return (float *)(page + (v ? T * DIM * 4 + (pos % T) * 2 * DIM * 4 : (pos % T) * DIM * 4));
}

static uint64_t stamp_next(uint64_t stamp, struct mts_event e)
{
	return XXH3_64bits_withSeed(&e, sizeof(e), stamp);
}

static void stamp_cells(uint64_t stamp, uint32_t layer, bool v, uint32_t *out, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = (uint32_t)XXH3_64bits_withSeed(&i, sizeof(i), stamp + 2 * layer + v);
}

static void write_token(const struct world *w, const uint32_t *pages, uint32_t pos, uint64_t stamp)
{
	uint32_t want[2 * DIM];

	for (uint32_t l = 0; l < LAYERS; l++)
		for (int v = 0; v < 2; v++) {
			stamp_cells(stamp, l, v, want, v ? 2 * DIM : DIM);
			memcpy(cell(w, pages, l, pos, v), want, (v ? 2 : 1) * DIM * 4);
		}
}

/* In the first `layers` layers. */
static void check_token(struct world *w, const struct holding *k, uint32_t pos, uint64_t stamp,
			uint32_t layers, const char *when)
{
	const uint32_t *pages = mts_lease_pages(k->lease);
	uint32_t want[2 * DIM];

	for (uint32_t l = 0; l < layers; l++)
		for (int v = 0; v < 2; v++) {
			stamp_cells(stamp, l, v, want, v ? 2 * DIM : DIM);
			if (memcmp(cell(w, pages, l, pos, v), want, (v ? 2 : 1) * DIM * 4))
				fail_seed(w, "%s: user %u layer %u position %u of %u has other bytes",
					  when, k->person, l, pos, k->lease->match.visible);
		}
}

/* What a history begins with: another model computes other bytes from the same events. */
static uint64_t stamp_first(uint64_t version, uint64_t start)
{
	return version * 1000003 + start * 77 + 5;
}

static void check_or_write(struct world *w, struct holding *k, uint32_t from, uint32_t to, bool write,
			   const char *when)
{
	const struct mts_match *m = mts_lease_match(k->lease);
	const struct mts_event *e = k->h.events + (m->start - k->h.first);
	uint64_t stamp = stamp_first(k->version, m->start);

	for (uint32_t pos = 0; pos < to; pos++) {
		stamp = stamp_next(stamp, e[pos]);
		if (pos < from)
			continue;
		if (write)
			write_token(w, mts_lease_pages(k->lease), pos, stamp);
		else
			check_token(w, k, pos, stamp, LAYERS, when);
	}
}

/* ---- operations ---- */

static struct mts_event draw_event(struct world *w)
{
	return (struct mts_event){ (uint32_t)draw(w, 1000), (uint32_t)draw(w, 8) };
}

static void change_history(struct world *w, struct person *p)
{
	uint32_t grow = (uint32_t)draw(w, draw(w, 8) ? 8 : 60), at;

	switch (draw(w, 24)) {
	case 0: /* events deleted at the end */
		p->n -= (uint32_t)draw(w, p->n + 1) / 2;
		break;
	case 1: /* one rewritten */
		if (p->n)
			p->life[draw(w, p->n)] = draw_event(w);
		break;
	case 2: /* one deleted from the middle */
		if (p->n) {
			at = (uint32_t)draw(w, p->n);
			memmove(&p->life[at], &p->life[at + 1], (p->n - at - 1) * sizeof(p->life[0]));
			p->n--;
		}
		break;
	case 3: /* a page reload */
		break;
	default:
		while (grow-- && p->n < LIFE)
			p->life[p->n++] = draw_event(w);
	}
	if (p->n == LIFE)
		p->n = (uint32_t)draw(w, 30);
}

static struct holding *free_holding(struct world *w)
{
	for (unsigned i = 0; i < LEASES; i++)
		if (!w->holding[i].lease)
			return &w->holding[i];
	return NULL;
}

static bool is_held(const struct world *w, uint32_t person)
{
	for (unsigned i = 0; i < LEASES; i++)
		if (w->holding[i].lease && w->holding[i].person == person &&
		    w->holding[i].version == w->tier->cfg.version[1])
			return true;
	return false;
}

static void onload(struct world *w, struct holding *k)
{
	int ret = mts_tier_onload(w->tier, k->lease, draw(w, 100));

	if (ret == -EAGAIN) {
		mts_tier_release(w->tier, k->lease);
		k->lease = NULL;
		return;
	}
	if (ret)
		fail_seed(w, "onload: %s", strerror(-ret));
	k->onloaded = true;
	k->loading = k->lease->match.host_tokens > 0;
}

static void begin(struct world *w)
{
	struct holding *k = free_holding(w);
	uint32_t who = (uint32_t)draw(w, USERS);
	struct person *p = &w->person[who];
	uint64_t start;
	int ret;

	if (!k)
		return;
	if (!is_held(w, who))
		change_history(w, p);
	memcpy(k->seen, p->life, sizeof(k->seen));
	start = p->n > H ? (p->n - H + S - 1) / S * S : 0;
	start -= draw(w, start + 1) / 2; /* callers may pass more than is visible */
	k->h = (struct mts_history){ who, p->n, start, k->seen + start, p->n - (uint32_t)start, 0 };
	k->person = who;
	k->version = w->tier->cfg.version[1];
	k->loading = false;
	ret = mts_tier_reserve(w->tier, &k->h, &k->lease);
	if (is_held(w, who) && ret == -EBUSY)
		return;
	if (ret == -EAGAIN) {
		k->lease = NULL;
		return;
	}
	if (ret)
		fail_seed(w, "reserve: %s", strerror(-ret));
	w->tokens += k->lease->match.visible;
	w->hits_device += k->lease->match.device_tokens;
	w->hits_host += k->lease->match.host_tokens;
	k->onloaded = false;
	if (draw(w, 4)) /* or later, when others have been served */
		onload(w, k);
}

static void check_first_layers(struct world *w, struct holding *k, uint32_t layers)
{
	const struct mts_match *m = mts_lease_match(k->lease);
	const struct mts_event *e = k->h.events + (m->start - k->h.first);
	uint64_t stamp = stamp_first(k->version, m->start);

	for (uint32_t pos = 0; pos < m->device_tokens + m->host_tokens; pos++) {
		stamp = stamp_next(stamp, e[pos]);
		check_token(w, k, pos, stamp, layers, "gate open");
	}
}

/* Layers in order: each layer's bytes must be right as soon as its own gate is open. */
static int layers_arrived(struct world *w, struct holding *k)
{
	int error = 0;

	for (uint32_t l = 0; l < LAYERS && k->loading; l++)
		if (!mts_gate_poll(&k->lease->gates[l], &error) && !error)
			return -EAGAIN;
		else if (error)
			return error;
		else
			check_first_layers(w, k, l + 1);
	return 0;
}

static void finish(struct world *w, struct holding *k)
{
	const struct mts_match m = *mts_lease_match(k->lease);
	uint32_t cached = m.device_tokens + m.host_tokens, upto = cached;
	int ret;

	if (!k->onloaded) {
		onload(w, k);
		return;
	}
	if (!draw(w, 30)) { /* its caller has changed its mind */
		mts_tier_release(w->tier, k->lease);
		k->lease = NULL;
		return;
	}
	ret = layers_arrived(w, k);
	if (ret == -EAGAIN)
		return;
	if (ret || !draw(w, 40)) { /* a load failed, or the computation did */
		w->failures += ret != 0;
		mts_tier_abandon(w->tier, k->lease);
		k->lease = NULL;
		return;
	}
	check_or_write(w, k, 0, cached, false, "cached");
	while (upto < m.visible) {
		uint32_t next = upto + 1 + (uint32_t)draw(w, 2 * T);

		next = next < m.visible ? next : m.visible;
		check_or_write(w, k, upto, next, true, "");
		upto = next;
		if (draw(w, 3) && mts_tier_commit(w->tier, k->lease, upto))
			fail_seed(w, "commit %u of %u", upto, m.visible);
	}
	if (draw(w, 20) && mts_tier_commit(w->tier, k->lease, upto))
		fail_seed(w, "commit %u", upto);
	check_or_write(w, k, 0, upto, false, "computed");
	mts_tier_release(w->tier, k->lease);
	k->lease = NULL;
}

static void hint(struct world *w)
{
	uint64_t user = draw(w, USERS + 2);
	int ret;

	switch (draw(w, 4)) {
	case 0:
		ret = mts_tier_session_end(w->tier, user);
		break;
	case 1:
		ret = mts_tier_forget(w->tier, user);
		break;
	default:
		ret = mts_tier_prefetch(w->tier, user);
	}
	if (ret && ret != -EAGAIN && ret != -EBUSY && ret != -EINPROGRESS)
		fail_seed(w, "hint: %s", strerror(-ret));
}

/* As when the model is replaced: what was cached by another version must not be found. */
static void change_version(struct world *w)
{
	w->tier->cfg.version[1] ^= 1;
	w->versions++;
}

static void step(struct world *w, uint32_t number, bool faults)
{
	struct mts_error err;
	struct holding *k;

	w->random = w->seed * 0x2545f4914f6cdd1du + number;
	k = &w->holding[draw(w, LEASES)];
	switch (draw(w, 10)) {
	case 0: case 1: case 2:
		begin(w);
		break;
	case 3: case 4: case 5:
		if (k->lease)
			finish(w, k);
		break;
	case 6:
		if (!draw(w, 6))
			hint(w);
		else if (!draw(w, 12))
			change_version(w);
		break;
	case 7:
		if (faults && !draw(w, 8))
			mts_manual_fail(w->manual, draw(w, 2) ? MTS_FAIL_DONE : MTS_FAIL_COPY,
					1 + draw(w, 3), -EIO);
		mts_manual_advance(w->manual, draw(w, 1000));
		break;
	default:
		for (uint64_t i = draw(w, 24); i; i--)
			mts_manual_step(w->manual);
	}
	mts_tier_poll(w->tier);
	if (mts_tier_verify(w->tier, &err))
		fail_seed(w, "%s", err.text);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static const struct variant {
	const char *name;
	uint32_t pages, host_pages;
	bool faults;
} variants[] = {
	{ "room for all", 256, 512, false },
	{ "tight device", 14, 512, false },
	{ "tight device and host", 14, 40, false },
	{ "no host", 20, 0, false },
	{ "tight and failing", 14, 40, true },
	{ "room and failing", 40, 256, true },
};

/* The test must have met what it is about. */
static void check_met(struct world *w, const struct variant *v)
{
	struct mts_counters n;
	const char *missed = NULL;

	mts_tier_counters(w->tier, &n);
	if (!w->hits_device || !w->versions)
		missed = "device hits or versions";
	if (v->pages < 20 && v->host_pages && (!w->hits_host || !n.device_evictions))
		missed = "host hits or device evictions";
	if (v->host_pages && v->host_pages < 60 && !n.host_evictions)
		missed = "host evictions";
	if (v->faults && v->pages < 20 && !w->failures)
		missed = "failures";
	if (!missed)
		return;
	verdict->whole = true;
	fail_seed(w, "the run met no %s", missed);
}

struct run {
	const struct variant *v;
	uint64_t seed;
	uint32_t n, *op; /* which operations, in order */
	bool all;        /* none left out: what it met is checked */
};

static void run_operations(const struct run *r)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, r->seed, r->v->pages, r->v->host_pages);
	for (uint32_t i = 0; i < r->n; i++) {
		verdict->at = i;
		step(w, r->op[i], r->v->faults);
	}
	if (r->all)
		check_met(w, r->v);
	close_world(w);
	free(w);
}

/* In a process of its own, so that a crash is a result like any other: whether it failed. */
static bool fails(const struct run *r)
{
	int status;
	pid_t child;

	*verdict = (struct verdict){ 0 };
	fflush(stdout);
	child = fork();
	if (!child) {
		run_operations(r);
		exit(0); /* not _exit: a leak counts too */
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	if (status && !verdict->text[0])
		snprintf(verdict->text, sizeof(verdict->text), "died with status %#x", status);
	return status != 0;
}

/* Leaves out operations, many at once and then fewer, as long as the rest still fails. */
static void shrink(struct run *r)
{
	struct run less = *r;
	uint32_t tries = 0;

	less.op = malloc(r->n * sizeof(*less.op));
	less.all = false;
	for (uint32_t cut = r->n / 2; cut && tries < 1000; cut /= 2)
		for (uint32_t from = 0; from < r->n && tries < 1000; tries++) {
			uint32_t n = cut < r->n - from ? cut : r->n - from;

			memcpy(less.op, r->op, from * sizeof(*r->op));
			memcpy(less.op + from, r->op + from + n, (r->n - from - n) * sizeof(*r->op));
			less.n = r->n - n;
			if (fails(&less)) {
				memcpy(r->op, less.op, less.n * sizeof(*r->op));
				r->n = less.n;
			} else {
				from += n;
			}
		}
	free(less.op);
}

static void report(struct run *r)
{
	char first[300], list[600] = "";
	size_t at = 0;

	memcpy(first, verdict->text, sizeof(first));
	if (verdict->whole || !setting("MTS_SHRINK", 1))
		ck_abort_msg("%s, %s, seed %llu: %s", policy->name, r->v->name,
			     (unsigned long long)r->seed, first);
	r->n = verdict->at + 1 < r->n ? verdict->at + 1 : r->n;
	shrink(r);
	for (uint32_t i = 0; i < r->n && at < sizeof(list) - 12; i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, " %u", r->op[i]);
	r->all = false;
	fails(r);
	ck_abort_msg("%s, %s, seed %llu: %s; %u operations are enough (%s):%s", policy->name,
		     r->v->name, (unsigned long long)r->seed, first, r->n, verdict->text, list);
}

#define VARIANTS ((int)(sizeof(variants) / sizeof(variants[0])))
#define POLICIES 4

START_TEST(random_operations)
{
	uint32_t steps = (uint32_t)setting("MTS_STEPS", 8000) / 4;
	struct run r = { .v = &variants[_i % VARIANTS], .op = malloc(steps * sizeof(uint32_t)) };

	verdict = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(verdict, MAP_FAILED);
	policy = mts_policies[_i / VARIANTS];
	for (uint64_t round = 0; round < 4; round++) {
		r.seed = setting("MTS_SEED", 1) + round + 1000 * (uint64_t)(_i % VARIANTS);
		r.n = steps;
		r.all = true;
		for (uint32_t i = 0; i < steps; i++)
			r.op[i] = i;
		if (fails(&r))
			report(&r);
	}
	munmap(verdict, sizeof(*verdict));
	verdict = NULL;
	free(r.op);
}
END_TEST

/* Runs everything under way to its end. */
static void settle(struct world *w)
{
	for (int i = 0; i < 10000 && mts_tier_outstanding(w->tier); i++) {
		mts_manual_step(w->manual);
		mts_tier_poll(w->tier);
	}
	ck_assert_uint_eq(mts_tier_outstanding(w->tier), 0);
}

static void serve_as(struct world *w, uint32_t who, uint32_t n, uint32_t flags)
{
	struct holding *k = free_holding(w);
	struct person *p = &w->person[who];

	while (p->n < n)
		p->life[p->n++] = draw_event(w);
	memcpy(k->seen, p->life, sizeof(k->seen));
	k->h = (struct mts_history){ who, n, 0, k->seen, n, flags };
	k->person = who;
	k->version = w->tier->cfg.version[1];
	ck_assert_int_eq(mts_tier_reserve(w->tier, &k->h, &k->lease), 0);
	ck_assert_int_eq(mts_tier_onload(w->tier, k->lease, 0), 0);
	k->loading = k->lease->match.host_tokens > 0;
	while (layers_arrived(w, k) == -EAGAIN) {
		ck_assert(mts_manual_step(w->manual));
		mts_tier_poll(w->tier);
	}
	check_or_write(w, k, 0, k->lease->match.device_tokens + k->lease->match.host_tokens, false,
		       "cached");
	check_or_write(w, k, k->lease->match.device_tokens + k->lease->match.host_tokens, n, true, "");
	ck_assert_int_eq(mts_tier_commit(w->tier, k->lease, n), 0);
	mts_tier_release(w->tier, k->lease);
	k->lease = NULL;
}

static void serve(struct world *w, uint32_t who, uint32_t n)
{
	serve_as(w, who, n, 0);
}

static struct mts_match lookup(struct world *w, uint32_t who, uint32_t n)
{
	struct mts_history h = { who, n, 0, w->person[who].life, n, 0 };
	struct mts_match m;

	ck_assert_int_eq(mts_tier_lookup(w->tier, &h, &m), 0);
	return m;
}

/* Every byte of every tier that carries a stamp of the user is gone. */
static void check_erased(struct world *w, uint32_t who, uint32_t n)
{
	const uint32_t words = (uint32_t)(w->pool.layer_stride * LAYERS / 4);
	const uint32_t *pool = w->pool.base, *arena = (uint32_t *)w->tier->arena->base;
	uint64_t stamp = stamp_first(w->tier->cfg.version[1], 0);
	uint32_t want[DIM];

	for (uint32_t pos = 0; pos < n; pos++) {
		stamp = stamp_next(stamp, w->person[who].life[pos]);
		stamp_cells(stamp, 0, false, want, DIM);
		for (uint32_t i = 0; i < words; i++)
			ck_assert_uint_ne(pool[i], want[0]);
		for (size_t i = 0; i < w->tier->arena->bytes / 4; i++)
			ck_assert_uint_ne(arena[i], want[0]);
	}
}

START_TEST(forget_erases_every_tier)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_match m;
	int ret;

	open_world(w, 7, 14, 64);
	serve(w, 0, 50);
	settle(w);
	serve(w, 1, 90); /* pushes user 0 off the device */
	serve(w, 2, 90);
	settle(w);
	serve(w, 0, 53); /* a write-back of user 0 is under way now */
	ret = mts_tier_forget(w->tier, 0);
	ck_assert_int_eq(ret, -EINPROGRESS);
	m = lookup(w, 0, 50);
	ck_assert_uint_eq(m.device_tokens + m.host_tokens, 0);
	ck_assert_uint_eq(m.flags, MTS_REPLY_FIRST_VISIT);
	settle(w);
	ck_assert_int_eq(mts_tier_forget(w->tier, 0), 0);
	check_erased(w, 0, 53);
	close_world(w);
	free(w);
}
END_TEST

START_TEST(tail_pages_survive_eviction)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_match m;

	open_world(w, 8, 12, 64);
	for (uint32_t n = 20; n <= 45; n += 5) {
		serve(w, 0, n);
		settle(w);
		serve(w, 1, 90);
		serve(w, 2, 90);
		settle(w);
		m = lookup(w, 0, n);
		ck_assert_uint_eq(m.device_tokens + m.host_tokens, n);
		ck_assert_uint_gt(m.host_tokens, 0);
	}
	close_world(w);
	free(w);
}
END_TEST

START_TEST(moved_window_drops_everything)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_match m;

	open_world(w, 9, 64, 64);
	serve(w, 0, H);
	settle(w);
	m = lookup(w, 0, H);
	ck_assert_uint_eq(m.device_tokens, H);
	w->person[0].life[H] = draw_event(w);
	w->person[0].n++;
	m = lookup(w, 0, H + 1);
	ck_assert_uint_eq(m.start, S);
	ck_assert_uint_eq(m.visible, H + 1 - S);
	ck_assert_uint_eq(m.device_tokens + m.host_tokens, 0);
	ck_assert(m.flags & MTS_REPLY_WINDOW_MOVED);
	close_world(w);
	free(w);
}
END_TEST

/* What a refused request would have cut is still there when it comes again. */
START_TEST(a_refused_request_changes_nothing)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_lease *holder, *l;
	struct mts_history h;
	struct mts_match m;

	open_world(w, 12, 13, 64);
	serve(w, 0, 90); /* 6 pages */
	settle(w);
	h = (struct mts_history){ 1, 20, 0, w->person[1].life, 20, 0 };
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &holder), 0);
	serve(w, 2, 80); /* 5 pages; its write-back keeps them from being evicted */
	while (w->person[0].n <= H)
		w->person[0].life[w->person[0].n++] = draw_event(w);
	w->person[0].life[3] = draw_event(w);
	h = (struct mts_history){ 0, 95, 0, w->person[0].life, 95, 0 };
	m = lookup(w, 0, 95);
	ck_assert(m.flags & MTS_REPLY_DIVERGED);
	serve(w, 3, 32); /* pushes two pages of user 0 out: six are needed, five can be had */
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &l), -EAGAIN);
	m = lookup(w, 0, 95);
	ck_assert(m.flags & MTS_REPLY_DIVERGED);
	mts_tier_release(w->tier, holder);
	settle(w);
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &l), 0);
	ck_assert(mts_lease_match(l)->flags & MTS_REPLY_DIVERGED);
	mts_tier_release(w->tier, l);
	close_world(w);
	free(w);
}
END_TEST

/* Requests of one user may overtake each other: a shorter history comes after a longer one. */
START_TEST(an_older_request_comes_late)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_error err;
	struct mts_match m;

	for (uint32_t late = 1; late <= 50; late++) {
		open_world(w, late, 12, 64);
		serve(w, 0, 50);
		settle(w);
		serve(w, 1, 90);
		serve(w, 2, 90);
		settle(w);
		serve_as(w, 0, late, MTS_HISTORY_APPENDS);
		if (mts_tier_verify(w->tier, &err))
			fail_seed(w, "%s", err.text);
		m = lookup(w, 0, 50);
		ck_assert_uint_eq(m.device_tokens + m.host_tokens, 50);
		serve(w, 0, 55);
		settle(w);
		close_world(w);
	}
	free(w);
}
END_TEST

START_TEST(versions_do_not_see_each_other)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, 12, 64, 64);
	serve(w, 0, 50);
	settle(w);
	ck_assert_uint_eq(lookup(w, 0, 50).device_tokens, 50);
	for (int word = 0; word < 2; word++) {
		w->tier->cfg.version[word]++;
		ck_assert_uint_eq(lookup(w, 0, 50).flags, MTS_REPLY_FIRST_VISIT);
		w->tier->cfg.version[word]--;
	}
	change_version(w);
	serve(w, 0, 50); /* the same events, other bytes */
	settle(w);
	change_version(w);
	serve(w, 0, 50);
	ck_assert_uint_eq(lookup(w, 0, 50).device_tokens, 50);
	close_world(w);
	free(w);
}
END_TEST

/* The hashes of what was cut must not stay behind and speak for what is stored there next. */
START_TEST(an_edit_that_is_taken_back)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_event *e = &w->person[0].life[20];

	open_world(w, 13, 64, 64);
	for (int round = 0; round < 4; round++) {
		serve(w, 0, 90);
		settle(w);
		e->item ^= 1;
	}
	close_world(w);
	free(w);
}
END_TEST

START_TEST(a_request_waits_for_a_prefetch)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_lease *l;
	struct mts_history h;

	open_world(w, 14, 12, 64);
	serve(w, 0, 50);
	settle(w);
	serve(w, 1, 90);
	serve(w, 2, 90);
	settle(w);
	ck_assert_int_eq(mts_tier_forget(w->tier, 2), 0);
	ck_assert_int_eq(mts_tier_prefetch(w->tier, 0), 0);
	ck_assert_uint_gt(mts_tier_outstanding(w->tier), 0);
	w->person[0].life[20].item ^= 1; /* would store beside what the prefetch still writes */
	h = (struct mts_history){ 0, 50, 0, w->person[0].life, 50, 0 };
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &l), -EAGAIN);
	settle(w);
	serve(w, 0, 50);
	close_world(w);
	free(w);
}
END_TEST

/* Between reserve and onload others are served, and want the host's room. */
START_TEST(host_content_under_a_lease_stays)
{
	struct world *w = malloc(sizeof(*w));
	struct holding *k = &w->holding[0];

	open_world(w, 22, 12, 8);
	serve(w, 0, 40);
	settle(w);
	mts_device_cut(w->tier, mts_user_find(w->tier, 0), 0);
	k->h.flags = 0;
	k->version = w->tier->cfg.version[1];
	ck_assert_int_eq(mts_tier_reserve(w->tier, &k->h, &k->lease), 0);
	ck_assert_uint_eq(k->lease->match.host_tokens, 40);
	serve(w, 1, 90);
	settle(w);
	onload(w, k);
	settle(w);
	ck_assert_int_eq(layers_arrived(w, k), 0);
	check_or_write(w, k, 0, 40, false, "cached");
	mts_tier_release(w->tier, k->lease);
	k->lease = NULL;
	close_world(w);
	free(w);
}
END_TEST

START_TEST(a_failed_prefetch_gives_its_pages_back)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_error err;

	open_world(w, 21, 12, 64);
	serve(w, 0, 50);
	settle(w);
	serve(w, 1, 90);
	serve(w, 2, 90);
	settle(w);
	ck_assert_int_eq(mts_tier_forget(w->tier, 2), 0);
	mts_manual_fail(w->manual, MTS_FAIL_DONE, 1, -EIO);
	ck_assert_int_eq(mts_tier_prefetch(w->tier, 0), 0);
	settle(w);
	ck_assert_uint_eq(lookup(w, 0, 50).host_tokens, 50);
	if (mts_tier_verify(w->tier, &err))
		fail_seed(w, "%s", err.text);
	serve(w, 0, 50);
	close_world(w);
	free(w);
}
END_TEST

/* ---- what other systems got wrong, by name (Documentation/testing) ---- */

/* A full host drops users whole; none keeps a suffix on the device whose prefix is gone. */
START_TEST(host_never_drops_the_prefix_of_a_suffix)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_error err;
	struct mts_match m;

	open_world(w, 15, 30, 14);
	for (uint32_t round = 0; round < 12; round++) {
		serve(w, round % 5, 40 + 4 * round);
		settle(w);
		if (mts_tier_verify(w->tier, &err))
			fail_seed(w, "%s", err.text);
		for (uint32_t who = 0; who < 5; who++) {
			m = lookup(w, who, w->person[who].n);
			/* All of it, from somewhere, or nothing: what is lost is lost from its end. */
			ck_assert(m.device_tokens + m.host_tokens == m.visible ||
				  !m.device_tokens || m.device_tokens % T == 0);
		}
	}
	close_world(w);
	free(w);
}
END_TEST

START_TEST(a_shorter_or_other_history_stays_inside_the_page_table)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_error err;

	open_world(w, 16, 20, 64);
	for (uint32_t n = 96; n > 7; n -= 7) {
		w->person[0].life[n / 2].item ^= 1;
		serve(w, 0, n);
		ck_assert_uint_eq(lookup(w, 0, n).device_tokens, n);
		if (mts_tier_verify(w->tier, &err))
			fail_seed(w, "%s", err.text);
	}
	settle(w);
	close_world(w);
	free(w);
}
END_TEST

START_TEST(a_user_in_use_is_never_evicted)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_lease *held, *other;
	struct mts_history h;

	open_world(w, 17, 8, 64);
	serve(w, 0, 90);
	settle(w);
	h = (struct mts_history){ 0, 90, 0, w->person[0].life, 90, 0 };
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &held), 0);
	h = (struct mts_history){ 1, 90, 0, w->person[1].life, 90, 0 };
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &other), -EAGAIN);
	ck_assert_uint_eq(held->user->dev_len, 90);
	mts_tier_release(w->tier, held);
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &other), 0);
	mts_tier_release(w->tier, other);
	close_world(w);
	free(w);
}
END_TEST

/* Bytes of the host page beyond the last token are as they were: nobody else's came along. */
START_TEST(copies_end_where_the_tokens_end)
{
	struct world *w = malloc(sizeof(*w));
	uint32_t tokens = 20, row = DIM * 4;
	const unsigned char *page;

	open_world(w, 18, 8, 64);
	memset(w->pool.base, 0x5a, w->pool.layer_stride * LAYERS); /* the next user's data */
	serve(w, 0, tokens);
	settle(w);
	ck_assert_uint_eq(w->tier->users->host_len, tokens);
	for (uint32_t l = 0; l < LAYERS; l++) {
		page = (unsigned char *)mts_slot_address(w->tier, w->tier->users->host_slot[1], l);
		for (uint32_t i = tokens % T * row; i < T * row; i++)
			ck_assert_uint_eq(page[i], 0);
		for (uint32_t i = T * row + tokens % T * 2 * row; i < 3 * T * row; i++)
			ck_assert_uint_eq(page[i], 0);
	}
	close_world(w);
	free(w);
}
END_TEST

/* Read on the device only, for long; still the host knows that it is in use. */
START_TEST(readers_stay_on_the_host)
{
	struct world *w = malloc(sizeof(*w));
	uint32_t served;

	open_world(w, 19, 60, 20);
	serve(w, 0, 40);
	settle(w);
	for (served = 1; served < 6; served++) {
		serve(w, 0, 40); /* a read */
		serve(w, served, 60);
		settle(w);
	}
	ck_assert_uint_gt(w->tier->n.host_evictions, 0);
	ck_assert_uint_eq(mts_user_find(w->tier, 0)->host_len, 40);
	close_world(w);
	free(w);
}
END_TEST

START_TEST(what_is_lost_is_counted)
{
	struct world *w = malloc(sizeof(*w));

	open_world(w, 20, 8, 0);
	serve(w, 0, 90);
	ck_assert_uint_eq(w->tier->n.lost_tokens, 0);
	serve(w, 1, 90);
	ck_assert_uint_ge(w->tier->n.lost_tokens, 90 - 2 * T);
	ck_assert_uint_eq(w->tier->n.lost_tokens, 90 - lookup(w, 0, 90).device_tokens);
	close_world(w);
	free(w);
}
END_TEST

START_TEST(wrong_histories_are_refused)
{
	struct mts_event e[4] = { { 1, 1 } };
	struct mts_history bad[] = {
		{ 1, 4, 5, e, 4, 0 },	       /* first beyond n */
		{ 1, 4, 0, e, 3, 0 },	       /* first + count != n */
		{ 1, 4, 0, NULL, 4, 0 },       /* no array */
		{ 1, 4, 0, e, 4, 1u << 31 },   /* unknown flag */
		{ 1, H, 1, e, H - 1, 0 },      /* first beyond the window's start */
		{ 1, UINT64_MAX, UINT64_MAX - 4, e, 4, 0 },
	};
	struct world *w = malloc(sizeof(*w));
	struct mts_lease *l;

	open_world(w, 10, 64, 64);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(mts_tier_reserve(w->tier, &bad[i], &l), -EINVAL);
	close_world(w);
	free(w);
}
END_TEST

START_TEST(window_larger_than_the_pool)
{
	struct world *w = malloc(sizeof(*w));
	struct mts_lease *l;
	struct mts_history h;

	open_world(w, 11, 3, 64);
	h = (struct mts_history){ 1, 80, 0, w->person[0].life, 80, 0 };
	ck_assert_int_eq(mts_tier_reserve(w->tier, &h, &l), -ENOSPC);
	close_world(w);
	free(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache");
	TCase *c = tcase_create("cache");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 300);
	tcase_add_loop_test(c, random_operations, 0, POLICIES * VARIANTS);
	tcase_add_test(c, forget_erases_every_tier);
	tcase_add_test(c, tail_pages_survive_eviction);
	tcase_add_test(c, moved_window_drops_everything);
	tcase_add_test(c, a_refused_request_changes_nothing);
	tcase_add_test(c, an_older_request_comes_late);
	tcase_add_test(c, versions_do_not_see_each_other);
	tcase_add_test(c, an_edit_that_is_taken_back);
	tcase_add_test(c, a_request_waits_for_a_prefetch);
	tcase_add_test(c, host_content_under_a_lease_stays);
	tcase_add_test(c, a_failed_prefetch_gives_its_pages_back);
	tcase_add_test(c, host_never_drops_the_prefix_of_a_suffix);
	tcase_add_test(c, a_shorter_or_other_history_stays_inside_the_page_table);
	tcase_add_test(c, a_user_in_use_is_never_evicted);
	tcase_add_test(c, copies_end_where_the_tokens_end);
	tcase_add_test(c, readers_stay_on_the_host);
	tcase_add_test(c, what_is_lost_is_counted);
	tcase_add_test(c, wrong_histories_are_refused);
	tcase_add_test(c, window_larger_than_the_pool);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
