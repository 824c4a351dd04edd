/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench ring: how many entries a second go through the transfer's rings and scheduler when the
 * device does nothing: submit in batches, reap what is there. Filling the entries is in it, as a
 * caller has to fill them. Floor: cmd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cmd/bench.h"
#include "error.h"
#include "transfer/transfer.h"

enum { BATCH = 32, ENTRIES = 250000, REAP = 256, RUNS = 24 };

#define SEGMENTS 16384 /* more than can be outstanding: no two loads under way are equal */
#define TARGET   2e6

struct rings {
	struct mts_transfer *t;
	struct mts_segment *segment;
	uint64_t id;
};

static double cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return 1e9 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       1e3 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Three loads to one write-back, their deadlines in no order. */
static int submit(struct rings *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct mts_sqe *q = mts_transfer_get_sqe(r->t);
		uint64_t id = r->id + i;

		if (!q)
			break;
		q->op = id % 4 ? MTS_SQE_ONLOAD : MTS_SQE_WRITEBACK;
		q->segment = &r->segment[id % SEGMENTS];
		q->segments = 1;
		q->user_data = id;
		q->deadline_ns = 1 + id * 7919 % 1000;
	}
	return mts_transfer_submit(r->t);
}

static void pass(struct rings *r, unsigned entries)
{
	struct mts_cqe cqe[REAP];
	unsigned submitted = 0, reaped = 0, left;
	int n;

	while (reaped < entries) {
		left = entries - submitted;
		n = left ? submit(r, left < BATCH ? left : BATCH) : 0;
		if (n < 0)
			mts_transfer_abandon(r->t);
		if (n > 0) {
			submitted += (unsigned)n;
			r->id += (unsigned)n;
		} else {
			mts_transfer_wait(r->t, -1);
		}
		reaped += mts_transfer_reap(r->t, cqe, REAP);
	}
}

static int measure(struct mts_bench *b, struct rings *r)
{
	const struct mts_metric rate = { "operations", "1/s", true, TARGET };
	const struct mts_metric cost = { "CPU time of an operation", "ns", false, 0 };
	unsigned n = b->o->runs ? b->o->runs : RUNS;
	double *v = malloc(2 * n * sizeof(*v)), cpu;
	char shape[64];
	uint64_t start;
	int ret;

	if (!v)
		return -ENOMEM;
	pass(r, ENTRIES);
	for (unsigned i = 0; i < n; i++) {
		cpu = cpu_ns();
		start = mts_now();
		pass(r, ENTRIES);
		v[i] = ENTRIES / (mts_bench_since(b, start) * 1e-9);
		v[n + i] = (cpu_ns() - cpu) / ENTRIES;
	}
	snprintf(shape, sizeof(shape), "batches of %u, submit to reap", BATCH);
	ret = mts_bench_print(b, &rate, shape, v, n);
	if (!ret)
		ret = mts_bench_print(b, &cost, shape, v + n, n);
	free(v);
	return ret;
}

int mts_bench_ring(struct mts_bench *b, struct mts_error *err)
{
	struct mts_segment *seg = calloc(SEGMENTS, sizeof(*seg));
	struct mts_device_config dc = { 0 };
	struct mts_transfer_config tc = { 0 };
	struct rings r = { .segment = seg };
	int ret = seg ? mts_device_nil.open(&dc, &tc.device, err) : -ENOMEM;

	/* Addresses that the device never follows. */
	for (uintptr_t i = 0; seg && i < SEGMENTS; i++)
		seg[i] = (struct mts_segment){ (void *)(4096 * (i + 1)), (void *)(8192 * (i + 1)), 4096 };
	if (!ret) {
		ret = mts_transfer_open(&tc, &r.t);
		if (!ret) {
			ret = measure(b, &r);
			mts_transfer_close(r.t);
		}
		tc.device->ops->close(tc.device);
	}
	free(seg);
	return ret;
}
