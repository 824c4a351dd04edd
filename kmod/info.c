// SPDX-License-Identifier: GPL-2.0
/*
 * The INFO ioctl: what files cannot say about an arena. mts_ioctl dispatches, mts_ioctl_info
 * copies, mts_info looks.
 */
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "mtserve.h"

/*
 * References to the locked folio that are neither the page cache's, nor a mapping's, nor ours.
 *
 * Read in this order the sum cannot miss one: nobody can add a mapping while we hold the lock, so
 * that mappings only go; and a mapping that goes is uncounted first and unreferenced afterwards.
 */
static long mts_foreign(struct folio *folio, int *mappings)
{
	long references = folio_ref_count(folio);

	/* Pairs with the full barriers of the atomic operations in zapping a page table entry. */
	smp_rmb();
	*mappings = mts_mapcount(folio);
	return max(references - *mappings - folio_nr_pages(folio) - 1, 0L);
}

static void mts_info_folio(struct folio *folio, struct mts_arena_info *info)
{
	int mappings;

	info->foreign += mts_foreign(folio, &mappings);
	info->populated += folio_size(folio);
	if (mappings)
		info->mapped += folio_size(folio);
}

static int mts_info_range(struct inode *inode, struct mts_arena_info *info, u64 offset, u64 end)
{
	pgoff_t index = offset >> PAGE_SHIFT;
	struct folio *folio;

	while (index < end >> PAGE_SHIFT) {
		if (fatal_signal_pending(current))
			return -EINTR;
		folio = filemap_lock_folio(inode->i_mapping, index);
		if (IS_ERR_OR_NULL(folio)) {
			index++;
			index = round_up(index, HPAGE_PMD_NR);
			continue;
		}
		mts_info_folio(folio, info);
		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
	return 0;
}

static int mts_info(struct inode *inode, struct mts_arena_info *info)
{
	u64 size = i_size_read(inode);

	if (info->flags || !mts_aligned(info->offset) || !mts_aligned(info->length))
		return -EINVAL;
	if (info->offset > size || info->length > size - info->offset)
		return -EINVAL;
	if (!info->length)
		info->length = size - info->offset;
	info->node = mts_sb(inode->i_sb)->node;
	info->page_size = MTS_PAGE_SIZE;
	info->populated = 0;
	info->mapped = 0;
	info->foreign = 0;
	return mts_info_range(inode, info, info->offset, info->offset + info->length);
}

/* Answers @version also to a caller of another one, who can then say what it met. */
static int mts_ioctl_info(struct inode *inode, struct mts_arena_info __user *user)
{
	struct mts_arena_info info;
	u32 size, version = MTS_ABI_VERSION;
	int ret;

	if (get_user(size, &user->size))
		return -EFAULT;
	if (size < MTS_ARENA_INFO_SIZE_V1)
		return -EINVAL;
	ret = copy_struct_from_user(&info, sizeof(info), user, size);
	if (ret)
		return ret;
	if (info.version != version)
		return put_user(version, &user->version) ? -EFAULT : -EPROTO;
	ret = mts_info(inode, &info);
	if (ret)
		return ret;
	info.size = sizeof(info);
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

long mts_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd != MTS_IOCTL_INFO)
		return -ENOTTY;
	return mts_ioctl_info(file_inode(file), (struct mts_arena_info __user *)arg);
}
