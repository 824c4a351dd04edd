/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arena providers mtserve, hugetlbfs and tmpfs: a file in a file system of that type, named or not
 * (arena.h). Floor: memory; called by arena.c.
 *
 * The order is what makes it safe: type of the folder, open, type of the file, lock, size, room,
 * map. Nothing is created in a file system of another type, and nothing is changed without the lock.
 * What is populated stays populated when the process ends, however it ends; population only fills
 * holes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <uapi/linux/mtserve.h>

#include "error.h"
#include "memory/arena_part.h"

#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif

#define HUGE ((size_t)MTS_PAGE_SIZE)
#define FILE_IN_FOLDER "arena"

/* What is being opened, and whom to tell. */
struct opening {
	struct mts_arena *a;
	const struct mts_arena_config *cfg;
	const char *path;    /* NULL: nameless */
	const char *where;   /* path or folder, for messages */
	int in_folder;       /* path is the folder */
	size_t populated;
	struct mts_error *err;
};

static int refuse(struct opening *o, int error, const char *why)
{
	/* A path may be longer than the message, whose end is what counts. */
	mts_error_set(o->err, "arena %s: %.120s: %s", o->a->ops->name, o->where, why);
	return -error;
}

static int failed(struct opening *o, int error)
{
	return refuse(o, error, strerror(error));
}

/* ---- what it lies in ---- */

static int check_type(struct opening *o, int fd)
{
	struct statfs fs;
	char why[96];

	if (fstatfs(fd, &fs))
		return failed(o, errno);
	if ((uint32_t)fs.f_type != o->a->ops->magic) {
		snprintf(why, sizeof(why), "not in a file system of type %s", o->a->ops->name);
		return refuse(o, ENODEV, why);
	}
	if (fs.f_type != HUGETLBFS_MAGIC || (size_t)fs.f_bsize == HUGE)
		return 0;
	snprintf(why, sizeof(why), "pages of %lld KiB, expected 2048", (long long)fs.f_bsize >> 10);
	return refuse(o, EINVAL, why);
}

/* The kernel gives the blocks; hugetlbfs is asked by mapping, which reserves. */
static int check_room(struct opening *o, size_t missing)
{
	struct statfs fs;
	char why[96];

	if (o->a->ops->reserved || fstatfs(o->a->fd, &fs) || !fs.f_blocks)
		return 0;
	if (missing / (size_t)fs.f_bsize <= fs.f_bavail)
		return 0;
	snprintf(why, sizeof(why), "%zu MiB needed, %zu MiB free in the file system", missing >> 20,
		 (size_t)fs.f_bavail * (size_t)fs.f_bsize >> 20);
	return refuse(o, ENOSPC, why);
}

/* ---- the module ---- */

static int module_info(struct opening *o, struct mts_arena_info *info)
{
	char why[128];

	*info = (struct mts_arena_info){ .size = sizeof(*info), .version = MTS_ABI_VERSION };
	if (!ioctl(o->a->fd, MTS_IOCTL_INFO, info))
		return 0;
	if (errno != EPROTO)
		return failed(o, errno);
	snprintf(why, sizeof(why), "the kernel module speaks version %u of its interface, this "
		 "program version %u", info->version, MTS_ABI_VERSION);
	return refuse(o, EPROTO, why);
}

/*
 * A device that the last process gave pages to may be writing into them still. References of the
 * kernel's own, which the count may include, last for moments only.
 */
static int wait_for_devices(struct opening *o, struct mts_arena_info *info)
{
	const struct timespec tick = { .tv_nsec = 20 * 1000 * 1000 };
	char why[96];
	int ret = 0;

	for (int tries = 0; !ret && info->foreign && tries < 50; tries++) {
		nanosleep(&tick, NULL);
		ret = module_info(o, info);
	}
	if (ret || !info->foreign)
		return ret;
	snprintf(why, sizeof(why), "%llu references to its pages by devices are left",
		 (unsigned long long)info->foreign);
	return refuse(o, EBUSY, why);
}

static int check_module(struct opening *o)
{
	struct mts_arena_info info;
	char why[96];
	int ret;

	if (o->a->ops != &mts_arena_mtserve)
		return 0;
	ret = module_info(o, &info);
	if (!ret && !o->a->look)
		ret = wait_for_devices(o, &info);
	if (ret)
		return ret;
	if (o->cfg->node >= 0 && info.node != (unsigned)o->cfg->node) {
		snprintf(why, sizeof(why), "is on node %u, node %d was asked for", info.node,
			 o->cfg->node);
		return refuse(o, EINVAL, why);
	}
	o->a->info.node = (int)info.node;
	return 0;
}

/* ---- opening ---- */

/* The folder of a path, and the name in it. */
static int open_folder(struct opening *o, char *name)
{
	char folder[PATH_MAX];
	struct stat st;
	char *slash;
	int fd;

	if (!*o->path || strlen(o->path) >= sizeof(folder))
		return refuse(o, EINVAL, "no path, expected a file or a folder");
	strcpy(folder, o->path);
	strcpy(name, FILE_IN_FOLDER);
	o->in_folder = !stat(o->path, &st) && S_ISDIR(st.st_mode);
	if (!o->in_folder) {
		slash = strrchr(folder, '/');
		if (strlen(slash ? slash + 1 : folder) > NAME_MAX)
			return failed(o, ENAMETOOLONG);
		strcpy(name, slash ? slash + 1 : folder);
		strcpy(slash ? slash + 1 : folder, slash ? "" : ".");
	}
	fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? failed(o, errno) : fd;
}

static int open_name(struct opening *o)
{
	/* To read and write also for a look: the module takes other descriptors for private ones. */
	int flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_RDWR;
	char name[NAME_MAX + 1];
	int folder = open_folder(o, name), ret;

	if (folder < 0)
		return folder;
	ret = check_type(o, folder);
	if (!ret) {
		o->a->fd = openat(folder, name, flags | (o->cfg->bytes && !o->a->look ? O_CREAT : 0),
				  0600);
		if (o->a->fd < 0)
			ret = errno == ELOOP ? refuse(o, ELOOP, "a link, expected a file") :
					       failed(o, errno);
	}
	close(folder);
	return ret;
}

static int lock(struct opening *o)
{
	if (!o->path || o->a->look || !flock(o->a->fd, LOCK_EX | LOCK_NB))
		return 0;
	return errno == EWOULDBLOCK ? refuse(o, EBUSY, "in use by another process") :
				      failed(o, errno);
}

static int give_size(struct opening *o)
{
	if (!o->cfg->bytes)
		return refuse(o, EINVAL, "has no size yet");
	if (o->path && asprintf(&o->a->made, "%s%s", o->path,
				o->in_folder ? "/" FILE_IN_FOLDER : "") < 0) {
		o->a->made = NULL;
		return failed(o, ENOMEM);
	}
	return ftruncate(o->a->fd, (off_t)o->a->bytes) ? failed(o, errno) : 0;
}

static int check_size(struct opening *o, const struct stat *st)
{
	size_t has = (size_t)st->st_size;
	char why[128];

	if (!has)
		return give_size(o);
	if (has % HUGE)
		return refuse(o, EINVAL, "no arena: its size is no multiple of 2 MiB");
	if (o->cfg->bytes && has != o->a->bytes) {
		snprintf(why, sizeof(why), "has %zu MiB, %zu MiB were asked for; another size needs "
			 "another file", has >> 20, o->a->bytes >> 20);
		return refuse(o, EINVAL, why);
	}
	o->a->bytes = has;
	o->a->info.reopened = 1;
	o->populated = (size_t)st->st_blocks * 512;
	return 0;
}

static int check_file(struct opening *o)
{
	struct mts_arena *a = o->a;
	struct stat st;
	int ret = check_type(o, a->fd);

	if (!ret)
		ret = lock(o);
	if (!ret && fstat(a->fd, &st))
		ret = failed(o, errno);
	if (!ret && !S_ISREG(st.st_mode))
		ret = refuse(o, EINVAL, "not a file");
	if (!ret && o->path && !st.st_nlink)
		ret = refuse(o, EBUSY, "was deleted this moment");
	if (!ret)
		ret = check_module(o);
	if (!ret)
		ret = check_size(o, &st);
	if (!ret && a->ops == &mts_arena_tmpfs)
		a->info.page_size = (size_t)st.st_blksize < HUGE ? 4096 : HUGE;
	return ret;
}

static int check_memory(struct opening *o)
{
	size_t missing = o->populated < o->a->bytes ? o->a->bytes - o->populated : 0;
	int ret;

	if (o->a->look)
		return missing ? refuse(o, ENODATA, "not wholly populated") : 0;
	ret = check_room(o, missing);
	return ret ? ret : mts_arena_check_available(o->a, o->cfg, missing, o->err);
}

static int map_file(struct opening *o)
{
	struct mts_arena *a = o->a;
	int ret = mts_arena_reserve(a, HUGE, o->err);

	if (ret)
		return ret;
	if (mmap(a->base, a->bytes, a->look ? PROT_READ : PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, a->fd, 0) == MAP_FAILED) {
		ret = errno;
		munmap(a->base, a->bytes);
		return ret == ENOMEM && a->ops == &mts_arena_hugetlbfs ?
			       refuse(o, ret, "not that many huge pages (vm.nr_hugepages, "
				      "vm.nr_overcommit_hugepages)") :
			       failed(o, ret);
	}
	if (a->ops == &mts_arena_tmpfs)
		madvise(a->base, a->bytes, MADV_HUGEPAGE);
	return 0;
}

static void undo(struct mts_arena *a)
{
	if (a->made)
		unlink(a->made);
	free(a->made);
	a->made = NULL;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

/* From an open file, or none, to a mapped arena. */
static int go_on(struct opening *o, int ret)
{
	if (!ret)
		ret = check_file(o);
	if (!ret)
		ret = check_memory(o);
	if (!ret)
		ret = map_file(o);
	if (ret)
		undo(o->a);
	return ret;
}

static int try_mount(void *arg, const char *folder)
{
	struct opening *o = arg;

	o->where = folder;
	o->a->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return go_on(o, o->a->fd < 0 ? failed(o, errno) : 0);
}

static int file_map(struct mts_arena *a, const struct mts_arena_config *cfg, const char *path,
		    struct mts_error *err)
{
	struct opening o = { .a = a, .cfg = cfg, .path = path, .where = path, .err = err };
	int ret;

	if (path)
		return go_on(&o, open_name(&o));
	ret = mts_arena_each_mount(a->ops->name, a->info.node, cfg->node >= 0, try_mount, &o);
	if (ret && !o.where)
		mts_error_set(err, "arena %s: no such file system is mounted%s", a->ops->name,
			      cfg->node >= 0 && a->ops == &mts_arena_mtserve ? " on that node" : "");
	return ret;
}

static int populate_by_fallocate(struct mts_arena *a, size_t offset, size_t bytes)
{
	while (fallocate(a->fd, 0, (off_t)offset, (off_t)bytes))
		if (errno != EINTR)
			return -errno;
	return 0;
}

static void file_unmap(struct mts_arena *a)
{
	munmap(a->base, a->bytes);
	undo(a);
}

const struct mts_arena_ops mts_arena_mtserve = {
	.name = "mtserve",
	.page_size = MTS_PAGE_SIZE,
	.magic = MTS_SUPER_MAGIC,
	.map = file_map,
	.populate = populate_by_fallocate,
	.unmap = file_unmap,
};

const struct mts_arena_ops mts_arena_hugetlbfs = {
	.name = "hugetlbfs",
	.page_size = MTS_PAGE_SIZE,
	.reserved = 1,
	.magic = HUGETLBFS_MAGIC,
	.only_if_named = 1,
	.map = file_map,
	.unmap = file_unmap,
};

const struct mts_arena_ops mts_arena_tmpfs = {
	.name = "tmpfs",
	.page_size = MTS_PAGE_SIZE,
	.magic = TMPFS_MAGIC,
	.only_if_named = 1,
	.map = file_map,
	.unmap = file_unmap,
};
