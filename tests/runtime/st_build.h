/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds .safetensors images in memory for tests: a header given as text, data of a given length.
 */
#ifndef MTS_TEST_ST_BUILD_H
#define MTS_TEST_ST_BUILD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* 8 bytes length, header, data_len zero bytes. The caller frees; exact size, so that ASan sees. */
static inline unsigned char *st_build(const char *header, size_t data_len, size_t *len)
{
	uint64_t n = strlen(header);
	unsigned char *image = calloc(1, 8 + n + data_len);

	if (!image)
		abort();
	memcpy(image, &n, 8);
	memcpy(image + 8, header, n);
	*len = 8 + n + data_len;
	return image;
}

#endif
