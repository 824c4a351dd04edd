/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batching: which rows of which active jobs go into the next pass.
 *
 * Floor: engine. Thread: the engine's.
 *
 * Short rests (they fit into a quarter of a pass) go first, whole, in order of admission. Long ones
 * are cut into chunks and get the room that is left, so that a long encode holds up a hit by one chunk
 * at most. How long a chunk may take depends on how long no quick request has come: twice what one of
 * them costs while they come thick, a whole pass when none is to be expected. While there are short
 * ones in every pass, long ones save up an eighth of the time, and go along when that makes a chunk.
 *
 * A job whose load is under way goes into a pass when the load should be over by the time the pass has
 * run: in front of that, it would stop the compute queue, and everybody in it.
 */
#include "engine/engine.h"

#define SLOW_SHARE 0.125
#define LEAST_CHUNK 64u /* rows; the kernels work on tiles of that many */

static uint32_t rows_left(const struct mts_job *j)
{
	uint32_t hole = j->cursor < j->hole ? j->hole_end - j->hole : 0;

	return j->visible - j->cursor - hole + j->req.ncandidates - j->scored;
}

/* Whether its next rows see loaded keys; those before the hole do not. */
static bool needs_load(const struct mts_job *j)
{
	return j->loads && j->cursor >= j->hole_end;
}

static double span_pairs(const struct mts_span *p)
{
	return mts_price_pairs(p->begin, p->history, p->candidates, p->v);
}

static void fill_rows(struct mts_step *step, const struct mts_job *j, const struct mts_span *span,
		      uint32_t first_candidate)
{
	const struct mts_history *h = &j->req.history;
	const struct mts_event *e = h->events + (mts_lease_match(j->lease)->start - h->first) +
				    span->begin;
	uint32_t r = span->row;

	for (uint32_t i = 0; i < span->history; i++, r++) {
		step->item[r] = e[i].item;
		step->action[r] = e[i].action;
	}
	for (uint32_t i = 0; i < span->candidates; i++, r++) {
		step->item[r] = j->req.candidates[first_candidate + i];
		step->action[r] = 0;
	}
}

/* At most `budget` rows of j: new events first, candidates only once all events are stored. */
static struct mts_span next_span(const struct mts_job *j, uint32_t row, uint32_t budget)
{
	uint32_t upto = j->cursor < j->hole ? j->hole : j->visible;
	uint32_t events = upto - j->cursor, candidates = 0;

	if (events > budget)
		events = budget;
	if (j->cursor + events == j->visible) {
		candidates = j->req.ncandidates - j->scored;
		if (candidates > budget - events)
			candidates = budget - events;
	}
	return (struct mts_span){
		.row = row,
		.history = events,
		.candidates = candidates,
		.begin = j->cursor,
		.v = j->visible,
		.pages = mts_lease_pages(j->lease),
	};
}

static void add_part(struct mts_server *s, struct mts_step *step, struct mts_job *j,
		     uint32_t budget)
{
	struct mts_pass *p = &step->pass;
	struct mts_span *span = &step->span[p->spans];
	double pairs, cost;

	*span = next_span(j, p->rows, budget);
	fill_rows(step, j, span, j->scored);
	if (needs_load(j)) {
		step->ready[step->readies++] = j->lease->gates;
		j->loads = false;
	}
	step->part[p->spans] = (struct mts_part){ j, j->cursor + span->history, j->scored };
	pairs = span_pairs(span);
	cost = mts_price_rows(&s->price, span->history + span->candidates, pairs);
	step->pairs += pairs;
	step->cost_ns[j->pace] += cost;
	mts_engine_cost(s, j, j->cost_ns - cost);
	p->spans++;
	p->rows += span->history + span->candidates;
	p->candidates += span->candidates;
	j->cursor += span->history;
	if (j->cursor == j->hole)
		j->cursor = j->hole_end;
	j->scored += span->candidates;
	j->passes++;
	j->reply.passes++;
}

/* When a pass launched now would begin to run. */
static uint64_t pass_start(const struct mts_server *s, uint64_t now)
{
	return s->busy_ns > now && s->finished != s->launched ? s->busy_ns : now;
}

static bool may_run(const struct mts_server *s, const struct mts_job *j, uint64_t now)
{
	if (j->error || !rows_left(j))
		return false;
	return !needs_load(j) || pass_start(s, now) + (uint64_t)j->cost_ns >= j->loaded_ns;
}

/* When a job that may not run yet may. */
static uint64_t held_until(const struct mts_job *j)
{
	return j->loaded_ns - (uint64_t)j->cost_ns;
}

bool mts_engine_full(const struct mts_server *s, uint64_t now)
{
	uint32_t rows = 0, users = 0;
	const struct mts_job *j;

	TAILQ_FOREACH(j, &s->active, link)
		if (may_run(s, j, now)) {
			rows += rows_left(j);
			users++;
		}
	return users >= s->cfg.batch || rows >= s->cfg.step_tokens;
}

static bool is_long(const struct mts_server *s, const struct mts_job *j)
{
	return rows_left(j) > s->cfg.step_tokens / 4;
}

/* Whether a long job could run; notes when one that is held for its load may. */
static bool look_for_long(struct mts_server *s, uint64_t now)
{
	const struct mts_job *j;
	bool any = false;

	TAILQ_FOREACH(j, &s->active, link) {
		if (may_run(s, j, now))
			any |= is_long(s, j);
		else if (needs_load(j) && !j->error && held_until(j) < s->wake_ns)
			s->wake_ns = held_until(j);
	}
	return any;
}

static void fill_short(struct mts_server *s, struct mts_step *step, uint32_t users, uint32_t rows,
		       uint64_t now)
{
	struct mts_pass *p = &step->pass;
	struct mts_job *j;

	TAILQ_FOREACH(j, &s->active, link) {
		uint32_t left = rows_left(j);

		if (p->spans == users)
			return;
		if (may_run(s, j, now) && !is_long(s, j) && p->rows + left <= rows)
			add_part(s, step, j, left);
	}
}

/* Time that a chunk of a long job may take now. */
static double chunk_ns(const struct mts_server *s, uint64_t now)
{
	double quick = 2 * s->quick_ns, silence = (double)(now - s->quick_seen_ns) / 2;

	if (!s->quick_seen_ns)
		return 1e18;
	return quick > silence ? quick : silence;
}

static uint32_t chunk_rows(const struct mts_server *s, const struct mts_job *j, uint32_t room,
			   double ns)
{
	uint32_t rows = mts_price_fits(&s->price, j->cursor, ns);

	rows = rows < LEAST_CHUNK ? LEAST_CHUNK : rows - rows % LEAST_CHUNK;
	return rows < room ? rows : room;
}

static void fill_long(struct mts_server *s, struct mts_step *step, double ns, uint64_t now)
{
	uint32_t all = s->cfg.step_tokens;
	struct mts_pass *p = &step->pass;
	struct mts_job *j;

	TAILQ_FOREACH(j, &s->active, link) {
		uint32_t left = rows_left(j), rows;

		if (p->spans == s->cfg.batch || p->rows == all || ns <= 0)
			return;
		if (!is_long(s, j) || !may_run(s, j, now))
			continue;
		rows = chunk_rows(s, j, all - p->rows, ns);
		ns -= mts_price_rows(&s->price, rows, mts_price_pairs(j->cursor, rows, 0, 0));
		add_part(s, step, j, rows < left ? rows : left);
	}
}

uint32_t mts_engine_fill(struct mts_server *s, struct mts_step *step, uint64_t now)
{
	uint32_t users = s->cfg.batch, rows = s->cfg.step_tokens;
	struct mts_pass *p = &step->pass;
	double chunk = chunk_ns(s, now);
	bool any_long = look_for_long(s, now), owed;

	p->rows = p->spans = p->candidates = 0;
	step->readies = 0;
	step->pairs = 0;
	step->cost_ns[MTS_QUICK] = step->cost_ns[MTS_SLOW] = 0;
	owed = any_long && (s->credit_ns >= chunk || !mts_price_known(&s->price));
	fill_short(s, step, users - owed, rows - (owed ? rows / 4 : 0), now);
	if (!any_long)
		return p->rows;
	s->credit_ns += SLOW_SHARE * (step->cost_ns[MTS_QUICK] + step->cost_ns[MTS_SLOW]);
	if (!p->spans || owed || chunk > 1e17) {
		s->credit_ns = 0;
		fill_long(s, step, chunk, now);
	}
	return p->rows;
}
