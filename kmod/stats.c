// SPDX-License-Identifier: GPL-2.0
/*
 * Counters, for a person: /sys/kernel/debug/mtserve/MAJOR:MINOR/counters has those of a mount (the
 * numbers are the third column of /proc/self/mountinfo), /proc/PID/fdinfo/FD those of an open
 * arena. Documentation/ABI/testing/ describes both.
 *
 * debugfs is best effort, as everywhere in the kernel: without it everything else works.
 */
#include <linux/debugfs.h>
#include <linux/kdev_t.h>
#include <linux/module.h>

#include "mtserve.h"

static const char *const mts_counter_names[MTS_NR_COUNTERS] = {
	[MTS_CREATED]		= "arenas_created",
	[MTS_EVICTED]		= "arenas_evicted",
	[MTS_POPULATED]		= "folios_populated",
	[MTS_RELEASED]		= "folios_released",
	[MTS_MAPS]		= "maps",
	[MTS_FAULTS]		= "faults",
	[MTS_HOLE_FAULTS]	= "failures_hole",
	[MTS_FAIL_SIZE]		= "failures_size",
	[MTS_FAIL_NODE]		= "failures_node",
	[MTS_FAIL_CGROUP]	= "failures_cgroup",
	[MTS_FAIL_CPUSET]	= "failures_cpuset",
};

static struct dentry *mts_debugfs;

static int counters_show(struct seq_file *m, void *unused)
{
	struct mts_sb *msb = m->private;
	long folios = atomic_long_read(&msb->folios);
	int i;

	seq_printf(m, "node %d\n", msb->node);
	seq_printf(m, "folios %ld\n", folios);
	seq_printf(m, "folios_limit %ld\n", READ_ONCE(msb->limit));
	seq_printf(m, "bytes %llu\n", (u64)folios * MTS_PAGE_SIZE);
	for (i = 0; i < MTS_NR_COUNTERS; i++)
		seq_printf(m, "%s %ld\n", mts_counter_names[i],
			   atomic_long_read(&msb->counters[i]));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

void mts_stats_add(struct super_block *sb)
{
	struct mts_sb *msb = mts_sb(sb);
	char name[24];

	snprintf(name, sizeof(name), "%u:%u", MAJOR(sb->s_dev), MINOR(sb->s_dev));
	msb->debugfs = debugfs_create_dir(name, mts_debugfs);
	debugfs_create_file("counters", 0444, msb->debugfs, msb, &counters_fops);
}

/* Returns when nobody reads the counters any more. */
void mts_stats_remove(struct super_block *sb)
{
	debugfs_remove_recursive(mts_sb(sb)->debugfs);
}

void mts_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct inode *inode = file_inode(file);
	struct mts_sb *msb = mts_sb(inode->i_sb);
	long failures = 0;
	int i;

	for (i = MTS_HOLE_FAULTS; i < MTS_NR_COUNTERS; i++)
		failures += atomic_long_read(&msb->counters[i]);
	seq_printf(m, "mts-node:\t%d\n", msb->node);
	seq_printf(m, "mts-size:\t%lld\n", i_size_read(inode));
	seq_printf(m, "mts-populated:\t%llu\n", (u64)inode_get_bytes(inode));
	seq_printf(m, "mts-mount-folios:\t%ld\n", atomic_long_read(&msb->folios));
	seq_printf(m, "mts-mount-failures:\t%ld\n", failures);
}

void mts_stats_init(void)
{
	mts_debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
}

void mts_stats_exit(void)
{
	debugfs_remove_recursive(mts_debugfs);
}
