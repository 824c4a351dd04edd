/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The .safetensors reader against hostile files: each refusal names what is wrong; whatever else a
 * mangled header says, nothing is read outside of the buffer.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "model/safetensors.h"
#include "st_build.h"

#define T(name, dtype, shape, offsets)                                                             \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

START_TEST(good)
{
	const char *header =
		"{\"__metadata__\":{\"k\":\"v\"}," T("b", "F32", "[2,3]", "[8,32]") "," T(
			"a", "I64", "[1]", "[0,8]") "," T("c", "BF16", "[0]", "[32,32]") "}  ";
	static const char *const known[] = {"k", NULL}, *const none[] = {NULL};
	struct mts_safetensors *st;
	struct mts_error err;
	size_t len;
	unsigned char *image = st_build(header, 32, &len);
	const struct mts_st_tensor *t;

	ck_assert_msg(mts_safetensors_parse(image, len, &st, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(mts_safetensors_count(st), 3);
	ck_assert_str_eq(mts_safetensors_at(st, 0)->name, "a");
	t = mts_safetensors_find(st, "b");
	ck_assert_ptr_nonnull(t);
	ck_assert_str_eq(t->dtype, "F32");
	ck_assert_uint_eq(t->rank, 2);
	ck_assert_uint_eq(t->shape[1], 3);
	ck_assert_uint_eq(t->elements, 6);
	ck_assert_ptr_eq(t->data, image + len - 24);
	ck_assert_ptr_null(mts_safetensors_find(st, "d"));
	ck_assert_str_eq(mts_safetensors_meta(st, "k"), "v");
	ck_assert_ptr_null(mts_safetensors_meta(st, "x"));
	ck_assert_ptr_null(mts_safetensors_meta_unknown(st, known));
	ck_assert_str_eq(mts_safetensors_meta_unknown(st, none), "k");
	mts_safetensors_close(st);
	free(image);
}
END_TEST

static const struct {
	const char *header;
	size_t data;
	const char *message;
} hostile[] = {
	{"", 0, "header does not start with '{': not a safetensors file"},
	{"[1]", 0, "header does not start with '{': not a safetensors file"},
	{"{\"a\":", 0, "header is not JSON: "},
	{"{\"a\":{}} x", 0, "header is not JSON: "},
	{"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[0,4]") "}", 4,
	 "header is not JSON: duplicate object key"},
	{"{\"a\\u0000b\":{}}", 0, "header is not JSON: "},
	{"{\"a\":7}", 0, "tensor \"a\": expected an object"},
	{"{\"__metadata__\":[]}", 0, "__metadata__: expected an object of strings"},
	{"{\"__metadata__\":{\"k\":1}}", 0, "metadata key \"k\": expected a string"},
	{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
	 "tensor \"a\": dtype is \"not a string\", expected a safetensors type"},
	{"{" T("a", "F33", "[1]", "[0,4]") "}", 4,
	 "tensor \"a\": dtype is \"F33\", expected a safetensors type"},
	{"{" T("a", "F32", "7", "[0,4]") "}", 4,
	 "tensor \"a\": shape is no array of at most 8 numbers"},
	{"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4,
	 "tensor \"a\": shape is no array of at most 8 numbers"},
	{"{" T("a", "F32", "[1,-1]", "[0,4]") "}", 4,
	 "tensor \"a\": shape[1] is not a whole number >= 0"},
	{"{" T("a", "F32", "[1.0]", "[0,4]") "}", 4,
	 "tensor \"a\": shape[0] is not a whole number >= 0"},
	{"{" T("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
	 "tensor \"a\": shape overflows 64 bits"},
	{"{" T("a", "F32", "[4611686018427387904]", "[0,0]") "}", 0,
	 "tensor \"a\": shape overflows 64 bits"},
	{"{" T("a", "F32", "[99999999999999999999]", "[0,4]") "}", 4, "header is not JSON: "},
	{"{" T("a", "F32", "[1]", "[0]") "}", 4,
	 "tensor \"a\": data_offsets is not [begin, end] with 0 <= begin <= end"},
	{"{" T("a", "F32", "[1]", "[4,0]") "}", 4,
	 "tensor \"a\": data_offsets is not [begin, end] with 0 <= begin <= end"},
	{"{" T("a", "F32", "[1]", "[-4,0]") "}", 4,
	 "tensor \"a\": data_offsets is not [begin, end] with 0 <= begin <= end"},
	{"{" T("a", "F32", "[1]", "[0,\"4\"]") "}", 4,
	 "tensor \"a\": data_offsets is not [begin, end] with 0 <= begin <= end"},
	{"{" T("a", "F32", "[2]", "[0,8]") "}", 7,
	 "tensor \"a\": data_offsets end at 8, outside of the 7 bytes of data in the file"},
	{"{" T("a", "F32", "[2]", "[0,4]") "}", 4,
	 "tensor \"a\": data_offsets span 4 bytes, expected 8 for its shape and dtype"},
	{"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12,
	 "tensor \"b\": its data overlaps that of tensor \"a\""},
	{"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 12,
	 "tensor \"b\": 4 bytes of data before it belong to no tensor"},
	{"{" T("a", "F32", "[1]", "[0,4]") "}", 9, "5 bytes at the end belong to no tensor"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"strides\":[1]}}", 4,
	 "tensor \"a\": unknown key \"strides\", expected dtype, shape and data_offsets"},
};

START_TEST(refused)
{
	struct mts_safetensors *st;
	struct mts_error err;
	size_t len;
	unsigned char *image = st_build(hostile[_i].header, hostile[_i].data, &len);

	ck_assert_int_eq(mts_safetensors_parse(image, len, &st, &err), -EINVAL);
	ck_assert_msg(strncmp(err.text, hostile[_i].message, strlen(hostile[_i].message)) == 0,
		      "got \"%s\", expected \"%s\"", err.text, hostile[_i].message);
	free(image);
}
END_TEST

START_TEST(every_truncation)
{
	const char *header = "{" T("a", "F32", "[4]", "[0,16]") "}";
	struct mts_safetensors *st;
	size_t len;
	unsigned char *image = st_build(header, 16, &len);

	for (size_t cut = 0; cut < len; cut++) {
		unsigned char *part = malloc(cut ? cut : 1);
		struct mts_error err = {.text = ""};

		memcpy(part, image, cut);
		ck_assert_int_eq(mts_safetensors_parse(part, cut, &st, &err), -EINVAL);
		ck_assert_uint_gt(strlen(err.text), 0);
		free(part);
	}
	free(image);
}
END_TEST

START_TEST(header_lengths)
{
	static const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, MTS_ST_HEADER_MAX + 1ull,
					   1ull << 63};
	struct mts_safetensors *st;
	struct mts_error err;
	size_t len;
	unsigned char *image = st_build("{}", 0, &len);

	ck_assert_int_eq(mts_safetensors_parse(image, len, &st, &err), 0);
	mts_safetensors_close(st);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		memcpy(image, &lengths[i], 8);
		ck_assert_int_eq(mts_safetensors_parse(image, len, &st, &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "expected at most 1048576"));
	}
	free(image);
}
END_TEST

/* Random damage to a good file: accepted or refused, never outside of the buffer (ASan watches). */
START_TEST(random_damage)
{
	const char *header = "{\"__metadata__\":{\"k\":\"v\"}," T(
		"a", "F32", "[2,3]", "[8,32]") "," T("b", "I64", "[1]", "[0,8]") "}";
	unsigned seed = 20240u;
	unsigned char sum = 0;
	size_t len;
	unsigned char *sound = st_build(header, 32, &len);
	unsigned char *bad = malloc(len);

	printf("# seed %u\n", seed);
	for (int round = 0; round < 20000; round++) {
		struct mts_safetensors *st;
		struct mts_error err;

		memcpy(bad, sound, len);
		for (int hits = rand_r(&seed) % 4 + 1; hits > 0; hits--)
			bad[8 + (size_t)rand_r(&seed) % (len - 8)] = (unsigned char)rand_r(&seed);
		if (mts_safetensors_parse(bad, len, &st, &err))
			continue;
		for (size_t i = 0; i < mts_safetensors_count(st); i++) {
			const struct mts_st_tensor *t = mts_safetensors_at(st, i);
			const unsigned char *p = t->data;

			ck_assert(t->bytes == 0 || (p >= bad && p + t->bytes <= bad + len));
			for (uint64_t k = 0; k < t->bytes; k++)
				sum ^= p[k];
		}
		mts_safetensors_close(st);
	}
	printf("# bytes read %d\n", sum);
	free(sound);
	free(bad);
}
END_TEST

START_TEST(files)
{
	char path[] = "/tmp/mts_st_XXXXXX";
	struct mts_safetensors *st;
	struct mts_error err;
	size_t len;
	unsigned char *image = st_build("{" T("a", "F32", "[1]", "[0,4]") "}", 4, &len);
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(mts_safetensors_open(path, &st, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, ": truncated: 0 bytes"));
	ck_assert_int_eq(write(fd, image, len), (int)len);
	ck_assert_int_eq(mts_safetensors_open(path, &st, &err), 0);
	mts_safetensors_close(st);
	unlink(path);
	ck_assert_int_eq(mts_safetensors_open(path, &st, &err), -ENOENT);
	ck_assert_ptr_eq(strstr(err.text, path), err.text);
	ck_assert_int_eq(mts_safetensors_open("/tmp", &st, &err), -EINVAL);
	ck_assert_str_eq(err.text, "/tmp: not a regular file");
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(mts_safetensors_open(path, &st, &err), -EINVAL);
	unlink(path);
	close(fd);
	free(image);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("safetensors");
	TCase *tc = tcase_create("reader");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, good);
	tcase_add_loop_test(tc, refused, 0, sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(tc, every_truncation);
	tcase_add_test(tc, header_lengths);
	tcase_add_test(tc, random_damage);
	tcase_add_test(tc, files);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
