/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Draws what a replay found, by gnuplot. Each picture is one script with its data inside, which stays
 * beside the picture, so that either can be looked at. Floor: cmd. One thread.
 *
 *   latency   share of requests that took longer, by mode: the tail is what one looks for
 *   hits      tokens by where they came from, over the time of the trace
 *   stages    mean time of a request by stage, by mode
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/replay.h"
#include "error.h"

extern char **environ;

/* Distinct also to the colour-blind. */
static const char *const mode_colours[MTS_MODES] = { "#000000", "#d55e00", "#0072b2", "#009e73" };
static const char *const stage_colours[MTS_STAGES] = { "#999999", "#f0e442", "#56b4e9",
						       "#d55e00", "#0072b2", "#cc79a7" };

/* ---- gnuplot ---- */

/* Runs gnuplot with one argument, its standard output thrown away: its status, or -errno. */
static int run_gnuplot(const char *argument)
{
	char *const argv[] = { (char *)"gnuplot", (char *)argument, NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int ret, status;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	ret = -posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		return ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

int mts_replay_plot_check(struct mts_error *err)
{
	if (!run_gnuplot("--version"))
		return 0;
	mts_error_set(err, "--plot: gnuplot cannot be run; on Debian install gnuplot-nox");
	return -ENOENT;
}

static FILE *open_script(const char *dir, const char *name, const char *title, struct mts_error *err)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.gp", dir, name);
	f = fopen(path, "we");
	if (!f) {
		mts_error_set(err, "--plot %s: %s", path, strerror(errno));
		return NULL;
	}
	fprintf(f, "set terminal svg size 900,520 font 'sans-serif,14' background 'white'\n"
		"set output '%s.svg'\nset title '%s'\nset grid lw 0.5 lc rgb '#cccccc'\n"
		"set key outside bottom center horizontal noenhanced\nset bmargin 8\n", name, title);
	return f;
}

/* Closes the script and runs it; gnuplot's own complaints go to standard error. */
static int draw(const char *dir, const char *name, FILE *f, struct mts_error *err)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), ret = 0;
	char script[32];

	snprintf(script, sizeof(script), "%s.gp", name);
	if (fflush(f) || ferror(f))
		ret = -EIO;
	if (fclose(f) || home < 0)
		ret = ret ? ret : -errno;
	if (!ret && chdir(dir)) /* names in the script are relative, so that the folder can move */
		ret = -errno;
	if (!ret)
		ret = run_gnuplot(script) ? -EIO : 0;
	if (home >= 0) {
		if (fchdir(home) && !ret)
			ret = -errno;
		close(home);
	}
	if (ret)
		mts_error_set(err, "--plot %s/%s: gnuplot failed: %s", dir, script, strerror(-ret));
	return ret;
}

/* ---- the pictures ---- */

/* Points of a tail, evenly spaced on its logarithmic axis, to the last request. */
static void write_tail(FILE *f, const struct mts_histogram *h)
{
	for (double beyond = 1; beyond * (double)h->count >= 1; beyond /= 1.1)
		fprintf(f, "%.6g %.6g\n", (double)mts_histogram_quantile(h, 1 - beyond) * 1e-6, beyond);
}

static int draw_latency(const struct mts_replay_options *o, const struct mts_replay_result *r,
			struct mts_error *err)
{
	FILE *f = open_script(o->plot, "latency", "How many requests take longer", err);
	const char *comma = "";

	if (!f)
		return -EIO;
	for (unsigned m = 0; m < MTS_MODES; m++) {
		if (!r->mode[m].ran)
			continue;
		fprintf(f, "$%s << EOD\n", mts_mode_names[m]);
		write_tail(f, &r->mode[m].latency);
		fprintf(f, "EOD\n");
	}
	fprintf(f, "set logscale xy\nset xlabel 'latency, ms'\nset ylabel 'share of requests'\n"
		"set format y '%%g'\nset yrange [:1.2]\nplot ");
	for (unsigned m = 0; m < MTS_MODES; m++) {
		if (!r->mode[m].ran)
			continue;
		fprintf(f, "%s$%s using 1:2 with lines lw 2.5 lc rgb '%s' title '%s'", comma,
			mts_mode_names[m], mode_colours[m], mts_mode_names[m]);
		comma = ", ";
	}
	fprintf(f, "\n");
	return draw(o->plot, "latency", f, err);
}

static double percent(uint64_t part, uint64_t all)
{
	return all ? 100.0 * (double)part / (double)all : 0;
}

/* The mode whose tiers are shown: the one that has them, or what else ran. */
static enum mts_mode shown_mode(const struct mts_replay_result *r)
{
	static const enum mts_mode order[] = { MTS_HIERARCHICAL, MTS_DEVICE_ONLY, MTS_UNBOUNDED };

	for (unsigned i = 0; i < 3; i++)
		if (r->mode[order[i]].ran)
			return order[i];
	return MTS_RECOMPUTE;
}

static void write_hits(FILE *f, const struct mts_replay_trace *t, const struct mts_replay_result *r,
		       const struct mts_mode_result *m)
{
	for (unsigned s = 0; s < r->segments; s++) {
		const struct mts_hits *h = &m->segment_hit[s];
		size_t last = t->n * (s + 1) / r->segments - 1;

		fprintf(f, "%.4f %.3f %.3f\n",
			(double)(t->req[last].t.time_ms - t->req[0].t.time_ms) / 6e4,
			percent(h->token_device, h->tokens),
			percent(h->token_device + h->token_host, h->tokens));
	}
}

/* The shown mode as areas, what others have on the device as lines. */
static int draw_hits(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		     const struct mts_replay_result *r, struct mts_error *err)
{
	FILE *f = open_script(o->plot, "hits", "Where history tokens come from", err);
	enum mts_mode shown = shown_mode(r);

	if (!f)
		return -EIO;
	for (unsigned m = 0; m < MTS_MODES; m++) {
		fprintf(f, "$%s << EOD\n", mts_mode_names[m]);
		if (r->mode[m].ran)
			write_hits(f, t, r, &r->mode[m]);
		fprintf(f, "EOD\n");
	}
	fprintf(f, "set xlabel 'trace time at the end of each segment, minutes'\n"
		"set ylabel 'history tokens, %%'\nset yrange [0:100]\nset xrange [*:*] noextend\nset style fill solid 0.55 noborder\n"
		"plot $%s using 1:(100) with filledcurves y1=0 lc rgb '#cccccc' title '%s: computed', "
		"'' using 1:3 with filledcurves y1=0 lc rgb '#e69f00' title 'from the host', "
		"'' using 1:2 with filledcurves y1=0 lc rgb '#0072b2' title 'on the device'",
		mts_mode_names[shown], mts_mode_names[shown]);
	for (unsigned m = MTS_DEVICE_ONLY; m < MTS_MODES; m++)
		if (m != shown && r->mode[m].ran)
			fprintf(f, ", $%s using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc rgb '%s' "
				"title '%s, on the device'", mts_mode_names[m], mode_colours[m],
				mts_mode_names[m]);
	fprintf(f, "\n");
	return draw(o->plot, "hits", f, err);
}

static double mean_ms(const struct mts_histogram *h)
{
	return h->count ? (double)h->sum / (double)h->count * 1e-6 : 0;
}

static int draw_stages(const struct mts_replay_options *o, const struct mts_replay_result *r,
		       struct mts_error *err)
{
	FILE *f = open_script(o->plot, "stages", "Mean time of a request by stage", err);

	if (!f)
		return -EIO;
	fprintf(f, "$stages << EOD\nmode");
	for (unsigned i = 0; i < MTS_STAGES; i++)
		fprintf(f, " \"%s\"", mts_stage_names[i]);
	fprintf(f, "\n");
	for (unsigned m = 0; m < MTS_MODES; m++) {
		if (!r->mode[m].ran)
			continue;
		fprintf(f, "\"%s\"", mts_mode_names[m]);
		for (unsigned i = 0; i < MTS_STAGES; i++)
			fprintf(f, " %.6g", mean_ms(&r->mode[m].stage[i]));
		fprintf(f, "\n");
	}
	fprintf(f, "EOD\nset style data histograms\nset style histogram rowstacked\n"
		"set style fill solid 0.9 border rgb 'white'\nset boxwidth 0.6\nset ylabel 'ms'\n"
		"set xtics noenhanced\nset yrange [0:]\nplot ");
	for (unsigned i = 0; i < MTS_STAGES; i++)
		fprintf(f, "%s$stages using %u:xtic(1) lc rgb '%s' title columnheader", i ? ", " : "",
			i + 2, stage_colours[i]);
	fprintf(f, "\n");
	return draw(o->plot, "stages", f, err);
}

int mts_replay_plot(const struct mts_replay_options *o, const struct mts_replay_trace *t,
		    const struct mts_replay_result *r, struct mts_error *err)
{
	int ret = mkdir(o->plot, 0777) && errno != EEXIST ? -errno : 0;

	if (ret) {
		mts_error_set(err, "--plot %s: %s", o->plot, strerror(-ret));
		return ret;
	}
	ret = draw_latency(o, r, err);
	if (!ret)
		ret = draw_hits(o, t, r, err);
	return ret ? ret : draw_stages(o, r, err);
}
