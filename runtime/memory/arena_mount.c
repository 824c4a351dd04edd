/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounted file systems that can hold an arena (arena_part.h). Floor: memory; called by arena_file.c.
 */
#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/arena_part.h"

/* 0: one to try first, 1: one to try then, -1: one not to try. */
static int rank(const struct mntent *m, int node, int strict)
{
	const char *option;

	if (!strcmp(m->mnt_type, "mtserve")) {
		option = hasmntopt(m, "node");
		if (option && atoi(option + strlen("node=")) == node)
			return 0;
		return strict ? -1 : 1;
	}
	if (!strcmp(m->mnt_type, "tmpfs")) {
		option = hasmntopt(m, "huge");
		return option && strncmp(option, "huge=never", strlen("huge=never")) ? 0 : 1;
	}
	return 0;
}

static int visit_ranked(FILE *mounts, const char *type, int node, int strict, int wanted,
			int (*visit)(void *arg, const char *folder), void *arg, int ret)
{
	struct mntent m;
	char text[4096];

	rewind(mounts);
	while (ret && getmntent_r(mounts, &m, text, sizeof(text)))
		if (!strcmp(m.mnt_type, type) && rank(&m, node, strict) == wanted)
			ret = visit(arg, m.mnt_dir);
	return ret;
}

int mts_arena_each_mount(const char *type, int node, int strict,
			 int (*visit)(void *arg, const char *folder), void *arg)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	int ret = -ENODEV;

	if (!mounts)
		return -errno;
	for (int wanted = 0; ret && wanted < 2; wanted++)
		ret = visit_ranked(mounts, type, node, strict, wanted, visit, arg, ret);
	endmntent(mounts);
	return ret;
}
