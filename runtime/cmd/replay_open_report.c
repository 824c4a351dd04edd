/* SPDX-License-Identifier: Apache-2.0 */
/* What an open loop found, by class of request, as a table and as JSON. Floor: cmd. One thread. */
#include <inttypes.h>

#include "cmd/replay.h"

static double ms(const struct mts_histogram *h, double q)
{
	return (double)mts_histogram_quantile(h, q) * 1e-6;
}

static void print_line(FILE *f, const char *name, const struct mts_histogram *h)
{
	if (h->count)
		fprintf(f, "  %-16s%10" PRIu64 "%12.2f%12.2f%12.2f%12.2f\n", name, h->count, ms(h, 0.5),
			ms(h, 0.99), ms(h, 0.999), ms(h, 1));
}

static double goodput(const struct mts_mode_result *m)
{
	return (double)(m->requests - m->open.late) / ((double)m->ns * 1e-9);
}

static void print_mode(FILE *f, const char *name, const struct mts_mode_result *m)
{
	const struct mts_open_result *x = &m->open;

	fprintf(f, "%s: %" PRIu64 " requests came in %.1f s, %.1f a second served in time, %" PRIu64
		" refused, %" PRIu64 " turned away, %" PRIu64 " late; generator late by %.2f ms (p99)\n",
		name, x->offered, (double)m->ns * 1e-9, goodput(m), x->refused, x->turned_away, x->late,
		(double)x->late_ns_p99 * 1e-6);
	fprintf(f, "  %-16s%10s%12s%12s%12s%12s\n", "latency, ms", "requests", "p50", "p99", "p99.9",
		"max");
	for (int c = 0; c < MTS_CLASSES; c++)
		print_line(f, mts_class_names[c], &x->class[c]);
	print_line(f, "all served", &m->latency);
	fprintf(f, "\n");
}

void mts_replay_open_print(FILE *f, const struct mts_replay_options *o,
			   const struct mts_replay_result *r)
{
	if (o->rate > 0)
		fprintf(f, "open loop: %g requests a second, at random times", o->rate);
	else
		fprintf(f, "open loop: the trace's times, %g times as fast", o->speedup);
	if (o->deadline_ms > 0)
		fprintf(f, ", to be answered within %g ms", o->deadline_ms);
	fprintf(f, "\n\n");
	for (unsigned m = 0; m < MTS_MODES; m++)
		if (r->mode[m].ran)
			print_mode(f, mts_mode_names[m], &r->mode[m]);
}

static json_t *class_json(const struct mts_histogram *h)
{
	return json_pack("{s:I,s:{s:f,s:f,s:f,s:f}}", "requests", (json_int_t)h->count, "latency_ms",
			 "p50", ms(h, 0.5), "p99", ms(h, 0.99), "p999", ms(h, 0.999), "max", ms(h, 1));
}

json_t *mts_replay_open_json(const struct mts_mode_result *m)
{
	const struct mts_open_result *x = &m->open;
	json_t *o = json_pack("{s:I,s:f,s:I,s:I,s:I,s:f,s:f,s:{}}", "offered", (json_int_t)x->offered,
			      "offered_per_s", (double)x->offered / ((double)m->ns * 1e-9), "refused",
			      (json_int_t)x->refused, "turned_away", (json_int_t)x->turned_away, "late",
			      (json_int_t)x->late, "goodput_per_s", goodput(m), "generator_late_ms_p99",
			      (double)x->late_ns_p99 * 1e-6, "classes");

	for (int c = 0; c < MTS_CLASSES && o; c++)
		json_object_set_new(json_object_get(o, "classes"), mts_class_names[c],
				    class_json(&x->class[c]));
	return o;
}
