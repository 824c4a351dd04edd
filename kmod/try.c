// SPDX-License-Identifier: GPL-2.0
/*
 * Questions to the kernel that is built for, one at a time: Kbuild compiles this file with one
 * TRY_... defined and defines MTS_HAVE_... for the module when that succeeds. Nothing here is
 * linked into anything.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#ifdef TRY_IDMAP	/* inode operations get a mount's id mapping, not a user namespace (6.3) */
int try_idmap(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr);
int try_idmap(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	return setattr_prepare(idmap, dentry, attr);
}
#endif

#ifdef TRY_VM_FLAGS_SET	/* vma->vm_flags may only be changed through functions (6.3) */
void try_vm_flags_set(struct vm_area_struct *vma);
void try_vm_flags_set(struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_DONTDUMP);
}
#endif

#ifdef TRY_INODE_TS	/* an inode's times are set through functions (6.6) */
void try_inode_ts(struct inode *inode);
void try_inode_ts(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
	simple_inode_init_ts(inode);
}
#endif

#ifdef TRY_POLICY_ILX	/* get_policy also returns an interleave index (6.7) */
struct mempolicy *try_policy(struct vm_area_struct *vma, unsigned long addr, pgoff_t *ilx);
struct mempolicy *try_policy(struct vm_area_struct *vma, unsigned long addr, pgoff_t *ilx)
{
	return vma->vm_ops->get_policy(vma, addr, ilx);
}
#endif

#ifdef TRY_ORDER_RANGE	/* a file can forbid that its folios are split (6.12) */
void try_order_range(struct address_space *mapping);
void try_order_range(struct address_space *mapping)
{
	mapping_set_folio_order_range(mapping, HPAGE_PMD_ORDER, HPAGE_PMD_ORDER);
}
#endif

#ifdef TRY_LARGE_MAPCOUNT	/* one counter has all mappings of a large folio (6.10) */
int try_large_mapcount(const struct folio *folio);
int try_large_mapcount(const struct folio *folio)
{
	return folio_large_mapcount(folio);
}
#endif
