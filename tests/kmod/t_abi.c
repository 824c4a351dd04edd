// SPDX-License-Identifier: GPL-2.0
/*
 * The binary interface: sizes, offsets and holes of its structure; what INFO refuses; the version
 * handshake in both directions. A program built with an older or newer header must either work or
 * be told.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define MEMBER_END(member) \
	(offsetof(struct mts_arena_info, member) + sizeof(((struct mts_arena_info *)0)->member))

TEST(structure_has_no_holes)
{
	ASSERT_EQ(sizeof(struct mts_arena_info), MTS_ARENA_INFO_SIZE_V1);
	ASSERT_EQ(_Alignof(struct mts_arena_info), 8);
	ASSERT_EQ(offsetof(struct mts_arena_info, size), 0);
	ASSERT_EQ(offsetof(struct mts_arena_info, version), MEMBER_END(size));
	ASSERT_EQ(offsetof(struct mts_arena_info, flags), MEMBER_END(version));
	ASSERT_EQ(offsetof(struct mts_arena_info, node), MEMBER_END(flags));
	ASSERT_EQ(offsetof(struct mts_arena_info, offset), MEMBER_END(node));
	ASSERT_EQ(offsetof(struct mts_arena_info, length), MEMBER_END(offset));
	ASSERT_EQ(offsetof(struct mts_arena_info, page_size), MEMBER_END(length));
	ASSERT_EQ(offsetof(struct mts_arena_info, populated), MEMBER_END(page_size));
	ASSERT_EQ(offsetof(struct mts_arena_info, mapped), MEMBER_END(populated));
	ASSERT_EQ(offsetof(struct mts_arena_info, foreign), MEMBER_END(mapped));
	ASSERT_EQ(sizeof(struct mts_arena_info), MEMBER_END(foreign));
	ASSERT_EQ(MTS_IOCTL_INFO, 0xe900);
}

static int arena(void)
{
	mts_mount_node(1, 8);
	return mts_arena(MTS_ARENA, 8 * MIB, 4 * MIB);
}

TEST(info_fills_in_everything)
{
	struct mts_arena_info info;
	int fd = arena();
	char *data = mts_map(fd, 8 * MIB, 0);

	data[0] = 1;
	memset(&info, 0xff, sizeof(info));
	info.size = sizeof(info);
	info.version = MTS_ABI_VERSION;
	info.flags = 0;
	info.offset = 0;
	info.length = 0;
	ASSERT_OK(ioctl(fd, MTS_IOCTL_INFO, &info));
	ASSERT_EQ(info.size, sizeof(info));
	ASSERT_EQ(info.version, MTS_ABI_VERSION);
	ASSERT_EQ(info.flags, 0);
	ASSERT_EQ(info.node, 1);
	ASSERT_EQ(info.offset, 0);
	ASSERT_EQ(info.length, 8 * MIB);
	ASSERT_EQ(info.page_size, 2 * MIB);
	ASSERT_EQ(info.populated, 4 * MIB);
	ASSERT_EQ(info.mapped, 2 * MIB);
	ASSERT_EQ(info.foreign, 0);
}

static const struct {
	const char *name;
	struct mts_arena_info in;
	unsigned long long populated, mapped;
} ranges[] = {
	{ "all", { .offset = 0, .length = 8 * MIB }, 4 * MIB, 2 * MIB },
	{ "to the end", { .offset = 2 * MIB, .length = 0 }, 2 * MIB, 2 * MIB },
	{ "first", { .offset = 0, .length = 2 * MIB }, 2 * MIB, 0 },
	{ "second", { .offset = 2 * MIB, .length = 2 * MIB }, 2 * MIB, 2 * MIB },
	{ "hole", { .offset = 4 * MIB, .length = 4 * MIB }, 0, 0 },
	{ "nothing at the end", { .offset = 8 * MIB, .length = 0 }, 0, 0 },
};

TEST_EACH(info_of_range, ranges)
{
	struct mts_arena_info info = ranges[variant].in;
	int fd = arena();
	char *data = mts_map(fd, 8 * MIB, 0);

	data[2 * MIB] = 1;
	info.size = sizeof(info);
	info.version = MTS_ABI_VERSION;
	ASSERT_OK(ioctl(fd, MTS_IOCTL_INFO, &info));
	ASSERT_EQ(info.populated, ranges[variant].populated);
	ASSERT_EQ(info.mapped, ranges[variant].mapped);
	ASSERT_EQ(info.offset, ranges[variant].in.offset);
}

static const struct {
	const char *name;
	struct mts_arena_info in;
	int error;
} bad[] = {
	{ "size 0", { .size = 0, .version = 1 }, EINVAL },
	{ "size too short", { .size = 63, .version = 1 }, EINVAL },
	{ "unknown flag", { .size = 64, .version = 1, .flags = 1 }, EINVAL },
	{ "unknown high flag", { .size = 64, .version = 1, .flags = 1u << 31 }, EINVAL },
	{ "misaligned offset", { .size = 64, .version = 1, .offset = 4096 }, EINVAL },
	{ "misaligned length", { .size = 64, .version = 1, .length = 4096 }, EINVAL },
	{ "offset behind the end", { .size = 64, .version = 1, .offset = 10 * MIB }, EINVAL },
	{ "length behind the end",
	  { .size = 64, .version = 1, .offset = 2 * MIB, .length = 8 * MIB }, EINVAL },
	{ "offset + length overflow",
	  { .size = 64, .version = 1, .offset = 2 * MIB, .length = -2ull * MIB }, EINVAL },
	{ "version 0", { .size = 64, .version = 0 }, EPROTO },
	{ "version of the future", { .size = 64, .version = 2 }, EPROTO },
};

TEST_EACH(info_refuses, bad)
{
	struct mts_arena_info info = bad[variant].in;
	int fd = arena();

	errno = 0;
	ASSERT_EQ(ioctl(fd, MTS_IOCTL_INFO, &info), -1);
	ASSERT_EQ(errno, bad[variant].error);
	/* Whoever is refused for its version learns the other one, and nothing else is touched. */
	if (bad[variant].error == EPROTO) {
		ASSERT_EQ(info.version, MTS_ABI_VERSION);
		info.version = bad[variant].in.version;
	}
	ASSERT(!memcmp(&info, &bad[variant].in, sizeof(info)));
}

struct longer {
	struct mts_arena_info info;
	unsigned long long more[2];
};

TEST(info_of_longer_structure)
{
	struct longer longer = { .info = { .size = sizeof(longer), .version = 1 } };
	int fd = arena();

	ASSERT_OK(ioctl(fd, MTS_IOCTL_INFO, &longer));
	ASSERT_EQ(longer.info.size, sizeof(longer.info));
	ASSERT_EQ(longer.info.populated, 4 * MIB);
	longer.info.size = sizeof(longer);
	longer.more[1] = 1ull << 63;
	ASSERT_ERRNO(ioctl(fd, MTS_IOCTL_INFO, &longer), E2BIG);
	longer.info.size = 1u << 30;
	ASSERT_ERRNO(ioctl(fd, MTS_IOCTL_INFO, &longer), E2BIG);
}

TEST(info_at_bad_address)
{
	struct mts_arena_info info = { .size = sizeof(info), .version = 1 }, *readonly;
	int fd = arena();

	ASSERT_ERRNO(ioctl(fd, MTS_IOCTL_INFO, NULL), EFAULT);
	ASSERT_ERRNO(ioctl(fd, MTS_IOCTL_INFO, (void *)-4096l), EFAULT);
	readonly = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(readonly != MAP_FAILED);
	*readonly = info;
	ASSERT_OK(mprotect(readonly, 4096, PROT_READ));
	ASSERT_ERRNO(ioctl(fd, MTS_IOCTL_INFO, readonly), EFAULT);
}

TEST(other_ioctls_are_refused)
{
	struct mts_arena_info info = { .size = sizeof(info), .version = 1 };
	int fd = arena(), other;

	ASSERT_ERRNO(ioctl(fd, _IO(0xe9, 1), &info), ENOTTY);
	ASSERT_ERRNO(ioctl(fd, _IOR(0xe9, 0, struct mts_arena_info), &info), ENOTTY);
	ASSERT_OK(other = open("/tmp/file", O_RDWR | O_CREAT, 0600));
	ASSERT_ERRNO(ioctl(other, MTS_IOCTL_INFO, &info), ENOTTY);
	ASSERT_OK(other = open(MTS_MOUNT, O_RDONLY | O_DIRECTORY));
	ASSERT_ERRNO(ioctl(other, MTS_IOCTL_INFO, &info), ENOTTY);
}

TEST(info_through_readonly_descriptor)
{
	int fd = arena();

	close(fd);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(mts_info(fd).populated, 4 * MIB);
	ASSERT_ERRNO(fallocate(fd, 0, 0, 2 * MIB), EBADF);
}
