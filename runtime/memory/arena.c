/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena (arena.h): the ladder, and what is the same for every provider. Floor: memory.
 *
 * Order: refuse what is not there, map, bind to the node, populate by threads that run on the node,
 * look where the pages are. Binding comes before the first touch, or it would move nothing.
 */
#include "memory/arena.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "memory/arena_part.h"
#include "memory/available.h"
#include "memory/proc.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

const struct mts_arena_ops *const mts_arena_ladder[] = {
	&mts_arena_mtserve, &mts_arena_hugetlbfs, &mts_arena_tmpfs,
	&mts_arena_memfd,   &mts_arena_thp,	  &mts_arena_plain,
	NULL,
};

static const struct mts_arena_ops *find(const char *name, size_t len)
{
	for (int i = 0; mts_arena_ladder[i]; i++)
		if (strlen(mts_arena_ladder[i]->name) == len &&
		    !memcmp(mts_arena_ladder[i]->name, name, len))
			return mts_arena_ladder[i];
	if (strlen(mts_arena_none.name) == len && !memcmp(mts_arena_none.name, name, len))
		return &mts_arena_none;
	return NULL;
}

int mts_arena_has_numa(void)
{
	return numa_available() >= 0;
}

/* The node to use: 0, or -EINVAL for one that is not there. */
static int resolve_node(const struct mts_arena_config *cfg, int *node, struct mts_error *err)
{
	int highest = mts_arena_has_numa() ? numa_max_node() : 0;

	*node = cfg->node;
	if (cfg->node == -1)
		*node = mts_arena_has_numa() ? numa_node_of_cpu(sched_getcpu()) : 0;
	if (cfg->node == -1 && *node < 0)
		*node = 0;
	if (*node >= 0 && *node <= highest)
		return 0;
	mts_error_set(err, "arena: no NUMA node %d, expected 0 to %d", cfg->node, highest);
	return -EINVAL;
}

/* Free and reclaimable memory of a node; UINT64_MAX where nothing is known. */
static uint64_t node_available(int node)
{
	static const char *const keys[] = { "MemFree", "Inactive(file)", "Active(file)" };
	uint64_t sum = 0, kib;
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (!mts_proc_number(path, keys[i], &kib))
			return UINT64_MAX;
		sum += kib * 1024;
	}
	return sum;
}

int mts_arena_check_available(const struct mts_arena *a, const struct mts_arena_config *cfg,
			      size_t bytes, struct mts_error *err)
{
	uint64_t have = mts_memory_available(), on_node = UINT64_MAX;

	if (a->ops->reserved)
		return 0;
	if (cfg->node >= 0 || a->ops == &mts_arena_mtserve)
		on_node = node_available(a->info.node);
	if (on_node < have)
		have = on_node;
	if (bytes <= have - have / 16)
		return 0;
	mts_error_set(err, "arena %s: %zu MiB asked for, %llu MiB can be had%s", a->ops->name,
		      bytes >> 20, (unsigned long long)((have - have / 16) >> 20),
		      have == on_node ? " on the node" : "");
	return -ENOMEM;
}

int mts_arena_reserve(struct mts_arena *a, size_t align, struct mts_error *err)
{
	size_t whole, head;
	char *p = MAP_FAILED;

	errno = ENOMEM;
	if (!__builtin_add_overflow(a->bytes, align, &whole))
		p = mmap(NULL, whole, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		int error = errno;

		mts_error_set(err, "arena %s: no address space for %zu bytes: %s", a->ops->name,
			      a->bytes, strerror(error));
		return -error;
	}
	head = -(uintptr_t)p % align;
	if (head)
		munmap(p, head);
	munmap(p + head + a->bytes, whole - head - a->bytes);
	a->base = p + head;
	return 0;
}

int mts_arena_no_path(const struct mts_arena *a, const char *path, struct mts_error *err)
{
	if (!path)
		return 0;
	mts_error_set(err, "arena %s takes no path, got \"%s\"", a->ops->name, path);
	return -EINVAL;
}

void mts_arena_note(struct mts_arena *a, const char *what, int error)
{
	size_t len = strlen(a->info.note);

	snprintf(a->info.note + len, sizeof(a->info.note) - len, "%s%s: %s", len ? "; " : "", what,
		 error ? strerror(error) : "no NUMA support");
}

static void bind_node(struct mts_arena *a, const struct mts_arena_config *cfg)
{
	struct bitmask *mask;
	long ret;

	if (!mts_arena_has_numa()) {
		mts_arena_note(a, "not bound", 0);
		return;
	}
	mask = numa_allocate_nodemask();
	numa_bitmask_setbit(mask, (unsigned)a->info.node);
	ret = mbind(a->base, a->bytes, cfg->node >= 0 ? MPOL_BIND : MPOL_PREFERRED, mask->maskp,
		    mask->size + 1, 0);
	if (ret)
		mts_arena_note(a, "not bound to its node", errno);
	numa_free_nodemask(mask);
}

/* ---- open, close ---- */

static int round_up(size_t bytes, size_t page_size, size_t *out, struct mts_error *err)
{
	if (bytes && bytes <= SIZE_MAX / 2) {
		*out = (bytes + page_size - 1) / page_size * page_size;
		return 0;
	}
	mts_error_set(err, "arena: %zu bytes: expected 1 to %zu", bytes, SIZE_MAX / 2);
	return -EINVAL;
}

static int prepare(struct mts_arena *a, const struct mts_arena_config *cfg,
		   const struct mts_arena_ops *ops, const char *path, struct mts_error *err)
{
	int node = a->info.node, ret = 0;

	*a = (struct mts_arena){ .ops = ops, .fd = -1, .look = cfg->look };
	if (cfg->bytes || !ops->magic || !path) /* else the file has a size */
		ret = round_up(cfg->bytes, ops->page_size, &a->bytes, err);
	a->info = (struct mts_arena_report){ .provider = ops->name, .page_size = ops->page_size,
					     .node = node };
	return ret;
}

/* What a look maps is all there, and what is hollow never will be. */
static int fill(struct mts_arena *a, const struct mts_arena_config *cfg, struct mts_error *err)
{
	if (a->look || a->ops->hollow) {
		a->ready = a->end = a->bytes;
		if (a->look) /* where it fails they are mapped as they are read */
			madvise(a->base, a->bytes, MADV_POPULATE_READ);
		return 0;
	}
	if (a->ops != &mts_arena_mtserve) /* whose mount decides, and refuses mbind */
		bind_node(a, cfg);
	return mts_arena_fill_start(a, cfg->threads, err);
}

static void look_at(struct mts_arena *a)
{
	if (a->ops->hollow)
		return;
	mts_arena_look_where(a);
	mts_arena_count_huge(a);
}

static int open_with(struct mts_arena *a, const struct mts_arena_config *cfg,
		     const struct mts_arena_ops *ops, const char *path, struct mts_error *err)
{
	int ret = prepare(a, cfg, ops, path, err);

	if (!ret && !ops->magic && !ops->hollow)
		ret = mts_arena_check_available(a, cfg, a->bytes, err);
	if (!ret)
		ret = ops->map(a, cfg, path, err);
	if (ret)
		return ret;
	ret = fill(a, cfg, err);
	if (ret) {
		ops->unmap(a);
		return ret;
	}
	free(a->made);
	a->made = NULL;
	a->info.bytes = a->bytes;
	look_at(a);
	return 0;
}

static int climb_down(struct mts_arena *a, const struct mts_arena_config *cfg,
		      struct mts_error *err)
{
	char refused[sizeof(a->info.refused)] = "";
	int node = a->info.node, ret = -EINVAL;
	struct mts_error why;
	size_t len;

	for (int i = 0; mts_arena_ladder[i]; i++) {
		if (mts_arena_ladder[i]->only_if_named)
			continue;
		a->info.node = node;
		ret = open_with(a, cfg, mts_arena_ladder[i], NULL, &why);
		if (!ret) {
			memcpy(a->info.refused, refused, sizeof(refused));
			return 0;
		}
		len = strlen(refused);
		snprintf(refused + len, sizeof(refused) - len, "%s%.120s", len ? "; " : "",
			 why.text);
	}
	mts_error_set(err, "%s", why.text);
	return ret;
}

static int open_named(struct mts_arena *a, const struct mts_arena_config *cfg,
		      struct mts_error *err)
{
	const char *colon = strchr(cfg->provider, ':');
	size_t len = colon ? (size_t)(colon - cfg->provider) : strlen(cfg->provider);
	const struct mts_arena_ops *ops = find(cfg->provider, len);

	if (ops)
		return open_with(a, cfg, ops, colon ? colon + 1 : NULL, err);
	mts_error_set(err, "arena: no provider \"%s\", expected auto, memfd, thp, plain, none, or "
		      "mtserve, hugetlbfs or tmpfs with :PATH", cfg->provider);
	return -EINVAL;
}

int mts_arena_open(const struct mts_arena_config *cfg, struct mts_arena **out,
		   struct mts_error *err)
{
	struct mts_arena *a = calloc(1, sizeof(*a));
	int ret;

	if (!a) {
		mts_error_set(err, "arena: out of memory");
		return -ENOMEM;
	}
	ret = resolve_node(cfg, &a->info.node, err);
	if (!ret && (!cfg->provider || !strcmp(cfg->provider, "auto")))
		ret = climb_down(a, cfg, err);
	else if (!ret)
		ret = open_named(a, cfg, err);
	if (ret) {
		free(a);
		return ret;
	}
	*out = a;
	return 0;
}

int mts_arena_settle(struct mts_arena *a, struct mts_error *err)
{
	mts_arena_fill_wait(a);
	look_at(a);
	return mts_arena_lost(a, err);
}

void mts_arena_close(struct mts_arena *a)
{
	if (!a)
		return;
	mts_arena_fill_stop(a);
	a->ops->unmap(a);
	free(a);
}
