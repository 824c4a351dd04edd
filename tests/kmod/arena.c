// SPDX-License-Identifier: GPL-2.0
/* Mounts, arenas and pins; see arena.h. */
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"
#include "pin/mts_pin.h"

int mts_try_mount(const char *options)
{
	mkdir(MTS_MOUNT, 0755);
	return mount("none", MTS_MOUNT, "mtserve", 0, options);
}

int mts_configure(const char *options, char *log, size_t size)
{
	char text[128], *option, *value, *rest;
	int fd = syscall(SYS_fsopen, "mtserve", 0), ret = 0, error;
	ssize_t got;

	ASSERT_OK(fd);
	snprintf(text, sizeof(text), "%s", options);
	for (option = strtok_r(text, ",", &rest); option && !ret;
	     option = strtok_r(NULL, ",", &rest)) {
		value = strchr(option, '=');
		if (value)
			*value++ = '\0';
		/* FSCONFIG_SET_STRING, FSCONFIG_SET_FLAG */
		ret = syscall(SYS_fsconfig, fd, value ? 1 : 0, option, value, 0);
	}
	if (!ret)	/* FSCONFIG_CMD_CREATE */
		ret = syscall(SYS_fsconfig, fd, 6, NULL, NULL, 0);
	error = errno;
	*log = '\0';
	while ((got = read(fd, log, size - 1)) > 0) {
		log[got] = '\0';
		log += got;
		size -= got;
	}
	close(fd);
	errno = error;
	return ret;
}

void mts_mount(const char *options)
{
	if (mts_try_mount(options))
		FAIL("mount -o %s: %s", options, strerror(errno));
}

void mts_mount_node(int node, unsigned int mib)
{
	char options[80];

	snprintf(options, sizeof(options), "node=%d,size=%uM,mode=1777", node, mib);
	mts_mount(options);
}

int mts_arena(const char *path, size_t size, size_t populate)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	if (size)
		ASSERT_OK(ftruncate(fd, size));
	if (populate)
		ASSERT_OK(fallocate(fd, 0, 0, populate));
	return fd;
}

char *mts_map(int fd, size_t size, size_t offset)
{
	char *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (data == MAP_FAILED)
		FAIL("mmap of %zu bytes at %zu: %s", size, offset, strerror(errno));
	return data;
}

static uint64_t pattern(size_t at, uint64_t seed)
{
	return (at + 1) * 0x9e3779b97f4a7c15ull ^ seed;
}

void mts_fill(char *data, size_t size, uint64_t seed)
{
	size_t at;

	for (at = 0; at < size; at += 4096)
		*(volatile uint64_t *)(data + at) = pattern(at, seed);
}

bool mts_filled(const char *data, size_t size, uint64_t seed)
{
	size_t at;

	for (at = 0; at < size; at += 4096)
		if (*(const volatile uint64_t *)(data + at) != pattern(at, seed))
			return false;
	return true;
}

struct mts_arena_info mts_info(int fd)
{
	struct mts_arena_info info = { .size = sizeof(info), .version = MTS_ABI_VERSION };

	ASSERT_OK(ioctl(fd, MTS_IOCTL_INFO, &info));
	return info;
}

long long mts_counter(const char *name)
{
	char path[96];
	struct stat st;
	long long value;

	ASSERT_OK(stat(MTS_MOUNT, &st));
	snprintf(path, sizeof(path), "/sys/kernel/debug/mtserve/%u:%u/counters",
		 major(st.st_dev), minor(st.st_dev));
	value = mts_read_number(path, name);
	if (value < 0)
		FAIL("%s has no %s", path, name);
	return value;
}

int mts_pin(const void *address, size_t length, bool fast)
{
	struct mts_pin_range range = {
		.address = (uintptr_t)address,
		.length = length,
		.flags = fast ? MTS_PIN_FAST : 0,
	};
	int fd = open("/dev/mts_pin", O_RDWR | O_CLOEXEC);
	int error;

	if (fd < 0)
		SKIP("no /dev/mts_pin: %s", strerror(errno));
	if (!ioctl(fd, MTS_PIN_IOCTL_PIN, &range)) {
		ASSERT_EQ(range.pages, length / 4096);
		return fd;
	}
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

unsigned int mts_pin_swap(int pin, size_t offset, unsigned int value)
{
	struct mts_pin_byte byte = { .offset = offset, .value = value };

	ASSERT_OK(ioctl(pin, MTS_PIN_IOCTL_SWAP, &byte));
	return byte.value;
}

static sigjmp_buf sigbus_jump;

static void on_sigbus(int signal)
{
	siglongjmp(sigbus_jump, 1);
}

bool mts_sigbus(const char *address)
{
	struct sigaction action = { .sa_handler = on_sigbus }, old;
	bool died = true;

	sigaction(SIGBUS, &action, &old);
	if (!sigsetjmp(sigbus_jump, 1)) {
		(void)*(const volatile char *)address;
		died = false;
	}
	sigaction(SIGBUS, &old, NULL);
	return died;
}

void mts_become_user(void)
{
	ASSERT_OK(setgroups(0, NULL));
	ASSERT_OK(setresgid(1000, 1000, 1000));
	ASSERT_OK(setresuid(1000, 1000, 1000));
}

int mts_in_child(int (*body)(void *), void *arg)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	ASSERT_OK(child);
	if (!child)
		_exit(body(arg));
	ASSERT_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
