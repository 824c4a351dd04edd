/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena: each rung of the ladder, or a reason; absurd requests; containers that deny NUMA
 * calls.
 */
#include "memory/arena.h"

#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "error.h"
#include "memory/available.h"

#define MIB ((size_t)1 << 20)

static int try(const char *provider, size_t bytes, int node, struct mts_arena **a,
	       struct mts_error *err)
{
	struct mts_arena_config c = { .provider = provider, .bytes = bytes, .node = node };

	err->text[0] = '\0';
	return mts_arena_open(&c, a, err);
}

static void use(struct mts_arena *a)
{
	for (size_t i = 0; i < a->bytes; i += 4096) {
		ck_assert_int_eq(a->base[i], 0);
		a->base[i] = 1;
	}
	ck_assert_uint_eq((uintptr_t)a->base % a->info.page_size, 0);
	ck_assert_uint_eq(a->bytes % a->info.page_size, 0);
	ck_assert_uint_eq(a->info.bytes, a->bytes);
}

START_TEST(auto_finds_a_rung)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try(NULL, 130 * MIB + 1, -1, &a, &err), 0);
	printf("# %s, %zu of %zu bytes huge, note \"%s\", refused \"%s\"\n", a->info.provider,
	       (size_t)a->info.huge_bytes, a->bytes, a->info.note, a->info.refused);
	ck_assert_uint_ge(a->bytes, 130 * MIB + 1);
	use(a);
	if (!a->info.note[0]) {
		ck_assert_uint_gt(a->info.pages_on_node + a->info.pages_elsewhere, 0);
		ck_assert_uint_le(a->info.huge_bytes, a->bytes);
	}
	if (strcmp(a->info.provider, "memfd"))
		ck_assert_ptr_nonnull(strstr(a->info.refused, "memfd"));
	mts_arena_close(a);
}
END_TEST

START_TEST(each_rung_or_a_reason)
{
	const struct mts_arena_ops *ops = mts_arena_ladder[_i];
	struct mts_arena *a;
	struct mts_error err;
	int ret = try(ops->name, 8 * MIB, -1, &a, &err);

	if (ret) {
		ck_assert_str_ne(ops->name, "plain");
		ck_assert_ptr_nonnull(strstr(err.text, ops->name));
		printf("# %s\n", err.text);
		return;
	}
	ck_assert_str_eq(a->info.provider, ops->name);
	ck_assert_str_eq(a->info.refused, "");
	use(a);
	if (!strcmp(ops->name, "plain"))
		ck_assert_uint_eq(a->info.huge_bytes, 0);
	mts_arena_close(a);
}
END_TEST

START_TEST(unknown_providers)
{
	static const char *const names[] = { "", "disk", "memfdx", "mem", ":x", "disk:/x" };
	struct mts_arena *a;
	struct mts_error err;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		ck_assert_int_eq(try(names[i], MIB, -1, &a, &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "expected auto, memfd"));
	}
	ck_assert_int_eq(try("plain:/tmp/x", MIB, -1, &a, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "takes no path"));
}
END_TEST

START_TEST(absurd_sizes)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try(NULL, 0, -1, &a, &err), -EINVAL);
	ck_assert_int_eq(try(NULL, SIZE_MAX, -1, &a, &err), -EINVAL);
	ck_assert_int_eq(try(NULL, SIZE_MAX / 2, -1, &a, &err), -ENOMEM);
	ck_assert_int_eq(try("plain", (size_t)1 << 50, -1, &a, &err), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(err.text, "can be had"));
}
END_TEST

START_TEST(more_than_there_is)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try("plain", mts_memory_available(), -1, &a, &err), -ENOMEM);
	ck_assert_int_eq(try("plain", mts_memory_available(), 0, &a, &err), -ENOMEM);
}
END_TEST

START_TEST(nodes_that_are_not_there)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try("plain", MIB, 5000, &a, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "node 5000"));
	ck_assert_int_eq(try("plain", MIB, -2, &a, &err), -EINVAL);
}
END_TEST

START_TEST(bound_to_a_node)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try("plain", 4 * MIB, 0, &a, &err), 0);
	ck_assert_int_eq(a->info.node, 0);
	if (!a->info.note[0]) {
		ck_assert_uint_eq(a->info.pages_on_node, 1024);
		ck_assert_uint_eq(a->info.pages_elsewhere, 0);
	}
	mts_arena_close(a);
}
END_TEST

/* As container runtimes do: the call answers EPERM (or ENOSYS). In this test's own process. */
static void deny(int error, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

		ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
		ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	}
}

static void opens_with_a_note(const char *words)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try("plain", 4 * MIB, -1, &a, &err), 0);
	printf("# %s\n", a->info.note);
	ck_assert_ptr_nonnull(strstr(a->info.note, words));
	use(a);
	mts_arena_close(a);
}

START_TEST(binding_denied)
{
	deny(EPERM, (int[]){ SYS_mbind, SYS_sched_setaffinity }, 2);
	opens_with_a_note("not bound");
}
END_TEST

START_TEST(looking_denied)
{
	deny(EPERM, (int[]){ SYS_move_pages }, 1);
	opens_with_a_note("not verified");
}
END_TEST

START_TEST(no_numa_at_all)
{
	deny(ENOSYS, (int[]){ SYS_mbind, SYS_move_pages, SYS_get_mempolicy, SYS_set_mempolicy }, 4);
	opens_with_a_note("not bound");
}
END_TEST

START_TEST(old_kernels_touch)
{
	/* every madvise fails as an unknown one would: populating falls back to touching */
	struct mts_arena *a;
	struct mts_error err;

	deny(EINVAL, (int[]){ SYS_madvise }, 1);
	ck_assert_int_eq(try("plain", 4 * MIB, -1, &a, &err), 0);
	use(a);
	mts_arena_close(a);
	ck_assert_int_eq(try("thp", 4 * MIB, -1, &a, &err) < 0, 1);
}
END_TEST

START_TEST(memory_refused_while_populating)
{
	struct mts_arena *a;
	struct mts_error err;

	deny(ENOMEM, (int[]){ SYS_madvise }, 1);
	ck_assert_int_eq(try("plain", 4 * MIB, -1, &a, &err), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(err.text, "populating"));
	ck_assert_int_eq(try(NULL, 4 * MIB, -1, &a, &err), -ENOMEM);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("arena");
	TCase *tc = tcase_create("arena");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, auto_finds_a_rung);
	tcase_add_loop_test(tc, each_rung_or_a_reason, 0, 6);
	tcase_add_test(tc, unknown_providers);
	tcase_add_test(tc, absurd_sizes);
	tcase_add_test(tc, more_than_there_is);
	tcase_add_test(tc, nodes_that_are_not_there);
	tcase_add_test(tc, bound_to_a_node);
	tcase_add_test(tc, binding_denied);
	tcase_add_test(tc, looking_denied);
	tcase_add_test(tc, no_numa_at_all);
	tcase_add_test(tc, old_kernels_touch);
	tcase_add_test(tc, memory_refused_while_populating);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
