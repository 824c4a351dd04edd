// SPDX-License-Identifier: GPL-2.0
/*
 * Placement: every page on the mount's node, for good; and what happens when the node cannot give
 * it: excluded by a cpuset, full, or recovered.
 */
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE (16 * MIB)

static const struct {
	const char *name;
	int node;
} nodes[] = { { "node 0", 0 }, { "node 1", 1 } };

/* move_pages with target -1 asks where the pages are; all small pages of the range. */
static long pages_on(const char *data, size_t size, int node, int target)
{
	size_t count = size / 4096, i;
	void **pages = calloc(count, sizeof(*pages));
	int *targets = calloc(count, sizeof(*targets)), *status = calloc(count, sizeof(*status));
	long there = 0;

	for (i = 0; i < count; i++) {
		pages[i] = (char *)data + i * 4096;
		targets[i] = target;
	}
	ASSERT_OK(syscall(SYS_move_pages, 0, count, pages, target < 0 ? NULL : targets, status,
			  MPOL_MF_MOVE_ALL));
	for (i = 0; i < count; i++)
		there += status[i] == node;
	free(status);
	free(targets);
	free(pages);
	return there;
}

TEST_EACH(pages_are_on, nodes)
{
	int node = nodes[variant].node, fd;
	char *data;

	mts_mount_node(node, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT_EQ(mts_info(fd).node, node);
	ASSERT(mts_numa_maps_all_on(data, node, SIZE / 4096));
	ASSERT_EQ(pages_on(data, SIZE, node, -1), SIZE / 4096);
}

TEST_EACH(policy_of_caller_does_not_matter, nodes)
{
	unsigned long other = 1ul << !nodes[variant].node;
	char *data;
	int fd;

	ASSERT_OK(syscall(SYS_set_mempolicy, MPOL_BIND, &other, 8 * sizeof(other)));
	mts_mount_node(nodes[variant].node, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT(mts_numa_maps_all_on(data, nodes[variant].node, SIZE / 4096));
}

TEST(mbind_is_refused)
{
	unsigned long other = 1ul << 1;
	char *data;
	int fd;

	mts_mount_node(0, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT_ERRNO(syscall(SYS_mbind, data, SIZE, MPOL_BIND, &other, 8 * sizeof(other), 0), EINVAL);
	ASSERT_EQ(syscall(SYS_mbind, data, SIZE, MPOL_BIND, &other, 8 * sizeof(other),
			  MPOL_MF_MOVE | MPOL_MF_STRICT), -1);
	ASSERT(mts_numa_maps_all_on(data, 0, SIZE / 4096));
}

TEST(pages_do_not_migrate)
{
	unsigned long from = 1, to = 2;
	char *data;
	int fd;

	mts_mount_node(0, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 21);
	ASSERT_EQ(pages_on(data, SIZE, 1, 1), 0);
	/* The count of pages that stayed; what else this process has may go. */
	ASSERT_OK(syscall(SYS_migrate_pages, 0, 8 * sizeof(from), &from, &to));
	ASSERT_EQ(pages_on(data, SIZE, 0, -1), SIZE / 4096);
	ASSERT(mts_filled(data, SIZE, 21));
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

/* Run on the other node's processor for a while, with the balancer at its fastest. */
TEST(numa_balancing_keeps_away)
{
	static const char *const huge = "numa_huge_pte_updates";
	long long updates;
	cpu_set_t cpus;
	char *data;
	int round, fd;

	if (!mts_write_file("/proc/sys/kernel/numa_balancing", "1"))
		SKIP("no NUMA balancing: %s", strerror(errno));
	mts_write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	mts_write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "10");
	CPU_ZERO(&cpus);
	CPU_SET(1, &cpus);
	ASSERT_OK(sched_setaffinity(0, sizeof(cpus), &cpus));
	mts_mount_node(0, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 0);
	updates = mts_read_number("/proc/vmstat", huge);
	for (round = 0; round < 400; round++)
		mts_fill(data, SIZE, round);
	mts_write_file("/proc/sys/kernel/numa_balancing", "0");
	ASSERT_EQ(mts_read_number("/proc/vmstat", huge) - updates, 0);
	ASSERT_EQ(pages_on(data, SIZE, 0, -1), SIZE / 4096);
}

static void enter_cpuset(const char *mems)
{
	char pid[16];

	if (!mts_write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"))
		SKIP("no cpuset controller: %s", strerror(errno));
	mkdir("/sys/fs/cgroup/set", 0755);
	ASSERT(mts_write_file("/sys/fs/cgroup/set/cpuset.mems", mems));
	snprintf(pid, sizeof(pid), "%d", getpid());
	ASSERT(mts_write_file("/sys/fs/cgroup/set/cgroup.procs", pid));
}

static int populate_excluded(void *arg)
{
	int fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC);

	enter_cpuset("0");
	ASSERT_ERRNO(fallocate(fd, 0, 0, SIZE), EPERM);
	ASSERT_EQ(mts_info(fd).populated, 2 * MIB);
	/* What is there may be used: it is nobody's allocation any more. */
	ASSERT_OK(fallocate(fd, 0, 0, 2 * MIB));
	mts_fill(mts_map(fd, 2 * MIB, 0), 2 * MIB, 1);
	return 0;
}

TEST(cpuset_is_told_from_full_node)
{
	mts_mount_node(1, 16);
	mts_arena(MTS_ARENA, SIZE, 2 * MIB);
	ASSERT_EQ(mts_in_child(populate_excluded, NULL), 0);
	ASSERT_EQ(mts_counter("failures_cpuset"), 1);
	ASSERT_EQ(mts_counter("failures_node"), 0);
	rmdir("/sys/fs/cgroup/set");
}

static long long free_again(int node, long long wanted)
{
	int tries;

	/* Pages on other CPUs' lists, and those of processes just gone, take a moment. */
	for (tries = 0; tries < 50 && mts_node_free(node) < wanted; tries++)
		usleep(20000);
	return mts_node_free(node);
}

/* The first arena leaves inodes, dentries and page tables in their caches: the second must not. */
TEST_EACH(memory_comes_back, nodes)
{
	int node = nodes[variant].node, fd, round;
	long long before = 0;
	char *data;

	mts_mount_node(node, 64);
	for (round = 0; round < 2; round++) {
		before = mts_node_free(node);
		fd = mts_arena(MTS_ARENA, 64 * MIB, 64 * MIB);
		data = mts_map(fd, 64 * MIB, 0);
		mts_fill(data, 64 * MIB, 1);
		ASSERT_LE(63 * MIB, before - mts_node_free(node));
		ASSERT_EQ(mts_counter("folios"), 32);
		ASSERT_OK(munmap(data, 64 * MIB));
		ASSERT_OK(unlink(MTS_ARENA));
		close(fd);
		ASSERT_EQ(mts_counter("folios"), 0);
	}
	ASSERT_LE(before - free_again(node, before - MIB), MIB);
}

static int fill_node(void *arg)
{
	size_t size = *(size_t *)arg;
	int fd = mts_arena(MTS_ARENA, size, 0);
	char *data;

	ASSERT_ERRNO(fallocate(fd, 0, 0, size), ENOMEM);
	data = mts_map(fd, mts_info(fd).populated, 0);
	data[0] = data[mts_info(fd).populated - 1] = 1;
	ASSERT_EQ(mts_counter("folios"), mts_info(fd).populated / PAGE);
	return 0;
}

/*
 * Twice until nothing is left. The memory must be back to within 1 MiB; how much of it is in
 * pieces of 2 MiB is up to who else used the node meanwhile.
 */
TEST_LIMIT(exhaustion_and_recovery, 300)
{
	size_t size = mts_node_size(1) & ~(PAGE - 1);
	long long populated[2], before, after;
	char options[80];
	int round;

	snprintf(options, sizeof(options), "node=1,size=%zu", 2 * size);
	mts_mount(options);
	for (round = 0; round < 2; round++) {
		/* What can be reclaimed is, the first time; so it is left out of the count. */
		ASSERT(mts_write_file("/proc/sys/vm/drop_caches", "3"));
		before = mts_node_free(1);
		ASSERT_EQ(mts_in_child(fill_node, &size), 0);
		populated[round] = mts_counter("folios") * PAGE;
		ASSERT_OK(unlink(MTS_ARENA));
		ASSERT_EQ(mts_counter("folios"), 0);
		after = free_again(1, before - MIB);
		ASSERT_LE(before - after, MIB);
	}
	mts_note("got %lld, then %lld MiB of a node of %zu MiB", populated[0] >> 20,
		 populated[1] >> 20, size >> 20);
	ASSERT_LE(mts_node_size(1) / 2, populated[0]);
	ASSERT_LE(populated[0] / 10 * 9, populated[1]);
	ASSERT_EQ(mts_counter("failures_node"), 2);
}
