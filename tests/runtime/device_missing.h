/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that run once per instruction set (MTS_CPU_ISA): one that this machine lacks is
 * skipped, which is neither a pass nor a failure.
 */
#ifndef MTS_TEST_DEVICE_MISSING_H
#define MTS_TEST_DEVICE_MISSING_H

#include <errno.h>
#include <stdio.h>

#include "error.h"
#include "memory/device.h"

/* 1: not on this machine, the TAP line is printed. A name that is no backend's is not missing. */
static inline int device_missing(const char *name)
{
	const struct mts_device_ops *ops = mts_device_find(name);
	const struct mts_device_config cfg = {.threads = 1};
	struct mts_device *dev;
	struct mts_error err;
	int rc;

	if (!ops)
		return 0;
	rc = ops->open(&cfg, &dev, &err);
	if (rc == 0)
		dev->ops->close(dev);
	if (rc == -ENOTSUP)
		printf("1..0 # SKIP %s\n", err.text);
	return rc == -ENOTSUP;
}

#endif
