// SPDX-License-Identifier: GPL-2.0
/*
 * An arena as a file: its size, set once; its mapping; its faults.
 *
 * The mapping is a plain one, and ->fault returns a page of a huge folio that is in the page
 * cache: then the kernel maps the whole folio with one entry, and pin_user_pages with
 * FOLL_LONGTERM works as on any shared file mapping. VM_MIXEDMAP, VM_PFNMAP, VM_IO or a
 * page_mkwrite would each break that on some kernel.
 */
#include <linux/mempolicy.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/writeback.h>

#include "mtserve.h"
#include "trace.h"

static int mts_set_size(struct inode *inode, loff_t size)
{
	if (i_size_read(inode))
		return -EPERM;
	if (!mts_aligned(size))
		return -EINVAL;
	i_size_write(inode, size);
	return 0;
}

static int mts_setattr(struct mts_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int ret = setattr_prepare(idmap, dentry, attr);

	if (!ret && (attr->ia_valid & ATTR_SIZE))
		ret = mts_set_size(inode, attr->ia_size);
	if (ret)
		return ret;
	setattr_copy(idmap, inode, attr);
	return 0;
}

static vm_fault_t mts_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	u64 offset = (u64)vmf->pgoff << PAGE_SHIFT;
	struct folio *folio = filemap_lock_folio(inode->i_mapping, vmf->pgoff);

	/* NULL or an error, by kernel. */
	if (IS_ERR_OR_NULL(folio)) {
		mts_count(inode->i_sb, MTS_HOLE_FAULTS);
		trace_mts_fault(inode, offset, 0, -EFAULT);
		return VM_FAULT_SIGBUS;
	}
	vmf->page = folio_file_page(folio, vmf->pgoff);
	mts_count(inode->i_sb, MTS_FAULTS);
	trace_mts_fault(inode, offset, folio_size(folio), 0);
	return VM_FAULT_LOCKED;
}

/*
 * A set_policy that refuses and a get_policy that knows none keep mbind and the faults of NUMA
 * balancing away: the mount has decided on the node.
 */
static int mts_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	return -EINVAL;
}

#ifdef MTS_HAVE_POLICY_ILX
static struct mempolicy *mts_get_policy(struct vm_area_struct *vma, unsigned long addr,
					pgoff_t *ilx)
#else
static struct mempolicy *mts_get_policy(struct vm_area_struct *vma, unsigned long addr)
#endif
{
	return NULL;
}

static const struct vm_operations_struct mts_vm_operations = {
	.fault		= mts_fault,
	.set_policy	= mts_set_policy,
	.get_policy	= mts_get_policy,
};

static int mts_check_mapping(struct inode *inode, struct vm_area_struct *vma)
{
	pgoff_t pages = i_size_read(inode) >> PAGE_SHIFT;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma_pages(vma) > pages || vma->vm_pgoff > pages - vma_pages(vma))
		return -ENXIO;
	return 0;
}

static int mts_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct inode *inode = file_inode(file);
	int ret = mts_check_mapping(inode, vma);

	if (!ret) {
		vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
		vma->vm_ops = &mts_vm_operations;
		mts_count(inode->i_sb, MTS_MAPS);
	}
	trace_mts_map(inode, (u64)vma->vm_pgoff << PAGE_SHIFT, vma->vm_end - vma->vm_start, ret);
	return ret;
}

/* Refused also before anybody pins a page: an address given to a device once stays good. */
static int mts_migrate_folio(struct address_space *mapping, struct folio *dst, struct folio *src,
			     enum migrate_mode mode)
{
	return -EBUSY;
}

const struct address_space_operations mts_address_space_operations = {
	.dirty_folio	= noop_dirty_folio,
	.migrate_folio	= mts_migrate_folio,
};

const struct inode_operations mts_file_inode_operations = {
	.setattr	= mts_setattr,
};

const struct file_operations mts_file_operations = {
	.owner			= THIS_MODULE,
	.llseek			= generic_file_llseek,
	.mmap			= mts_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fallocate		= mts_fallocate,
	.fsync			= noop_fsync,
	.unlocked_ioctl		= mts_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.show_fdinfo		= mts_show_fdinfo,
};
