// SPDX-License-Identifier: GPL-2.0
/*
 * Names. A mount is one flat folder of regular files; a name holds its arena until it is unlinked
 * or the mount ends. Dentries are pinned the way ramfs does it: simple_link, simple_unlink and
 * simple_rename of the kernel's library keep that count.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "mtserve.h"
#include "trace.h"

static void mts_init_file(struct inode *inode)
{
	inode->i_op = &mts_file_inode_operations;
	inode->i_fop = &mts_file_operations;
	inode->i_mapping->a_ops = &mts_address_space_operations;
	/* Reclaim must not even look at these pages: there is nowhere to write them to. */
	mapping_set_unevictable(inode->i_mapping);
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER);
	mts_set_folio_order(inode->i_mapping);
}

static void mts_init_root(struct inode *inode)
{
	inode->i_op = &mts_dir_inode_operations;
	inode->i_fop = &simple_dir_operations;
	inc_nlink(inode);
}

struct inode *mts_new_inode(struct mts_idmap *idmap, struct super_block *sb, struct inode *dir,
			    umode_t mode)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return NULL;
	inode->i_ino = get_next_ino();
	mts_init_times(inode);
	if (S_ISDIR(mode)) {
		inode->i_mode = mode;
		mts_init_root(inode);
	} else {
		inode_init_owner(idmap, inode, dir, mode);
		mts_init_file(inode);
	}
	return inode;
}

static struct inode *mts_new_arena(struct mts_idmap *idmap, struct inode *dir, umode_t mode)
{
	struct inode *inode = mts_new_inode(idmap, dir->i_sb, dir, S_IFREG | mode);

	if (!inode)
		return NULL;
	mts_count(dir->i_sb, MTS_CREATED);
	trace_mts_create(inode, 0);
	return inode;
}

static int mts_create(struct mts_idmap *idmap, struct inode *dir, struct dentry *dentry,
		      umode_t mode, bool excl)
{
	struct inode *inode = mts_new_arena(idmap, dir, mode);

	if (!inode)
		return -ENOMEM;
	d_instantiate(dentry, inode);
	dget(dentry);
	mts_touch(dir);
	return 0;
}

static int mts_tmpfile(struct mts_idmap *idmap, struct inode *dir, struct file *file, umode_t mode)
{
	struct inode *inode = mts_new_arena(idmap, dir, mode);

	if (!inode)
		return -ENOMEM;
	d_tmpfile(file, inode);
	return finish_open_simple(file, 0);
}

static int mts_unlink(struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	trace_mts_unlink(inode, (u64)inode_get_bytes(inode));
	return simple_unlink(dir, dentry);
}

const struct inode_operations mts_dir_inode_operations = {
	.create		= mts_create,
	.lookup		= simple_lookup,
	.link		= simple_link,
	.unlink		= mts_unlink,
	.rename		= simple_rename,
	.tmpfile	= mts_tmpfile,
};
