// SPDX-License-Identifier: GPL-2.0
/*
 * fallocate: gives a range of an arena its memory. The only place that allocates.
 *
 * Threads may populate one arena at once, overlapping or not. Each folio is added under the
 * inode's lock, shared, so that clearing them runs in parallel; two threads that add the same one
 * are told apart by the page cache, and the loser's folio is freed. A folio that the loser was
 * still holding can make somebody else fail for want of it: so a failure counts only when it comes
 * again under the lock taken alone, when no other thread of this arena holds anything.
 */
#include <linux/cpuset.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "mtserve.h"
#include "trace.h"

/*
 * On exactly this node, zeroed, from memory that need not be movable; try hard, but neither warn
 * nor wake the OOM killer. The memory cgroup's charge is made by filemap_add_folio(): with
 * __GFP_ACCOUNT the folio would be charged twice.
 */
#define MTS_GFP_FOLIO	(GFP_HIGHUSER | __GFP_THISNODE | __GFP_ZERO | __GFP_NOWARN | \
			 __GFP_RETRY_MAYFAIL)
#define MTS_GFP_CACHE	(GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

static bool mts_charge(struct mts_sb *msb)
{
	long folios = atomic_long_read(&msb->folios);

	do {
		if (folios >= READ_ONCE(msb->limit))
			return false;
	} while (!atomic_long_try_cmpxchg(&msb->folios, &folios, folios + 1));
	return true;
}

/* The allocator would say ENOMEM to each of these as well, and the caller could not tell. */
static int mts_check_node(int node)
{
	if (!node_state(node, N_MEMORY))
		return -ENODEV;
	if (!node_isset(node, current->mems_allowed))
		return -EPERM;
	return 0;
}

/* Let *folio into the page cache, complete as soon as anybody can lock it. */
static int mts_add_folio(struct inode *inode, struct folio *folio, pgoff_t index)
{
	int ret = filemap_add_folio(inode->i_mapping, folio, index, MTS_GFP_CACHE);

	if (ret)
		return ret;
	folio_mark_uptodate(folio);
	/* Clean pages of an unevictable mapping still go with drop_caches. */
	folio_mark_dirty(folio);
	folio_unlock(folio);
	return 0;
}

static int mts_new_folio(struct inode *inode, pgoff_t index, enum mts_counter *failure)
{
	int node = mts_sb(inode->i_sb)->node;
	struct folio *folio;
	int ret = mts_check_node(node);

	if (ret) {
		*failure = ret == -EPERM ? MTS_FAIL_CPUSET : MTS_FAIL_NODE;
		return ret;
	}
	folio = __folio_alloc(MTS_GFP_FOLIO, HPAGE_PMD_ORDER, node, NULL);
	if (!folio) {
		*failure = MTS_FAIL_NODE;
		return -ENOMEM;
	}
	ret = mts_add_folio(inode, folio, index);
	folio_put(folio);
	*failure = MTS_FAIL_CGROUP;
	return ret;
}

/* One folio, charged; nothing to do when it is there. Inode locked, shared or alone. */
static int mts_populate_folio(struct inode *inode, pgoff_t index, enum mts_counter *failure)
{
	struct mts_sb *msb = mts_sb(inode->i_sb);
	int ret;

	if (xa_load(&inode->i_mapping->i_pages, index))
		return 0;
	if (!mts_charge(msb)) {
		*failure = MTS_FAIL_SIZE;
		return -ENOSPC;
	}
	ret = mts_new_folio(inode, index, failure);
	if (ret) {
		atomic_long_dec(&msb->folios);
		return ret == -EEXIST ? 0 : ret;
	}
	inode_add_bytes(inode, MTS_PAGE_SIZE);
	mts_count(inode->i_sb, MTS_POPULATED);
	return 0;
}

static int mts_populate_index(struct inode *inode, pgoff_t index)
{
	enum mts_counter failure;
	int ret;

	inode_lock_shared(inode);
	ret = mts_populate_folio(inode, index, &failure);
	inode_unlock_shared(inode);
	if (!ret)
		return 0;

	inode_lock(inode);
	ret = mts_populate_folio(inode, index, &failure);
	inode_unlock(inode);
	if (ret)
		mts_count(inode->i_sb, failure);
	return ret;
}

static int mts_populate_range(struct inode *inode, loff_t offset, loff_t length)
{
	pgoff_t index = offset >> PAGE_SHIFT;
	pgoff_t end = (offset + length) >> PAGE_SHIFT;
	int ret;

	for (; index < end; index += HPAGE_PMD_NR) {
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = mts_populate_index(inode, index);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

static int mts_check_range(struct inode *inode, int mode, loff_t offset, loff_t length)
{
	if (mode)
		return -EOPNOTSUPP;
	if (!mts_aligned(offset) || !mts_aligned(length))
		return -EINVAL;
	if (offset + length > i_size_read(inode))
		return -EFBIG;
	return 0;
}

long mts_fallocate(struct file *file, int mode, loff_t offset, loff_t length)
{
	struct inode *inode = file_inode(file);
	int ret = mts_check_range(inode, mode, offset, length);

	if (!ret)
		ret = mts_populate_range(inode, offset, length);
	trace_mts_populate(inode, offset, length, ret);
	return ret;
}
