// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that write into an arena and read from it: O_DIRECT on a block device, and io_uring's
 * fixed buffers where the kernel registers a file mapping. The device is a loop device over a
 * file in memory.
 */
#include <fcntl.h>
#include <liburing.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE (8 * MIB)

/* A block device of SIZE bytes with the pattern of @seed, opened past the page cache. */
static int disk(uint64_t seed)
{
	int file = open("/tmp/disk", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), loop, control;
	char path[32], *data;

	ASSERT_OK(file);
	ASSERT_OK(unlink("/tmp/disk"));
	ASSERT_OK(ftruncate(file, SIZE));
	data = mts_map(file, SIZE, 0);
	mts_fill(data, SIZE, seed);
	ASSERT_OK(munmap(data, SIZE));
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		SKIP("no loop devices: %s", strerror(errno));
	snprintf(path, sizeof(path), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
	close(control);
	ASSERT_OK(loop = open(path, O_RDWR | O_CLOEXEC));
	ASSERT_OK(ioctl(loop, LOOP_SET_FD, file));
	/* Gone as soon as nobody has it open. */
	ASSERT_OK(ioctl(loop, LOOP_SET_STATUS64,
			&(struct loop_info64){ .lo_flags = LO_FLAGS_AUTOCLEAR }));
	close(file);
	ASSERT_OK(fcntl(loop, F_SETFL, O_DIRECT));
	return loop;
}

static const struct {
	const char *name;
	size_t at, length;
} transfers[] = {
	{ "all", 0, SIZE },
	{ "one folio", 2 * MIB, 2 * MIB },
	{ "across folios", 3 * MIB + 512, 2 * MIB },
	{ "one sector", 5 * MIB + 1536, 512 },
};

TEST_EACH(direct_io, transfers)
{
	size_t at = transfers[variant].at, length = transfers[variant].length, i;
	char *data, *copy;
	int device, fd;

	device = disk(19);
	mts_mount_node(1, 8);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	ASSERT_EQ(pread(device, data + at, length, at), length);
	copy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(copy != MAP_FAILED);
	mts_fill(copy, SIZE, 19);
	ASSERT_EQ(memcmp(data + at, copy + at, length), 0);

	memset(data + at, 0x5a, length);
	ASSERT_EQ(pwrite(device, data + at, length, at), length);
	ASSERT_EQ(pread(device, copy, SIZE, 0), SIZE);
	for (i = 0; i < length; i++)
		ASSERT_EQ(copy[at + i], 0x5a);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

TEST(direct_io_into_hole_fails)
{
	int device = disk(1), fd;
	char *data;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, SIZE, 2 * MIB);
	data = mts_map(fd, SIZE, 0);
	ASSERT_ERRNO(pread(device, data + 4 * MIB, 4096, 0), EFAULT);
	ASSERT_EQ(pread(device, data, 4096, 0), 4096);
	ASSERT_EQ(mts_counter("folios"), 1);
}

TEST(io_uring_fixed_buffers)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct iovec buffer;
	int device = disk(23), fd, ret;
	char *data;

	mts_mount_node(0, 8);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	ret = io_uring_queue_init(4, &ring, 0);
	if (ret)
		SKIP("no io_uring: %s", strerror(-ret));
	buffer = (struct iovec){ data, SIZE };
	ret = io_uring_register_buffers(&ring, &buffer, 1);
	if (ret == -EOPNOTSUPP && !mts_kernel_at_least(6, 5))
		SKIP("before Linux 6.5 io_uring registers no file mappings");
	ASSERT_EQ(ret, 0);
	/* Later kernels keep one reference for a folio, not one for each of its pages. */
	ASSERT_LE(SIZE / PAGE, mts_info(fd).foreign);

	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), device, data, SIZE, 0, 0);
	ASSERT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
	ASSERT_EQ(io_uring_peek_cqe(&ring, &cqe), 0);
	ASSERT_EQ(cqe->res, SIZE);
	io_uring_cqe_seen(&ring, cqe);
	ASSERT(mts_filled(data, SIZE, 23));
	ASSERT_EQ(io_uring_unregister_buffers(&ring), 0);
	ASSERT_EQ(mts_info(fd).foreign, 0);
	io_uring_queue_exit(&ring);
}
