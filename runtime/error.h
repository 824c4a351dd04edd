/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message that goes with a -errno when a person must be told.
 *
 * Beside the floors: every floor may fill one, only the commands print it. The caller owns the
 * struct (usually on its stack) and passes NULL where nobody will read it. A function fills it
 * only when it fails; after success its content is undefined. No lock: one struct, one thread.
 */
#ifndef MTS_ERROR_H
#define MTS_ERROR_H

#include <mtserve.h> /* struct mts_error: one line, no newline, always terminated */

/*
 * Sets the text, cut to fit. err may be NULL (nothing happens). An argument may point into
 * err->text itself, so that a caller can put its own words before a message from below. Control
 * characters are replaced by '?': names and fields come from untrusted files and end up on a
 * terminal. errno is left as it was.
 */
void mts_error_set(struct mts_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
