/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/mts_pin, for tests only. An open file holds at most one pin, and drops it when closed:
 * that way a pin can outlive the mapping, the arena, its mount and mtserve.ko.
 */
#ifndef MTS_PIN_H
#define MTS_PIN_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MTS_PIN_FAST	1u	/* pin_user_pages_fast, not pin_user_pages under mmap_lock */

/**
 * struct mts_pin_range - pin memory of the calling process
 * @address:	page-aligned
 * @length:	in bytes, whole pages
 * @flags:	MTS_PIN_...
 * @pages:	out: pages pinned; fewer than asked for is an error, and then none stay pinned
 */
struct mts_pin_range {
	__u64 address;
	__u64 length;
	__u32 flags;
	__u32 pages;
};

/**
 * struct mts_pin_byte - read and replace one byte through the pin, as a device would
 * @offset:	from the begin of the pinned range
 * @value:	in: to write; out: what was there
 */
struct mts_pin_byte {
	__u64 offset;
	__u32 value;
	__u32 node;	/* out: NUMA node of the page */
};

#define MTS_PIN_IOCTL_PIN	_IOWR('p', 0xe0, struct mts_pin_range)
#define MTS_PIN_IOCTL_UNPIN	_IO('p', 0xe1)
#define MTS_PIN_IOCTL_SWAP	_IOWR('p', 0xe2, struct mts_pin_byte)

#endif /* MTS_PIN_H */
