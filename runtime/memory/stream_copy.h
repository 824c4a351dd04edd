/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies K/V past the caches. What is copied is read once here and written for later: letting it
 * through the caches costs a read of the destination and throws out what the computation beside it
 * uses. Measured on 1 MiB pieces that lie in no cache: 23 to 24 GB/s against 13 to 20 for memcpy.
 *
 * Floor: memory; the copy threads of host devices. Any thread.
 */
#ifndef MTS_STREAM_COPY_H
#define MTS_STREAM_COPY_H

#include <stddef.h>

/* As memcpy; visible to other threads once the caller has synchronised with them in the usual way. */
void mts_stream_copy(void *dst, const void *src, size_t bytes);

#endif
