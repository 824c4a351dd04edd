// SPDX-License-Identifier: GPL-2.0
/*
 * What the module gives over hugetlbfs and tmpfs: the same things are done to an arena of each,
 * and what happened is printed for the admin guide. Only what the module promises is asserted;
 * what the others do is theirs to change.
 */
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

#define SIZE		(32 * MIB)
#define OTHER_MOUNT	"/run/other"

enum kind { MODULE, HUGETLBFS, TMPFS };

static const struct provider {
	const char *name;
	enum kind kind;
	const char *type, *options;
} providers[] = {
	{ "mtserve", MODULE, "mtserve", "node=1,size=512M,mode=1777" },
	{ "hugetlbfs", HUGETLBFS, "hugetlbfs", "pagesize=2M" },
	{ "tmpfs", TMPFS, "tmpfs", "huge=always,mpol=bind:1,size=512M" },
};

struct other {
	int fd;
	char *data;
	int error;	/* of population; 0: all there */
};

static long on_node(const char *data, int node, int target)
{
	void *pages[SIZE / 4096];
	int targets[SIZE / 4096], status[SIZE / 4096];
	size_t i;
	long there = 0;

	for (i = 0; i < SIZE / 4096; i++) {
		pages[i] = (char *)data + i * 4096;
		targets[i] = target;
	}
	if (syscall(SYS_move_pages, 0, SIZE / 4096, pages, target < 0 ? NULL : targets, status,
		    MPOL_MF_MOVE_ALL) < 0)
		return -1;
	for (i = 0; i < SIZE / 4096; i++)
		there += status[i] == node;
	return there;
}

static void mount_provider(const struct provider *provider)
{
	mkdir(OTHER_MOUNT, 0755);
	if (provider->kind == HUGETLBFS &&
	    !mts_write_file("/proc/sys/vm/nr_overcommit_hugepages", "1024"))
		SKIP("no huge pages: %s", strerror(errno));
	if (mount("none", OTHER_MOUNT, provider->type, 0, provider->options))
		SKIP("mount -t %s -o %s: %s", provider->type, provider->options, strerror(errno));
}

/*
 * An arena on node 1, populated as a server would: by fallocate, but for hugetlbfs through the
 * mapping, because its fallocate knows nothing of the mapping's policy.
 */
static struct other make(const struct provider *provider)
{
	struct other other = { .fd = open(OTHER_MOUNT "/arena", O_RDWR | O_CREAT, 0600) };
	unsigned long node = 2;

	ASSERT_OK(other.fd);
	ASSERT_OK(ftruncate(other.fd, SIZE));
	if (provider->kind != HUGETLBFS && fallocate(other.fd, 0, 0, SIZE))
		other.error = errno;
	other.data = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, other.fd, 0);
	if (other.data == MAP_FAILED) {
		other.error = errno;
		return other;
	}
	if (provider->kind == HUGETLBFS) {
		ASSERT_OK(syscall(SYS_mbind, other.data, SIZE, MPOL_BIND, &node, 8 * sizeof(node),
				  MPOL_MF_STRICT));
		if (madvise(other.data, SIZE, 23 /* MADV_POPULATE_WRITE */))
			other.error = errno;
	}
	return other;
}

static long long whole(const struct provider *provider, const char *data)
{
	return mts_smaps(data, provider->kind == HUGETLBFS ? "Shared_Hugetlb" : "FilePmdMapped") +
	       (provider->kind == HUGETLBFS ? mts_smaps(data, "Private_Hugetlb") : 0) +
	       (provider->kind == TMPFS ? mts_smaps(data, "ShmemPmdMapped") : 0);
}

TEST_EACH(whole_and_on_node, providers)
{
	const struct provider *provider = &providers[variant];
	struct other other;
	long there;

	mount_provider(provider);
	other = make(provider);
	ASSERT_EQ(other.error, 0);
	mts_fill(other.data, SIZE, 1);
	there = on_node(other.data, 1, -1);
	mts_note("others: %s: %lld of %llu MiB mapped by whole folios, %ld of %llu pages on the node",
		 provider->name, whole(provider, other.data) >> 20, SIZE >> 20, there, SIZE / 4096);
	if (provider->kind == MODULE) {
		ASSERT_EQ(there, SIZE / 4096);
		ASSERT_EQ(whole(provider, other.data), SIZE);
	}
}

TEST_EACH(asked_to_move, providers)
{
	const struct provider *provider = &providers[variant];
	unsigned long from = 2, to = 1;
	struct other other;
	long moved;

	mount_provider(provider);
	other = make(provider);
	ASSERT_EQ(other.error, 0);
	mts_fill(other.data, SIZE, 1);
	on_node(other.data, 0, 0);
	moved = on_node(other.data, 0, -1);
	syscall(SYS_migrate_pages, 0, 8 * sizeof(from), &from, &to);
	mts_note("others: %s: move_pages moved %ld of %llu pages, migrate_pages then %ld",
		 provider->name, moved, SIZE / 4096, on_node(other.data, 0, -1) - moved);
	if (provider->kind == MODULE)
		ASSERT_EQ(on_node(other.data, 1, -1), SIZE / 4096);
}

/* Node 1 without a block of 2 MiB; what is left in small pages is mostly the kernel's reserve. */
static void fill_node(void)
{
	char options[64];
	int fd;

	snprintf(options, sizeof(options), "node=1,size=%lldM", (mts_node_size(1) >> 20) & ~1ll);
	mts_mount(options);
	fd = mts_arena(MTS_ARENA, mts_node_size(1) & ~(PAGE - 1), 0);
	ASSERT_ERRNO(fallocate(fd, 0, 0, mts_node_size(1) & ~(PAGE - 1)), ENOMEM);
	mts_note("others: %lld MiB of the node free, in small pages", mts_node_free(1) >> 20);
}

TEST_EACH(full_node, providers)
{
	const struct provider *provider = &providers[variant];
	struct other other;

	/* Asked for 8 or for 32 MiB more, it did so on 6.1 and on 6.12, and took this test along. */
	if (provider->kind == TMPFS)
		SKIP("tmpfs calls the OOM killer");
	mount_provider(provider);
	fill_node();
	other = make(provider);
	mts_note("others: %s: population gave: %s", provider->name, strerror(other.error));
	if (provider->kind == MODULE)
		ASSERT_EQ(other.error, ENOMEM);
}
