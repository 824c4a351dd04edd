/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of .safetensors files, which are untrusted input.
 *
 *   8 bytes    header length n, little-endian
 *   n bytes    JSON: { "__metadata__": { string: string }, NAME: { "dtype", "shape",
 *              "data_offsets": [begin, end) }, ... }
 *   the rest   tensor data; offsets count from here; every byte belongs to exactly one tensor
 *
 * Floor: model. Callers: the model, verify. An opened file is read-only: any thread may read it.
 * Every refusal names the tensor or key and says what was expected.
 */
#ifndef MTS_SAFETENSORS_H
#define MTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

struct mts_error;
struct mts_safetensors;

#define MTS_ST_RANK_MAX	  8
#define MTS_ST_HEADER_MAX (1u << 20)

struct mts_st_tensor {
	const char *name;
	const char *dtype; /* as written: "F32", "I64" ... */
	unsigned bytes_each;
	unsigned rank;
	uint64_t shape[MTS_ST_RANK_MAX];
	uint64_t elements;
	uint64_t bytes;
	uint64_t begin;	  /* in the data part */
	const void *data; /* elements are little-endian and need not be aligned */
};

/*
 * Checks len bytes at buf, which stay the caller's and must outlive the result.
 * -EINVAL for anything malformed, -ENOMEM.
 */
int mts_safetensors_parse(const void *buf, size_t len, struct mts_safetensors **out,
			  struct mts_error *err);

/*
 * Maps and checks a regular file; messages start with the path. Beside parse's: open's -errno.
 * The file must not be truncated while it is open (a reader would get SIGBUS); replace it by
 * rename, as mts_model_generate does.
 */
int mts_safetensors_open(const char *path, struct mts_safetensors **out, struct mts_error *err);
void mts_safetensors_close(struct mts_safetensors *st);

/* All bytes of the file, for hashing. */
const void *mts_safetensors_bytes(const struct mts_safetensors *st, size_t *len);

/* Tensors in ascending order of name. */
size_t mts_safetensors_count(const struct mts_safetensors *st);
const struct mts_st_tensor *mts_safetensors_at(const struct mts_safetensors *st, size_t i);
const struct mts_st_tensor *mts_safetensors_find(const struct mts_safetensors *st,
						 const char *name);

/* Value of a metadata key, or NULL. */
const char *mts_safetensors_meta(const struct mts_safetensors *st, const char *key);
/* The first metadata key that is none of known[] (NULL-terminated), or NULL. */
const char *mts_safetensors_meta_unknown(const struct mts_safetensors *st,
					 const char *const *known);

#endif
