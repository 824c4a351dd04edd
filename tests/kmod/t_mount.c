// SPDX-License-Identifier: GPL-2.0
/*
 * Mount options: each good value is seen in /proc/mounts and in the root folder, each bad one is
 * refused with its errno and a message that names it. fsopen() is used, whose descriptor gives
 * the messages back; mount(2) goes the same way in the kernel.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

static const struct {
	const char *name;	/* the options */
	const char *message;	/* a part of what the kernel says */
} refused[] = {
	{ "size=64M", "node= is missing" },
	{ "node=0", "size= is missing" },
	{ "", "node= is missing" },
	{ "node=99,size=64M", "node=99" },
	{ "node=5000,size=64M", "node=5000" },
	{ "node=-1,size=64M", "node" },
	{ "node=,size=64M", "node" },
	{ "node=zero,size=64M", "node" },
	{ "node,size=64M", "node" },
	{ "node=0,size=0", "size=0" },
	{ "node=0,size=", "size" },
	{ "node=0,size=lots", "size=lots" },
	{ "node=0,size=64Q", "size=64Q" },
	{ "node=0,size=1M", "multiple of 2M" },
	{ "node=0,size=3M", "multiple of 2M" },
	{ "node=0,size=4194305", "multiple of 2M" },
	{ "node=0,size=-2M", "size=-2M" },
	{ "node=0,size=16E", "size=16E" },
	{ "node=0,size=64M,mode=2777", "mode=2777" },
	{ "node=0,size=64M,mode=10000", "mode=10000" },
	{ "node=0,size=64M,mode=rwx", "mode" },
	{ "node=0,size=64M,mode=8", "mode" },
	{ "node=0,size=64M,uid=4294967295", "uid=4294967295" },
	{ "node=0,size=64M,gid=4294967295", "gid=4294967295" },
	{ "node=0,size=64M,uid=root", "uid" },
	{ "node=0,size=64M,gid=kv", "gid" },
	{ "node=0,size=64M,huge=always", "huge" },
};

TEST_EACH(mount_refuses, refused)
{
	char log[512];

	ASSERT_ERRNO(mts_configure(refused[variant].name, log, sizeof(log)), EINVAL);
	if (!strstr(log, refused[variant].message))
		FAIL("said \"%s\", expected something with \"%s\"", log,
		     refused[variant].message);
	ASSERT_ERRNO(mts_try_mount(refused[variant].name), EINVAL);
}

static const struct {
	const char *name;	/* the options */
	const char *shown;	/* the same in /proc/mounts */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	long long blocks;
} accepted[] = {
	{ "node=0,size=2M", "node=0,size=2M,mode=700,uid=0,gid=0", 0700, 0, 0, 1 },
	{ "node=1,size=65536K", "node=1,size=64M,mode=700,uid=0,gid=0", 0700, 0, 0, 32 },
	{ "node=0,size=1G,mode=0770,gid=1000", "node=0,size=1024M,mode=770,uid=0,gid=1000",
	  0770, 0, 1000, 512 },
	{ "node=0,size=4194304,mode=1777,uid=1000", "node=0,size=4M,mode=1777,uid=1000,gid=0",
	  01777, 1000, 0, 2 },
	{ "node=0,size=0x400000,mode=0", "node=0,size=4M,mode=0,uid=0,gid=0", 0, 0, 0, 2 },
	{ "node=0,size=8M,mode=550,size=4M", "node=0,size=4M,mode=550,uid=0,gid=0", 0550, 0, 0, 2 },
	/* More than the node has: allowed, memory may be added; populating says ENOMEM. */
	{ "node=0,size=1T", "node=0,size=1048576M,mode=700,uid=0,gid=0", 0700, 0, 0, 1 << 19 },
};

TEST_EACH(mount_accepts, accepted)
{
	char mounts[4096];
	struct statfs fs;
	struct stat st;

	mts_mount(accepted[variant].name);
	ASSERT(mts_read_file("/proc/self/mounts", mounts, sizeof(mounts)));
	if (!strstr(mounts, accepted[variant].shown))
		FAIL("/proc/self/mounts lacks \"%s\"", accepted[variant].shown);
	ASSERT_OK(stat(MTS_MOUNT, &st));
	ASSERT_EQ(st.st_mode, S_IFDIR | accepted[variant].mode);
	ASSERT_EQ(st.st_uid, accepted[variant].uid);
	ASSERT_EQ(st.st_gid, accepted[variant].gid);
	ASSERT_OK(statfs(MTS_MOUNT, &fs));
	ASSERT_EQ(fs.f_type, MTS_SUPER_MAGIC);
	ASSERT_EQ(fs.f_bsize, MTS_PAGE_SIZE);
	ASSERT_EQ(fs.f_blocks, accepted[variant].blocks);
	ASSERT_EQ(fs.f_bfree, accepted[variant].blocks);
	ASSERT_EQ(fs.f_bavail, accepted[variant].blocks);
}

static int remount(const char *options)
{
	return mount("none", MTS_MOUNT, "mtserve", MS_REMOUNT, options);
}

TEST(remount_changes_size_only)
{
	struct statfs fs;

	mts_mount("node=0,size=8M,mode=750,uid=1,gid=2");
	mts_arena(MTS_ARENA, 8 * MIB, 4 * MIB);
	ASSERT_OK(remount("node=0,size=16M,mode=750,uid=1,gid=2"));
	ASSERT_OK(statfs(MTS_MOUNT, &fs));
	ASSERT_EQ(fs.f_blocks, 8);
	ASSERT_EQ(fs.f_bfree, 6);
	ASSERT_OK(remount("size=4M"));
	ASSERT_OK(remount(""));
	ASSERT_ERRNO(remount("size=2M"), EINVAL);
	ASSERT_ERRNO(remount("node=1"), EINVAL);
	ASSERT_ERRNO(remount("mode=700"), EINVAL);
	ASSERT_ERRNO(remount("uid=3"), EINVAL);
	ASSERT_ERRNO(remount("gid=3"), EINVAL);
	ASSERT_OK(statfs(MTS_MOUNT, &fs));
	ASSERT_EQ(fs.f_blocks, 2);
	ASSERT_EQ(fs.f_bfree, 0);
}

TEST(readonly_remount_refuses_new_memory)
{
	int fd;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 4 * MIB, 0);
	close(fd);
	ASSERT_OK(mount("none", MTS_MOUNT, "mtserve", MS_REMOUNT | MS_RDONLY, ""));
	ASSERT_ERRNO(open(MTS_ARENA, O_RDWR), EROFS);
	ASSERT_ERRNO(open(MTS_MOUNT "/other", O_RDWR | O_CREAT, 0600), EROFS);
	ASSERT_OK(open(MTS_ARENA, O_RDONLY));
}

TEST(mounts_are_independent)
{
	struct stat a, b;

	mts_mount_node(0, 8);
	mts_arena(MTS_ARENA, 2 * MIB, 2 * MIB);
	ASSERT_OK(stat(MTS_MOUNT, &a));
	mts_mount_node(1, 8);
	ASSERT_OK(stat(MTS_MOUNT, &b));
	ASSERT(a.st_dev != b.st_dev);
	ASSERT_ERRNO(open(MTS_ARENA, O_RDWR), ENOENT);
	ASSERT_EQ(mts_counter("folios"), 0);
	ASSERT_OK(umount(MTS_MOUNT));
	ASSERT_EQ(mts_counter("folios"), 1);
}

TEST(user_cannot_mount)
{
	mts_become_user();
	ASSERT_ERRNO(mts_try_mount("node=0,size=2M"), EPERM);
}

TEST(user_namespace_cannot_mount)
{
	mts_become_user();
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		SKIP("no user namespaces for users: %s", strerror(errno));
	ASSERT_ERRNO(mts_try_mount("node=0,size=2M"), EPERM);
}
