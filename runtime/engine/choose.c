/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load or recompute: where the K/V comes from that a user has on the host and not on the device.
 *
 * Floor: engine. Thread: the engine's.
 *
 *   on the device | on the host                   | new
 *   [0, device)   | recomputed [device, x) loaded [x, end) | [end, visible)
 *
 * Keys depend on earlier tokens only, so the older part can be recomputed while the newer one is still
 * on its way, and nothing else has to wait. Both ways are priced from what was measured; x is where
 * they take equally long, counting what stands before them in the compute queue and on the link:
 *
 *   compute   queue + recomputed + new
 *   load      queue + loaded + the new tokens of the last layer
 *
 * A busy link thus sends users to the processor and the other way round. x falls on a page.
 */
#include "engine/engine.h"

#define SPLIT_GAIN 0.95 /* a split must be this much better: it costs a pass */
#define LOOK_EVERY 64   /* plans without a load, until one loads a page to see what the link does */

struct ways {
	const struct mts_server *s;
	const struct mts_match *m;
	double queue_ns, link_ns; /* what stands before */
	double rest_ns;           /* the new tokens and candidates */
};

static double recompute_ns(const struct ways *w, uint32_t x)
{
	uint32_t n = x - w->m->device_tokens;

	return mts_price_rows(&w->s->price, n, mts_price_pairs(w->m->device_tokens, n, 0, 0));
}

static double compute_end(const struct ways *w, uint32_t x)
{
	return w->queue_ns + recompute_ns(w, x) + w->rest_ns;
}

static double load_end(const struct ways *w, uint32_t x)
{
	uint32_t end = w->m->device_tokens + w->m->host_tokens;

	if (x == end)
		return 0;
	return w->link_ns + mts_engine_load_ns(w->s, end - x) +
	       w->rest_ns / w->s->tier->kv.layout.layers;
}

static double end_ns(const struct ways *w, uint32_t x)
{
	double c = compute_end(w, x), l = load_end(w, x);

	return c > l ? c : l;
}

/* The page where the two ways meet: one end rises with x, the other falls. */
static uint32_t meeting(const struct ways *w)
{
	uint32_t T = w->s->tier->kv.layout.page_tokens, end = w->m->device_tokens + w->m->host_tokens;
	uint32_t low = w->m->device_tokens / T, high = (end + T - 1) / T;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (compute_end(w, mid * T) < load_end(w, mid * T))
			low = mid;
		else
			high = mid;
	}
	high = high * T < end ? high * T : end;
	return low * T >= w->m->device_tokens && end_ns(w, low * T) <= end_ns(w, high) ? low * T : high;
}

static uint32_t cheapest(const struct ways *w)
{
	uint32_t load = w->m->device_tokens, recompute = load + w->m->host_tokens, x = meeting(w);
	double by_load = end_ns(w, load), by_recompute = end_ns(w, recompute);
	uint32_t best = by_load <= by_recompute ? load : recompute;

	return end_ns(w, x) < SPLIT_GAIN * end_ns(w, best) ? x : best;
}

static uint32_t page_before(const struct mts_server *s, uint32_t tokens, uint32_t least)
{
	uint32_t T = s->tier->kv.layout.page_tokens, x = tokens ? (tokens - 1) / T * T : 0;

	return x > least ? x : least;
}

static uint32_t choose(struct mts_server *s, const struct mts_match *m, double queue_ns,
		       double link_ns, double rest_ns)
{
	struct ways w = { s, m, queue_ns, link_ns, rest_ns };
	uint32_t load = m->device_tokens, end = load + m->host_tokens, x;

	if (s->cfg.plan == MTS_PLAN_LOAD || !mts_price_known(&s->price))
		return load;
	x = cheapest(&w);
	if (x < end)
		s->unlinked = 0;
	else if (++s->unlinked >= LOOK_EVERY)
		x = page_before(s, end, load);
	return x;
}

uint32_t mts_engine_choose(struct mts_server *s, const struct mts_job *j, const struct mts_match *m,
			   double queue_ns, double link_ns)
{
	uint32_t begin = m->device_tokens, end = begin + m->host_tokens, c = j->req.ncandidates, x;
	double rest = mts_price_rows(&s->price, m->visible - end + c,
				     mts_price_pairs(end, m->visible - end, c, m->visible));

	/* With nothing to compute at the end, nobody would wait for the load. */
	if (!m->host_tokens || (!c && end == m->visible))
		return begin;
	if (s->cfg.plan == MTS_PLAN_RECOMPUTE)
		x = end;
	else if (s->cfg.plan == MTS_PLAN_SPLIT)
		x = page_before(s, begin + (m->host_tokens + 1) / 2, begin);
	else
		x = choose(s, m, queue_ns, link_ns, rest);
	return x;
}
