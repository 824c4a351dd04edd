// SPDX-License-Identifier: GPL-2.0
/*
 * A mount: its options, what df shows, the end of an inode; and the module's begin and end.
 *
 * Each mount is a file system of its own, on one NUMA node, with one limit. node= and size= must
 * be given: there is no good guess for memory that cannot be reclaimed. Every refusal says why,
 * into the log of fsopen() or, for mount(2), into the kernel's.
 */
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/mm.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "mtserve.h"
#include "trace.h"

static_assert(HPAGE_PMD_SIZE == MTS_PAGE_SIZE, "mtserve needs huge pages of 2 MiB");
static_assert(sizeof(struct mts_arena_info) == MTS_ARENA_INFO_SIZE_V1);

enum mts_option { MTS_OPT_NODE, MTS_OPT_SIZE, MTS_OPT_MODE, MTS_OPT_UID, MTS_OPT_GID };

static const struct fs_parameter_spec mts_parameters[] = {
	fsparam_u32("node", MTS_OPT_NODE),
	fsparam_string("size", MTS_OPT_SIZE),
	fsparam_u32oct("mode", MTS_OPT_MODE),
	fsparam_u32("uid", MTS_OPT_UID),
	fsparam_u32("gid", MTS_OPT_GID),
	{}
};

/* Options as they are collected; @given has bit MTS_OPT_... for each that was there. */
struct mts_options {
	unsigned long given;
	int node;
	u64 size;
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
};

/* Memory that stays for good cannot come from a zone that the kernel must be able to empty. */
static bool mts_node_is_movable_only(int node)
{
	int zone;

	for (zone = 0; zone < ZONE_MOVABLE; zone++)
		if (populated_zone(&NODE_DATA(node)->node_zones[zone]))
			return false;
	return true;
}

static int mts_parse_node(struct fs_context *fc, struct mts_options *opts, u32 node)
{
	if (node >= MAX_NUMNODES || !node_state(node, N_MEMORY))
		return invalfc(fc, "node=%u: no such NUMA node, or one without memory", node);
	if (mts_node_is_movable_only(node))
		return invalfc(fc, "node=%u has movable memory only: pages that must stay cannot be there",
			       node);
	opts->node = node;
	return 0;
}

static int mts_parse_size(struct fs_context *fc, struct mts_options *opts, const char *text)
{
	char *rest;
	u64 size = memparse(text, &rest);

	if (rest == text || *rest)
		return invalfc(fc, "size=%s: expected bytes, or a number with suffix K, M, G or T",
			       text);
	if (!size || !mts_aligned(size) || size > MAX_LFS_FILESIZE)
		return invalfc(fc, "size=%s: expected a positive multiple of 2M", text);
	opts->size = size;
	return 0;
}

static int mts_parse_mode(struct fs_context *fc, struct mts_options *opts, u32 mode)
{
	if (mode & ~(u32)01777)
		return invalfc(fc, "mode=%o: expected permission bits, at most 1777", mode);
	opts->mode = mode;
	return 0;
}

static int mts_parse_owner(struct fs_context *fc, struct mts_options *opts, int which, u32 id)
{
	if (which == MTS_OPT_UID) {
		opts->uid = make_kuid(current_user_ns(), id);
		if (!uid_valid(opts->uid))
			return invalfc(fc, "uid=%u: no such user in this user namespace", id);
	} else {
		opts->gid = make_kgid(current_user_ns(), id);
		if (!gid_valid(opts->gid))
			return invalfc(fc, "gid=%u: no such group in this user namespace", id);
	}
	return 0;
}

static int mts_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct mts_options *opts = fc->fs_private;
	struct fs_parse_result result;
	int which = fs_parse(fc, mts_parameters, param, &result);
	int ret = 0;

	switch (which) {
	case MTS_OPT_NODE:
		ret = mts_parse_node(fc, opts, result.uint_32);
		break;
	case MTS_OPT_SIZE:
		ret = mts_parse_size(fc, opts, param->string);
		break;
	case MTS_OPT_MODE:
		ret = mts_parse_mode(fc, opts, result.uint_32);
		break;
	case MTS_OPT_UID:
	case MTS_OPT_GID:
		ret = mts_parse_owner(fc, opts, which, result.uint_32);
		break;
	default:
		return which;
	}
	if (!ret)
		opts->given |= BIT(which);
	return ret;
}

static int mts_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct mts_sb *msb = mts_sb(dentry->d_sb);
	long limit = READ_ONCE(msb->limit);

	buf->f_type = MTS_SUPER_MAGIC;
	buf->f_bsize = MTS_PAGE_SIZE;
	buf->f_blocks = limit;
	buf->f_bfree = max(limit - atomic_long_read(&msb->folios), 0L);
	buf->f_bavail = buf->f_bfree;
	buf->f_namelen = NAME_MAX;
	buf->f_fsid = u64_to_fsid(huge_encode_dev(dentry->d_sb->s_dev));
	return 0;
}

static int mts_show_options(struct seq_file *m, struct dentry *root)
{
	struct mts_sb *msb = mts_sb(root->d_sb);

	seq_printf(m, ",node=%d,size=%lluM,mode=%o", msb->node,
		   (u64)READ_ONCE(msb->limit) * (MTS_PAGE_SIZE >> 20), msb->mode);
	seq_printf(m, ",uid=%u,gid=%u", from_kuid_munged(&init_user_ns, msb->uid),
		   from_kgid_munged(&init_user_ns, msb->gid));
	return 0;
}

/* The last user of an arena has gone: no name, no open file, no mapping. Pins may remain. */
static void mts_evict_inode(struct inode *inode)
{
	struct mts_sb *msb = mts_sb(inode->i_sb);
	long folios = inode_get_bytes(inode) / MTS_PAGE_SIZE;

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (!S_ISREG(inode->i_mode))
		return;
	atomic_long_sub(folios, &msb->folios);
	atomic_long_add(folios, &msb->counters[MTS_RELEASED]);
	mts_count(inode->i_sb, MTS_EVICTED);
	trace_mts_evict(inode, (u64)folios * MTS_PAGE_SIZE);
}

static const struct super_operations mts_super_operations = {
	.statfs		= mts_statfs,
	.drop_inode	= generic_delete_inode,
	.evict_inode	= mts_evict_inode,
	.show_options	= mts_show_options,
};

static struct mts_sb *mts_sb_create(const struct mts_options *opts)
{
	struct mts_sb *msb = kzalloc(sizeof(*msb), GFP_KERNEL);

	if (!msb)
		return NULL;
	msb->node = opts->node;
	msb->mode = opts->mode;
	msb->uid = opts->uid;
	msb->gid = opts->gid;
	msb->limit = opts->size / MTS_PAGE_SIZE;
	return msb;
}

static int mts_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct inode *root;
	struct mts_sb *msb = mts_sb_create(fc->fs_private);

	if (!msb)
		return -ENOMEM;
	sb->s_fs_info = msb;
	sb->s_magic = MTS_SUPER_MAGIC;
	sb->s_op = &mts_super_operations;
	sb->s_blocksize = MTS_PAGE_SIZE;
	sb->s_blocksize_bits = ilog2(MTS_PAGE_SIZE);
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;

	root = mts_new_inode(NULL, sb, NULL, S_IFDIR | msb->mode);
	if (!root)
		return -ENOMEM;
	root->i_uid = msb->uid;
	root->i_gid = msb->gid;
	sb->s_root = d_make_root(root);
	if (!sb->s_root)
		return -ENOMEM;
	mts_stats_add(sb);
	return 0;
}

static int mts_get_tree(struct fs_context *fc)
{
	struct mts_options *opts = fc->fs_private;

	if (!(opts->given & BIT(MTS_OPT_NODE)))
		return invalfc(fc, "node= is missing: the NUMA node that the pages shall be on");
	if (!(opts->given & BIT(MTS_OPT_SIZE)))
		return invalfc(fc, "size= is missing: how much of the node's memory may be taken");
	return get_tree_nodev(fc, mts_fill_super);
}

/* mount -o remount repeats all options that /proc/mounts shows, so the same value is no change. */
static bool mts_changes_more_than_size(const struct mts_options *opts, const struct mts_sb *msb)
{
	return ((opts->given & BIT(MTS_OPT_NODE)) && opts->node != msb->node) ||
	       ((opts->given & BIT(MTS_OPT_MODE)) && opts->mode != msb->mode) ||
	       ((opts->given & BIT(MTS_OPT_UID)) && !uid_eq(opts->uid, msb->uid)) ||
	       ((opts->given & BIT(MTS_OPT_GID)) && !gid_eq(opts->gid, msb->gid));
}

static int mts_reconfigure(struct fs_context *fc)
{
	struct mts_options *opts = fc->fs_private;
	struct mts_sb *msb = mts_sb(fc->root->d_sb);
	long limit = opts->size / MTS_PAGE_SIZE;

	if (mts_changes_more_than_size(opts, msb))
		return invalfc(fc, "a remount can change size= only");
	if (!(opts->given & BIT(MTS_OPT_SIZE)))
		return 0;
	if (limit < atomic_long_read(&msb->folios))
		return invalfc(fc, "size=%lluM is less than what is populated (%luM)",
			       opts->size >> 20,
			       atomic_long_read(&msb->folios) * (MTS_PAGE_SIZE >> 20));
	WRITE_ONCE(msb->limit, limit);
	return 0;
}

static void mts_free_fc(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations mts_context_operations = {
	.free		= mts_free_fc,
	.parse_param	= mts_parse_param,
	.get_tree	= mts_get_tree,
	.reconfigure	= mts_reconfigure,
};

static int mts_init_fs_context(struct fs_context *fc)
{
	struct mts_options *opts = kzalloc(sizeof(*opts), GFP_KERNEL);

	if (!opts)
		return -ENOMEM;
	opts->mode = 0700;
	opts->uid = current_fsuid();
	opts->gid = current_fsgid();
	fc->fs_private = opts;
	fc->ops = &mts_context_operations;
	return 0;
}

static void mts_kill_sb(struct super_block *sb)
{
	struct mts_sb *msb = mts_sb(sb);

	if (msb)
		mts_stats_remove(sb);
	kill_litter_super(sb);
	kfree(msb);
}

static struct file_system_type mts_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "mtserve",
	.init_fs_context	= mts_init_fs_context,
	.parameters		= mts_parameters,
	.kill_sb		= mts_kill_sb,
};

static int __init mts_init(void)
{
	int ret;

	if (!has_transparent_hugepage()) {
		pr_err("mtserve: this processor has no transparent huge pages\n");
		return -ENODEV;
	}
	mts_stats_init();
	ret = register_filesystem(&mts_fs_type);
	if (ret)
		mts_stats_exit();
	return ret;
}

static void __exit mts_exit(void)
{
	unregister_filesystem(&mts_fs_type);
	mts_stats_exit();
}

module_init(mts_init);
module_exit(mts_exit);

MODULE_DESCRIPTION("Arenas of huge pages on one NUMA node, as files");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_FS("mtserve");
