// SPDX-License-Identifier: GPL-2.0
/*
 * Pinning as a device driver pins: pin_user_pages with FOLL_WRITE | FOLL_LONGTERM, under mmap_lock
 * and fast. What the whole module is for. INFO's count of foreign references must be right at
 * each step of a pin's life, which may outlive mapping, name, mount and module.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"
#include "pin/mts_pin.h"

static const struct pin_way {
	const char *name;
	bool fast;
	bool touched;	/* faulted in before it is pinned */
} ways[] = {
	{ "slow, untouched", false, false },
	{ "slow, touched", false, true },
	{ "fast, untouched", true, false },
	{ "fast, touched", true, true },
};

#define SIZE	(64 * MIB)
#define PAGES	(SIZE / 4096)

TEST_EACH(pins_whole_arena, ways)
{
	int fd, pin;
	char *data;

	mts_mount_node(0, 64);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	if (ways[variant].touched)
		mts_fill(data, SIZE, variant);
	ASSERT_OK(pin = mts_pin(data, SIZE, ways[variant].fast));
	ASSERT_EQ(mts_info(fd).foreign, PAGES);
	ASSERT_EQ(mts_smaps(data, "FilePmdMapped"), SIZE);

	data[5 * MIB + 7] = 11;
	ASSERT_EQ(mts_pin_swap(pin, 5 * MIB + 7, 22), 11);
	ASSERT_EQ(data[5 * MIB + 7], 22);
	close(pin);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

TEST(pins_count_by_range_and_add_up)
{
	struct mts_arena_info info = { .size = sizeof(info), .version = MTS_ABI_VERSION };
	int fd, pins[3];
	char *data;

	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 16 * MIB);
	data = mts_map(fd, 16 * MIB, 0);
	ASSERT_OK(pins[0] = mts_pin(data, 2 * MIB, false));
	ASSERT_OK(pins[1] = mts_pin(data + 1 * MIB, 2 * MIB, true));
	ASSERT_OK(pins[2] = mts_pin(data + 8 * MIB + 4096, 4096, true));
	ASSERT_EQ(mts_info(fd).foreign, 512 + 512 + 1);
	close(pins[0]);
	ASSERT_EQ(mts_info(fd).foreign, 512 + 1);
	close(pins[1]);
	ASSERT_EQ(mts_info(fd).foreign, 1);
	close(pins[2]);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

TEST(pin_of_hole_fails)
{
	int fd;
	char *data;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, 8 * MIB, 4 * MIB);
	data = mts_map(fd, 8 * MIB, 0);
	ASSERT_ERRNO(mts_pin(data, 8 * MIB, false), EFAULT);
	ASSERT_ERRNO(mts_pin(data, 8 * MIB, true), EFAULT);
	ASSERT_EQ(mts_info(fd).foreign, 0);
	ASSERT_OK(mts_pin(data, 4 * MIB, false));
}

TEST(pin_of_readonly_mapping_fails)
{
	int fd;
	char *data;

	mts_mount_node(0, 2);
	fd = mts_arena(MTS_ARENA, PAGE, PAGE);
	data = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT(data != MAP_FAILED);
	ASSERT_ERRNO(mts_pin(data, PAGE, false), EFAULT);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

/* The steps a pin may outlive, in the order of a server that is killed and cleaned up after. */
static const struct pin_way lives[] = {
	{ "slow", false, true },
	{ "fast", true, true },
};

TEST_EACH(pin_outlives_everything, lives)
{
	int fd, pin;
	char *data;

	mts_mount_node(1, 64);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 3);
	data[0] = 1;
	data[SIZE - 1] = 77;
	ASSERT_OK(pin = mts_pin(data, SIZE, lives[variant].fast));
	ASSERT_EQ(mts_info(fd).mapped, SIZE);

	ASSERT_OK(munmap(data, SIZE));
	ASSERT_EQ(mts_info(fd).mapped, 0);
	ASSERT_EQ(mts_info(fd).foreign, PAGES);

	/* Reopened by name, as the next process would. */
	close(fd);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC));
	ASSERT_EQ(mts_info(fd).foreign, PAGES);

	ASSERT_OK(unlink(MTS_ARENA));
	ASSERT_EQ(mts_info(fd).foreign, PAGES);
	ASSERT_ERRNO(umount(MTS_MOUNT), EBUSY);
	ASSERT_ERRNO(mts_unload_module("mtserve"), EAGAIN);

	close(fd);
	ASSERT_EQ(mts_counter("folios"), 0);
	ASSERT_OK(umount(MTS_MOUNT));
	ASSERT(mts_module_unused(5));
	ASSERT_OK(mts_unload_module("mtserve"));
	ASSERT_EQ(mts_pin_swap(pin, SIZE - 1, 78), 77);
	ASSERT_EQ(mts_pin_swap(pin, SIZE - 1, 79), 78);
	ASSERT_OK(mts_load_module("/modules/mtserve.ko"));
	ASSERT_EQ(mts_pin_swap(pin, 0, 2), 1);
}

TEST(pin_alone_holds_memory)
{
	long long before;
	int fd, pin;
	char *data;

	mts_mount_node(1, 64);
	before = mts_node_free(1);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	ASSERT_OK(pin = mts_pin(data, SIZE, true));
	ASSERT_OK(munmap(data, SIZE));
	ASSERT_OK(unlink(MTS_ARENA));
	close(fd);
	ASSERT_EQ(mts_counter("folios"), 0);
	ASSERT_LE(SIZE - MIB, before - mts_node_free(1));
	close(pin);
	ASSERT_LE(before - mts_node_free(1), MIB);
}

TEST(busy_while_mapped_and_mounted)
{
	int fd;
	char *data;

	mts_mount_node(0, 2);
	ASSERT_ERRNO(mts_unload_module("mtserve"), EAGAIN);
	fd = mts_arena(MTS_ARENA, PAGE, PAGE);
	data = mts_map(fd, PAGE, 0);
	close(fd);
	ASSERT_ERRNO(umount(MTS_MOUNT), EBUSY);
	ASSERT_ERRNO(mts_unload_module("mtserve"), EAGAIN);
	ASSERT_OK(umount2(MTS_MOUNT, MNT_DETACH));
	ASSERT_ERRNO(mts_unload_module("mtserve"), EAGAIN);
	data[0] = 1;
	ASSERT_OK(munmap(data, PAGE));
}
