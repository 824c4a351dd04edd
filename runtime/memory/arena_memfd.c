/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arena provider memfd: a file in memory on huge pages set aside beforehand. Floor: memory; called
 * by arena.c. The pages are reserved by the mapping: too few of them is an error here, not a signal
 * later.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "memory/arena_part.h"
#include "memory/proc.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif

static int refuse(struct mts_arena *a, int error, struct mts_error *err)
{
	uint64_t free_pages = 0;

	if (error == ENOMEM || error == ENOSPC) {
		mts_proc_number("/proc/meminfo", "HugePages_Free", &free_pages);
		mts_error_set(err, "arena memfd: needs %zu huge pages of 2 MiB, %llu are free "
			      "(vm.nr_hugepages)", a->bytes / a->ops->page_size,
			      (unsigned long long)free_pages);
	} else {
		mts_error_set(err, "arena memfd: %s", strerror(error));
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	return -error;
}

static int memfd_map(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		     struct mts_error *err)
{
	int ret = mts_arena_no_path(a, path, err);
	void *p;

	if (ret)
		return ret;
	a->fd = memfd_create("mtserve-arena", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (a->fd < 0 || ftruncate(a->fd, (off_t)a->bytes))
		return refuse(a, errno, err);
	p = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	if (p == MAP_FAILED)
		return refuse(a, errno, err);
	a->base = p;
	return 0;
}

static void memfd_give_back(struct mts_arena *a, size_t offset, size_t bytes)
{
	madvise(a->base + offset, bytes, MADV_REMOVE);
}

static void memfd_unmap(struct mts_arena *a)
{
	munmap(a->base, a->bytes);
	close(a->fd);
}

const struct mts_arena_ops mts_arena_memfd = {
	.name = "memfd",
	.page_size = 2 << 20,
	.reserved = 1,
	.map = memfd_map,
	.give_back = memfd_give_back,
	.unmap = memfd_unmap,
};
