/* SPDX-License-Identifier: Apache-2.0 */
/* The policies there are, by name. Floor: cache. Any thread. */
#include <stddef.h>
#include <string.h>

#include "cache/policy.h"

const struct mts_policy *const mts_policies[] = { &mts_policy_lru, &mts_policy_s3fifo,
						     &mts_policy_gdsf, &mts_policy_locality, NULL };

const struct mts_policy *mts_policy_find(const char *name)
{
	for (unsigned i = 0; mts_policies[i]; i++)
		if (!strcmp(mts_policies[i]->name, name))
			return mts_policies[i];
	return NULL;
}

const char *mts_policy_names(void)
{
	return "lru, s3fifo, gdsf, locality";
}
