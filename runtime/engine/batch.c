/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batching: which rows of which active jobs go into the next pass.
 *
 * Floor: engine. Thread: the engine's.
 *
 * Short jobs (what is left of them fits into a quarter of a pass) go first, in order of admission;
 * long ones get the rest, in order, in chunks. While a long one is there, a quarter of the pass is
 * kept for it, so that neither kind starves the other.
 */
#include "engine/engine.h"

static uint32_t rows_left(const struct mts_job *j)
{
	return j->visible - j->cursor + j->req.ncandidates - j->scored;
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

/* Adds at most `budget` rows of j: new events first, candidates only once all events are stored. */
static void add_part(struct mts_step *step, struct mts_job *j, uint32_t budget)
{
	struct mts_pass *p = &step->pass;
	struct mts_span *span = &step->span[p->spans];
	uint32_t events = j->visible - j->cursor, candidates = 0;

	if (events > budget)
		events = budget;
	if (j->cursor + events == j->visible) {
		candidates = j->req.ncandidates - j->scored;
		if (candidates > budget - events)
			candidates = budget - events;
	}
	*span = (struct mts_span){
		.row = p->rows,
		.history = events,
		.candidates = candidates,
		.begin = j->cursor,
		.v = j->visible,
		.pages = mts_lease_pages(j->lease),
	};
	fill_rows(step, j, span, j->scored);
	if (j->loads)
		step->ready[step->readies++] = j->lease->gates;
	j->loads = false;
	step->part[p->spans] = (struct mts_part){ j, j->cursor + events, j->scored };
	p->spans++;
	p->rows += events + candidates;
	p->candidates += candidates;
	j->cursor += events;
	j->scored += candidates;
	j->passes++;
	j->reply.passes++;
}

uint32_t mts_engine_fill(struct mts_server *s, struct mts_step *step)
{
	uint32_t all = s->cfg.step_tokens, small = all / 4, kept = 0, left;
	struct mts_pass *p = &step->pass;
	struct mts_job *j;

	p->rows = p->spans = p->candidates = 0;
	step->readies = 0;
	TAILQ_FOREACH(j, &s->active, link)
		if (rows_left(j) > small && !j->error)
			kept = small;
	TAILQ_FOREACH(j, &s->active, link) {
		left = rows_left(j);
		if (!left || left > small || j->error || p->spans == s->cfg.batch)
			continue;
		if (p->rows + left + kept <= all)
			add_part(step, j, left);
	}
	TAILQ_FOREACH(j, &s->active, link) {
		left = rows_left(j);
		if (left <= small || j->error || p->spans == s->cfg.batch || p->rows == all)
			continue;
		add_part(step, j, all - p->rows < left ? all - p->rows : left);
	}
	return p->rows;
}
