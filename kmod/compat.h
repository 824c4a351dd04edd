/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few places where the kernels that the module builds for differ. MTS_HAVE_... come from
 * try.c by way of Kbuild. Everything else in the module is the same for all of them.
 */
#ifndef MTS_COMPAT_H
#define MTS_COMPAT_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

/* First argument of inode operations; passed on, never looked into. */
#ifdef MTS_HAVE_IDMAP
#define mts_idmap mnt_idmap
#else
#define mts_idmap user_namespace
#endif

#ifndef MTS_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

#ifdef MTS_HAVE_INODE_TS
static inline void mts_touch(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
}

static inline void mts_init_times(struct inode *inode)
{
	simple_inode_init_ts(inode);
}
#else
static inline void mts_touch(struct inode *inode)
{
	inode->i_mtime = inode->i_ctime = current_time(inode);
}

static inline void mts_init_times(struct inode *inode)
{
	inode->i_atime = inode->i_mtime = inode->i_ctime = current_time(inode);
}
#endif

/*
 * Let the file have folios of the one size. Where the kernel knows a smallest order it also
 * refuses to split them; older ones may split a folio after a hardware memory error, which is why
 * nothing in the module assumes a folio's size.
 */
static inline void mts_set_folio_order(struct address_space *mapping)
{
#ifdef MTS_HAVE_ORDER_RANGE
	mapping_set_folio_order_range(mapping, HPAGE_PMD_ORDER, HPAGE_PMD_ORDER);
#else
	mapping_set_large_folios(mapping);
#endif
}

/* How many page table entries, of any level, map pages of the folio. */
static inline int mts_mapcount(struct folio *folio)
{
#ifdef MTS_HAVE_LARGE_MAPCOUNT
	return folio_mapcount(folio);
#else
	long i, nr = folio_nr_pages(folio);
	int whole, sum;

	if (nr == 1)
		return atomic_read(&folio->_mapcount) + 1;
	/* 6.1: a mapping of the whole file folio is also counted in each of its pages. */
	whole = folio_entire_mapcount(folio);
	sum = whole - whole * (int)nr;
	for (i = 0; i < nr; i++)
		sum += atomic_read(&folio_page(folio, i)->_mapcount) + 1;
	return sum;
#endif
}

#endif /* MTS_COMPAT_H */
