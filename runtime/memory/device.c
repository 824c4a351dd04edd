/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices there are. Floor: memory. Any thread.
 */
#include "memory/device.h"

#include <stddef.h>
#include <string.h>

static const struct mts_device_ops *const devices[] = { &mts_device_cpu, &mts_device_nil };

const struct mts_device_ops *mts_device_find(const char *name)
{
	for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
		if (!strcmp(devices[i]->name, name))
			return devices[i];
	return NULL;
}
