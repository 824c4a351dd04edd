// SPDX-License-Identifier: GPL-2.0
/*
 * Every allocation that an operation makes in the kernel fails once, one after the other: the
 * operation must then either work all the same or say so, and leave nothing behind. Needs a
 * kernel with fault injection; scripts/guest --kernel debug has one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"
#include "pin/mts_pin.h"

#define FAIL_NTH "/proc/thread-self/fail-nth"

/* Also those that may sleep, come from slab caches, or from memory that could be high. */
static void set_up_injection(void)
{
	static const char *const settings[][2] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
	};
	size_t i;

	if (access(FAIL_NTH, W_OK))
		SKIP("this kernel has no fault injection");
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		ASSERT(mts_write_file(settings[i][0], settings[i][1]));
}

/*
 * Undo what worked. The one failure may hit this too: then it is said, and done at the second try.
 */
#define UNDO(call)								\
	({									\
		int ret_ = call, error_ = errno;				\
										\
		if (ret_)							\
			ASSERT_OK(call);					\
		errno = error_;							\
		ret_;								\
	})

static int try_mount(void)
{
	if (mts_try_mount("node=1,size=16M,mode=1777"))
		return -1;
	return UNDO(umount(MTS_MOUNT));
}

static int try_create(void)
{
	int fd = open(MTS_MOUNT "/created", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	close(fd);
	return UNDO(unlink(MTS_MOUNT "/created"));
}

static int try_tmpfile(void)
{
	int fd = open(MTS_MOUNT, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : close(fd);
}

/* The arena that the operations below find: sized, empty. */
static int arena_fd = -1;

static int try_populate(void)
{
	return fallocate(arena_fd, 0, 0, 8 * MIB);
}

static int with_mapping(int (*use)(char *data))
{
	char *data = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, arena_fd, 0);
	int ret, error;

	if (data == MAP_FAILED)
		return -1;
	ret = use(data);
	error = errno;
	if (UNDO(munmap(data, 8 * MIB)))
		return -1;
	errno = error;
	return ret;
}

/* MADV_POPULATE_WRITE: faults whose failure is an error and no signal */
static int fault_in(char *data)
{
	return madvise(data, 8 * MIB, 23);
}

static int try_map(void)
{
	return with_mapping(fault_in);
}

static int pin(char *data)
{
	struct mts_pin_range range = { .address = (uintptr_t)data, .length = 8 * MIB };
	int fd = open("/dev/mts_pin", O_RDWR | O_CLOEXEC), ret, error;

	if (fd < 0)
		return -1;
	ret = ioctl(fd, MTS_PIN_IOCTL_PIN, &range);
	error = errno;
	close(fd);
	errno = error;
	return ret;
}

static int try_pin(void)
{
	return with_mapping(pin);
}

static int try_rename(void)
{
	if (rename(MTS_ARENA, MTS_MOUNT "/new"))
		return -1;
	return rename(MTS_MOUNT "/new", MTS_ARENA);
}

static const struct {
	const char *name;
	int (*run)(void);
	bool mounted;
	size_t populate;	/* before each try */
	size_t left;		/* populated bytes after a success */
} operations[] = {
	{ "mount", try_mount, false, 0, 0 },
	{ "create", try_create, true, 0, 0 },
	{ "tmpfile", try_tmpfile, true, 0, 0 },
	{ "populate", try_populate, true, 0, 8 * MIB },
	{ "map and fault", try_map, true, 8 * MIB, 8 * MIB },
	{ "pin", try_pin, true, 8 * MIB, 8 * MIB },
	{ "rename", try_rename, true, 2 * MIB, 2 * MIB },
};

static void start_over(size_t variant)
{
	if (!operations[variant].mounted)
		return;
	arena_fd = mts_arena(MTS_ARENA, 8 * MIB, operations[variant].populate);
}

static void end_try(size_t variant, int ret)
{
	if (!operations[variant].mounted)
		return;
	/* A rename may have got half of the way there and back. */
	if (unlink(MTS_ARENA))
		ASSERT_OK(unlink(MTS_MOUNT "/new"));
	if (!ret)
		ASSERT_EQ(mts_info(arena_fd).populated, operations[variant].left);
	ASSERT_EQ(mts_counter("folios"), mts_info(arena_fd).populated / PAGE);
	ASSERT_EQ(mts_info(arena_fd).foreign, 0);
	close(arena_fd);
	ASSERT_EQ(mts_counter("folios"), 0);
}

/* Run once with the nth allocation failing. False when there is no nth allocation. */
static bool fail_nth(size_t variant, unsigned int nth, unsigned int *failures)
{
	char text[16];
	int fd, ret, error;

	start_over(variant);
	ASSERT_OK(fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC));
	snprintf(text, sizeof(text), "%u", nth);
	ASSERT_EQ(pwrite(fd, text, strlen(text), 0), strlen(text));
	ret = operations[variant].run();
	error = errno;
	memset(text, 0, sizeof(text));
	ASSERT_OK(pread(fd, text, sizeof(text) - 1, 0));
	ASSERT_EQ(pwrite(fd, "0", 1, 0), 1);
	close(fd);
	if (ret) {
		++*failures;
		/* EFAULT: a page could not be faulted in for want of a page table. */
		if (error != ENOMEM && error != ENOSPC && error != EFAULT && error != ENFILE)
			FAIL("failing allocation %u gave %s", nth, strerror(error));
	}
	end_try(variant, ret);
	return atoi(text) == 0;
}

TEST_EACH(every_allocation_fails_once, operations)
{
	unsigned int nth, failures = 0;

	set_up_injection();
	if (operations[variant].mounted)
		mts_mount_node(1, 16);
	for (nth = 1; nth < 500 && fail_nth(variant, nth, &failures); nth++)
		;
	mts_note("%s: %u allocations failed, %u times the operation did", operations[variant].name,
		 nth - 1, failures);
	ASSERT(nth > 1 && nth < 500);
	/* The sweep ended with a run that nothing disturbed. */
	ASSERT_EQ(operations[variant].mounted || mts_module_unused(5), 1);
}

/* Population tries twice, so that one failure never shows: let all of a kind fail. */
static const struct {
	const char *name;
	const char *folder;
	const char *counter;
} kinds[] = {
	{ "folios", "/sys/kernel/debug/fail_page_alloc/", "failures_node" },
	{ "page cache nodes", "/sys/kernel/debug/failslab/", "failures_cgroup" },
};

static void inject(const char *folder, const char *file, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "%s%s", folder, file);
	if (!mts_write_file(path, text))
		FAIL("cannot write %s to %s: %s", text, path, strerror(errno));
}

TEST_EACH(population_without, kinds)
{
	const char *folder = kinds[variant].folder;
	int fd, fail, ret, error;

	set_up_injection();
	if (!variant)
		inject(folder, "min-order", "9");
	mts_mount_node(1, 16);
	fd = mts_arena(MTS_ARENA, 16 * MIB, 0);
	/* Opened before: nothing can be opened without memory. */
	ASSERT_OK(fail = open("/proc/self/make-it-fail", O_RDWR | O_CLOEXEC));
	inject(folder, "task-filter", "Y");
	inject(folder, "times", "-1");
	inject(folder, "probability", "100");
	ASSERT_EQ(pwrite(fail, "1", 1, 0), 1);
	ret = fallocate(fd, 0, 0, 16 * MIB);
	error = errno;
	ASSERT_EQ(pwrite(fail, "0", 1, 0), 1);
	inject(folder, "probability", "0");
	ASSERT_EQ(ret, -1);
	ASSERT_EQ(error, ENOMEM);
	ASSERT_EQ(mts_counter(kinds[variant].counter), 1);
	ASSERT_EQ(mts_counter("folios") * PAGE, mts_info(fd).populated);
	ASSERT_OK(fallocate(fd, 0, 0, 16 * MIB));
}
