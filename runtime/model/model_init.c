/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model files of random weights. Floor: model. Any thread; touches only the file.
 *
 * Values come from a counter: element i of tensor t depends on (seed, t, i) alone, through integer
 * arithmetic and one float multiplication, which IEEE 754 fixes to the bit. So every machine writes
 * the same file. Scales follow 1 / sqrt(fan-in), so that activations keep their size from layer to
 * layer and scores spread over (0.05, 0.95) instead of saturating, where an error would not show.
 */
#include "model/model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "model/config.h"
#include "model/dtype.h"
#include "model/spec.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is little-endian");

struct distribution {
	float mean, std;
};

/* The finaliser of splitmix64: a bijection that spreads every input bit over all output bits. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Sum of four uniform 16-bit numbers, centred: near enough to a normal one, in whole steps. */
static int32_t bell(uint64_t bits)
{
	return (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) +
	       (int32_t)(bits >> 32 & 0xffff) + (int32_t)(bits >> 48) - 2 * 65535;
}

/* sqrt(4 · (2^32 - 1) / 12): the standard deviation of bell() */
#define BELL_STD 37837.23

static struct distribution distribution_of(const struct mts_model_config *c, enum mts_weight role)
{
	switch (role) {
	case MTS_W_ITEMS:
		return (struct distribution){0, 1};
	case MTS_W_ACTIONS:
		return (struct distribution){0, 0.5f};
	case MTS_W_POSITIONS:
		return (struct distribution){0, 0.25f};
	case MTS_W_IN_NORM_WEIGHT:
	case MTS_W_OUT_NORM_WEIGHT:
	case MTS_W_HEAD_NORM_WEIGHT:
		return (struct distribution){1, 0.1f};
	case MTS_W_UVQK_WEIGHT:
	case MTS_W_HEAD0_WEIGHT:
		return (struct distribution){0, 1 / sqrtf((float)c->d)};
	case MTS_W_OUT_WEIGHT:
		return (struct distribution){0, 1 / sqrtf((float)mts_config_ycols(c))};
	case MTS_W_HEAD1_WEIGHT:
		return (struct distribution){0, 1.25f / sqrtf((float)c->head_hidden)};
	default:
		return (struct distribution){0, 0.1f};
	}
}

static void generate(uint64_t stream, size_t at, size_t n, struct distribution dist, float *out)
{
	float step = (float)((double)dist.std / BELL_STD);

	for (size_t i = 0; i < n; i++) {
		uint64_t bits = mix(stream + (at + i + 1) * 0x9e3779b97f4a7c15u);

		out[i] = dist.mean + (float)bell(bits) * step;
	}
}

static size_t encode(enum mts_dtype dtype, const float *in, size_t n, void *out)
{
	uint16_t *half = out;

	if (dtype == MTS_F32)
		memcpy(out, in, n * sizeof(in[0]));
	for (size_t i = 0; i < n && dtype != MTS_F32; i++)
		half[i] = dtype == MTS_BF16 ? mts_f32_to_bf16(in[i]) : mts_f32_to_f16(in[i]);
	return n * mts_dtype_bytes(dtype);
}

static int write_tensor(FILE *f, const struct mts_model_config *c, enum mts_dtype dtype,
			uint64_t seed, unsigned index)
{
	float value[4096];
	unsigned char raw[sizeof(value)];
	uint64_t stream = mix(seed + mix(index + 1));
	struct mts_weight_spec s;
	size_t total, n;

	mts_weight_describe(c, index, &s);
	total = mts_weight_elements(&s);
	for (size_t at = 0; at < total; at += n) {
		n = total - at < 4096 ? total - at : 4096;
		generate(stream, at, n, distribution_of(c, s.role), value);
		if (fwrite(raw, 1, encode(dtype, value, n, raw), f) < n * mts_dtype_bytes(dtype))
			return -errno;
	}
	return 0;
}

static json_t *tensor_entry(const struct mts_weight_spec *s, enum mts_dtype dtype, uint64_t *at)
{
	static const char *const names[] = {"F32", "BF16", "F16"};
	json_int_t begin = (json_int_t)*at;
	json_t *shape =
		s->rank == 2 ? json_pack("[I, I]", (json_int_t)s->shape[0], (json_int_t)s->shape[1])
			     : json_pack("[I]", (json_int_t)s->shape[0]);

	*at += mts_weight_elements(s) * mts_dtype_bytes(dtype);
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", names[dtype], "shape", shape,
			 "data_offsets", begin, (json_int_t)*at);
}

/* The header as text, padded with spaces so that the data starts at a multiple of 8; NULL: no
 * memory. */
static char *header_text(const struct mts_model_config *c, enum mts_dtype dtype)
{
	json_t *header = json_object();
	int rc = json_object_set_new(header, "__metadata__", mts_config_format(c));
	struct mts_weight_spec s;
	char *text = NULL, *padded = NULL;
	uint64_t at = 0;

	for (unsigned i = 0; i < mts_weight_count(c) && rc == 0; i++) {
		mts_weight_describe(c, i, &s);
		rc = json_object_set_new(header, s.name, tensor_entry(&s, dtype, &at));
	}
	if (rc == 0)
		text = json_dumps(header, JSON_COMPACT);
	if (text && asprintf(&padded, "%-*s", (int)((strlen(text) + 7) / 8 * 8), text) < 0)
		padded = NULL;
	free(text);
	json_decref(header);
	return padded;
}

static int write_header(FILE *f, const struct mts_model_config *c, enum mts_dtype dtype)
{
	char *text = header_text(c, dtype);
	uint64_t n = text ? strlen(text) : 0;
	int rc = text ? 0 : -ENOMEM;

	if (text && (fwrite(&n, 1, sizeof(n), f) < sizeof(n) || fwrite(text, 1, n, f) < n))
		rc = -errno;
	free(text);
	return rc;
}

static int write_model(FILE *f, const struct mts_model_config *c, enum mts_dtype dtype,
		       uint64_t seed)
{
	int rc = write_header(f, c, dtype);

	for (unsigned i = 0; i < mts_weight_count(c) && rc == 0; i++)
		rc = write_tensor(f, c, dtype, seed, i);
	if (rc == 0 && (fflush(f) || fsync(fileno(f))))
		rc = -errno;
	return rc;
}

/* Writes `temporary` and moves it to `path`; the temporary is gone in any case. */
static int write_and_rename(const char *temporary, const char *path,
			    const struct mts_model_config *c, enum mts_dtype dtype, uint64_t seed)
{
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	FILE *f;
	int rc;

	if (fd < 0)
		return -errno;
	f = fdopen(fd, "wb");
	rc = f ? write_model(f, c, dtype, seed) : -errno;
	if (f ? fclose(f) : close(fd))
		rc = rc ? rc : -errno;
	if (rc == 0 && rename(temporary, path))
		rc = -errno;
	if (rc)
		unlink(temporary);
	return rc;
}

static int check_arguments(const struct mts_model_config *c, const char *path,
			   struct mts_error *err)
{
	struct stat sb;

	/* renaming over a device or a pipe would replace it by a file */
	if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode)) {
		mts_error_set(err, "%.120s: not a regular file", path);
		return -EINVAL;
	}
	if (c->items < 1 || c->items > INT32_MAX || c->actions < 1 || c->head_hidden < 1) {
		mts_error_set(err, "items is %u, actions %u, head %u: expected 1 to %d", c->items,
			      c->actions, c->head_hidden, INT32_MAX);
		return -EINVAL;
	}
	return mts_model_config_check(c, err);
}

int mts_model_generate(const struct mts_model_config *c, enum mts_dtype weights, uint64_t seed,
		       const char *path, struct mts_error *err)
{
	int rc = check_arguments(c, path, err);
	char *temporary;

	if (rc)
		return rc;
	if (asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0) {
		mts_error_set(err, "out of memory");
		return -ENOMEM;
	}
	rc = write_and_rename(temporary, path, c, weights, seed);
	if (rc)
		mts_error_set(err, "%.120s: cannot write: %s", path, strerror(-rc));
	free(temporary);
	return rc;
}
