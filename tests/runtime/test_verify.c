/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification through the cache: the golden users pass, whole and at every split, from device and
 * from host, to the bit; a single wrong number in what is expected is noticed; a file that does not
 * fit is refused by name.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/expect.h"
#include "cmd/verify.h"
#include "device_missing.h"
#include "error.h"
#include "model/safetensors.h"

static const char *const cases[] = {"stu-small", "hstu-small", "hstu-window", "hstu-slide",
				    "hstu-head256"};

static struct mts_verify *open_case(const char *name, enum mts_dtype kv, const char *expect)
{
	static char model[512], usual[512];
	struct mts_verify_options o = {.model = model,
				       .expect = expect ? expect : usual,
				       .device = "cpu",
				       .threads = 2,
				       .kv = kv};
	struct mts_verify *v;
	struct mts_error err;

	snprintf(model, sizeof(model), "%s/%s.model.safetensors", GOLDEN, name);
	snprintf(usual, sizeof(usual), "%s/%s.expect.safetensors", GOLDEN, name);
	ck_assert_msg(!mts_verify_open(&o, &v, &err), "%s", err.text);
	return v;
}

static void check_source(const struct mts_verify_user *u, int source, uint32_t splits)
{
	const struct mts_verify_error *e = &u->by[source];

	ck_assert_uint_eq(e->splits, splits);
	ck_assert_uint_eq(e->other_bits, 0);
	ck_assert_double_le(e->of_bound, 1);
}

START_TEST(golden)
{
	enum mts_dtype kv = _i % 2 ? MTS_BF16 : MTS_F32;
	struct mts_verify *v = open_case(cases[_i / 2], kv, NULL);
	struct mts_verify_user u;
	struct mts_error err;

	ck_assert_uint_eq(mts_verify_users(v), 4);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_msg(!mts_verify_run(v, i, &u, &err), "%s", err.text);
		printf("# %s %s user %u: scores %.1e, K %.1e, V %.1e, hidden %.1e\n", cases[_i / 2],
		       kv ? "bf16" : "f32", i, u.by[0].scores, u.by[0].k, u.by[0].v,
		       u.by[0].hidden);
		check_source(&u, MTS_FROM_NOTHING, 1);
		check_source(&u, MTS_FROM_DEVICE, u.visible + 1);
		check_source(&u, MTS_FROM_HOST, u.visible);
		ck_assert_double_gt(u.by[0].hidden, 0);
	}
	mts_verify_close(v);
}
END_TEST

/* A copy of an expectation file with 4 bytes changed, at element `at` of a tensor. */
static void spoil(const char *tensor, uint64_t at, uint32_t value, char *path)
{
	struct mts_safetensors *st;
	const struct mts_st_tensor *t;
	struct mts_error err;
	const void *bytes;
	size_t len, offset;
	int fd = mkstemp(path);

	ck_assert_int_eq(mts_safetensors_open(GOLDEN "/hstu-slide.expect.safetensors", &st, &err),
			 0);
	bytes = mts_safetensors_bytes(st, &len);
	ck_assert_int_eq(write(fd, bytes, len), (int)len);
	t = mts_safetensors_find(st, tensor);
	ck_assert_ptr_nonnull(t);
	offset = (size_t)((const char *)t->data - (const char *)bytes) + at * t->bytes_each;
	ck_assert_int_eq(pwrite(fd, &value, 4, (off_t)offset), 4);
	mts_safetensors_close(st);
	close(fd);
}

static const struct {
	const char *tensor;
	uint64_t at;
	int by_splits; /* noticed at splits too, not only in the whole */
} wrong[] = {
	{"user.2.scores", 31, 1},
	{"user.2.layer.1.k", 1279, 1},
	{"user.2.layer.0.v", 0, 1},
	{"user.2.hidden", 1700, 0},
};

START_TEST(one_wrong_number)
{
	char path[] = "/tmp/mts_verify_XXXXXX";
	struct mts_verify_user u;
	struct mts_verify *v;
	struct mts_error err;

	for (int nan = 0; nan < 2; nan++) {
		strcpy(path, "/tmp/mts_verify_XXXXXX");
		spoil(wrong[_i].tensor, wrong[_i].at, nan ? 0x7fc00000 : 0x40800000, path);
		v = open_case("hstu-slide", MTS_F32, path);
		unlink(path);
		ck_assert_int_eq(mts_verify_run(v, 1, &u, &err), 0);
		ck_assert_double_le(u.by[0].of_bound, 1);
		ck_assert_int_eq(mts_verify_run(v, 2, &u, &err), 0);
		ck_assert_double_gt(u.by[0].of_bound, 1);
		ck_assert_int_eq(u.by[MTS_FROM_DEVICE].of_bound > 1, wrong[_i].by_splits);
		ck_assert_int_eq(u.by[MTS_FROM_HOST].of_bound > 1, wrong[_i].by_splits);
		mts_verify_close(v);
	}
}
END_TEST

static void refuse(const char *model, const char *expect, const char *message)
{
	struct mts_verify_options o = {.model = model, .expect = expect, .device = "cpu"};
	struct mts_verify *v;
	struct mts_error err;

	ck_assert_int_lt(mts_verify_open(&o, &v, &err), 0);
	ck_assert_msg(strstr(err.text, message) != NULL, "\"%s\", expected \"%s\"", err.text,
		      message);
}

START_TEST(refused)
{
	const char *slide = GOLDEN "/hstu-slide.model.safetensors";
	char item[] = "/tmp/mts_verify_XXXXXX", action[] = "/tmp/mts_verify_XXXXXX";

	refuse(slide, GOLDEN "/hstu-window.expect.safetensors",
	       "tensor \"user.0.scores\": expected F32 with 9 rows of 2");
	refuse(slide, GOLDEN "/stu-small.expect.safetensors",
	       "tensor \"user.0.layer.0.v\": expected F32 with 37 rows of 32");
	refuse(slide, slide, "tensor \"user.0.items\" is missing");
	refuse(slide, "/nowhere", "/nowhere: No such file");
	spoil("user.1.items", 0, 500, item);
	refuse(slide, item, "tensor \"user.1.items\": element 0 is 500, expected 0 to 499");
	spoil("user.3.actions", 63, 8, action);
	refuse(slide, action, "tensor \"user.3.actions\": element 63 is 8, expected 0 to 7");
	unlink(item);
	unlink(action);
}
END_TEST

START_TEST(unknown_device)
{
	struct mts_verify_options o = {.model = GOLDEN "/hstu-slide.model.safetensors",
				       .expect = GOLDEN "/hstu-slide.expect.safetensors",
				       .device = "abacus"};
	struct mts_verify *v;
	struct mts_error err;

	ck_assert_int_eq(mts_verify_open(&o, &v, &err), -ENODEV);
	ck_assert_str_eq(err.text, "device \"abacus\" is not in this build");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("verify");
	TCase *tc = tcase_create("golden");
	SRunner *sr = srunner_create(s);
	int failed;

	if (device_missing("cpu"))
		return EXIT_SUCCESS;
	tcase_set_timeout(tc, 200);
	tcase_add_loop_test(tc, golden, 0, 2 * sizeof(cases) / sizeof(cases[0]));
	tcase_add_loop_test(tc, one_wrong_number, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, refused);
	tcase_add_test(tc, unknown_device);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
