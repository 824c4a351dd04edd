/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench copy: the lanes of the CPU device by piece size and count, one copy alone and a stream of
 * them, in each direction and in both at once, beside memcpy of the same pieces by this thread in the
 * same turn. Pieces are contiguous in host memory and scattered on the device, as a user's pages are.
 * Floor: cmd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bench.h"
#include "error.h"
#include "memory/device.h"

#define AREA   ((size_t)64 << 20) /* on each side and for each direction: more than a cache holds */
#define STREAM ((size_t)32 << 20) /* bytes of one sample of a stream */

struct copies {
	struct mts_device *dev;
	struct mts_park wake;
	char *host[MTS_LANES], *device[MTS_LANES];
	struct mts_segment segment[MTS_COPY_MAX];
	size_t piece;
	unsigned count; /* pieces of one copy */
	size_t at[MTS_LANES]; /* piece to go on with */
};

static const struct {
	size_t piece;
	unsigned count;
} shapes[] = {
	{ 4096, 1 },	   { 4096, 16 },       { 4096, 256 },	   { 16384, 1 },
	{ 16384, 16 },	   { 16384, 64 },      { 65536, 1 },	   { 65536, 16 },
	{ 1 << 18, 1 },	   { 1 << 18, 4 },     { 1 << 20, 1 },	   { 4 << 20, 1 },
};

static void done(void *arg)
{
	mts_park_wake(&((struct copies *)arg)->wake);
}

/* The next `count` pieces of a lane: host in order, device at an odd stride. */
static void next_segments(struct copies *c, enum mts_lane lane)
{
	size_t pieces = AREA / c->piece;

	for (unsigned i = 0; i < c->count; i++, c->at[lane]++) {
		char *host = c->host[lane] + c->at[lane] % pieces * c->piece;
		char *device = c->device[lane] + c->at[lane] * 7919 % pieces * c->piece;

		c->segment[i] = lane == MTS_H2D ? (struct mts_segment){ device, host, c->piece } :
						  (struct mts_segment){ host, device, c->piece };
	}
}

/* n copies on each lane of the set, as many under way as the lanes take. */
static int run_copies(struct copies *c, unsigned lanes, unsigned n)
{
	const struct mts_device_ops *ops = c->dev->ops;
	unsigned started[MTS_LANES] = { 0 }, left = 0;
	struct mts_copy_done reaped[64];
	int ret = 0, got;

	for (int l = 0; l < MTS_LANES; l++)
		left += lanes >> l & 1 ? n : 0;
	while (left && !ret) {
		got = 0;
		for (int l = 0; l < MTS_LANES && !ret; l++) {
			while (lanes >> l & 1 && started[l] < n && !ret) {
				size_t at = c->at[l];

				next_segments(c, l);
				ret = ops->copy(c->dev, l, c->segment, c->count, started[l]);
				if (ret)
					c->at[l] = at;
				else
					started[l]++;
			}
			ret = ret == -EAGAIN ? 0 : ret;
			got += ops->copy_reap(c->dev, l, reaped, 64);
		}
		left -= (unsigned)got;
		if (left && !got && !ret)
			mts_park_wait(&c->wake, MTS_FOREVER);
	}
	return ret;
}

static void run_memcpy(struct copies *c, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		next_segments(c, MTS_H2D);
		for (unsigned i = 0; i < c->count; i++)
			memcpy(c->segment[i].dst, c->segment[i].src, c->piece);
	}
}

/* ---- one shape ---- */

enum { ALONE, PLAIN, H2D, D2H, BOTH, SHARE, METRICS };

static const struct mts_metric metrics[METRICS] = {
	[ALONE] = { "one copy, start to reaped", "us", false, 0 },
	[PLAIN] = { "memcpy", "GB/s", true, 0 },
	[H2D] = { "host to device", "GB/s", true, 0 },
	[D2H] = { "device to host", "GB/s", true, 0 },
	[BOTH] = { "both directions, sum", "GB/s", true, 0 },
	[SHARE] = { "host to device, share of memcpy", "1", true, 0 },
};

static int stream(struct mts_bench *b, struct copies *c, unsigned lanes, unsigned n, double *rate)
{
	double bytes = (double)n * c->count * (double)c->piece * __builtin_popcount(lanes);
	uint64_t start = mts_now();
	int ret = run_copies(c, lanes, n);

	*rate = bytes / mts_bench_since(b, start);
	return ret;
}

static int sample(struct mts_bench *b, struct copies *c, double *v[METRICS], unsigned i)
{
	size_t bytes = c->piece * c->count;
	unsigned n = STREAM > bytes ? (unsigned)(STREAM / bytes) : 1;
	uint64_t start = mts_now();
	int ret = run_copies(c, 1u << MTS_H2D, 1);

	v[ALONE][i] = mts_bench_since(b, start) * 1e-3;
	start = mts_now();
	run_memcpy(c, n);
	v[PLAIN][i] = (double)n * (double)bytes / mts_bench_since(b, start);
	if (!ret)
		ret = stream(b, c, 1u << MTS_H2D, n, &v[H2D][i]);
	if (!ret)
		ret = stream(b, c, 1u << MTS_D2H, n, &v[D2H][i]);
	if (!ret)
		ret = stream(b, c, 1u << MTS_H2D | 1u << MTS_D2H, n, &v[BOTH][i]);
	v[SHARE][i] = v[H2D][i] / v[PLAIN][i];
	return ret;
}

static int bench_shape(struct mts_bench *b, struct copies *c)
{
	unsigned n = b->o->runs ? b->o->runs : 21;
	double *all = malloc(METRICS * n * sizeof(*all)), *v[METRICS];
	char shape[64];
	int ret = all ? 0 : -ENOMEM;

	for (int m = 0; all && m < METRICS; m++)
		v[m] = all + m * n;
	if (!ret)
		ret = sample(b, c, v, 0);
	for (unsigned i = 0; i < n && !ret; i++)
		ret = sample(b, c, v, i);
	snprintf(shape, sizeof(shape), "%u x %zu KiB", c->count, c->piece >> 10);
	for (int m = 0; m < METRICS && !ret; m++)
		ret = mts_bench_print(b, &metrics[m], shape, v[m], n);
	free(all);
	return ret;
}

/* ---- set-up ---- */

static int open_areas(struct copies *c)
{
	int ret = 0;

	for (int l = 0; l < MTS_LANES && !ret; l++) {
		c->host[l] = aligned_alloc(4096, AREA);
		ret = c->host[l] ? c->dev->ops->alloc(c->dev, AREA, (void **)&c->device[l]) : -ENOMEM;
		if (!ret) {
			memset(c->host[l], 1, AREA);
			memset(c->device[l], 2, AREA);
		}
	}
	return ret;
}

static void close_areas(struct copies *c)
{
	for (int l = 0; l < MTS_LANES; l++) {
		free(c->host[l]);
		if (c->device[l])
			c->dev->ops->free(c->dev, c->device[l], AREA);
	}
}

int mts_bench_copy(struct mts_bench *b, struct mts_error *err)
{
	struct mts_device_config dc = { .threads = 1 };
	struct copies c = { 0 };
	int ret = mts_device_cpu.open(&dc, &c.dev, err);

	if (ret)
		return ret;
	ret = open_areas(&c);
	c.dev->ops->copy_notify(c.dev, done, &c);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && !ret; i++) {
		c.piece = shapes[i].piece;
		c.count = shapes[i].count;
		ret = bench_shape(b, &c);
	}
	c.dev->ops->copy_notify(c.dev, NULL, NULL);
	close_areas(&c);
	c.dev->ops->close(c.dev);
	return ret;
}
