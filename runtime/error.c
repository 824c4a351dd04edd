/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message that goes with a -errno (error.h). Beside the floors, called from any of them, on
 * any thread; touches nothing but the caller's struct.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mts_error_set(struct mts_error *err, const char *fmt, ...)
{
	struct mts_error next = { .text = "" };
	int saved = errno;
	va_list args;

	if (!err)
		return;
	va_start(args, fmt);
	vsnprintf(next.text, sizeof(next.text), fmt, args);
	va_end(args);
	for (char *c = next.text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	memcpy(err, &next, sizeof(next));
	errno = saved;
}
