/* SPDX-License-Identifier: Apache-2.0 */
/* Streamed copies: every alignment and length lands whole, and nothing beside it is touched. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "memory/stream_copy.h"

#define ROOM (1u << 17)

static unsigned char from[ROOM], to[ROOM];

static void check_copy(size_t dst, size_t src, size_t bytes)
{
	memset(to, 0xa5, sizeof(to));
	mts_stream_copy(to + dst, from + src, bytes);
	if (memcmp(to + dst, from + src, bytes))
		ck_abort_msg("%zu bytes from %zu to %zu: other bytes arrived", bytes, src, dst);
	for (size_t i = 0; i < ROOM; i++)
		if ((i < dst || i >= dst + bytes) && to[i] != 0xa5)
			ck_abort_msg("%zu bytes from %zu to %zu: byte %zu was touched", bytes, src,
				     dst, i);
}

START_TEST(lengths_and_alignments)
{
	static const size_t lengths[] = { 0, 1, 63, 64, 4095, 4096, 4097, 4159, 4160, 9000, 65536 };

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 131 >> 3);
	for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
		for (size_t dst = 0; dst < 80; dst += 7)
			for (size_t src = 0; src < 70; src += 23)
				check_copy(dst, src, lengths[l]);
}
END_TEST

START_TEST(random_copies)
{
	unsigned seed = 1;

	srand(seed);
	for (int i = 0; i < 300; i++) {
		size_t bytes = (size_t)rand() % 40000;

		check_copy((size_t)rand() % 20000, (size_t)rand() % 20000, bytes);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stream copy");
	TCase *c = tcase_create("stream copy");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, lengths_and_alignments);
	tcase_add_test(c, random_copies);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_set_tap(r, "-");
	srunner_run_all(r, CK_SILENT);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
