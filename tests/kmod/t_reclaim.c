// SPDX-License-Identifier: GPL-2.0
/*
 * Resident: whatever the kernel does to get memory back or together, an arena's pages stay where
 * they are. And the memory cgroup, whose limit stops population without the OOM killer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE	(32 * MIB)
#define GROUP	"/sys/fs/cgroup/limited"

/* Page frame numbers of the first small page of each folio. */
static void frames(const char *data, uint64_t *frame)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t i;

	ASSERT_OK(fd);
	for (i = 0; i < SIZE / PAGE; i++) {
		ASSERT_EQ(pread(fd, &frame[i], 8, ((uintptr_t)data + i * PAGE) / 4096 * 8), 8);
		ASSERT(frame[i] >> 63);
		frame[i] &= (1ull << 55) - 1;
		ASSERT(frame[i]);
		ASSERT_EQ(frame[i] % 512, 0);
	}
	close(fd);
}

static const struct {
	const char *name;
	const char *file, *text;
} pressures[] = {
	{ "drop_caches", "/proc/sys/vm/drop_caches", "3" },
	{ "compaction", "/proc/sys/vm/compact_memory", "1" },
	{ "compaction of a node", "/sys/devices/system/node/node1/compact", "1" },
	{ "reclaim by cgroup", "/sys/fs/cgroup/memory.reclaim", "64M" },
};

TEST_EACH(pages_stay, pressures)
{
	uint64_t before[SIZE / PAGE], after[SIZE / PAGE];
	char *data;
	int fd, round;

	if (access(pressures[variant].file, W_OK))
		SKIP("this kernel has no %s", pressures[variant].file);
	mts_mount_node(1, 32);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 7);
	frames(data, before);
	for (round = 0; round < 3; round++)
		/* memory.reclaim says EAGAIN when it found less than asked for */
		ASSERT(mts_write_file(pressures[variant].file, pressures[variant].text) ||
		       errno == EAGAIN);
	ASSERT(mts_filled(data, SIZE, 7));
	frames(data, after);
	ASSERT_EQ(memcmp(before, after, sizeof(before)), 0);
	ASSERT_EQ(mts_info(fd).populated, SIZE);
	ASSERT_EQ(mts_info(fd).foreign, 0);

	/* Unmapped and closed pages are as safe. */
	ASSERT_OK(munmap(data, SIZE));
	close(fd);
	mts_write_file(pressures[variant].file, pressures[variant].text);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR));
	data = mts_map(fd, SIZE, 0);
	ASSERT(mts_filled(data, SIZE, 7));
	frames(data, after);
	ASSERT_EQ(memcmp(before, after, sizeof(before)), 0);
}

/* Populated, and never written to by anybody: still nothing that could be had again. */
TEST_EACH(untouched_pages_stay, pressures)
{
	char *data;
	int fd;

	if (access(pressures[variant].file, W_OK))
		SKIP("this kernel has no %s", pressures[variant].file);
	mts_mount_node(1, 32);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	mts_write_file(pressures[variant].file, pressures[variant].text);
	ASSERT_EQ(mts_info(fd).populated, SIZE);
	data = mts_map(fd, SIZE, 0);
	ASSERT(!mts_sigbus(data));
	ASSERT(!mts_sigbus(data + SIZE - 1));
}

/* Reclaim shall not even look at them: it would find them in use again and again. */
TEST(pages_are_counted_unevictable)
{
	static const char *const path = "/sys/devices/system/node/node1/meminfo";
	long long before = mts_read_number(path, "Node 1 Unevictable");

	mts_mount_node(1, 32);
	mts_arena(MTS_ARENA, SIZE, SIZE);
	ASSERT_EQ((mts_read_number(path, "Node 1 Unevictable") - before) << 10, SIZE);
}

static void enter_group(const char *limit)
{
	char pid[16];

	if (!mts_write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		SKIP("no memory controller: %s", strerror(errno));
	mkdir(GROUP, 0755);
	ASSERT(mts_write_file(GROUP "/memory.max", limit));
	snprintf(pid, sizeof(pid), "%d", getpid());
	ASSERT(mts_write_file(GROUP "/cgroup.procs", pid));
}

static long long charged(void)
{
	char text[32];

	ASSERT(mts_read_file(GROUP "/memory.current", text, sizeof(text)));
	return atoll(text);
}

static int populate_limited(void *arg)
{
	unsigned long long populated;
	int fd = mts_arena(MTS_ARENA, SIZE, 0);

	enter_group("17M");
	ASSERT_ERRNO(fallocate(fd, 0, 0, SIZE), ENOMEM);
	populated = mts_info(fd).populated;
	mts_note("%llu MiB fit under a limit of 17", populated >> 20);
	ASSERT_LE(8 * MIB, populated);
	ASSERT_LE(populated, 16 * MIB);
	ASSERT_LE(populated, charged());
	return 0;
}

TEST(cgroup_limit_stops_population)
{
	unsigned long long populated;
	int fd;

	mts_mount_node(0, 32);
	ASSERT_EQ(mts_in_child(populate_limited, NULL), 0);
	ASSERT_EQ(mts_read_number(GROUP "/memory.events", "oom_kill"), 0);
	ASSERT_EQ(mts_counter("failures_cgroup"), 1);
	ASSERT_EQ(mts_counter("failures_node"), 0);
	/* The charge outlives the process that caused it; the rest is charged to the next one. */
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR));
	populated = mts_info(fd).populated;
	ASSERT_LE(populated, charged());
	ASSERT_OK(fallocate(fd, 0, 0, SIZE));
	ASSERT_OK(rmdir(GROUP));
	mts_fill(mts_map(fd, SIZE, 0), SIZE, 1);
	ASSERT_EQ(mts_counter("folios"), SIZE / PAGE);
}
