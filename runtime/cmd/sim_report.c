/* SPDX-License-Identifier: Apache-2.0 */
/* What a simulation found: as a table, as JSON with fixed names, as curves. Floor: cmd. One thread. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/sim.h"
#include "error.h"

static double share(uint64_t part, uint64_t all)
{
	return all ? (double)part / (double)all : 0;
}

static double token_miss(const struct mts_sim_miss *m)
{
	return share(m->missed_tokens, m->tokens);
}

static double request_miss(const struct mts_sim_miss *m)
{
	return share(m->missed_requests, m->requests);
}

static unsigned hosts(const struct mts_sim_options *o)
{
	return o->hosts ? o->hosts : 1;
}

static const struct mts_sim_lane *lane(const struct mts_sim_options *o,
				       const struct mts_sim_result *r, unsigned device, unsigned host,
				       unsigned policy)
{
	return &r->lane[(device * hosts(o) + host) * o->policies + policy];
}

static double device_share(const struct mts_sim_options *o, const struct mts_sim_trace *t,
			   const struct mts_sim_result *r, unsigned device)
{
	return share(r->device_bytes[device], t->footprint_tokens * o->bytes_per_token);
}

/* ---- the table ---- */

static void print_lane(FILE *f, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		       const struct mts_sim_lane *l)
{
	fprintf(f, "  %-10s %10.4f %10.4f %12.4f %12.4f %12.1f %9.2f", o->policy[l->policy],
		token_miss(&l->warm), request_miss(&l->warm), token_miss(&l->all),
		request_miss(&l->all),
		(double)l->onloaded_tokens * (double)o->bytes_per_token * 0x1p-30,
		l->seconds > 0 ? (double)t->requests / l->seconds * 1e-6 : 0);
	if (l->too_large)
		fprintf(f, "  (%" PRIu64 " requests larger than the device)", l->too_large);
	fputc('\n', f);
}

void mts_sim_print(FILE *f, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		   const struct mts_sim_result *r)
{
	fprintf(f, "%" PRIu64 " requests of %" PRIu64 " users; footprint %" PRIu64
		" tokens, %.2f GiB; the trace read at %.2f M requests/s\n", t->requests, t->users,
		t->footprint_tokens,
		(double)t->footprint_tokens * (double)o->bytes_per_token * 0x1p-30,
		r->read_seconds > 0 ? (double)t->requests / r->read_seconds * 1e-6 : 0);
	for (unsigned d = 0; d < o->devices; d++)
		for (unsigned h = 0; h < hosts(o); h++) {
			fprintf(f, "\ndevice %.3f GiB (%.2f %%)", (double)r->device_bytes[d] * 0x1p-30,
				100 * device_share(o, t, r, d));
			if (o->hosts)
				fprintf(f, ", host %.3f GiB", (double)r->host_bytes[h] * 0x1p-30);
			fprintf(f, "\n  %-10s %10s %10s %12s %12s %12s %9s\n", "miss", "warm token",
				"request", "all: token", "request", "GiB onloaded", "M req/s");
			for (unsigned p = 0; p < o->policies; p++)
				print_lane(f, o, t, lane(o, r, d, h, p));
		}
}

/* ---- JSON ---- */

static json_t *json_miss(const struct mts_sim_miss *m)
{
	return json_pack("{s:f, s:f}", "token", token_miss(m), "request", request_miss(m));
}

static json_t *json_policies(const struct mts_sim_options *o, const struct mts_sim_result *r,
			     unsigned d, unsigned h)
{
	json_t *out = json_object();

	for (unsigned p = 0; p < o->policies; p++) {
		const struct mts_sim_lane *l = lane(o, r, d, h, p);

		json_object_set_new(
			out, o->policy[p],
			json_pack("{s:o, s:o, s:I, s:I, s:f}", "miss", json_miss(&l->all),
				  "miss_warm", json_miss(&l->warm), "bytes_h2d",
				  (json_int_t)(l->onloaded_tokens * o->bytes_per_token), "too_large",
				  (json_int_t)l->too_large, "seconds", l->seconds));
	}
	return out;
}

static json_t *json_runs(const struct mts_sim_options *o, const struct mts_sim_trace *t,
			 const struct mts_sim_result *r)
{
	json_t *runs = json_array();

	for (unsigned d = 0; d < o->devices; d++)
		for (unsigned h = 0; h < hosts(o); h++)
			json_array_append_new(
				runs,
				json_pack("{s:I, s:f, s:o, s:o}", "device_mem",
					  (json_int_t)r->device_bytes[d], "device_share",
					  device_share(o, t, r, d), "host_mem",
					  o->hosts ? json_integer((json_int_t)r->host_bytes[h]) :
						     json_null(),
					  "policies", json_policies(o, r, d, h)));
	return runs;
}

json_t *mts_sim_json(const struct mts_sim_options *o, const struct mts_sim_trace *t,
		     const struct mts_sim_result *r)
{
	return json_pack("{s:{s:s, s:I, s:I, s:I, s:f}, s:I, s:I, s:I, s:I, s:o}", "trace", "file",
			 o->trace, "requests", (json_int_t)t->requests, "users",
			 (json_int_t)t->users, "footprint_tokens", (json_int_t)t->footprint_tokens,
			 "read_seconds", r->read_seconds, "bytes_per_token",
			 (json_int_t)o->bytes_per_token, "page_tokens", (json_int_t)o->page_tokens,
			 "max_history", (json_int_t)o->max_history, "slide",
			 (json_int_t)o->slide, "runs", json_runs(o, t, r));
}

/* ---- curves ---- */

static void plot_data(FILE *g, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		      const struct mts_sim_result *r, double (*miss)(const struct mts_sim_miss *))
{
	for (unsigned h = 0; h < hosts(o); h++)
		for (unsigned p = 0; p < o->policies; p++) {
			for (unsigned d = 0; d < o->devices; d++)
				fprintf(g, "%.6g %.6g\n", 100 * device_share(o, t, r, d),
					miss(&lane(o, r, d, h, p)->warm));
			fputs("e\n", g);
		}
}

static void plot_curves(FILE *g, const struct mts_sim_options *o, const struct mts_sim_result *r)
{
	const char *between = "plot";

	for (unsigned h = 0; h < hosts(o); h++)
		for (unsigned p = 0; p < o->policies; p++) {
			fprintf(g, "%s '-' smooth unique with linespoints title '%s", between,
				o->policy[p]);
			if (o->hosts > 1)
				fprintf(g, ", host %.3g GiB", (double)r->host_bytes[h] * 0x1p-30);
			fputc('\'', g);
			between = ",";
		}
	fputc('\n', g);
}

static int plot_one(const char *dir, const char *what, const struct mts_sim_options *o,
		    const struct mts_sim_trace *t, const struct mts_sim_result *r,
		    double (*miss)(const struct mts_sim_miss *), struct mts_error *err)
{
	FILE *g = popen("gnuplot", "we");
	int status;

	if (!g) {
		mts_error_set(err, "--plot: cannot start gnuplot: %s", strerror(errno));
		return -errno;
	}
	fprintf(g, "set terminal svg size 720,480\nset output \"%s/miss-%s.svg\"\n", dir, what);
	fprintf(g, "set logscale x\nset yrange [0:*]\nset key top right\nset grid\n"
		"set xlabel 'device memory, %% of the footprint'\nset ylabel 'warm %s misses'\n", what);
	plot_curves(g, o, r);
	plot_data(g, o, t, r, miss);
	status = pclose(g);
	if (!status)
		return 0;
	mts_error_set(err, "--plot %s: gnuplot failed (status %d); is it installed?", dir, status);
	return -EIO;
}

int mts_sim_plot(const char *dir, const struct mts_sim_options *o, const struct mts_sim_trace *t,
		 const struct mts_sim_result *r, struct mts_error *err)
{
	int ret;

	/* The name goes into a gnuplot string. */
	if (strpbrk(dir, "\"\\\n")) {
		mts_error_set(err, "--plot: a folder name without quotes, backslashes and newlines "
			      "expected");
		return -EINVAL;
	}
	if (mkdir(dir, 0777) && errno != EEXIST) {
		mts_error_set(err, "--plot %s: %s", dir, strerror(errno));
		return -errno;
	}
	ret = plot_one(dir, "token", o, t, r, token_miss, err);
	return ret ? ret : plot_one(dir, "request", o, t, r, request_miss, err);
}
