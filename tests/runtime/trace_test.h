/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the trace tests share: a folder of their own to write in, files with given content, a runner
 * that speaks TAP.
 */
#ifndef TRACE_TEST_H
#define TRACE_TEST_H

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char test_dir[64];
static char test_path_text[64][128];

/* "NAME in the test's folder"; the text lives for 63 more calls. */
__attribute__((unused)) static const char *test_path(const char *name)
{
	static int turn;
	char *text = test_path_text[turn++ % 64];

	snprintf(text, sizeof(test_path_text[0]), "%s/%s", test_dir, name);
	return text;
}

__attribute__((unused)) static const char *test_file_bytes(const char *name, const void *bytes,
							    size_t n)
{
	const char *path = test_path(name);
	FILE *f;

	/* A file written anew, not over: ext4 flushes the latter to disk at once. */
	unlink(path);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

__attribute__((unused)) static const char *test_file(const char *name, const char *text)
{
	return test_file_bytes(name, text, strlen(text));
}

/* The whole file as text; the caller frees it. */
__attribute__((unused)) static char *test_read(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t room = 0;

	ck_assert_ptr_nonnull(f);
	if (getdelim(&text, &room, '\0', f) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(f);
	return text;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int test_main(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	strcpy(test_dir, "/tmp/mtserve-test-XXXXXX");
	if (!mkdtemp(test_dir))
		return EXIT_FAILURE;
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	nftw(test_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
