/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Per-user state of the trace tools: a uthash map from user id to a struct of the including file.
 *
 * The struct has a uint64_t `id` and a UT_hash_handle `hh`. uthash's own answer to a failed
 * allocation is exit(); here it is told to leave the element out of the table instead, which
 * mts_users_get turns into NULL. For the trace tools only; one thread per map.
 */
#ifndef MTS_TRACE_USERS_H
#define MTS_TRACE_USERS_H

#define HASH_NONFATAL_OOM 1
#include <stdlib.h>
#include <uthash.h>

/* The user's entry, made and zeroed at its first mention; NULL when memory is out. */
#define mts_users_get(head, user, type)                                                            \
	({                                                                                         \
		uint64_t user_ = (user);                                                           \
		type *found_;                                                                      \
		HASH_FIND(hh, head, &user_, sizeof(user_), found_);                                \
		if (!found_ && (found_ = calloc(1, sizeof(*found_)))) {                            \
			found_->id = user_;                                                        \
			HASH_ADD(hh, head, id, sizeof(found_->id), found_);                        \
			if (!found_->hh.tbl) {                                                     \
				free(found_);                                                      \
				found_ = NULL;                                                     \
			}                                                                          \
		}                                                                                  \
		found_;                                                                            \
	})

#endif
