/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The .safetensors reader (layout in safetensors.h). Nothing in the header is believed before it
 * is checked: first each tensor alone, then all of them against the data part, sorted by offset.
 */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

/* Quotes a name from the file; long ones are cut so that the rest of the message fits. */
#define NAME "\"%.80s\""

struct mts_safetensors {
	const unsigned char *file;
	size_t len;
	int mapped;
	json_t *header; /* owns the names */
	json_t *meta;   /* borrowed from header; may be NULL */
	struct mts_st_tensor *tensor;
	size_t count;
};

static const struct {
	const char *name;
	unsigned bytes;
} st_dtypes[] = {
	{"F32", 4}, {"BF16", 2}, {"F16", 2},  {"F64", 8},     {"I64", 8},
	{"I32", 4}, {"I16", 2},  {"I8", 1},   {"U64", 8},     {"U32", 4},
	{"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

static int parse_dtype(struct mts_st_tensor *t, const json_t *value, struct mts_error *err)
{
	const char *name = json_string_value(value);

	for (size_t i = 0; name && i < sizeof(st_dtypes) / sizeof(st_dtypes[0]); i++) {
		if (strcmp(name, st_dtypes[i].name) == 0) {
			t->dtype = st_dtypes[i].name;
			t->bytes_each = st_dtypes[i].bytes;
			return 0;
		}
	}
	mts_error_set(err, "tensor " NAME ": dtype is " NAME ", expected a safetensors type",
		      t->name, name ? name : "not a string");
	return -EINVAL;
}

static int parse_shape(struct mts_st_tensor *t, const json_t *value, struct mts_error *err)
{
	if (!json_is_array(value) || json_array_size(value) > MTS_ST_RANK_MAX) {
		mts_error_set(err, "tensor " NAME ": shape is no array of at most %d numbers",
			      t->name, MTS_ST_RANK_MAX);
		return -EINVAL;
	}
	t->rank = (unsigned)json_array_size(value);
	t->elements = 1;
	for (unsigned i = 0; i < t->rank; i++) {
		const json_t *dim = json_array_get(value, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
			mts_error_set(err, "tensor " NAME ": shape[%u] is not a whole number >= 0",
				      t->name, i);
			return -EINVAL;
		}
		t->shape[i] = (uint64_t)json_integer_value(dim);
		if (__builtin_mul_overflow(t->elements, t->shape[i], &t->elements)) {
			mts_error_set(err, "tensor " NAME ": shape overflows 64 bits", t->name);
			return -EINVAL;
		}
	}
	if (__builtin_mul_overflow(t->elements, (uint64_t)t->bytes_each, &t->bytes)) {
		mts_error_set(err, "tensor " NAME ": shape overflows 64 bits", t->name);
		return -EINVAL;
	}
	return 0;
}

static int parse_offsets(struct mts_st_tensor *t, const json_t *value, uint64_t data_len,
			 struct mts_error *err)
{
	const json_t *first = json_array_get(value, 0);
	const json_t *last = json_array_get(value, 1);
	json_int_t begin = json_integer_value(first);
	json_int_t end = json_integer_value(last);

	if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
	    begin < 0 || end < begin) {
		mts_error_set(err,
			      "tensor " NAME ": data_offsets is not [begin, end] with 0 <= begin "
			      "<= end",
			      t->name);
		return -EINVAL;
	}
	if ((uint64_t)end > data_len) {
		mts_error_set(err,
			      "tensor " NAME ": data_offsets end at %" PRIu64
			      ", outside of the %" PRIu64 " bytes of data in the file",
			      t->name, (uint64_t)end, data_len);
		return -EINVAL;
	}
	if ((uint64_t)(end - begin) != t->bytes) {
		mts_error_set(err,
			      "tensor " NAME ": data_offsets span %" PRIu64
			      " bytes, expected %" PRIu64 " for its shape and dtype",
			      t->name, (uint64_t)(end - begin), t->bytes);
		return -EINVAL;
	}
	t->begin = (uint64_t)begin;
	return 0;
}

static int parse_tensor(struct mts_st_tensor *t, json_t *value, uint64_t data_len,
			struct mts_error *err)
{
	const char *key;
	json_t *unused;
	int rc;

	if (!json_is_object(value)) {
		mts_error_set(err, "tensor " NAME ": expected an object", t->name);
		return -EINVAL;
	}
	json_object_foreach(value, key, unused)
	{
		if (strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets")) {
			mts_error_set(err,
				      "tensor " NAME ": unknown key " NAME
				      ", expected dtype, shape and data_offsets",
				      t->name, key);
			return -EINVAL;
		}
	}
	rc = parse_dtype(t, json_object_get(value, "dtype"), err);
	if (rc == 0)
		rc = parse_shape(t, json_object_get(value, "shape"), err);
	if (rc == 0)
		rc = parse_offsets(t, json_object_get(value, "data_offsets"), data_len, err);
	return rc;
}

static int parse_meta(struct mts_safetensors *st, json_t *value, struct mts_error *err)
{
	const char *key;
	json_t *text;

	if (!json_is_object(value)) {
		mts_error_set(err, "__metadata__: expected an object of strings");
		return -EINVAL;
	}
	json_object_foreach(value, key, text)
	{
		if (!json_is_string(text)) {
			mts_error_set(err, "metadata key " NAME ": expected a string", key);
			return -EINVAL;
		}
	}
	st->meta = value;
	return 0;
}

static int by_offset(const void *pa, const void *pb)
{
	const struct mts_st_tensor *a = pa, *b = pb;

	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	if (a->bytes != b->bytes)
		return a->bytes < b->bytes ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb)
{
	const struct mts_st_tensor *a = pa, *b = pb;

	return strcmp(a->name, b->name);
}

/* Every byte of data in exactly one tensor; leaves the tensors sorted by offset. */
static int check_cover(struct mts_safetensors *st, uint64_t data_len, struct mts_error *err)
{
	uint64_t next = 0;

	qsort(st->tensor, st->count, sizeof(st->tensor[0]), by_offset);
	for (size_t i = 0; i < st->count; i++) {
		const struct mts_st_tensor *t = &st->tensor[i];

		if (t->begin < next) {
			mts_error_set(err,
				      "tensor " NAME ": its data overlaps that of tensor " NAME,
				      t->name, st->tensor[i - 1].name);
			return -EINVAL;
		}
		if (t->begin > next) {
			mts_error_set(err,
				      "tensor " NAME ": %" PRIu64
				      " bytes of data before it belong to no tensor",
				      t->name, t->begin - next);
			return -EINVAL;
		}
		next = t->begin + t->bytes;
	}
	if (next != data_len) {
		mts_error_set(err, "%" PRIu64 " bytes at the end belong to no tensor",
			      data_len - next);
		return -EINVAL;
	}
	return 0;
}

static int parse_entries(struct mts_safetensors *st, size_t data_at, struct mts_error *err)
{
	uint64_t data_len = st->len - data_at;
	const char *key;
	json_t *value;
	int rc = 0;

	st->tensor = calloc(json_object_size(st->header) + 1, sizeof(st->tensor[0]));
	if (!st->tensor)
		return -ENOMEM;
	json_object_foreach(st->header, key, value)
	{
		struct mts_st_tensor *t = &st->tensor[st->count];

		if (strcmp(key, "__metadata__") == 0) {
			rc = parse_meta(st, value, err);
		} else {
			t->name = key;
			rc = parse_tensor(t, value, data_len, err);
			t->data = st->file + data_at + t->begin;
			st->count++;
		}
		if (rc)
			return rc;
	}
	rc = check_cover(st, data_len, err);
	qsort(st->tensor, st->count, sizeof(st->tensor[0]), by_name);
	return rc;
}

static int read_length(const struct mts_safetensors *st, uint64_t *n, struct mts_error *err)
{
	if (st->len < 8) {
		mts_error_set(err, "truncated: %zu bytes, expected a header length of 8 bytes",
			      st->len);
		return -EINVAL;
	}
	*n = 0;
	for (int i = 7; i >= 0; i--)
		*n = *n << 8 | st->file[i];
	if (*n > MTS_ST_HEADER_MAX) {
		mts_error_set(err, "header of %" PRIu64 " bytes, expected at most %u", *n,
			      MTS_ST_HEADER_MAX);
		return -EINVAL;
	}
	if (*n > st->len - 8) {
		mts_error_set(err, "truncated: a header of %" PRIu64 " bytes in a file of %zu", *n,
			      st->len);
		return -EINVAL;
	}
	return 0;
}

static int parse_header(struct mts_safetensors *st, struct mts_error *err)
{
	const char *text = (const char *)st->file + 8;
	json_error_t why = {.text = ""};
	uint64_t n = 0;
	int rc = read_length(st, &n, err);

	if (rc)
		return rc;
	if (n == 0 || text[0] != '{') {
		mts_error_set(err, "header does not start with '{': not a safetensors file");
		return -EINVAL;
	}
	st->header = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
	if (!st->header && !why.text[0])
		return -ENOMEM; /* the parser does not say so everywhere */
	if (!st->header) {
		mts_error_set(err, "header is not JSON: %s at byte %d", why.text, why.position);
		return json_error_code(&why) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
	}
	return parse_entries(st, 8 + n, err);
}

int mts_safetensors_parse(const void *buf, size_t len, struct mts_safetensors **out,
			  struct mts_error *err)
{
	struct mts_safetensors *st = calloc(1, sizeof(*st));
	int rc;

	mts_error_set(err, "out of memory");
	if (!st)
		return -ENOMEM;
	st->file = buf;
	st->len = len;
	rc = parse_header(st, err);
	if (rc)
		mts_safetensors_close(st);
	else
		*out = st;
	return rc;
}

/* Maps a whole regular file. O_NONBLOCK: opening a FIFO must not hang. */
static int map_file(const char *path, void **map, size_t *len, struct mts_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat sb;
	int rc = 0;

	if (fd < 0 || fstat(fd, &sb)) {
		rc = -errno;
		mts_error_set(err, "%s", strerror(errno));
	} else if (!S_ISREG(sb.st_mode)) {
		rc = -EINVAL;
		mts_error_set(err, "not a regular file");
	} else if (sb.st_size < 8) {
		rc = -EINVAL;
		mts_error_set(err, "truncated: %jd bytes, expected a header length of 8 bytes",
			      (intmax_t)sb.st_size);
	} else {
		*len = (size_t)sb.st_size;
		*map = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
		if (*map == MAP_FAILED) {
			rc = -errno;
			mts_error_set(err, "cannot map: %s", strerror(errno));
		}
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

int mts_safetensors_open(const char *path, struct mts_safetensors **out, struct mts_error *err)
{
	struct mts_error why;
	size_t len = 0;
	void *map = NULL;
	int rc = map_file(path, &map, &len, &why);

	if (rc == 0) {
		rc = mts_safetensors_parse(map, len, out, &why);
		if (rc)
			munmap(map, len);
		else
			(*out)->mapped = 1;
	}
	if (rc)
		mts_error_set(err, "%.120s: %s", path, why.text);
	return rc;
}

void mts_safetensors_close(struct mts_safetensors *st)
{
	if (!st)
		return;
	if (st->mapped)
		munmap((void *)(uintptr_t)st->file, st->len);
	json_decref(st->header);
	free(st->tensor);
	free(st);
}

const void *mts_safetensors_bytes(const struct mts_safetensors *st, size_t *len)
{
	*len = st->len;
	return st->file;
}

size_t mts_safetensors_count(const struct mts_safetensors *st)
{
	return st->count;
}

const struct mts_st_tensor *mts_safetensors_at(const struct mts_safetensors *st, size_t i)
{
	return &st->tensor[i];
}

const struct mts_st_tensor *mts_safetensors_find(const struct mts_safetensors *st, const char *name)
{
	struct mts_st_tensor key = {.name = name};

	return bsearch(&key, st->tensor, st->count, sizeof(st->tensor[0]), by_name);
}

const char *mts_safetensors_meta(const struct mts_safetensors *st, const char *key)
{
	return json_string_value(json_object_get(st->meta, key));
}

const char *mts_safetensors_meta_unknown(const struct mts_safetensors *st, const char *const *known)
{
	const char *key;
	json_t *unused;

	json_object_foreach(st->meta, key, unused)
	{
		size_t i = 0;

		while (known[i] && strcmp(key, known[i]))
			i++;
		if (!known[i])
			return key;
	}
	return NULL;
}
