// SPDX-License-Identifier: GPL-2.0
/*
 * What a person sees: tracepoints, counters in debugfs and fdinfo. Names and meanings are those
 * of Documentation/ABI/testing/.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define TRACING "/sys/kernel/tracing/"

static void start_tracing(void)
{
	if (!mts_write_file(TRACING "events/mtserve/enable", "1"))
		SKIP("no tracing: %s", strerror(errno));
	ASSERT(mts_write_file(TRACING "trace", "\n"));
	ASSERT(mts_write_file(TRACING "tracing_on", "1"));
}

static const struct {
	const char *event, *fields;
} life[] = {
	{ "mts_create", "bytes=0" },
	{ "mts_populate", "offset=0 length=4194304 ret=0" },
	{ "mts_map", "offset=2097152 length=4194304 ret=0" },
	{ "mts_fault", "offset=2101248 length=2097152 ret=0" },
	{ "mts_fault", "offset=4194304 length=0 ret=-14" },
	{ "mts_populate", "offset=0 length=1 ret=-22" },
	{ "mts_unlink", "bytes=4194304" },
	{ "mts_evict", "bytes=4194304" },
};

/* Its lines must be in the trace in the order of the table. */
static void expect_life(const char *trace, const struct stat *st)
{
	char line[160];
	size_t i;

	for (i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		snprintf(line, sizeof(line), "%s: dev=%u:%u ino=%llu %s\n", life[i].event,
			 major(st->st_dev), minor(st->st_dev), (unsigned long long)st->st_ino,
			 life[i].fields);
		trace = strstr(trace, line);
		if (!trace)
			FAIL("the trace lacks, or has too early: %s", line);
	}
}

TEST(tracepoints_tell_an_arenas_life)
{
	static char trace[1 << 16];
	struct stat st;
	char *data;
	int fd;

	mts_mount_node(1, 8);
	start_tracing();
	fd = mts_arena(MTS_ARENA, 8 * MIB, 4 * MIB);
	ASSERT_OK(fstat(fd, &st));
	data = mts_map(fd, 4 * MIB, 2 * MIB);
	data[4096] = 1;
	ASSERT(mts_sigbus(data + 2 * MIB));
	ASSERT_ERRNO(fallocate(fd, 0, 0, 1), EINVAL);
	ASSERT_OK(munmap(data, 4 * MIB));
	ASSERT_OK(unlink(MTS_ARENA));
	close(fd);
	ASSERT(mts_read_file(TRACING "trace", trace, sizeof(trace)));
	mts_write_file(TRACING "events/mtserve/enable", "0");
	expect_life(trace, &st);
}

static const struct {
	const char *name;
	long long value;
} counters[] = {
	{ "node", 1 },
	{ "folios", 3 },
	{ "folios_limit", 4 },
	{ "bytes", 3 * MIB * 2 },
	{ "arenas_created", 2 },
	{ "arenas_evicted", 1 },
	{ "folios_populated", 4 },
	{ "folios_released", 1 },
	{ "maps", 1 },
	{ "faults", 2 },
	{ "failures_hole", 1 },
	{ "failures_size", 1 },
	{ "failures_node", 0 },
	{ "failures_cgroup", 0 },
	{ "failures_cpuset", 0 },
};

/* Does to a mount what the table counts. */
static int some_use(void)
{
	char *data;
	int fd;

	mts_mount_node(1, 8);
	close(mts_arena(MTS_ARENA, 2 * MIB, 2 * MIB));
	ASSERT_OK(unlink(MTS_ARENA));
	fd = mts_arena(MTS_ARENA, 16 * MIB, 6 * MIB);
	data = mts_map(fd, 16 * MIB, 0);
	data[0] = data[2 * MIB] = 1;
	ASSERT(mts_sigbus(data + 6 * MIB));
	/* The limit is at what is populated; the arena asks for more. */
	ASSERT_OK(mount("none", MTS_MOUNT, "mtserve", MS_REMOUNT, "size=6M"));
	ASSERT_ERRNO(fallocate(fd, 0, 0, 16 * MIB), ENOSPC);
	ASSERT_OK(mount("none", MTS_MOUNT, "mtserve", MS_REMOUNT, "size=8M"));
	return fd;
}

TEST_EACH(counter, counters)
{
	some_use();
	ASSERT_EQ(mts_counter(counters[variant].name), counters[variant].value);
}

TEST(counters_end_with_their_mount)
{
	char path[96];
	struct stat st;

	some_use();
	ASSERT_OK(stat(MTS_MOUNT, &st));
	snprintf(path, sizeof(path), "/sys/kernel/debug/mtserve/%u:%u", major(st.st_dev),
		 minor(st.st_dev));
	ASSERT_OK(access(path, F_OK));
	ASSERT_OK(unlink(MTS_ARENA));
	ASSERT_OK(umount2(MTS_MOUNT, MNT_DETACH));
	/* Lives on as long as the arena is open and mapped. */
	ASSERT_OK(access(path, F_OK));
}

TEST(fdinfo)
{
	char path[64];
	int fd = some_use();

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ASSERT_EQ(mts_read_number(path, "mts-node"), 1);
	ASSERT_EQ(mts_read_number(path, "mts-size"), 16 * MIB);
	ASSERT_EQ(mts_read_number(path, "mts-populated"), 6 * MIB);
	ASSERT_EQ(mts_read_number(path, "mts-mount-folios"), 3);
	ASSERT_EQ(mts_read_number(path, "mts-mount-failures"), 2);
}
