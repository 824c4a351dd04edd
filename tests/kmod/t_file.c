// SPDX-License-Identifier: GPL-2.0
/*
 * Arenas as files: size, population, what stat and statfs say, names, links, locks, permissions.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

static const struct {
	const char *name;
	off_t size;
	int error;
} sizes[] = {
	{ "0 is no size yet", 0, 0 },
	{ "one page", 2 * MIB, 0 },
	{ "more than the mount's limit", 1ull << 40, 0 },
	{ "the largest", 0x7fffffffffe00000, 0 },
	{ "1 byte", 1, EINVAL },
	{ "4 KiB", 4096, EINVAL },
	{ "2 MiB + 1", 2 * MIB + 1, EINVAL },
	{ "3 MiB", 3 * MIB, EINVAL },
	{ "negative", -2 * (off_t)MIB, EINVAL },
};

TEST_EACH(size_is, sizes)
{
	struct stat st;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 0, 0);
	errno = 0;
	ASSERT_EQ(ftruncate(fd, sizes[variant].size), sizes[variant].error ? -1 : 0);
	ASSERT_EQ(errno, sizes[variant].error);
	ASSERT_OK(fstat(fd, &st));
	ASSERT_EQ(st.st_size, sizes[variant].error ? 0 : sizes[variant].size);
	ASSERT_EQ(st.st_blocks, 0);
}

TEST(size_is_set_once)
{
	struct stat st;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 4 * MIB);
	mts_fill(mts_map(fd, 4 * MIB, 0), 4 * MIB, 1);
	ASSERT_ERRNO(ftruncate(fd, 8 * MIB), EPERM);
	ASSERT_ERRNO(ftruncate(fd, 2 * MIB), EPERM);
	ASSERT_ERRNO(ftruncate(fd, 4 * MIB), EPERM);
	ASSERT_ERRNO(ftruncate(fd, 0), EPERM);
	ASSERT_ERRNO(truncate(MTS_ARENA, 2 * MIB), EPERM);
	ASSERT_ERRNO(open(MTS_ARENA, O_RDWR | O_TRUNC), EPERM);
	ASSERT_OK(fstat(fd, &st));
	ASSERT_EQ(st.st_size, 4 * MIB);
	ASSERT_EQ(st.st_blocks, 4 * MIB / 512);
	ASSERT(mts_filled(mts_map(fd, 4 * MIB, 0), 4 * MIB, 1));
}

TEST(size_respects_file_size_limit)
{
	struct rlimit limit = { 2 * MIB, 2 * MIB };
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 0, 0);
	ASSERT_OK(setrlimit(RLIMIT_FSIZE, &limit));
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_ERRNO(ftruncate(fd, 4 * MIB), EFBIG);
	ASSERT_OK(ftruncate(fd, 2 * MIB));
}

static const struct {
	const char *name;
	int mode;
	off_t offset, length;
	int error;
} bad_ranges[] = {
	{ "misaligned offset", 0, 4096, 2 * MIB, EINVAL },
	{ "misaligned length", 0, 0, 4096, EINVAL },
	{ "length 0", 0, 0, 0, EINVAL },
	{ "negative length", 0, 0, -2 * (off_t)MIB, EINVAL },
	{ "negative offset", 0, -2 * (off_t)MIB, 2 * MIB, EINVAL },
	{ "behind the size", 0, 8 * MIB, 2 * MIB, EFBIG },
	{ "over the size", 0, 6 * MIB, 4 * MIB, EFBIG },
	{ "overflow", 0, 2 * MIB, 0x7fffffffffe00000, EFBIG },
	{ "keep size", FALLOC_FL_KEEP_SIZE, 0, 2 * MIB, EOPNOTSUPP },
	{ "punch hole", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MIB, EOPNOTSUPP },
	{ "zero range", FALLOC_FL_ZERO_RANGE, 0, 2 * MIB, EOPNOTSUPP },
	{ "collapse range", FALLOC_FL_COLLAPSE_RANGE, 0, 2 * MIB, EOPNOTSUPP },
	{ "insert range", FALLOC_FL_INSERT_RANGE, 0, 2 * MIB, EOPNOTSUPP },
};

TEST_EACH(populate_refuses, bad_ranges)
{
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 8 * MIB, 2 * MIB);
	errno = 0;
	ASSERT_EQ(fallocate(fd, bad_ranges[variant].mode, bad_ranges[variant].offset,
			    bad_ranges[variant].length), -1);
	ASSERT_EQ(errno, bad_ranges[variant].error);
	ASSERT_EQ(mts_info(fd).populated, 2 * MIB);
	ASSERT_EQ(mts_counter("folios"), 1);
}

TEST(populate_by_ranges)
{
	struct statfs fs;
	struct stat st;
	char *data;
	int fd;

	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 0);
	data = mts_map(fd, 16 * MIB, 0);
	ASSERT(mts_sigbus(data + 4 * MIB));
	ASSERT_OK(fallocate(fd, 0, 4 * MIB, 4 * MIB));
	mts_fill(data + 4 * MIB, 4 * MIB, 9);
	/* Again and overlapping: what is there stays as it is. */
	ASSERT_OK(fallocate(fd, 0, 4 * MIB, 4 * MIB));
	ASSERT_OK(fallocate(fd, 0, 2 * MIB, 4 * MIB));
	ASSERT(mts_filled(data + 4 * MIB, 4 * MIB, 9));
	ASSERT_EQ(data[2 * MIB], 0);
	ASSERT(mts_sigbus(data));
	ASSERT(mts_sigbus(data + 8 * MIB));
	ASSERT_OK(fstat(fd, &st));
	ASSERT_EQ(st.st_blocks, 6 * MIB / 512);
	ASSERT_EQ(st.st_blksize, MTS_PAGE_SIZE);
	ASSERT_OK(fstatfs(fd, &fs));
	ASSERT_EQ(fs.f_bfree, 8 - 3);
	ASSERT_EQ(mts_counter("folios_populated"), 3);
}

TEST(new_memory_is_zero)
{
	char *data;
	size_t at;
	int fd, round;

	mts_mount_node(0, 8);
	for (round = 0; round < 3; round++) {
		fd = mts_arena(MTS_ARENA, 8 * MIB, 8 * MIB);
		data = mts_map(fd, 8 * MIB, 0);
		for (at = 0; at < 8 * MIB; at += 8)
			if (*(uint64_t *)(data + at))
				FAIL("byte %zu of a new arena is not 0", at);
		memset(data, 0xa5, 8 * MIB);
		ASSERT_OK(munmap(data, 8 * MIB));
		ASSERT_OK(unlink(MTS_ARENA));
		close(fd);
	}
}

TEST(limit_of_mount_is_hard)
{
	struct statfs fs;
	int fd, other;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 0);
	ASSERT_ERRNO(fallocate(fd, 0, 0, 16 * MIB), ENOSPC);
	/* What it got it keeps. */
	ASSERT_EQ(mts_info(fd).populated, 8 * MIB);
	ASSERT_OK(fallocate(fd, 0, 0, 8 * MIB));
	other = mts_arena(MTS_MOUNT "/other", 2 * MIB, 0);
	ASSERT_ERRNO(fallocate(other, 0, 0, 2 * MIB), ENOSPC);
	ASSERT_OK(fstatfs(fd, &fs));
	ASSERT_EQ(fs.f_bfree, 0);
	ASSERT_EQ(mts_counter("failures_size"), 2);
	/* Roll back by unlink, and the memory is the other's. */
	ASSERT_OK(unlink(MTS_ARENA));
	close(fd);
	ASSERT_OK(fallocate(other, 0, 0, 2 * MIB));
	ASSERT_EQ(mts_counter("folios"), 1);
}

TEST(no_read_no_write)
{
	char byte = 1;
	int fd;

	mts_mount_node(0, 2);
	fd = mts_arena(MTS_ARENA, 2 * MIB, 2 * MIB);
	ASSERT_ERRNO(read(fd, &byte, 1), EINVAL);
	ASSERT_ERRNO(write(fd, &byte, 1), EINVAL);
	ASSERT_ERRNO(pread(fd, &byte, 1, 0), EINVAL);
	ASSERT_ERRNO(pwrite(fd, &byte, 1, 0), EINVAL);
	ASSERT_OK(fsync(fd));
	ASSERT_EQ(lseek(fd, 0, SEEK_END), 2 * MIB);
}

TEST(names)
{
	struct stat st, moved;
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 2 * MIB);
	mts_fill(mts_map(fd, 2 * MIB, 0), 2 * MIB, 5);
	close(fd);
	ASSERT_OK(stat(MTS_ARENA, &st));
	ASSERT_OK(rename(MTS_ARENA, MTS_MOUNT "/new"));
	ASSERT_ERRNO(open(MTS_ARENA, O_RDWR), ENOENT);
	ASSERT_OK(stat(MTS_MOUNT "/new", &moved));
	ASSERT_EQ(moved.st_ino, st.st_ino);
	ASSERT_OK(fd = open(MTS_MOUNT "/new", O_RDWR));
	ASSERT(mts_filled(mts_map(fd, 2 * MIB, 0), 2 * MIB, 5));
	ASSERT_OK(link(MTS_MOUNT "/new", MTS_MOUNT "/second"));
	ASSERT_OK(unlink(MTS_MOUNT "/new"));
	ASSERT_EQ(mts_counter("folios"), 1);
	ASSERT_ERRNO(mkdir(MTS_MOUNT "/folder", 0700), EPERM);
	ASSERT_ERRNO(symlink("x", MTS_MOUNT "/link"), EPERM);
	ASSERT_ERRNO(mknod(MTS_MOUNT "/pipe", S_IFIFO | 0600, 0), EPERM);
	ASSERT_ERRNO(open(MTS_MOUNT "/second", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
}

TEST(rename_over_frees_the_other)
{
	int fd, other;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 2 * MIB, 2 * MIB);
	other = mts_arena(MTS_MOUNT "/other", 4 * MIB, 4 * MIB);
	close(other);
	ASSERT_EQ(mts_counter("folios"), 3);
	ASSERT_ERRNO(syscall(SYS_renameat2, AT_FDCWD, MTS_ARENA, AT_FDCWD, MTS_MOUNT "/other",
			     1 /* RENAME_NOREPLACE */), EEXIST);
	ASSERT_OK(rename(MTS_ARENA, MTS_MOUNT "/other"));
	ASSERT_EQ(mts_counter("folios"), 1);
	ASSERT_EQ(mts_info(fd).populated, 2 * MIB);
}

TEST(unlinked_lives_until_last_user)
{
	char *data;
	int fd;

	mts_mount_node(0, 4);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 4 * MIB);
	data = mts_map(fd, 4 * MIB, 0);
	ASSERT_OK(unlink(MTS_ARENA));
	close(fd);
	mts_fill(data, 4 * MIB, 6);
	ASSERT(mts_filled(data, 4 * MIB, 6));
	ASSERT_EQ(mts_counter("folios"), 2);
	ASSERT_EQ(mts_counter("arenas_evicted"), 0);
	ASSERT_OK(munmap(data, 4 * MIB));
	ASSERT_EQ(mts_counter("folios"), 0);
	ASSERT_EQ(mts_counter("arenas_evicted"), 1);
	ASSERT_EQ(mts_counter("folios_released"), 2);
}

TEST(tmpfile_appears_when_ready)
{
	char path[64];
	int fd;

	mts_mount_node(1, 4);
	ASSERT_OK(fd = open(MTS_MOUNT, O_RDWR | O_TMPFILE, 0600));
	ASSERT_OK(ftruncate(fd, 4 * MIB));
	ASSERT_OK(fallocate(fd, 0, 0, 4 * MIB));
	ASSERT_EQ(mts_info(fd).node, 1);
	mts_fill(mts_map(fd, 4 * MIB, 0), 4 * MIB, 8);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ASSERT_OK(linkat(AT_FDCWD, path, AT_FDCWD, MTS_ARENA, AT_SYMLINK_FOLLOW));
	close(fd);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR));
	ASSERT(mts_filled(mts_map(fd, 4 * MIB, 0), 4 * MIB, 8));
}

TEST(tmpfile_goes_with_its_descriptor)
{
	int fd;

	mts_mount_node(0, 4);
	ASSERT_OK(fd = open(MTS_MOUNT, O_RDWR | O_TMPFILE | O_EXCL, 0600));
	ASSERT_OK(ftruncate(fd, 4 * MIB));
	ASSERT_OK(fallocate(fd, 0, 0, 4 * MIB));
	ASSERT_EQ(mts_counter("folios"), 2);
	close(fd);
	ASSERT_EQ(mts_counter("folios"), 0);
}

static int try_flock(void *arg)
{
	int fd = open(MTS_ARENA, O_RDWR);

	return flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
}

TEST(flock_excludes)
{
	int fd;

	mts_mount_node(0, 2);
	fd = mts_arena(MTS_ARENA, 2 * MIB, 0);
	ASSERT_OK(flock(fd, LOCK_EX));
	ASSERT_EQ(mts_in_child(try_flock, NULL), EWOULDBLOCK);
	ASSERT_OK(flock(fd, LOCK_UN));
	ASSERT_EQ(mts_in_child(try_flock, NULL), 0);
}

/* As another user: what modes and owners allow, and no more. */
static int as_user(void *arg)
{
	mts_become_user();
	ASSERT_ERRNO(open(MTS_MOUNT "/secret", O_RDONLY), EACCES);
	ASSERT_ERRNO(open(MTS_MOUNT "/secret", O_RDWR), EACCES);
	ASSERT_ERRNO(truncate(MTS_MOUNT "/secret", 2 * MIB), EACCES);
	ASSERT_ERRNO(chmod(MTS_MOUNT "/secret", 0666), EPERM);
	ASSERT_ERRNO(unlink(MTS_MOUNT "/secret"), EPERM);	/* sticky folder */
	ASSERT_ERRNO(rename(MTS_MOUNT "/secret", MTS_MOUNT "/mine"), EPERM);
	ASSERT_OK(open(MTS_MOUNT "/readable", O_RDONLY));
	ASSERT_ERRNO(open(MTS_MOUNT "/readable", O_RDWR), EACCES);
	ASSERT(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    open(MTS_MOUNT "/readable", O_RDONLY), 0) == MAP_FAILED && errno == EACCES);
	mts_arena(MTS_MOUNT "/own", 2 * MIB, 2 * MIB);
	ASSERT_OK(unlink(MTS_MOUNT "/own"));
	return 0;
}

TEST(permissions_of_another_user)
{
	mts_mount_node(0, 8);
	mts_arena(MTS_MOUNT "/secret", 2 * MIB, 2 * MIB);
	ASSERT_OK(fchmod(mts_arena(MTS_MOUNT "/readable", 2 * MIB, 2 * MIB), 0644));
	ASSERT_EQ(mts_in_child(as_user, NULL), 0);
}

static int enter(void *arg)
{
	mts_become_user();
	ASSERT_ERRNO(open(MTS_ARENA, O_RDONLY), EACCES);
	ASSERT_ERRNO(open(MTS_MOUNT, O_RDONLY | O_DIRECTORY), EACCES);
	ASSERT_ERRNO(open(MTS_MOUNT, O_RDWR | O_TMPFILE, 0600), EACCES);
	return 0;
}

TEST(default_mode_keeps_others_out)
{
	mts_mount("node=0,size=2M");
	ASSERT_OK(fchmod(mts_arena(MTS_ARENA, 2 * MIB, 0), 0666));
	ASSERT_EQ(mts_in_child(enter, NULL), 0);
}
