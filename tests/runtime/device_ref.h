/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that is an oracle: each operation as its comment in ops.h says it, accumulated in double
 * precision, at once and on the caller's thread. It fails on demand, writes down what was asked of
 * it, and counts its memory.
 *
 * For tests. Copies and registration are absent: only the model runs on it.
 */
#ifndef MTS_TEST_DEVICE_REF_H
#define MTS_TEST_DEVICE_REF_H

#include "memory/device.h"

struct device_ref {
	struct mts_device dev;
	unsigned launches;    /* calls on the compute queue so far */
	unsigned fail_launch; /* that launch (from 1) answers -ENOMEM; 0: none */
	unsigned fail_run;    /* that launch is taken and fails when it runs, with -EIO; 0: none */
	unsigned allocs, fail_alloc;
	unsigned long live; /* allocations not given back */
	unsigned prepared;  /* shapes told */
	int error;          /* of the queue since the last signal */
	char log[4096]; /* one letter a launch: e n g a A m p s f W S; append, attention: with layer
			 */
};

void device_ref_init(struct device_ref *d);

#endif
