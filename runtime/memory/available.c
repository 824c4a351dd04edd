/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Available memory (available.h). Floor: memory. Any thread.
 */
#include "memory/available.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The names that differ between the two generations of the memory controller. */
struct controller {
	const char *mount, *limit, *usage, *cache;
};

static const struct controller v2 = { "/sys/fs/cgroup", "memory.max", "memory.current",
				      "inactive_file" };
static const struct controller v1 = { "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
				      "memory.usage_in_bytes", "total_inactive_file" };

/* The number behind `key` in a file of lines "key number"; key NULL: the file's first number. */
static int read_number(const char *path, const char *key, uint64_t *out)
{
	FILE *f = fopen(path, "re");
	char line[256];
	size_t len = key ? strlen(key) : 0;
	int found = 0;

	if (!f)
		return 0;
	while (!found && fgets(line, sizeof(line), f))
		if (!key || (!strncmp(line, key, len) && strchr(": \t", line[len])))
			found = sscanf(line + len, "%*[: \t]%" SCNu64, out) == 1 ||
				sscanf(line + len, "%" SCNu64, out) == 1;
	fclose(f);
	return found;
}

static uint64_t group_leaves(const struct controller *c, const char *group)
{
	char path[4608];
	uint64_t limit, usage, cache;

	snprintf(path, sizeof(path), "%s%s/%s", c->mount, group, c->limit);
	if (!read_number(path, NULL, &limit)) /* no file, or "max" */
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s/%s", c->mount, group, c->usage);
	if (!read_number(path, NULL, &usage))
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s/memory.stat", c->mount, group);
	if (!read_number(path, c->cache, &cache) || cache > usage)
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

	if (read_number("/proc/meminfo", "MemAvailable", &leaves))
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
