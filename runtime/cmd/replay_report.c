/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what a replay found, as a table and as JSON with fixed names. Floor: cmd. One thread. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/replay.h"
#include "error.h"

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct mts_ratio mts_replay_ratio(const struct mts_replay_result *r, enum mts_mode over,
				  enum mts_mode under)
{
	const struct mts_mode_result *a = &r->mode[over], *b = &r->mode[under];
	struct mts_ratio out = { 0 };
	double *v = calloc(r->segments, sizeof(*v));
	unsigned n = 0;

	if (v && a->ran && b->ran)
		for (unsigned s = 0; s < r->segments; s++)
			if (a->warm_ns[s] && b->warm_ns[s])
				v[n++] = (double)a->warm_ns[s] / (double)b->warm_ns[s];
	if (n) {
		qsort(v, n, sizeof(*v), by_value);
		out = (struct mts_ratio){ true, n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2,
					  v[0], v[n - 1] };
	}
	free(v);
	return out;
}

static double share(uint64_t part, uint64_t all)
{
	return all ? (double)part / (double)all : 0;
}

static double ms(const struct mts_histogram *h, double q)
{
	return (double)mts_histogram_quantile(h, q) * 1e-6;
}

/* Largest difference of any mode to recompute. */
static double worst_diff(const struct mts_replay_result *r, uint64_t *differing)
{
	double worst = 0;

	*differing = 0;
	for (unsigned m = 0; m < MTS_MODES; m++) {
		if (r->mode[m].max_score_diff > worst)
			worst = r->mode[m].max_score_diff;
		*differing += r->mode[m].differing;
	}
	return worst;
}

/* ---- the table ---- */

typedef void (*cell_fn)(char *out, size_t size, const struct mts_mode_result *m);

static void cell_rate(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.1f", (double)m->requests / ((double)m->ns * 1e-9));
}

static void cell_p50(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.1f", ms(&m->latency, 0.5));
}

static void cell_p99(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.1f", ms(&m->latency, 0.99));
}

static void cell_token_device(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.2f", 100 * share(m->hit_warm.token_device, m->hit_warm.tokens));
}

static void cell_token_host(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.2f", 100 * share(m->hit_warm.token_host, m->hit_warm.tokens));
}

static void cell_token_any(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.2f", 100 * share(m->hit_warm.token_device + m->hit_warm.token_host,
						m->hit_warm.tokens));
}

static void cell_request_host(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.2f", 100 * share(m->hit_warm.request_host, m->hit_warm.requests));
}

static void cell_moves(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.2f", 100 * share(m->window_moves, m->requests));
}

static void cell_h2d(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.0f", (double)m->counters.bytes_h2d / 1048576.0);
}

static void cell_d2h(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.0f", (double)m->counters.bytes_d2h / 1048576.0);
}

static void cell_plan(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.1f", (double)m->counters.plan_ns_p50 * 1e-3);
}

static void cell_ways(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%" PRIu64 "/%" PRIu64 "/%" PRIu64, m->counters.plan_load,
		 m->counters.plan_recompute, m->counters.plan_split);
}

static void cell_diff(char *out, size_t size, const struct mts_mode_result *m)
{
	snprintf(out, size, "%.3g", m->max_score_diff);
}

static const struct row {
	const char *label;
	cell_fn cell;
} rows[] = {
	{ "requests per second", cell_rate },
	{ "latency p50, ms", cell_p50 },
	{ "latency p99, ms", cell_p99 },
	{ "warm token hits, device, %", cell_token_device },
	{ "warm token hits, host, %", cell_token_host },
	{ "warm token hits, any tier, %", cell_token_any },
	{ "warm requests with host hits, %", cell_request_host },
	{ "requests that moved the window, %", cell_moves },
	{ "MiB host to device", cell_h2d },
	{ "MiB device to host", cell_d2h },
	{ "loaded / recomputed / split", cell_ways },
	{ "plan per pass p50, us", cell_plan },
	{ "largest score difference", cell_diff },
};

static void print_ratio(FILE *f, const char *what, struct mts_ratio r, double scale,
			const char *unit)
{
	if (r.valid)
		fprintf(f, "%-36s%.2f%s   (%.2f .. %.2f over segments)\n", what, scale * r.median, unit,
			scale * r.min, scale * r.max);
}

void mts_replay_print(FILE *f, const struct mts_replay_options *o, const struct mts_replay_trace *t,
		      const struct mts_replay_result *r)
{
	uint64_t differing;
	double worst = worst_diff(r, &differing);
	char cell[32];

	fprintf(f, "device %s: %s\n", r->info.device, r->info.numerics);
	fprintf(f,
		"trace: %zu requests of %u users; footprint %.1f MiB; device memory %.1f MiB, "
		"host %.1f MiB (%s)\n",
		t->n, t->users, (double)r->footprint_bytes / 1048576.0,
		(double)r->device_bytes / 1048576.0, (double)r->host_bytes / 1048576.0,
		o->kv_bf16 ? "bf16 K/V" : "float32 K/V");
	if (r->host.arena[0])
		fprintf(f, "arena: %s, %.1f MiB%s%s\n", r->host.arena,
			(double)r->host.host_bytes / 1048576.0, r->host.arena_note[0] ? "; " : "",
			r->host.arena_note);
	fprintf(f, "\n%-36s", "");
	for (unsigned m = 0; m < MTS_MODES; m++)
		fprintf(f, "%14s", mts_mode_names[m]);
	fprintf(f, "\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fprintf(f, "%-36s", rows[i].label);
		for (unsigned m = 0; m < MTS_MODES; m++) {
			snprintf(cell, sizeof(cell), "-");
			if (r->mode[m].ran)
				rows[i].cell(cell, sizeof(cell), &r->mode[m]);
			fprintf(f, "%14s", cell);
		}
		fprintf(f, "\n");
	}
	fprintf(f, "\n");
	if (o->open_loop)
		mts_replay_open_print(f, o, r);
	print_ratio(f, "hierarchical over recompute", mts_replay_ratio(r, MTS_RECOMPUTE,
								       MTS_HIERARCHICAL), 1, "x");
	print_ratio(f, "hierarchical, share of unbounded", mts_replay_ratio(r, MTS_UNBOUNDED,
									     MTS_HIERARCHICAL),
		    100, "%");
	if (r->any_diff)
		fprintf(f, "scores: largest difference to recompute %.3g, requests with any "
			"differing bit %" PRIu64 "\n", worst, differing);
}

/* ---- JSON ---- */

static json_t *hits_json(const struct mts_hits *h)
{
	uint64_t any_req = h->request_device + h->request_host;

	return json_pack("{s:{s:f,s:f,s:n,s:f},s:{s:f,s:f,s:n,s:f}}", "token", "device",
			 share(h->token_device, h->tokens), "host",
			 share(h->token_host, h->tokens), "nvme", "any",
			 share(h->token_device + h->token_host, h->tokens), "request", "device",
			 share(h->request_device, h->requests), "host",
			 share(h->request_host, h->requests), "nvme", "any",
			 share(any_req, h->requests));
}

static json_t *latency_json(const struct mts_histogram *h)
{
	return json_pack("{s:f,s:f,s:f,s:f,s:f}", "p50", ms(h, 0.5), "p95", ms(h, 0.95), "p99",
			 ms(h, 0.99), "p999", ms(h, 0.999), "max", ms(h, 1));
}

/* How long each stage of a request is; the means add up to the mean latency. */
static json_t *stages_json(const struct mts_mode_result *m)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < MTS_STAGES; i++) {
		const struct mts_histogram *h = &m->stage[i];
		double mean = h->count ? (double)h->sum / (double)h->count * 1e-6 : 0;
		char key[32];

		snprintf(key, sizeof(key), "%s", mts_stage_names[i]);
		for (char *c = key; *c; c++)
			*c = *c == ' ' ? '_' : *c;
		json_object_set_new(o, key, json_pack("{s:f,s:f,s:f}", "mean", mean, "p50", ms(h, 0.5),
						      "p99", ms(h, 0.99)));
	}
	return o;
}

static json_t *mode_json(const struct mts_replay_options *options, const struct mts_mode_result *m)
{
	const struct mts_counters *c = &m->counters;
	double seconds = (double)m->ns * 1e-9;
	json_t *o;

	if (!m->ran)
		return json_null();
	o = json_pack("{s:I,s:I,s:f,s:f,s:o,s:o,s:o,s:{s:I,s:I,s:n,s:n},s:I}", "requests",
		      (json_int_t)m->requests, "warm_requests", (json_int_t)m->warm_requests,
		      "seconds", seconds, "requests_per_s", (double)m->requests / seconds,
		      "latency_ms", latency_json(&m->latency), "hit", hits_json(&m->hit), "hit_warm",
		      hits_json(&m->hit_warm), "bytes", "h2d", (json_int_t)c->bytes_h2d, "d2h",
		      (json_int_t)c->bytes_d2h, "nvme_read", "nvme_write", "window_moves",
		      (json_int_t)m->window_moves);
	if (!o)
		return NULL;
	json_object_set_new(o, "exposed_wait_over_copy",
			    c->copy_busy_ns ? json_real(share(m->compute_wait_ns, c->copy_busy_ns)) :
					      json_null());
	json_object_set_new(o, "plan_us_per_batch",
			    json_pack("{s:f,s:f}", "p50", (double)c->plan_ns_p50 * 1e-3, "p99",
				      (double)c->plan_ns_p99 * 1e-3));
	json_object_set_new(o, "stage_ms", stages_json(m));
	json_object_set_new(o, "plan",
			    json_pack("{s:I,s:I,s:I}", "load", (json_int_t)c->plan_load, "recompute",
				      (json_int_t)c->plan_recompute, "split",
				      (json_int_t)c->plan_split));
	if (options->open_loop)
		json_object_set_new(o, "open_loop", mts_replay_open_json(m));
	json_object_set_new(o, "window_moves_share", json_real(share(m->window_moves, m->requests)));
	json_object_set_new(o, "lost_tokens", json_integer((json_int_t)c->lost_tokens));
	json_object_set_new(o, "differing_requests", json_integer((json_int_t)m->differing));
	return o;
}

/* Of the process after each segment, and how much it grew over the second half of the run. */
static void set_memory(json_t *top, const struct mts_replay_result *r)
{
	uint64_t half = r->rss[(r->segments - 1) / 2], end = r->rss[r->segments - 1];
	json_t *list = json_array();

	for (unsigned s = 0; s < r->segments; s++)
		json_array_append_new(list, json_real((double)r->rss[s] / 1048576.0));
	json_object_set_new(top, "rss_mib", list);
	json_object_set_new(top, "rss_growth_mib", json_real(((double)end - (double)half) / 1048576.0));
}

static void set_ratio(json_t *top, const char *name, struct mts_ratio r)
{
	static const char *const suffix[3] = { "", "_min", "_max" };
	const double value[3] = { r.median, r.min, r.max };
	char key[64];

	for (int i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "%s%s", name, suffix[i]);
		json_object_set_new(top, key, r.valid ? json_real(value[i]) : json_null());
	}
}

json_t *mts_replay_json(const struct mts_replay_options *o, const struct mts_replay_trace *t,
			const struct mts_model_config *c, const struct mts_replay_result *r)
{
	json_t *top, *modes = json_object();
	uint64_t differing;
	double worst = worst_diff(r, &differing);

	for (unsigned m = 0; m < MTS_MODES; m++)
		json_object_set_new(modes, mts_mode_names[m], mode_json(o, &r->mode[m]));
	top = json_pack(
		"{s:{s:s,s:s},s:{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:s},"
		"s:{s:s,s:I,s:i,s:I,s:I,s:I,s:s,s:s},s:o}",
		"device", "name", r->info.device, "numerics", r->info.numerics, "model", "file",
		o->model, "layers", (int)c->layers, "d_model", (int)c->d, "heads", (int)c->heads,
		"d_qk", (int)c->dq, "d_v", (int)c->dv, "max_history", (int)c->max_history,
		"history_slide", (int)c->slide, "kv_dtype", o->kv_bf16 ? "bf16" : "f32", "trace",
		"file", o->trace, "requests", (json_int_t)t->n, "users", (int)t->users,
		"footprint_bytes", (json_int_t)r->footprint_bytes, "device_bytes",
		(json_int_t)r->device_bytes, "host_bytes", (json_int_t)r->host_bytes, "arena", r->host.arena,
		"arena_note", r->host.arena_note, "modes", modes);
	if (!top)
		return NULL;
	set_memory(top, r);
	set_ratio(top, "speedup_vs_recompute", mts_replay_ratio(r, MTS_RECOMPUTE, MTS_HIERARCHICAL));
	set_ratio(top, "share_of_unbounded", mts_replay_ratio(r, MTS_UNBOUNDED, MTS_HIERARCHICAL));
	/* Infinite (a NaN on one side only) has no JSON number: the largest one stands for it. */
	json_object_set_new(top, "max_abs_score_diff",
			    r->any_diff ? json_real(isinf(worst) ? 1e308 : worst) : json_null());
	return top;
}

int mts_replay_write_json(const char *path, const json_t *result, struct mts_error *err)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "w") : stdout;
	int ret = 0;

	if (!f || json_dumpf(result, f, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) ||
	    fputc('\n', f) == EOF || fflush(f))
		ret = errno ? -errno : -EIO;
	if (f && f != stdout && fclose(f) && !ret)
		ret = -errno;
	if (ret)
		mts_error_set(err, "--json %s: %s", path, strerror(-ret));
	return ret;
}

/* ---- requirements ---- */

/* The number at "a.b.c", or NaN. */
static double number_at(const json_t *o, const char *path, size_t n)
{
	char name[64];
	size_t k;

	while (o && n) {
		for (k = 0; k < n && path[k] != '.'; k++)
			;
		if (k >= sizeof(name))
			return NAN;
		memcpy(name, path, k);
		name[k] = '\0';
		o = json_object_get(o, name);
		k += k < n;
		path += k;
		n -= k;
	}
	return json_is_number(o) ? json_number_value(o) : NAN;
}

int mts_replay_require(const json_t *result, const char *text, struct mts_error *err)
{
	size_t name = strcspn(text, " <>"), gap = strspn(text + name, " ");
	const char *op = text + name + gap;
	double value, want;
	char *end = NULL;
	int above = !strncmp(op, ">=", 2);

	if (!above && strncmp(op, "<=", 2))
		op = NULL;
	want = op ? strtod(op + 2, &end) : 0;
	if (!op || end == op + 2 || *end) {
		mts_error_set(err, "--require \"%s\": expected NAME >= NUMBER or NAME <= NUMBER", text);
		return -EINVAL;
	}
	value = number_at(result, text, name);
	if (above ? value >= want : value <= want)
		return 0;
	mts_error_set(err, "required %s, but it is %g", text, value);
	return -ERANGE;
}
