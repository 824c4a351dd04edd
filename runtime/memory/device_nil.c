/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nil device: takes every operation and does nothing, so that what is left is the cost of all
 * that is not the device. Floor: memory. Its memory is address space that nobody touches: a
 * device of 80 GiB fits anywhere. Scores it "computes" are whatever the caller's buffer held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"
#include "memory/device_host.h"

static int run_nothing(struct mts_host_device *h, const struct mts_op *op)
{
	return 0;
}

static int nil_open(const struct mts_device_config *cfg, struct mts_device **out,
		    struct mts_error *err)
{
	struct mts_host_device *h = aligned_alloc(64, sizeof(*h));
	int ret;

	if (!h) {
		mts_error_set(err, "device nil: out of memory");
		return -ENOMEM;
	}
	*h = (struct mts_host_device){ .dev.ops = &mts_device_nil, .run = run_nothing };
	ret = mts_host_device_start(h, cfg, err);
	if (ret) {
		free(h);
		return ret;
	}
	*out = &h->dev;
	return 0;
}

static void nil_close(struct mts_device *dev)
{
	struct mts_host_device *h = (struct mts_host_device *)dev;

	mts_host_device_stop(h);
	free(h);
}

static void nil_info(struct mts_device *dev, struct mts_device_info *out)
{
	*out = (struct mts_device_info){ .name = "nil", .numerics = "none" };
	out->memory_total = (size_t)1 << 46;
}

static int nil_prepare(struct mts_device *dev, const uint32_t (*nk)[2], unsigned shapes,
		       struct mts_error *err)
{
	return 0;
}

const struct mts_device_ops mts_device_nil = {
	.name = "nil",
	.open = nil_open,
	.close = nil_close,
	.info = nil_info,
	.prepare = nil_prepare,
	MTS_HOST_DEVICE_OPS,
};
