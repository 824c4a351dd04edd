/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints, group "mtserve". An arena is named by its device and inode number, which ls -i,
 * stat and /proc/PID/maps show too; offsets and lengths are in bytes.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mtserve

#if !defined(MTS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MTS_TRACE_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

/* An arena came to be, lost a name, or ended; @bytes is its populated size. */
DECLARE_EVENT_CLASS(mts_arena,
	TP_PROTO(const struct inode *inode, u64 bytes),
	TP_ARGS(inode, bytes),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, bytes)
		__field(dev_t, dev)
	),
	TP_fast_assign(
		__entry->ino = inode->i_ino;
		__entry->bytes = bytes;
		__entry->dev = inode->i_sb->s_dev;
	),
	TP_printk("dev=%u:%u ino=%llu bytes=%llu", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, __entry->bytes)
);

DEFINE_EVENT(mts_arena, mts_create,
	TP_PROTO(const struct inode *inode, u64 bytes), TP_ARGS(inode, bytes));
DEFINE_EVENT(mts_arena, mts_unlink,
	TP_PROTO(const struct inode *inode, u64 bytes), TP_ARGS(inode, bytes));
DEFINE_EVENT(mts_arena, mts_evict,
	TP_PROTO(const struct inode *inode, u64 bytes), TP_ARGS(inode, bytes));

/* Something was done to a range of an arena; @ret is 0 or -errno, of a fault 0 or -EFAULT. */
DECLARE_EVENT_CLASS(mts_range,
	TP_PROTO(const struct inode *inode, u64 offset, u64 length, long ret),
	TP_ARGS(inode, offset, length, ret),
	TP_STRUCT__entry(
		__field(u64, ino)
		__field(u64, offset)
		__field(u64, length)
		__field(long, ret)
		__field(dev_t, dev)
	),
	TP_fast_assign(
		__entry->ino = inode->i_ino;
		__entry->offset = offset;
		__entry->length = length;
		__entry->ret = ret;
		__entry->dev = inode->i_sb->s_dev;
	),
	TP_printk("dev=%u:%u ino=%llu offset=%llu length=%llu ret=%ld", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->offset, __entry->length,
		  __entry->ret)
);

DEFINE_EVENT(mts_range, mts_populate,
	TP_PROTO(const struct inode *inode, u64 offset, u64 length, long ret),
	TP_ARGS(inode, offset, length, ret));
DEFINE_EVENT(mts_range, mts_map,
	TP_PROTO(const struct inode *inode, u64 offset, u64 length, long ret),
	TP_ARGS(inode, offset, length, ret));
DEFINE_EVENT(mts_range, mts_fault,
	TP_PROTO(const struct inode *inode, u64 offset, u64 length, long ret),
	TP_ARGS(inode, offset, length, ret));

#endif /* MTS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
