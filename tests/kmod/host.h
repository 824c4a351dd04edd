/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests read from the guest: files of /proc and /sys, its nodes, its kernel. Functions
 * that read something end the test when it is not there.
 */
#ifndef MTS_HOST_H
#define MTS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* True as soon as nothing uses mtserve.ko, false if something still does after @seconds. */
bool mts_module_unused(unsigned int seconds);

/* True on the kernel of scripts/guest --kernel debug, where everything is slower. */
bool mts_kernel_is_debug(void);

/* True on a kernel of at least this version. */
bool mts_kernel_at_least(int major, int minor);

/* Whole file into @buf, as a string. False when it cannot be opened. */
bool mts_read_file(const char *path, char *buf, size_t size);

/* Write a string to an existing file; false with errno. */
bool mts_write_file(const char *path, const char *text);

/* The number behind the first "@key" at the begin of a line, -1 when there is none. */
long long mts_read_number(const char *path, const char *key);

/* Bytes free on a node: what its zones and their per-CPU lists have. */
long long mts_node_free(int node);

/* Memory of a node, in bytes. */
long long mts_node_size(int node);

/* Sum over the smaps entry of the mapping at @address, of the line "@key:", in bytes. */
long long mts_smaps(const void *address, const char *key);

/*
 * The numa_maps line of the mapping at @address says that @pages pages (of the smallest size) are
 * on @node and none anywhere else.
 */
bool mts_numa_maps_all_on(const void *address, int node, long long pages);

/* Page faults of the calling process so far. */
long mts_faults(void);

/* As insmod and rmmod without waiting: 0, or -1 with errno. */
int mts_load_module(const char *path);
int mts_unload_module(const char *name);

#endif /* MTS_HOST_H */
