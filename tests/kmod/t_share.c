// SPDX-License-Identifier: GPL-2.0
/*
 * One arena, several processes: forked ones and strangers, killed at any point; what is in the
 * arena and what the module counts must stay right.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE (16 * MIB)

static int write_in_child(void *arg)
{
	char *data = arg;

	if (!mts_filled(data, SIZE, 1))
		return 1;
	mts_fill(data, SIZE, 2);
	return 0;
}

/* Shared means shared: no copy on write, no page of the child's own. */
TEST(fork_shares)
{
	char *data;
	int fd;

	mts_mount_node(0, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT_EQ(mts_in_child(write_in_child, data), 0);
	ASSERT(mts_filled(data, SIZE, 2));
	ASSERT_EQ(mts_counter("folios"), 8);
	ASSERT_EQ(mts_info(fd).foreign, 0);
}

TEST(fork_while_pinned)
{
	char *data;
	int fd, pin;

	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT_OK(pin = mts_pin(data, SIZE, true));
	ASSERT_EQ(mts_in_child(write_in_child, data), 0);
	data[4095] = 5;
	ASSERT_EQ(mts_pin_swap(pin, 4095, 6), 5);
	ASSERT_EQ(data[4095], 6);
	ASSERT_EQ(mts_info(fd).foreign, SIZE / 4096);
}

static int stranger(void *arg)
{
	int fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC);
	char *data = mts_map(fd, SIZE, 0);

	if (!mts_filled(data, SIZE, 1))
		return 1;
	mts_fill(data, SIZE, 3);
	return mts_info(fd).mapped == SIZE ? 0 : 2;
}

TEST(two_processes_open_one_arena)
{
	char *data;
	int fd;

	mts_mount_node(0, 16);
	fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	data = mts_map(fd, SIZE, 0);
	mts_fill(data, SIZE, 1);
	ASSERT_EQ(mts_in_child(stranger, NULL), 0);
	ASSERT(mts_filled(data, SIZE, 3));
}

/* Start a process that makes an arena, reports its end of work, and waits to be killed. */
static pid_t start(int (*body)(void), int *ready)
{
	int ends[2];
	pid_t child;

	ASSERT_OK(pipe2(ends, O_CLOEXEC));
	child = fork();
	ASSERT_OK(child);
	if (!child) {
		close(ends[0]);
		if (body())
			_exit(1);
		ASSERT_EQ(write(ends[1], "x", 1), 1);
		pause();
	}
	close(ends[1]);
	*ready = ends[0];
	return child;
}

static void kill_now(pid_t child)
{
	ASSERT_OK(kill(child, SIGKILL));
	ASSERT_EQ(waitpid(child, NULL, 0), child);
}

static int holder(void)
{
	int fd = mts_arena(MTS_ARENA, SIZE, SIZE);
	char *data = mts_map(fd, SIZE, 0);

	mts_fill(data, SIZE, 33);
	return mts_pin(data, SIZE, false) < 0;
}

TEST(content_survives_sigkill)
{
	char byte;
	pid_t child;
	int ready, fd;

	mts_mount_node(1, 16);
	child = start(holder, &ready);
	ASSERT_EQ(read(ready, &byte, 1), 1);
	ASSERT_OK(fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC));
	ASSERT_EQ(mts_info(fd).foreign, SIZE / 4096);
	ASSERT_EQ(mts_info(fd).mapped, SIZE);
	kill_now(child);
	/* The pin went with its file; the next process may use every byte. */
	ASSERT_EQ(mts_info(fd).foreign, 0);
	ASSERT_EQ(mts_info(fd).mapped, 0);
	ASSERT_EQ(mts_info(fd).populated, SIZE);
	ASSERT(mts_filled(mts_map(fd, SIZE, 0), SIZE, 33));
	ASSERT_EQ(mts_counter("folios_populated"), SIZE / PAGE);
}

static int populate_for_ever(void)
{
	int fd = mts_arena(MTS_ARENA, 512 * MIB, 0);

	return fallocate(fd, 0, 0, 512 * MIB) != 0;
}

/* Killed anywhere in populating: what is there counts, and the rest can be had. */
TEST(sigkill_while_populating)
{
	pid_t child;
	int round, ready, fd;
	unsigned long long populated;

	mts_mount_node(0, 128);
	for (round = 0; round < 10; round++) {
		child = start(populate_for_ever, &ready);
		usleep(1000 + round * 4000);
		kill_now(child);
		close(ready);
		fd = open(MTS_ARENA, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		populated = mts_info(fd).populated;
		ASSERT_EQ(mts_counter("folios") * PAGE, populated);
		ASSERT_LE(populated, 128 * MIB);
		if (mts_info(fd).length >= 128 * MIB)
			ASSERT_OK(fallocate(fd, 0, 0, 128 * MIB));
		close(fd);
		ASSERT_OK(unlink(MTS_ARENA));
		ASSERT_EQ(mts_counter("folios"), 0);
	}
}

/* Killed, unlinked, populated again: round after round nothing is lost. */
TEST(sigkill_and_unlink)
{
	char byte;
	pid_t child;
	int round, ready;

	mts_mount_node(1, 16);
	for (round = 0; round < 20; round++) {
		child = start(holder, &ready);
		ASSERT_EQ(read(ready, &byte, 1), 1);
		if (round % 2)
			ASSERT_OK(unlink(MTS_ARENA));
		kill_now(child);
		close(ready);
		if (round % 2 == 0)
			ASSERT_OK(unlink(MTS_ARENA));
		ASSERT_EQ(mts_counter("folios"), 0);
	}
	ASSERT_EQ(mts_counter("arenas_created"), 20);
	ASSERT_EQ(mts_counter("arenas_evicted"), 20);
}
