// SPDX-License-Identifier: GPL-2.0
/* Reading the guest; see host.h. */
#include <ctype.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "host.h"

bool mts_read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got = 0;

	if (fd < 0)
		return false;
	while (used + 1 < size && (got = read(fd, buf + used, size - 1 - used)) > 0)
		used += got;
	close(fd);
	buf[used] = '\0';
	return got >= 0;
}

bool mts_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;
	int error;

	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return done == (ssize_t)strlen(text);
}

static long long number_after(const char *text, const char *key)
{
	size_t length = strlen(key);
	const char *line = text;

	while (line) {
		if (!strncmp(line, key, length) && !isalnum((unsigned char)line[length]))
			return strtoll(line + length + strspn(line + length, ": \t"), NULL, 10);
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return -1;
}

long long mts_read_number(const char *path, const char *key)
{
	static char text[1 << 18];

	if (!mts_read_file(path, text, sizeof(text)))
		FAIL("cannot read %s: %s", path, strerror(errno));
	return number_after(text, key);
}

bool mts_module_unused(unsigned int seconds)
{
	struct timespec tick = { .tv_nsec = 5 * 1000 * 1000 };
	time_t end = time(NULL) + seconds;
	char text[32];

	while (mts_read_file("/sys/module/mtserve/refcnt", text, sizeof(text)) && atoi(text)) {
		if (time(NULL) > end)
			return false;
		nanosleep(&tick, NULL);
	}
	return true;
}

bool mts_kernel_is_debug(void)
{
	return access("/sys/kernel/debug/kmemleak", F_OK) == 0;
}

bool mts_kernel_at_least(int major, int minor)
{
	struct utsname name;
	int have_major, have_minor;

	uname(&name);
	if (sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2)
		FAIL("cannot read the kernel's version: %s", name.release);
	return have_major > major || (have_major == major && have_minor >= minor);
}

/* zoneinfo: "Node 0, zone Normal", then "pages free N", then a "count: N" for each CPU. */
long long mts_node_free(int node)
{
	static char text[1 << 18];
	long long pages = 0, value;
	char *line, *rest;
	int here = -1;

	if (!mts_read_file("/proc/zoneinfo", text, sizeof(text)))
		FAIL("cannot read /proc/zoneinfo");
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		sscanf(line, "Node %d, zone", &here);
		if (here == node && (sscanf(line, " pages free %lld", &value) == 1 ||
				     sscanf(line, " count: %lld", &value) == 1))
			pages += value;
	}
	return pages * sysconf(_SC_PAGESIZE);
}

long long mts_node_size(int node)
{
	char path[80], key[32];
	long long kib;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	snprintf(key, sizeof(key), "Node %d MemTotal", node);
	kib = mts_read_number(path, key);
	ASSERT(kib > 0);
	return kib << 10;
}

/* The text of /proc/self/@file from the entry of @address on; entries begin with the address. */
static char *map_entry(const char *file, const void *address, char *text, size_t size)
{
	unsigned long long start;
	char *line;

	if (!mts_read_file(file, text, size))
		FAIL("cannot read %s", file);
	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (sscanf(line, "%llx", &start) == 1 && start == (uintptr_t)address &&
		    (line[strcspn(line, " -")] == '-' || strstr(file, "numa")))
			return line;
	FAIL("%s has no entry for %p", file, address);
}

long long mts_smaps(const void *address, const char *key)
{
	static char text[1 << 20];
	char *entry = map_entry("/proc/self/smaps", address, text, sizeof(text));
	long long kib = number_after(entry, key);

	ASSERT(kib >= 0);
	return kib << 10;
}

bool mts_numa_maps_all_on(const void *address, int node, long long pages)
{
	static char text[1 << 20];
	char *entry = map_entry("/proc/self/numa_maps", address, text, sizeof(text));
	long long on_node = 0, count;
	char *word, *rest;
	int where;

	entry[strcspn(entry, "\n")] = '\0';
	mts_note("numa_maps: %s", entry);
	for (word = strtok_r(entry, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (sscanf(word, "N%d=%lld", &where, &count) != 2)
			continue;
		if (where != node)
			return false;
		on_node += count;
	}
	return on_node == pages;
}

long mts_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

int mts_load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long ret = syscall(SYS_finit_module, fd, "", 0);
	int error = errno;

	close(fd);
	errno = error;
	return ret;
}

int mts_unload_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK);
}
