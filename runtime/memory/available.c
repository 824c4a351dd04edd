/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Available memory (available.h). Floor: memory. Any thread.
 */
#include "memory/available.h"

#include <stdio.h>
#include <string.h>

#include "memory/proc.h"

/* The names that differ between the two generations of the memory controller. */
struct controller {
	const char *mount, *limit, *usage, *cache;
};

static const struct controller v2 = { "/sys/fs/cgroup", "memory.max", "memory.current",
				      "inactive_file" };
static const struct controller v1 = { "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
				      "memory.usage_in_bytes", "total_inactive_file" };

static uint64_t group_leaves(const struct controller *c, const char *group)
{
	char path[4608];
	uint64_t limit, usage, cache;

	snprintf(path, sizeof(path), "%s%s/%s", c->mount, group, c->limit);
	if (!mts_proc_number(path, NULL, &limit)) /* no file, or "max" */
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s/%s", c->mount, group, c->usage);
	if (!mts_proc_number(path, NULL, &usage))
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s/memory.stat", c->mount, group);
	if (!mts_proc_number(path, c->cache, &cache) || cache > usage)
		cache = 0;
	usage -= cache;
	return limit > usage ? limit - usage : 0;
}

/* The least that the group and those above it leave; inside a container the path may not exist. */
static uint64_t groups_leave(const struct controller *c, char *group)
{
	uint64_t least = group_leaves(c, ""), leaves;
	char *slash;

	while (*group) {
		leaves = group_leaves(c, group);
		if (leaves < least)
			least = leaves;
		slash = strrchr(group, '/');
		if (!slash)
			break;
		*slash = '\0';
	}
	return least;
}

uint64_t mts_memory_available(void)
{
	uint64_t least = UINT64_MAX, leaves;
	char line[4096], *group;
	FILE *f;

	if (mts_proc_number("/proc/meminfo", "MemAvailable", &leaves))
		least = leaves * 1024;
	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return least;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		group = strchr(line, ':');
		group = group ? strchr(group + 1, ':') : NULL;
		if (!group)
			continue;
		if (!strncmp(line, "0::", 3))
			leaves = groups_leave(&v2, group + 1);
		else if (strstr(line, ":memory:"))
			leaves = groups_leave(&v1, group + 1);
		else
			continue;
		if (leaves < least)
			least = leaves;
	}
	fclose(f);
	return least;
}
