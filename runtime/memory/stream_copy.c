/* SPDX-License-Identifier: Apache-2.0 */
/* Copies past the caches (stream_copy.h): 64-byte lines by non-temporal stores where there are any. */
#include "memory/stream_copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define AHEAD 1024 /* bytes; about what a core has in flight */
#define SMALL 4096 /* below this, starting the stream costs more than it saves */

static void copy_line(char *dst, const char *src)
{
	__m128i a = _mm_loadu_si128((const __m128i *)src);
	__m128i b = _mm_loadu_si128((const __m128i *)(src + 16));
	__m128i c = _mm_loadu_si128((const __m128i *)(src + 32));
	__m128i d = _mm_loadu_si128((const __m128i *)(src + 48));

	_mm_stream_si128((__m128i *)dst, a);
	_mm_stream_si128((__m128i *)(dst + 16), b);
	_mm_stream_si128((__m128i *)(dst + 32), c);
	_mm_stream_si128((__m128i *)(dst + 48), d);
}

void mts_stream_copy(void *dst, const void *src, size_t bytes)
{
	size_t head = -(uintptr_t)dst & 63, lines;
	const char *from = src;
	char *to = dst;

	if (bytes < SMALL) {
		memcpy(dst, src, bytes);
		return;
	}
	memcpy(to, from, head);
	to += head;
	from += head;
	bytes -= head;
	for (lines = bytes / 64; lines; lines--, to += 64, from += 64) {
		_mm_prefetch(from + AHEAD, _MM_HINT_NTA);
		copy_line(to, from);
	}
	/* Streamed stores are ordered by nothing else: whoever is told of the copy must see its bytes. */
	_mm_sfence();
	memcpy(to, from, bytes % 64);
}
#else
void mts_stream_copy(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
}
#endif
