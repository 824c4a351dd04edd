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
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "memory/available.h"
#include "memory/park.h"
#include "memory/proc.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CHUNK ((size_t)64 << 20)
#define THREADS_MAX 16
#define SAMPLES 4096

const struct mts_arena_ops *const mts_arena_ladder[] = {
	&mts_arena_memfd, &mts_arena_thp, &mts_arena_plain, NULL,
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

static int has_numa(void)
{
	return numa_available() >= 0;
}

/* The node to use: 0, or -EINVAL for one that is not there. */
static int resolve_node(const struct mts_arena_config *cfg, int *node, struct mts_error *err)
{
	int highest = has_numa() ? numa_max_node() : 0;

	*node = cfg->node;
	if (cfg->node == -1)
		*node = has_numa() ? numa_node_of_cpu(sched_getcpu()) : 0;
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

/* Leaves a sixteenth to everybody else: the last pages are the ones processes get ended for. */
static int check_available(const struct mts_arena *a, const struct mts_arena_config *cfg,
			   struct mts_error *err)
{
	uint64_t have = mts_memory_available(), on_node = UINT64_MAX;

	if (a->ops->reserved)
		return 0;
	if (cfg->node >= 0)
		on_node = node_available(a->info.node);
	if (on_node < have)
		have = on_node;
	if (a->bytes <= have - have / 16)
		return 0;
	mts_error_set(err, "arena %s: %zu MiB asked for, %llu MiB can be had%s", a->ops->name,
		      a->bytes >> 20, (unsigned long long)((have - have / 16) >> 20),
		      have == on_node ? " on the node" : "");
	return -ENOMEM;
}

static void note(struct mts_arena *a, const char *what, int error)
{
	size_t len = strlen(a->info.note);

	snprintf(a->info.note + len, sizeof(a->info.note) - len, "%s%s: %s", len ? "; " : "", what,
		 error ? strerror(error) : "no NUMA support");
}

static void bind_node(struct mts_arena *a, const struct mts_arena_config *cfg)
{
	struct bitmask *mask;
	long ret;

	if (!has_numa()) {
		note(a, "not bound", 0);
		return;
	}
	mask = numa_allocate_nodemask();
	numa_bitmask_setbit(mask, (unsigned)a->info.node);
	ret = mbind(a->base, a->bytes, cfg->node >= 0 ? MPOL_BIND : MPOL_PREFERRED, mask->maskp,
		    mask->size + 1, 0);
	if (ret)
		note(a, "not bound to its node", errno);
	numa_free_nodemask(mask);
}

/* ---- populating ---- */

struct population {
	struct mts_arena *a;
	_Atomic size_t next;
	_Atomic int error;
};

/* For kernels before 5.14. A reserved mapping could still get a signal here, so it is refused. */
static int touch(struct mts_arena *a, char *from, size_t bytes)
{
	if (a->ops->reserved)
		return -ENOTSUP;
	for (size_t i = 0; i < bytes; i += 4096)
		*(volatile char *)(from + i) = 0;
	return 0;
}

static int populate_chunk(struct mts_arena *a, char *from, size_t bytes)
{
	while (madvise(from, bytes, MADV_POPULATE_WRITE)) {
		if (errno == EINVAL)
			return touch(a, from, bytes);
		if (errno == EFAULT) /* a huge page that the node does not have */
			return -ENOMEM;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return 0;
}

static void *populate_thread(void *arg)
{
	struct population *p = arg;
	size_t at, bytes;
	int ret;

	if (has_numa())
		numa_run_on_node(p->a->info.node);
	while (!atomic_load(&p->error) &&
	       (at = atomic_fetch_add(&p->next, CHUNK)) < p->a->bytes) {
		bytes = p->a->bytes - at < CHUNK ? p->a->bytes - at : CHUNK;
		ret = populate_chunk(p->a, p->a->base + at, bytes);
		if (ret)
			atomic_store(&p->error, ret);
	}
	return NULL;
}

static unsigned population_threads(const struct mts_arena *a, unsigned asked)
{
	struct bitmask *cpus;
	size_t chunks = (a->bytes - 1) / CHUNK + 1;
	unsigned n = asked;

	if (!n && has_numa()) {
		cpus = numa_allocate_cpumask();
		if (!numa_node_to_cpus(a->info.node, cpus))
			n = numa_bitmask_weight(cpus);
		numa_free_cpumask(cpus);
	}
	if (!n)
		n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	n = n > THREADS_MAX ? THREADS_MAX : n;
	return n > chunks ? (unsigned)chunks : n;
}

static int populate(struct mts_arena *a, const struct mts_arena_config *cfg, struct mts_error *err)
{
	struct population p = { .a = a };
	unsigned want = population_threads(a, cfg->threads), n = 0;
	pthread_t thread[THREADS_MAX];
	uint64_t start = mts_now();

	while (n < want && !pthread_create(&thread[n], NULL, populate_thread, &p))
		n++;
	if (!n) {
		mts_error_set(err, "arena %s: cannot start a thread to populate it", a->ops->name);
		return -EAGAIN;
	}
	while (n)
		pthread_join(thread[--n], NULL);
	a->info.seconds = (double)(mts_now() - start) * 1e-9;
	if (p.error)
		mts_error_set(err, "arena %s: populating %zu MiB on node %d: %s", a->ops->name,
			      a->bytes >> 20, a->info.node, strerror(-p.error));
	return p.error;
}

/* ---- verifying ---- */

static void look_where(struct mts_arena *a)
{
	size_t pages = a->bytes / a->ops->page_size, n = pages < SAMPLES ? pages : SAMPLES;
	void **page = calloc(n, sizeof(*page));
	int *status = calloc(n, sizeof(*status));

	for (size_t i = 0; page && i < n; i++)
		page[i] = a->base + i * pages / n * a->ops->page_size;
	if (!page || !status) {
		note(a, "placement not verified", ENOMEM);
	} else if (!has_numa()) {
		note(a, "placement not verified", 0);
	} else if (numa_move_pages(0, n, page, NULL, status, 0)) {
		note(a, "placement not verified", errno);
	} else {
		for (size_t i = 0; i < n; i++)
			*(status[i] == a->info.node ? &a->info.pages_on_node
						    : &a->info.pages_elsewhere) += 1;
	}
	free(status);
	free(page);
}

/* Adds up what a line of smaps says about huge pages, in bytes. */
static uint64_t huge_in_line(const char *line)
{
	static const char *const keys[] = { "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped",
					    "Shared_Hugetlb", "Private_Hugetlb" };
	size_t len;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		len = strlen(keys[i]);
		if (!strncmp(line, keys[i], len) && line[len] == ':')
			return strtoull(line + len + 1, NULL, 10) * 1024;
	}
	return 0;
}

static void count_huge(struct mts_arena *a)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uintptr_t base = (uintptr_t)a->base;
	unsigned long from, to;
	char line[512];
	int inside = 0;

	if (!f) {
		note(a, "huge pages not counted", errno);
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from < base + a->bytes && to > base;
		else if (inside)
			a->info.huge_bytes += huge_in_line(line);
	}
	fclose(f);
	if (a->info.huge_bytes > a->bytes) /* the kernel may show a neighbour in the same line */
		a->info.huge_bytes = a->bytes;
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

static int open_with(struct mts_arena *a, const struct mts_arena_config *cfg,
		     const struct mts_arena_ops *ops, const char *path, struct mts_error *err)
{
	int node = a->info.node, ret;

	a->ops = ops;
	a->fd = -1;
	ret = round_up(cfg->bytes, ops->page_size, &a->bytes, err);
	if (ret)
		return ret;
	a->info = (struct mts_arena_info){ .provider = ops->name, .page_size = ops->page_size,
					   .bytes = a->bytes, .node = node };
	ret = ops->hollow ? 0 : check_available(a, cfg, err);
	if (!ret)
		ret = ops->map(a, path, err);
	if (ret || ops->hollow)
		return ret;
	bind_node(a, cfg);
	ret = populate(a, cfg, err);
	if (ret) {
		ops->unmap(a);
		return ret;
	}
	look_where(a);
	count_huge(a);
	return 0;
}

static int climb_down(struct mts_arena *a, const struct mts_arena_config *cfg,
		      struct mts_error *err)
{
	char refused[sizeof(a->info.refused)] = "";
	struct mts_error why;
	size_t len;
	int ret = -EINVAL;

	for (int i = 0; mts_arena_ladder[i]; i++) {
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
	mts_error_set(err, "arena: no provider \"%s\", expected auto, memfd, thp, plain or "
		      "none",
		      cfg->provider);
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

void mts_arena_close(struct mts_arena *a)
{
	if (!a)
		return;
	a->ops->unmap(a);
	free(a);
}
