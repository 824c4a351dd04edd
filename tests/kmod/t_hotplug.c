// SPDX-License-Identifier: GPL-2.0
/*
 * Node 2, whose memory comes and goes: offline at boot, then memory that must stay movable, then
 * ordinary memory that is taken offline under a mount.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define NODE "/sys/devices/system/node/node2"

/* Put each of the node's memory blocks into that state. Whether all are. */
static bool set_memory(const char *state)
{
	DIR *folder = opendir(NODE);
	struct dirent *entry;
	bool all = folder, any = false;
	char path[400];

	while (folder && (entry = readdir(folder))) {
		if (strncmp(entry->d_name, "memory", 6) || !strchr("0123456789", entry->d_name[6]))
			continue;
		any = true;
		snprintf(path, sizeof(path), NODE "/%s/state", entry->d_name);
		/* EINVAL: it is in that state */
		if (!mts_write_file(path, state) && errno != EINVAL)
			all = false;
	}
	if (folder)
		closedir(folder);
	return all && any;
}

static void need_memory(const char *state)
{
	if (!set_memory("offline") || !set_memory(state))
		SKIP("this kernel cannot bring the memory of node 2 %s", state);
}

static void expect_refusal(const char *message)
{
	char log[512];

	ASSERT_ERRNO(mts_configure("node=2,size=16M", log, sizeof(log)), EINVAL);
	if (!strstr(log, message))
		FAIL("said \"%s\", expected something with \"%s\"", log, message);
}

TEST(node_without_memory)
{
	need_memory("offline");
	expect_refusal("node=2: no such NUMA node, or one without memory");
}

TEST(node_with_movable_memory_only)
{
	need_memory("online_movable");
	expect_refusal("node=2 has movable memory only");
	ASSERT(set_memory("offline"));
}

/* The kernel tries until it is told to stop. */
static void offline_for_a_second(void)
{
	pid_t child = fork();

	ASSERT_OK(child);
	if (!child)
		_exit(set_memory("offline"));
	sleep(1);
	ASSERT_EQ(waitpid(child, NULL, WNOHANG), 0);
	ASSERT_OK(kill(child, SIGKILL));
	ASSERT_EQ(waitpid(child, NULL, 0), child);
}

/* Cpusets learn of new memory a little later: until then the node is not allowed. */
static void populate_when_allowed(int fd, size_t size)
{
	int tries;

	for (tries = 0; tries < 500 && fallocate(fd, 0, 0, size) && errno == EPERM; tries++)
		usleep(20000);
	ASSERT_OK(fallocate(fd, 0, 0, size));
}

TEST(node_goes_offline_under_mount)
{
	char *data;
	int fd;

	need_memory("online_kernel");
	mts_mount_node(2, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 0);
	if (!set_memory("offline"))
		SKIP("the kernel uses memory of node 2 itself");
	ASSERT_ERRNO(fallocate(fd, 0, 0, 16 * MIB), ENODEV);
	ASSERT_EQ(mts_counter("failures_node"), 1);
	ASSERT_EQ(mts_counter("folios"), 0);

	ASSERT(set_memory("online_kernel"));
	populate_when_allowed(fd, 4 * MIB);
	data = mts_map(fd, 4 * MIB, 0);
	mts_fill(data, 4 * MIB, 1);
	/* Memory with an arena on it cannot go. */
	offline_for_a_second();
	ASSERT(mts_filled(data, 4 * MIB, 1));
	ASSERT(mts_numa_maps_all_on(data, 2, 4 * MIB / 4096));
}
