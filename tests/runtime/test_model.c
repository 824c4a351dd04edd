/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model files: each way of being wrong is refused by name; the visible window against its
 * definition; generated files the same to the byte; a disk that fills up leaves nothing behind.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "model/dtype.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "model/spec.h"
#include "st_build.h"

/* Linked with --wrap: allocation number `fail` from here on answers NULL; 0: none does. */
static unsigned allocations, fail;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);

void *__wrap_malloc(size_t n)
{
	return ++allocations == fail ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t each)
{
	return ++allocations == fail ? NULL : __real_calloc(n, each);
}

static unsigned char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	unsigned char *image;
	struct stat sb;

	ck_assert_msg(f && fstat(fileno(f), &sb) == 0, "%s: %s", path, strerror(errno));
	*len = (size_t)sb.st_size;
	image = malloc(*len);
	ck_assert_uint_eq(fread(image, 1, *len, f), *len);
	fclose(f);
	return image;
}

static json_t *header_of(const unsigned char *image, size_t *data_at)
{
	uint64_t n;

	memcpy(&n, image, 8);
	*data_at = 8 + n;
	return json_loadb((const char *)image + 8, n, 0, NULL);
}

/* The slide model with its header edited. */
static unsigned char *edited(json_t *(*edit)(json_t *header, const void *arg), const void *arg,
			     size_t *len)
{
	size_t from_len, data_at;
	unsigned char *from = slurp(GOLDEN "/hstu-slide.model.safetensors", &from_len);
	json_t *header = edit(header_of(from, &data_at), arg);
	char *text = json_dumps(header, 0);
	unsigned char *image = st_build(text, from_len - data_at, len);

	memcpy(image + *len - (from_len - data_at), from + data_at, from_len - data_at);
	json_decref(header);
	free(text);
	free(from);
	return image;
}

struct change {
	const char *object; /* NULL: the header itself */
	const char *key;
	const char *value; /* JSON; NULL deletes */
	const char *message;
};

static json_t *apply(json_t *header, const void *arg)
{
	const struct change *c = arg;
	json_t *object = c->object ? json_object_get(header, c->object) : header;

	ck_assert_ptr_nonnull(object);
	if (c->value)
		json_object_set_new(object, c->key, json_loads(c->value, JSON_DECODE_ANY, NULL));
	else
		json_object_del(object, c->key);
	return header;
}

#define META          "__metadata__"
#define WHOLE(lo, hi) "expected a whole number from " lo " to " hi

static const struct change changes[] = {
	{META, "format", NULL, "metadata key \"format\" is missing"},
	{NULL, META, NULL, "metadata key \"format\" is missing"},
	{META, "format", "\"mtserve-hstu-2\"",
	 "metadata key \"format\" is \"mtserve-hstu-2\", expected \"mtserve-hstu-1\""},
	{META, "layers", NULL, "metadata key \"layers\" is missing"},
	{META, "layers", "\"0\"", "metadata key \"layers\" is \"0\", " WHOLE("1", "1024")},
	{META, "layers", "\"2 \"", "metadata key \"layers\" is \"2 \", " WHOLE("1", "1024")},
	{META, "layers", "\"-2\"", "metadata key \"layers\" is \"-2\", " WHOLE("1", "1024")},
	{META, "layers", "\"\"", "metadata key \"layers\" is \"\", " WHOLE("1", "1024")},
	{META, "layers", "\"18446744073709551618\"",
	 "metadata key \"layers\" is \"18446744073709551618\", " WHOLE("1", "1024")},
	{META, "layers", "\"3\"", "tensor \"layer.2.in_norm.weight\" is missing"},
	{META, "layers", "\"1\"", "tensor \"layer.1.in_norm.bias\" is not part of mtserve-hstu-1"},
	{META, "d_model", "\"33\"",
	 "tensor \"item_embedding\": shape is [500, 32], expected [500, 33]"},
	{META, "heads", "\"3\"",
	 "tensor \"layer.0.uvqk.weight\": shape is [32, 128], expected [32, 192]"},
	{META, "d_qk", "\"2000\"", "metadata key \"d_qk\" is \"2000\", " WHOLE("1", "1024")},
	{META, "d_v", "\"12\"",
	 "tensor \"layer.0.uvqk.weight\": shape is [32, 128], expected [32, 112]"},
	{META, "uvqk_act", "\"relu\"",
	 "metadata key \"uvqk_act\" is \"relu\", expected \"all\" or \"u\""},
	{META, "concat_ux", "\"2\"", "metadata key \"concat_ux\" is \"2\", " WHOLE("0", "1")},
	{META, "concat_ux", "\"1\"",
	 "tensor \"layer.0.out.weight\": shape is [32, 32], expected [96, 32]"},
	{META, "attn_scale_len", "\"0\"",
	 "metadata key \"attn_scale_len\" is \"0\", expected a number above 0"},
	{META, "attn_scale_len", "\"nan\"",
	 "metadata key \"attn_scale_len\" is \"nan\", expected a number above 0"},
	{META, "norm_eps", "\"1e-60\"",
	 "metadata key \"norm_eps\" is \"1e-60\", expected a number above 0"},
	{META, "norm_eps", "\"1e999\"",
	 "metadata key \"norm_eps\" is \"1e999\", expected a number above 0"},
	{META, "norm_eps", "\"1e-6x\"",
	 "metadata key \"norm_eps\" is \"1e-6x\", expected a number above 0"},
	{META, "max_attn_len", NULL, "metadata key \"max_attn_len\" is missing"},
	{META, "max_positions", "\"255\"",
	 "tensor \"position_embedding\": shape is [256, 32], expected [255, 32]"},
	{META, "tasks", "\"3\"", "tensor \"head.1.weight\": shape is [32, 2], expected [32, 3]"},
	{META, "max_history", "\"0\"",
	 "metadata key \"max_history\" is \"0\", " WHOLE("1", "16777216")},
	{META, "history_slide", "\"17\"",
	 "history_slide is 17, expected a divisor of max_history, which is 48"},
	{META, "history_slide", "\"96\"",
	 "history_slide is 96, expected a divisor of max_history, which is 48"},
	{META, "relative_bias", "\"1\"",
	 "metadata key \"relative_bias\" is not part of mtserve-hstu-1"},
	{META, "tasks", "2", "metadata key \"tasks\": expected a string"},
	{NULL, "time_embedding", "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
	 "tensor \"time_embedding\" is not part of mtserve-hstu-1"},
	{"layer.1.uvqk.weight", "shape", "[128,32]",
	 "tensor \"layer.1.uvqk.weight\": shape is [128, 32], expected [32, 128]"},
	{"layer.1.uvqk.weight", "shape", "[4096]",
	 "tensor \"layer.1.uvqk.weight\": shape is [4096], expected [32, 128]"},
	{"head.norm.bias", "shape", "[32,1]",
	 "tensor \"head.norm.bias\": shape is [32, 1], expected [32]"},
	{"head.norm.bias", "dtype", "\"I32\"",
	 "tensor \"head.norm.bias\": dtype is I32, expected F32, BF16 or F16"},
	{"item_embedding", "shape", "[16000]",
	 "tensor \"item_embedding\": expected two dimensions"},
	{"action_embedding", "data_offsets", "[64000,64000]",
	 "tensor \"action_embedding\": data_offsets span 0 bytes, expected 1024"},
};

START_TEST(refused)
{
	const struct change *c = &changes[_i];
	struct mts_model *m;
	struct mts_error err;
	size_t len;
	unsigned char *image = edited(apply, c, &len);

	ck_assert_int_eq(mts_model_parse(image, len, &m, &err), -EINVAL);
	ck_assert_msg(strncmp(err.text, c->message, strlen(c->message)) == 0,
		      "got \"%s\", expected \"%s\"", err.text, c->message);
	free(image);
}
END_TEST

START_TEST(missing_tensor)
{
	struct change add = {NULL, "head.0.wait", NULL, NULL};
	struct change del = {NULL, "head.0.weight", NULL, NULL};
	struct mts_model *m;
	struct mts_error err;
	size_t len, from_len, at;
	unsigned char *from = slurp(GOLDEN "/hstu-slide.model.safetensors", &from_len);
	json_t *header = header_of(from, &at);
	char *text = json_dumps(json_object_get(header, del.key), 0);
	char *both;
	unsigned char *image;

	add.value = text;
	header = apply(apply(header, &add), &del);
	both = json_dumps(header, 0);
	image = st_build(both, from_len - at, &len);
	ck_assert_int_eq(mts_model_parse(image, len, &m, &err), -EINVAL);
	ck_assert_str_eq(err.text, "tensor \"head.0.weight\" is missing");
	json_decref(header);
	free(text);
	free(both);
	free(image);
	free(from);
}
END_TEST

START_TEST(not_finite)
{
	static const uint32_t bad[] = {0x7fc00000, 0x7f800000, 0xff800000, 0xff800001};
	struct mts_model *m;
	struct mts_error err;
	size_t len, at;
	unsigned char *image = slurp(GOLDEN "/hstu-slide.model.safetensors", &len);
	json_t *header = header_of(image, &at);
	json_t *offsets =
		json_object_get(json_object_get(header, "layer.1.out_norm.bias"), "data_offsets");

	at += (size_t)json_integer_value(json_array_get(offsets, 0)) + 4 * 31;
	for (size_t i = 0; i < 4; i++) {
		memcpy(image + at, &bad[i], 4);
		ck_assert_int_eq(mts_model_parse(image, len, &m, &err), -EINVAL);
		ck_assert_str_eq(err.text, "tensor \"layer.1.out_norm.bias\": element 31 is NaN or "
					   "infinite, expected finite weights");
	}
	json_decref(header);
	free(image);
}
END_TEST

START_TEST(not_finite_two_bytes)
{
	static const struct {
		enum mts_dtype dtype;
		uint16_t bad;
	} types[] = {{MTS_BF16, 0xff80}, {MTS_F16, 0x7c01}};
	char path[] = "/tmp/mts_model_XXXXXX";
	struct mts_preset_options o = {.items = 10, .max_history = 8};
	struct mts_model_config c;
	struct mts_model *m;
	struct mts_error err;

	close(mkstemp(path));
	ck_assert_int_eq(mts_preset_config("tiny", &o, &c, &err), 0);
	for (size_t i = 0; i < 2; i++) {
		unsigned char *image;
		size_t len;

		ck_assert_int_eq(mts_model_generate(&c, types[i].dtype, 1, path, &err), 0);
		image = slurp(path, &len);
		ck_assert_int_eq(mts_model_parse(image, len, &m, &err), 0);
		ck_assert_int_eq(mts_model_dtype(m, MTS_W_HEAD1_BIAS, 0), types[i].dtype);
		mts_model_close(m);
		memcpy(image + len - 2, &types[i].bad, 2);
		ck_assert_int_eq(mts_model_parse(image, len, &m, &err), -EINVAL);
		ck_assert_str_eq(err.text, "tensor \"head.1.bias\": element 3 is NaN or infinite, "
					   "expected finite weights");
		free(image);
	}
	unlink(path);
}
END_TEST

START_TEST(golden_config)
{
	struct mts_model *m;
	struct mts_error err;
	const struct mts_model_config *c;

	ck_assert_msg(!mts_model_open(GOLDEN "/stu-small.model.safetensors", &m, &err), "%s",
		      err.text);
	c = mts_model_get_config(m);
	ck_assert_uint_eq(c->layers, 3);
	ck_assert_uint_eq(c->d, 48);
	ck_assert_uint_eq(c->dq, 16);
	ck_assert_uint_eq(c->dv, 24);
	ck_assert_uint_eq(c->act_all, 0);
	ck_assert_uint_eq(c->concat, 1);
	ck_assert_uint_eq(c->items, 500);
	ck_assert_uint_eq(c->actions, 8);
	ck_assert_uint_eq(c->head_hidden, 32);
	ck_assert(c->eps == 1e-6f);
	/* absent from the file: P and half of it */
	ck_assert_uint_eq(c->max_history, 256);
	ck_assert_uint_eq(c->slide, 128);
	ck_assert_uint_eq(mts_model_token_bytes(c, MTS_BF16), 3 * 2 * (16 + 24) * 2);
	mts_model_close(m);
}
END_TEST

/* The definition, by walking: the window starts at 0 and jumps S when it would exceed H. */
START_TEST(window)
{
	static const uint32_t shapes[][2] = {{48, 16}, {48, 48}, {7, 1}, {1, 1}, {6, 3}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct mts_model_config c = {.max_history = shapes[i][0], .slide = shapes[i][1]};
		uint64_t start = 0;

		for (uint64_t n = 0; n < 500; n++) {
			while (n - start > c.max_history)
				start += c.slide;
			ck_assert_uint_eq(mts_window_start(&c, n), start);
			ck_assert(n < c.max_history || n - start > c.max_history - c.slide);
		}
	}
}
END_TEST

START_TEST(window_of_a_very_long_life)
{
	struct mts_model_config c = {.max_history = 48, .slide = 16};

	ck_assert_uint_eq(mts_window_start(&c, UINT64_MAX), UINT64_MAX - 47);
}
END_TEST

static uint64_t hash_of(const char *path)
{
	struct mts_model *m;
	struct mts_error err;
	uint64_t hash[2];

	ck_assert_msg(!mts_model_open(path, &m, &err), "%s", err.text);
	mts_model_hash(m, hash);
	mts_model_close(m);
	return hash[0];
}

/* These bytes are a promise: a seed names a model. */
static const struct {
	const char *preset;
	enum mts_dtype dtype;
	uint64_t seed, hash;
} generated[] = {
	{"tiny", MTS_F32, 1, 0xb57998abf9626bda},     {"tiny", MTS_F32, 2, 0xa20d4ccdacd4fe60},
	{"tiny", MTS_BF16, 1, 0x2d5fc171ea6eddea},    {"tiny", MTS_F16, 1, 0x44982540fc89bfc3},
	{"dlrm-v3", MTS_BF16, 7, 0x7681221b764f046d},
};

START_TEST(same_bytes_for_a_seed)
{
	char path[] = "/tmp/mts_model_XXXXXX";
	struct mts_preset_options o = {.items = 1000};
	struct mts_model_config c;
	struct mts_error err;
	uint64_t hash;

	close(mkstemp(path));
	ck_assert_int_eq(mts_preset_config(generated[_i].preset, &o, &c, &err), 0);
	ck_assert_int_eq(
		mts_model_generate(&c, generated[_i].dtype, generated[_i].seed, path, &err), 0);
	hash = hash_of(path);
	unlink(path);
	ck_assert_msg(hash == generated[_i].hash, "hash %#" PRIx64, hash);
}
END_TEST

START_TEST(generated_configuration_comes_back)
{
	char path[] = "/tmp/mts_model_XXXXXX";
	struct mts_preset_options o = {.items = 20, .max_history = 96, .slide = 12};
	struct mts_model_config c;
	struct mts_model *m;
	struct mts_error err;

	close(mkstemp(path));
	for (const struct mts_preset *p = mts_presets; p->name; p++) {
		ck_assert_int_eq(mts_preset_config(p->name, &o, &c, &err), 0);
		if (c.d > 512)
			continue;
		ck_assert_uint_eq(c.positions, 97);
		ck_assert_uint_eq(c.slide, 12);
		c.eps = 1.1e-5f;
		c.scale_len = 352.3f;
		ck_assert_int_eq(mts_model_generate(&c, MTS_BF16, 3, path, &err), 0);
		ck_assert_msg(!mts_model_open(path, &m, &err), "%s", err.text);
		ck_assert_mem_eq(mts_model_get_config(m), &c, sizeof(c));
		mts_model_close(m);
	}
	unlink(path);
}
END_TEST

START_TEST(bad_presets)
{
	struct mts_preset_options odd = {.slide = 7}, one = {.max_history = 1}, none = {0};
	struct mts_model_config c;
	struct mts_error err;

	ck_assert_int_eq(mts_preset_config("huge", &none, &c, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "preset \"huge\" is not known"));
	ck_assert_int_eq(mts_preset_config("tiny", &odd, &c, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "history_slide is 7"));
	ck_assert_int_eq(mts_preset_config("tiny", &one, &c, &err), -EINVAL);
}
END_TEST

static int files_in(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

START_TEST(full_disk)
{
	char dir[] = "/tmp/mts_model_XXXXXX";
	char path[64];
	struct mts_preset_options o = {.items = 100};
	struct rlimit limit = {300000, RLIM_INFINITY};
	struct mts_model_config c;
	struct mts_error err;
	int rc;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/m", dir);
	ck_assert_int_eq(mts_preset_config("tiny", &o, &c, &err), 0);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	rc = mts_model_generate(&c, MTS_F32, 1, path, &err);
	ck_assert_int_eq(rc, -EFBIG);
	ck_assert_ptr_nonnull(strstr(err.text, "cannot write: "));
	ck_assert_int_eq(files_in(dir), 0);
	rmdir(dir);
}
END_TEST

START_TEST(never_over_a_device)
{
	struct mts_preset_options o = {.items = 100};
	struct mts_model_config c;
	struct mts_error err;

	ck_assert_int_eq(mts_preset_config("tiny", &o, &c, &err), 0);
	ck_assert_int_eq(mts_model_generate(&c, MTS_F32, 1, "/dev/null", &err), -EINVAL);
	ck_assert_str_eq(err.text, "/dev/null: not a regular file");
	ck_assert_int_eq(mts_model_generate(&c, MTS_F32, 1, "/nowhere/m", &err), -ENOENT);
}
END_TEST

/* Our own ones: the JSON parser of Debian 12 crashes when one of its own fails. */
START_TEST(every_allocation_of_reading)
{
	struct mts_model *m;
	struct mts_error err;
	size_t len;
	unsigned char *image = slurp(GOLDEN "/hstu-slide.model.safetensors", &len);
	unsigned at = 0;
	int rc;

	do {
		allocations = 0;
		fail = ++at;
		rc = mts_model_parse(image, len, &m, &err);
		fail = 0;
		ck_assert_msg(rc == 0 || rc == -ENOMEM, "allocation %u: %d %s", at, rc, err.text);
	} while (rc);
	printf("# %u allocations\n", at - 1);
	ck_assert_uint_ge(at, 5);
	mts_model_close(m);
	free(image);
}
END_TEST

START_TEST(every_allocation_of_writing)
{
	char dir[] = "/tmp/mts_model_XXXXXX";
	char path[64];
	struct mts_preset_options o = {.items = 10, .max_history = 8};
	struct mts_model_config c;
	struct mts_error err;
	unsigned at = 0;
	int rc;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/m", dir);
	ck_assert_int_eq(mts_preset_config("tiny", &o, &c, &err), 0);
	json_set_alloc_funcs(__wrap_malloc, free);
	do {
		allocations = 0;
		fail = ++at;
		rc = mts_model_generate(&c, MTS_F16, 1, path, &err);
		fail = 0;
		ck_assert_msg(rc == 0 || rc == -ENOMEM, "allocation %u: %d %s", at, rc, err.text);
		ck_assert_int_eq(files_in(dir), rc == 0);
	} while (rc);
	printf("# %u allocations\n", at - 1);
	ck_assert_uint_gt(at, 100);
	unlink(path);
	rmdir(dir);
}
END_TEST

/* Every two-byte number goes to float32 and back unchanged; ties and overflow against nearbyint. */
START_TEST(conversions)
{
	for (uint32_t u = 0; u <= 0xffff; u++) {
		float b = mts_bf16_to_f32((uint16_t)u), h = mts_f16_to_f32((uint16_t)u);

		ck_assert(isnan(b) || mts_f32_to_bf16(b) == u);
		ck_assert(isnan(h) || mts_f32_to_f16(h) == u);
		ck_assert(isnan(b) == isnan(mts_bf16_to_f32(mts_f32_to_bf16(b))));
		ck_assert(isnan(h) == isnan(mts_f16_to_f32(mts_f32_to_f16(h))));
	}
	ck_assert_uint_eq(mts_f32_to_f16(65520.0f), 0x7c00);
	ck_assert_uint_eq(mts_f32_to_f16(65519.9f), 0x7bff);
	ck_assert_uint_eq(mts_f32_to_f16(0x1p-25f), 0);
	ck_assert_uint_eq(mts_f32_to_f16(0x1.8p-25f), 1);
	ck_assert_uint_eq(mts_f32_to_f16(-0x1.8p-24f), 0x8002);
	ck_assert_uint_eq(mts_f32_to_bf16(1 + 0x1p-8f), 0x3f80);
	ck_assert_uint_eq(mts_f32_to_bf16(1 + 0x3p-8f), 0x3f82);
}
END_TEST

START_TEST(half_rounds_to_nearest_even)
{
	unsigned seed = 7;

	printf("# seed %u\n", seed);
	for (int i = 0; i < 200000; i++) {
		double x = ldexp((double)rand_r(&seed) / RAND_MAX + 1, rand_r(&seed) % 44 - 28);
		float f = (float)x;
		int exponent;
		double step, near;

		frexp((double)f, &exponent);
		step = ldexp(1, (exponent - 1 < -14 ? -14 : exponent - 1) - 10);
		near = nearbyint((double)f / step) * step;
		ck_assert((double)mts_f16_to_f32(mts_f32_to_f16(f)) ==
			  (near >= 65520 ? (double)INFINITY : near));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model");
	TCase *tc = tcase_create("files");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, refused, 0, sizeof(changes) / sizeof(changes[0]));
	tcase_add_test(tc, missing_tensor);
	tcase_add_test(tc, not_finite);
	tcase_add_test(tc, not_finite_two_bytes);
	tcase_add_test(tc, golden_config);
	tcase_add_test(tc, window);
	tcase_add_test(tc, window_of_a_very_long_life);
	tcase_add_loop_test(tc, same_bytes_for_a_seed, 0, sizeof(generated) / sizeof(generated[0]));
	tcase_add_test(tc, generated_configuration_comes_back);
	tcase_add_test(tc, bad_presets);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, never_over_a_device);
	tcase_add_test(tc, every_allocation_of_reading);
	tcase_add_test(tc, every_allocation_of_writing);
	tcase_add_test(tc, conversions);
	tcase_add_test(tc, half_rounds_to_nearest_even);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
