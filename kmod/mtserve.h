/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of mtserve.ko share.
 *
 *	super.c		a mount: options, statfs, the end of an inode; module init and exit
 *	dir.c		names: create, O_TMPFILE, link, unlink, rename
 *	file.c		an arena: its size, mapping it, faults
 *	populate.c	fallocate: the only place that allocates
 *	info.c		the INFO ioctl
 *	stats.c		counters: debugfs and fdinfo
 *
 * A mount owns one struct mts_sb, an arena is an inode without private data: its page cache says
 * what is populated, its i_size how large it is. No lock is the module's own: i_size changes once,
 * under the inode's lock; the page cache's lock decides who of two populating threads wins; the
 * quota and the counters are atomic. Whoever sees i_size sees all that it allows.
 */
#ifndef MTS_MTSERVE_H
#define MTS_MTSERVE_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mtserve.h>
#include <linux/seq_file.h>
#include <linux/uidgid.h>

#include "compat.h"

/* 0, or -errno from the dictionary in <linux/mtserve.h>, unless a function says otherwise. */

enum mts_counter {
	MTS_CREATED,		/* arenas made, with a name or without */
	MTS_EVICTED,		/* arenas whose last user has gone */
	MTS_POPULATED,		/* folios added */
	MTS_RELEASED,		/* folios given up when their arena ended */
	MTS_MAPS,		/* mmap calls that succeeded */
	MTS_FAULTS,		/* faults that found their page */
	MTS_HOLE_FAULTS,	/* faults in pages not populated: SIGBUS */
	MTS_FAIL_SIZE,		/* populate: size= used up */
	MTS_FAIL_NODE,		/* populate: no free folio on the node */
	MTS_FAIL_CGROUP,	/* populate: the folio could not be charged or entered */
	MTS_FAIL_CPUSET,	/* populate: the caller may not use the node */
	MTS_NR_COUNTERS,
};

/**
 * struct mts_sb - one mount
 * @node:	the NUMA node of every page; never changes
 * @mode:	of the root folder, as the mount options gave it; so @uid and @gid
 * @limit:	size= in folios; a remount may change it
 * @folios:	folios charged to @limit: those in the page cache and those being added
 * @counters:	since the mount
 * @debugfs:	the mount's folder there
 */
struct mts_sb {
	int node;
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
	long limit;
	atomic_long_t folios;
	atomic_long_t counters[MTS_NR_COUNTERS];
	struct dentry *debugfs;
};

static inline struct mts_sb *mts_sb(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline void mts_count(const struct super_block *sb, enum mts_counter counter)
{
	atomic_long_inc(&mts_sb(sb)->counters[counter]);
}

static inline bool mts_aligned(u64 bytes)
{
	return !(bytes & (MTS_PAGE_SIZE - 1));
}

/* dir.c: a new inode for a regular file or for the root folder, or NULL without memory. */
struct inode *mts_new_inode(struct mts_idmap *idmap, struct super_block *sb, struct inode *dir,
			    umode_t mode);
extern const struct inode_operations mts_dir_inode_operations;

/* file.c */
extern const struct inode_operations mts_file_inode_operations;
extern const struct file_operations mts_file_operations;
extern const struct address_space_operations mts_address_space_operations;

/* populate.c: file_operations.fallocate; any number of threads at once, ranges may overlap. */
long mts_fallocate(struct file *file, int mode, loff_t offset, loff_t length);

/* info.c: file_operations.unlocked_ioctl. */
long mts_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* stats.c: the module's folder in debugfs, a mount's folder in it, an open file's fdinfo. */
void mts_stats_init(void);
void mts_stats_exit(void);
void mts_stats_add(struct super_block *sb);
void mts_stats_remove(struct super_block *sb);
void mts_show_fdinfo(struct seq_file *m, struct file *file);

#endif /* MTS_MTSERVE_H */
