// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping an arena: whole folios by one entry each, parts and misaligned views page by page, and
 * everything that must be refused.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE (64 * MIB)

static const struct {
	const char *name;
	int protection;
	bool write;
} views[] = {
	{ "written", PROT_READ | PROT_WRITE, true },
	{ "read", PROT_READ | PROT_WRITE, false },
	{ "read-only", PROT_READ, false },
};

static void touch(char *data, size_t size, bool write)
{
	size_t at;

	for (at = 0; at < size; at += 4096)
		if (write)
			((volatile char *)data)[at] = 1;
		else
			(void)((volatile char *)data)[at];
}

TEST_EACH(one_fault_a_folio, views)
{
	long faults;
	char *data;
	int fd;

	mts_mount_node(0, 64);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mmap(NULL, SIZE, views[variant].protection, MAP_SHARED, fd, 0);
	ASSERT(data != MAP_FAILED);
	ASSERT_EQ((uintptr_t)data % PAGE, 0);
	faults = mts_faults();
	touch(data, SIZE, views[variant].write);
	ASSERT_LE(mts_faults() - faults, SIZE / PAGE);
	ASSERT_EQ(mts_counter("faults"), SIZE / PAGE);
	ASSERT_EQ(mts_smaps(data, "FilePmdMapped"), SIZE);
	ASSERT_EQ(mts_smaps(data, "Rss"), SIZE);
	ASSERT_EQ(mts_info(fd).mapped, SIZE);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

static const struct {
	const char *name;
	size_t offset, size;
	size_t shift;		/* of the address against a multiple of 2 MiB */
	bool whole;		/* mapped by whole folios */
} parts[] = {
	{ "a folio in the middle", 4 * MIB, 2 * MIB, 0, true },
	{ "the last folio", 14 * MIB, 2 * MIB, 0, true },
	{ "one small page", 6 * MIB + 8192, 4096, 0, false },
	{ "half a folio", 2 * MIB, 1 * MIB, 0, false },
	{ "offset off by a page", 4096, 4 * MIB, 0, false },
	{ "address off by a page", 0, 4 * MIB, 4096, false },
};

TEST_EACH(part, parts)
{
	size_t size = parts[variant].size, offset = parts[variant].offset;
	char *whole, *data, *place;
	int fd;

	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 16 * MIB);
	whole = mts_map(fd, 16 * MIB, 0);
	mts_fill(whole, 16 * MIB, 4);
	place = mmap(NULL, 32 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(place != MAP_FAILED);
	place = (char *)(((uintptr_t)place + PAGE - 1) & ~(PAGE - 1)) + parts[variant].shift;
	data = mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);
	ASSERT(data == place);
	touch(data, size, false);
	ASSERT_EQ(memcmp(data, whole + offset, size), 0);
	ASSERT_EQ(mts_smaps(data, "FilePmdMapped"), parts[variant].whole ? size : 0);
	data[size - 1] = 42;
	ASSERT_EQ(whole[offset + size - 1], 42);
	ASSERT_EQ(mts_info(fd).foreign, 0);
	ASSERT_OK(munmap(data, size));
	ASSERT_OK(munmap(whole, 16 * MIB));
	ASSERT_EQ(mts_info(fd).mapped, 0);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

static const struct {
	const char *name;
	size_t length;
	int protection, flags;
	off_t offset;
	int error;
} refused[] = {
	{ "private", 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, EINVAL },
	{ "private, read-only", 4 * MIB, PROT_READ, MAP_PRIVATE, 0, EINVAL },
	{ "executable", 4 * MIB, PROT_READ | PROT_EXEC, MAP_SHARED, 0, EPERM },
	{ "longer than the arena", 6 * MIB, PROT_READ, MAP_SHARED, 0, ENXIO },
	{ "over the end", 4 * MIB, PROT_READ, MAP_SHARED, 2 * MIB, ENXIO },
	{ "at the end", 4096, PROT_READ, MAP_SHARED, 4 * MIB, ENXIO },
	{ "far behind the end", 4096, PROT_READ, MAP_SHARED, 1ll << 40, ENXIO },
	{ "largest offset", 4096, PROT_READ, MAP_SHARED, 0x7ffffffffffff000, EOVERFLOW },
	{ "negative offset", 8192, PROT_READ, MAP_SHARED, -4096, EOVERFLOW },
	{ "odd offset", 4096, PROT_READ, MAP_SHARED, 100, EINVAL },
	{ "length 0", 0, PROT_READ, MAP_SHARED, 0, EINVAL },
};

TEST_EACH(refuses, refused)
{
	int fd;

	mts_mount_node(0, 4);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 4 * MIB);
	ASSERT_ERRNO(mmap(NULL, refused[variant].length, refused[variant].protection,
			  refused[variant].flags, fd, refused[variant].offset),
		     refused[variant].error);
	ASSERT_EQ(mts_counter("maps"), 0);
}

TEST(unsized_cannot_be_mapped)
{
	int fd;

	mts_mount_node(0, 4);
	fd = mts_arena(MTS_ARENA, 0, 0);
	ASSERT_ERRNO(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), ENXIO);
}

TEST(hole_gives_sigbus_until_populated)
{
	char *data;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 8 * MIB, 2 * MIB);
	data = mts_map(fd, 8 * MIB, 0);
	ASSERT(!mts_sigbus(data));
	ASSERT(mts_sigbus(data + 2 * MIB));
	ASSERT(mts_sigbus(data + 8 * MIB - 1));
	ASSERT_EQ(mts_counter("failures_hole"), 2);
	ASSERT_EQ(mts_counter("folios"), 1);
	ASSERT_OK(fallocate(fd, 0, 2 * MIB, 2 * MIB));
	ASSERT(!mts_sigbus(data + 2 * MIB));
	/* A kernel that reads for the process meets the hole as well. */
	ASSERT_ERRNO(write(open("/tmp/out", O_RDWR | O_CREAT, 0600), data + 6 * MIB, 1), EFAULT);
}

TEST(huge_pages_disabled_for_process)
{
	char *data;
	int fd, pin;

	ASSERT_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 16 * MIB);
	data = mts_map(fd, 16 * MIB, 0);
	mts_fill(data, 16 * MIB, 2);
	ASSERT(mts_filled(data, 16 * MIB, 2));
	mts_note("%lld of %lld bytes mapped by whole folios", mts_smaps(data, "FilePmdMapped"),
		 16 * MIB);
	ASSERT_OK(pin = mts_pin(data, 16 * MIB, false));
	ASSERT_EQ(mts_info(fd).foreign, 16 * MIB / 4096);
	close(pin);
	ASSERT_EQ(mts_info(fd).foreign, 0);
	ASSERT_EQ(mts_info(fd).populated, 16 * MIB);
}

TEST(mapping_cannot_grow_but_move)
{
	char *data, *moved;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 8 * MIB, 8 * MIB);
	data = mts_map(fd, 4 * MIB, 0);
	mts_fill(data, 4 * MIB, 3);
	ASSERT_ERRNO(mremap(data, 4 * MIB, 8 * MIB, MREMAP_MAYMOVE), EFAULT);
	moved = mmap(NULL, 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(moved != MAP_FAILED);
	ASSERT(mremap(data, 4 * MIB, 4 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == moved);
	ASSERT(mts_filled(moved, 4 * MIB, 3));
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

static const struct {
	const char *name;
	int advice;
	int error;
} advices[] = {
	{ "MADV_DONTNEED", MADV_DONTNEED, 0 },
	{ "MADV_COLD", 20, 0 },
	{ "MADV_PAGEOUT", 21, 0 },
	{ "MADV_HUGEPAGE", MADV_HUGEPAGE, 0 },
	{ "MADV_NOHUGEPAGE", MADV_NOHUGEPAGE, 0 },
	{ "MADV_POPULATE_WRITE", 23, 0 },
	{ "MADV_DODUMP", MADV_DODUMP, EINVAL },		/* never part of a core dump */
	{ "MADV_FREE", MADV_FREE, EINVAL },
	{ "MADV_REMOVE", MADV_REMOVE, EOPNOTSUPP },
};

TEST_EACH(advice_loses_nothing, advices)
{
	int fd, error;
	char *data;

	mts_mount_node(0, 4);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 4 * MIB);
	data = mts_map(fd, 4 * MIB, 0);
	mts_fill(data, 4 * MIB, variant);
	error = madvise(data, 4 * MIB, advices[variant].advice) ? errno : 0;
	ASSERT_EQ(error, advices[variant].error);
	ASSERT(mts_filled(data, 4 * MIB, variant));
	ASSERT_EQ(mts_info(fd).populated, 4 * MIB);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

TEST(mlock_and_msync_do_no_harm)
{
	char *data;
	int fd;

	mts_mount_node(0, 4);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 4 * MIB);
	data = mts_map(fd, 4 * MIB, 0);
	mts_fill(data, 4 * MIB, 6);
	ASSERT_OK(mlock(data, 4 * MIB));
	ASSERT_OK(msync(data, 4 * MIB, MS_SYNC));
	ASSERT_OK(munlock(data, 4 * MIB));
	sync();
	ASSERT_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
	ASSERT(mts_filled(data, 4 * MIB, 6));
}

TEST(reopened_arena_is_as_it_was)
{
	long faults;
	char *data;
	int fd;

	mts_mount_node(1, 64);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 12);
	ASSERT_OK(munmap(data, SIZE));
	close(fd);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC));
	ASSERT_OK(fallocate(fd, 0, 0, SIZE));
	data = mts_map(fd, SIZE, 0);
	faults = mts_faults();
	ASSERT(mts_filled(data, SIZE, 12));
	ASSERT_LE(mts_faults() - faults, SIZE / PAGE);
	/* No page was cleared: none was added. */
	ASSERT_EQ(mts_counter("folios_populated"), SIZE / PAGE);
}

static volatile sig_atomic_t told;

static void on_told(int signal)
{
	told = 1;
}

/*
 * A page with a memory error. Kernels that can split the folio take the one page away, and its
 * next use gives SIGBUS; others leave the folio and send SIGBUS at once. The rest of the arena
 * must stay, and what is left must add up when it goes.
 */
TEST(memory_error_takes_one_folio_at_most)
{
	char *data, *bad;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 8 * MIB, 8 * MIB);
	data = mts_map(fd, 8 * MIB, 0);
	mts_fill(data, 8 * MIB, 14);
	bad = data + 4 * MIB + 8192;
	signal(SIGBUS, on_told);
	if (madvise(bad, 4096, MADV_HWPOISON) && errno == EINVAL)
		SKIP("this kernel cannot inject memory errors");
	ASSERT(told || mts_sigbus(bad));
	ASSERT(mts_filled(data, 4 * MIB, 14));
	ASSERT(!mts_sigbus(data + 6 * MIB));
	mts_note("%s; populated: %llu", told ? "told at once" : "told at use",
		 mts_info(fd).populated);
	ASSERT_OK(munmap(data, 8 * MIB));
	ASSERT_OK(unlink(MTS_ARENA));
	close(fd);
	ASSERT_EQ(mts_counter("folios"), 0);
}
