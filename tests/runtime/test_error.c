/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error messages: cut to fit, safe to print, safe to build upon themselves.
 */
#include "error.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(formats)
{
	struct mts_error err;

	errno = EIO;
	mts_error_set(&err, "%s:%d: bad", "file", 7);
	ck_assert_str_eq(err.text, "file:7: bad");
	ck_assert_int_eq(errno, EIO);
}
END_TEST

START_TEST(nobody_listens)
{
	mts_error_set(NULL, "%s", "ignored");
}
END_TEST

START_TEST(cut_to_fit)
{
	char big[1000];
	struct mts_error err;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	mts_error_set(&err, "%s", big);
	ck_assert_uint_eq(strlen(err.text), sizeof(err.text) - 1);
}
END_TEST

START_TEST(prefix_of_itself)
{
	struct mts_error err;

	mts_error_set(&err, "no such tensor");
	mts_error_set(&err, "model.safetensors: %s", err.text);
	ck_assert_str_eq(err.text, "model.safetensors: no such tensor");
}
END_TEST

START_TEST(no_control_characters)
{
	struct mts_error err;

	mts_error_set(&err, "field \"%s\"", "\033[2Ja\nb\177");
	ck_assert_str_eq(err.text, "field \"?[2Ja?b?\"");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("error");
	TCase *tc = tcase_create("text");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, formats);
	tcase_add_test(tc, nobody_listens);
	tcase_add_test(tc, cut_to_fit);
	tcase_add_test(tc, prefix_of_itself);
	tcase_add_test(tc, no_control_characters);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
