/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arena providers thp and plain: anonymous memory, with and without transparent huge pages; and none:
 * its address space alone. Floor: memory; called by arena.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "memory/arena_part.h"

#define HUGE ((size_t)2 << 20)

static int thp_is_off(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[128] = "";
	int off;

	if (!f)
		return 1;
	off = !fgets(line, sizeof(line), f) || strstr(line, "[never]");
	fclose(f);
	return off;
}

static int thp_map(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		     struct mts_error *err)
{
	int ret = mts_arena_no_path(a, path, err);

	if (ret)
		return ret;
	if (thp_is_off()) {
		mts_error_set(err, "arena thp: transparent huge pages are off "
			      "(/sys/kernel/mm/transparent_hugepage/enabled)");
		return -ENOTSUP;
	}
	ret = mts_arena_reserve(a, HUGE, err);
	if (ret)
		return ret;
	if (madvise(a->base, a->bytes, MADV_HUGEPAGE)) {
		ret = -errno;
		mts_error_set(err, "arena thp: madvise: %s", strerror(-ret));
		munmap(a->base, a->bytes);
	}
	return ret;
}

static int plain_map(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		     struct mts_error *err)
{
	int ret = mts_arena_no_path(a, path, err);

	if (!ret)
		ret = mts_arena_reserve(a, a->ops->page_size, err);
	if (!ret) /* where the machine's default is huge pages: plain means plain */
		madvise(a->base, a->bytes, MADV_NOHUGEPAGE);
	return ret;
}

static void anon_give_back(struct mts_arena *a, size_t offset, size_t bytes)
{
	madvise(a->base + offset, bytes, MADV_DONTNEED);
}

static void anon_unmap(struct mts_arena *a)
{
	munmap(a->base, a->bytes);
}

const struct mts_arena_ops mts_arena_thp = {
	.name = "thp",
	.page_size = HUGE,
	.map = thp_map,
	.give_back = anon_give_back,
	.unmap = anon_unmap,
};

const struct mts_arena_ops mts_arena_plain = {
	.name = "plain",
	.page_size = 4096,
	.map = plain_map,
	.give_back = anon_give_back,
	.unmap = anon_unmap,
};

const struct mts_arena_ops mts_arena_none = {
	.name = "none",
	.page_size = 4096,
	.hollow = 1,
	.map = plain_map,
	.unmap = anon_unmap,
};
