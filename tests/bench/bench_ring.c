/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many entries a second go through the transfer's rings and scheduler when the device does
 * nothing: submit in batches, reap what is there. Prints one JSON line.
 *
 *   bench_ring [ENTRIES [BATCH]]       default 4000000 32
 */
#include "transfer/transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "memory/park.h"

#define SEGMENTS 16384 /* more than can be outstanding: no two loads under way are equal */

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static int fill(struct mts_transfer *t, const struct mts_segment *seg, unsigned batch, uint64_t id)
{
	for (unsigned i = 0; i < batch; i++) {
		struct mts_sqe *q = mts_transfer_get_sqe(t);

		if (!q)
			break;
		q->op = (id + i) % 4 ? MTS_SQE_ONLOAD : MTS_SQE_WRITEBACK;
		q->segment = &seg[(id + i) % SEGMENTS];
		q->segments = 1;
		q->user_data = id + i;
		q->deadline_ns = 1 + (id + i) * 7919 % 1000;
	}
	return mts_transfer_submit(t);
}

static int run(struct mts_transfer *t, uint64_t entries, unsigned batch)
{
	struct mts_segment *seg = calloc(SEGMENTS, sizeof(*seg));
	uint64_t submitted = 0, reaped = 0;
	struct mts_cqe cqe[256];

	if (!seg)
		return 1;
	for (size_t i = 0; i < SEGMENTS; i++)
		seg[i] = (struct mts_segment){ (void *)(4096 * (i + 1)), (void *)(8192 * (i + 1)), 4096 };
	while (reaped < entries) {
		unsigned want = entries - submitted < batch ? (unsigned)(entries - submitted) : batch;
		int n = want ? fill(t, seg, want, submitted) : 0;

		if (n < 0)
			mts_transfer_abandon(t);
		else
			submitted += (unsigned)n;
		if (n <= 0)
			mts_transfer_wait(t, -1);
		reaped += mts_transfer_reap(t, cqe, 256);
	}
	free(seg);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000, start;
	unsigned batch = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 32;
	struct mts_device_config dc = { 0 };
	struct mts_transfer_config tc = { 0 };
	struct mts_transfer *t;
	double seconds, cpu;
	int ret;

	if (mts_device_nil.open(&dc, &tc.device, NULL) || mts_transfer_open(&tc, &t)) {
		fprintf(stderr, "bench_ring: cannot open device or transfer\n");
		return 1;
	}
	cpu = cpu_seconds();
	start = mts_now();
	ret = run(t, entries, batch);
	seconds = (double)(mts_now() - start) * 1e-9;
	cpu = cpu_seconds() - cpu;
	printf("{\"bench\": \"ring\", \"entries\": %llu, \"batch\": %u, \"seconds\": %.3f, "
	       "\"entries_per_s\": %.0f, \"cpu_ns_per_entry\": %.0f}\n", (unsigned long long)entries,
	       batch, seconds, (double)entries / seconds, cpu * 1e9 / (double)entries);
	mts_transfer_close(t);
	tc.device->ops->close(tc.device);
	return ret;
}
