/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory this process can still take without anybody being killed for it.
 *
 * Floor: memory. Any thread. Used before memory is populated: the kernel grants address space
 * freely and ends processes when it is touched.
 */
#ifndef MTS_AVAILABLE_H
#define MTS_AVAILABLE_H

#include <stdint.h>

/*
 * Bytes: the least of MemAvailable and of what each control group above this process (v1 or v2)
 * leaves, its file cache counted as free. UINT64_MAX where /proc tells nothing.
 */
uint64_t mts_memory_available(void);

#endif
