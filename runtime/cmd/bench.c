/* SPDX-License-Identifier: Apache-2.0 */
/* What all benches share: the machine's line, samples, a metric's line (bench.h). Floor: cmd. */
#include "cmd/bench.h"

#include <errno.h>
#include <math.h>
#include <numa.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "error.h"
#include "model/model.h"

#define PARTS      8u  /* medians that show the drift */
#define RUNS_MIN   7u
#define RUNS_MAX   40u
#define RUNS_NS    5e9 /* time for one metric */
#define CLOCK_RUNS 2001

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int print_line(json_t *line)
{
	int ret = line ? 0 : -ENOMEM;

	if (!ret && (json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)) ||
		     putchar('\n') == EOF || fflush(stdout)))
		ret = -EIO;
	json_decref(line);
	return ret;
}

/* ---- the machine ---- */

static void cpu_model(char *out, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256], *colon;

	snprintf(out, size, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, size, "%s", colon + 2);
		break;
	}
	if (f)
		fclose(f);
}

static int usable_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) :
							 CPU_COUNT(&set);
}

/* Instruction set and GEMM library, as they are chosen for the shapes of one preset. */
static int numerics(const struct mts_bench *b, char *out, size_t size, struct mts_error *err)
{
	struct mts_device_config dc = { .threads = b->o->threads };
	struct mts_device_info info;
	struct mts_model_config c;
	struct mts_device *dev;
	int ret = mts_preset_config("kuairand", &(struct mts_preset_options){ 0 }, &c, err);

	if (!ret)
		ret = mts_device_cpu.open(&dc, &dev, err);
	if (ret)
		return ret;
	ret = mts_model_prepare(dev, &c, err);
	dev->ops->info(dev, &info);
	snprintf(out, size, "%s", info.numerics);
	dev->ops->close(dev);
	return ret;
}

static int print_machine(const struct mts_bench *b, struct mts_error *err)
{
	char cpu[128], chosen[160], *gemm;
	struct utsname os;
	long long memory = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	int ret = numerics(b, chosen, sizeof(chosen), err);

	if (ret)
		return ret;
	uname(&os);
	cpu_model(cpu, sizeof(cpu));
	gemm = strstr(chosen, ", ");
	if (gemm)
		*gemm = '\0';
	return print_line(json_pack(
		"{s:{s:s,s:i,s:I,s:i,s:s,s:s,s:s},s:s,s:I}", "machine", "cpu", cpu, "cores",
		usable_cores(), "memory_mib", (json_int_t)(memory >> 20), "nodes",
		numa_available() < 0 ? 0 : numa_max_node() + 1, "kernel", os.release, "isa", chosen,
		"gemm", gemm ? gemm + 2 : "", "mtserve", mts_version(), "clock_ns",
		(json_int_t)b->clock_ns));
}

int mts_bench_begin(struct mts_bench *b, struct mts_error *err)
{
	double ns[CLOCK_RUNS];

	for (int i = 0; i < CLOCK_RUNS; i++) {
		uint64_t start = mts_now();

		ns[i] = (double)(mts_now() - start);
	}
	qsort(ns, CLOCK_RUNS, sizeof(ns[0]), by_value);
	b->clock_ns = (uint64_t)ns[CLOCK_RUNS / 2];
	return print_machine(b, err);
}

/* ---- samples ---- */

double mts_bench_since(const struct mts_bench *b, uint64_t start)
{
	uint64_t ns = mts_now() - start;

	return ns > b->clock_ns ? (double)(ns - b->clock_ns) : 1;
}

unsigned mts_bench_runs(const struct mts_bench *b, double ns)
{
	double n = RUNS_NS / ns;

	if (b->o->runs)
		return b->o->runs;
	return n < RUNS_MIN ? RUNS_MIN : n > RUNS_MAX ? RUNS_MAX : (unsigned)n;
}

float *mts_bench_floats(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof(*p) + 63) / 64 * 64);

	for (size_t i = 0; p && i < n; i++)
		p[i] = (float)((i * 2654435761u >> 8) % 65536) / 65536 - 0.5f;
	return p;
}

/* Sorts n samples, the best first. */
static void sort(double *v, unsigned n, bool higher)
{
	qsort(v, n, sizeof(*v), by_value);
	for (unsigned i = 0; higher && i < n / 2; i++) {
		double t = v[i];

		v[i] = v[n - 1 - i];
		v[n - 1 - i] = t;
	}
}

/* The lowest and highest median of parts of the run. */
static void drift(const struct mts_metric *m, const double *sample, unsigned n, double *scratch,
		  double range[2])
{
	unsigned parts = n / 3 < PARTS ? n / 3 : PARTS;

	parts = parts ? parts : 1;
	range[0] = INFINITY;
	range[1] = -INFINITY;
	for (unsigned p = 0; p < parts; p++) {
		unsigned from = n * p / parts, to = n * (p + 1) / parts;
		double median;

		memcpy(scratch, sample + from, (to - from) * sizeof(*scratch));
		sort(scratch, to - from, m->higher);
		median = scratch[(to - from) / 2];
		range[0] = median < range[0] ? median : range[0];
		range[1] = median > range[1] ? median : range[1];
	}
}

static json_t *metric_line(const struct mts_bench *b, const struct mts_metric *m, const char *shape,
			   const double *sorted, const double range[2], unsigned n)
{
	double p50 = sorted[n / 2];
	json_t *line = json_pack("{s:s,s:s,s:s,s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:I}", "bench", b->name,
				 "metric", m->name, "shape", shape, "unit", m->unit, "better",
				 m->higher ? "higher" : "lower", "p0", sorted[0], "p50", p50, "p99",
				 sorted[(unsigned)(0.99 * (n - 1))], "p50_low", range[0], "p50_high",
				 range[1], "runs", (json_int_t)n);

	if (line && m->target > 0) {
		json_object_set_new(line, "target", json_real(m->target));
		json_object_set_new(line, "met",
				    json_boolean(m->higher ? p50 >= m->target : p50 <= m->target));
	}
	return line;
}

int mts_bench_print(const struct mts_bench *b, const struct mts_metric *m, const char *shape,
		    const double *sample, unsigned n)
{
	double *sorted = malloc(n * sizeof(*sorted)), range[2];
	int ret = -ENOMEM;

	if (sorted) {
		drift(m, sample, n, sorted, range);
		memcpy(sorted, sample, n * sizeof(*sorted));
		sort(sorted, n, m->higher);
		ret = print_line(metric_line(b, m, shape, sorted, range, n));
	}
	free(sorted);
	return ret;
}

int mts_bench_print_one(const struct mts_bench *b, const struct mts_metric *m, const char *shape,
			double value)
{
	return mts_bench_print(b, m, shape, &value, 1);
}
