/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What a program needs to know of the mtserve file system beyond open, ftruncate, fallocate,
 * mmap, fstat, statfs and unlink: its magic number, its page size, one ioctl, and its errors.
 *
 * A mount of type "mtserve" holds arenas. An arena is a file whose pages are folios of
 * MTS_PAGE_SIZE bytes on the mount's NUMA node: resident, immovable, pinnable. See
 * Documentation/admin-guide/kernel-module.md for how a person uses it.
 *
 * Errors, by call. Those that every file system may give (EACCES, EPERM of chmod, ENOENT, ...)
 * are not repeated.
 *
 *  mount       EINVAL           an option is missing, unknown, malformed or out of its range, or a
 *                               remount changes more than size=; the reason is in the kernel log,
 *                               or is read from the descriptor of fsopen()
 *              ENODEV           mtserve.ko is not loaded; it refuses processors without
 *                               transparent huge pages
 *  ftruncate   EINVAL           the size is no multiple of MTS_PAGE_SIZE
 *              EPERM            the arena has a size already: it is set once
 *              EFBIG            more than the process's file size limit (RLIMIT_FSIZE)
 *  fallocate   EOPNOTSUPP       a mode other than 0
 *              EINVAL           offset or length is no multiple of MTS_PAGE_SIZE
 *              EFBIG            the range ends behind the arena's size (set that first)
 *              ENOSPC           the mount's size= is used up
 *              ENOMEM           the node has no free folio, or the memory cgroup's limit is hit
 *              EPERM            the caller's cpuset does not allow the mount's node
 *              ENODEV           the node's memory was taken offline since the mount
 *              EINTR            a fatal signal came
 *  mmap        EINVAL           MAP_PRIVATE
 *              EOVERFLOW        the range ends behind what an offset can be
 *              ENXIO            the range ends behind the arena's size
 *              EPERM            PROT_EXEC
 *  mbind       EINVAL           always: the mount decides on the node
 *  read, write EINVAL           always: arenas are mapped
 *  MTS_IOCTL_INFO
 *              EINVAL           the structure is too short, flags are not 0, or the range is
 *                               misaligned or ends behind the arena's size
 *              E2BIG            bytes that this module does not know are not 0
 *              EPROTO           the caller was built for another version of this interface;
 *                               the module's own is written to @version
 *              EFAULT, EINTR    as everywhere
 *  any ioctl   ENOTTY           another command
 *
 * A failed fallocate keeps the folios it got, and may be called again. Access to a page that was
 * not populated gives SIGBUS: faults never allocate.
 */
#ifndef _UAPI_LINUX_MTSERVE_H
#define _UAPI_LINUX_MTSERVE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* f_type of statfs() */
#define MTS_SUPER_MAGIC	0x6d747376

/* f_bsize of statfs(), st_blksize of fstat(): the size of every page of every arena */
#define MTS_PAGE_SIZE	(2u << 20)

/* Version of this interface. It changes only when something here changes its meaning. */
#define MTS_ABI_VERSION	1u

/**
 * struct mts_arena_info - argument of MTS_IOCTL_INFO
 * @size:	in: size of the caller's structure, at least MTS_ARENA_INFO_SIZE_V1;
 *		out: bytes of it that the module filled in
 * @version:	in: MTS_ABI_VERSION the caller was built with; out: the module's
 * @flags:	in: 0
 * @node:	out: the NUMA node that the mount's pages are on
 * @offset:	in: begin of the range asked about, in bytes, a multiple of MTS_PAGE_SIZE
 * @length:	in: its length, a multiple of MTS_PAGE_SIZE; 0: up to the arena's end
 * @page_size:	out: MTS_PAGE_SIZE
 * @populated:	out: bytes of the range that have memory
 * @mapped:	out: bytes of the range in folios that some process maps, in whole or in part
 * @foreign:	out: references to the range's pages which neither the file nor a mapping holds:
 *		pins and I/O in flight. Each pinned page counts once for each pin of it.
 *
 * @foreign may be a little too high while somebody uses the arena at the same time, never too low
 * for a pin that was there before the call. 0 means that no device can be writing into the range
 * any more, so that a restarted process may use it again.
 */
struct mts_arena_info {
	__u32 size;
	__u32 version;
	__u32 flags;
	__u32 node;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 page_size;
	__aligned_u64 populated;
	__aligned_u64 mapped;
	__aligned_u64 foreign;
};

#define MTS_ARENA_INFO_SIZE_V1	64

/* The size is in the structure, not in the number: the number stays when the structure grows. */
#define MTS_IOCTL_INFO	_IO(0xe9, 0x00)

#endif /* _UAPI_LINUX_MTSERVE_H */
