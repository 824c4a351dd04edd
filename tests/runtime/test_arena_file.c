/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas that are files: made, opened again with what is in them, and every refusal.
 *
 * tmpfs is the file system that every machine has; hugetlbfs is tried where huge pages can be had.
 * The kernel module is played by tmpfs and the two functions below, which the linker puts before
 * the C library's (--wrap): its own tests run where it can be loaded.
 */
#include "memory/arena.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uapi/linux/mtserve.h>

#include "error.h"
#include "memory/proc.h"

#define MIB ((size_t)1 << 20)

/* ---- the module, played ---- */

static struct {
	int on;
	int error; /* of the ioctl */
	unsigned version, node, foreign;
	int foreign_left; /* calls until the references are gone; 0: they stay */
} module = { .version = MTS_ABI_VERSION };

/* The name that fstatfs has with file offsets of 64 bits. */
int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int ret = __real_fstatfs64(fd, fs);

	if (module.on)
		fs->f_type = MTS_SUPER_MAGIC;
	return ret;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct mts_arena_info *info;
	va_list args;

	va_start(args, request);
	info = va_arg(args, struct mts_arena_info *);
	va_end(args);
	if (!module.on || request != MTS_IOCTL_INFO || info->size != sizeof(*info) || info->flags) {
		errno = ENOTTY;
		return -1;
	}
	if (module.foreign_left && !--module.foreign_left)
		module.foreign = 0;
	info->node = module.node;
	info->foreign = module.foreign;
	errno = info->version == module.version ? module.error : EPROTO;
	info->version = module.version;
	return errno ? -1 : 0;
}

/* ---- a folder for each test ---- */

static char folder[64];

static void in_shm(void)
{
	strcpy(folder, "/dev/shm/mtserve-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
	char command[128];

	umount2(folder, MNT_DETACH); /* if this test mounted there */
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

	close(fd);
	return ok;
}

/* Mounts on `folder`, seen by this test's own process alone. 0, or it was told why not. */
static int mounted(const char *type, const char *options)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %d 1", (int)getuid());
	if (unshare(CLONE_NEWNS) &&
	    (unshare(CLONE_NEWUSER | CLONE_NEWNS) || !write_text("/proc/self/uid_map", map))) {
		printf("# SKIP no mount namespace: %s\n", strerror(errno));
		return -1;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", folder, type, 0, options)) {
		printf("# SKIP mount -t %s -o %s: %s\n", type, options, strerror(errno));
		return -1;
	}
	return 0;
}

static char *spec(const char *type, const char *name)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s:%s%s%s", type, folder, *name ? "/" : "", name);
	return text;
}

static int try(const char *provider, size_t bytes, struct mts_arena **a, struct mts_error *err)
{
	struct mts_arena_config c = { .provider = provider, .bytes = bytes, .node = -1 };

	err->text[0] = '\0';
	return mts_arena_open(&c, a, err);
}

static void expect(const char *provider, size_t bytes, int error, const char *words)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_int_eq(try(provider, bytes, &a, &err), error);
	printf("# %s\n", err.text);
	ck_assert_ptr_nonnull(strstr(err.text, words));
}

static int exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return !access(path, F_OK);
}

static struct mts_arena *must(const char *provider, size_t bytes)
{
	struct mts_arena *a;
	struct mts_error err;

	ck_assert_msg(!try(provider, bytes, &a, &err), "%s", err.text);
	return a;
}

/* ---- made, opened again ---- */

/* Bytes that are not `value`. */
static size_t others(const struct mts_arena *a, char value)
{
	size_t n = 0;

	for (size_t i = 0; i < a->bytes; i++)
		n += a->base[i] != value;
	return n;
}

static void survives(const char *type)
{
	struct mts_arena *a = must(spec(type, "x"), 8 * MIB);

	ck_assert_str_eq(a->info.provider, type);
	ck_assert_int_eq(a->info.reopened, 0);
	ck_assert_uint_eq((uintptr_t)a->base % (2 * MIB), 0);
	ck_assert_uint_eq(others(a, 0), 0);
	memset(a->base, 0x5a, a->bytes);
	mts_arena_close(a);
	for (size_t bytes = 8 * MIB; ; bytes = 0) {
		a = must(spec(type, "x"), bytes);
		ck_assert_int_eq(a->info.reopened, 1);
		ck_assert_uint_eq(a->bytes, 8 * MIB);
		ck_assert_uint_eq(mts_arena_ready(a), 8 * MIB);
		ck_assert_uint_eq(others(a, 0x5a), 0);
		mts_arena_close(a);
		if (!bytes)
			break;
	}
}

START_TEST(survives_in_tmpfs)
{
	survives("tmpfs");
}
END_TEST

START_TEST(survives_in_tmpfs_of_huge_pages)
{
	struct mts_arena *a;

	if (mounted("tmpfs", "huge=always,size=64M"))
		return;
	survives("tmpfs");
	a = must(spec("tmpfs", "x"), 0);
	ck_assert_uint_eq(a->info.page_size, 2 * MIB);
	printf("# %zu of %zu MiB mapped huge, %s\n", (size_t)(a->info.huge_bytes >> 20), a->bytes >> 20,
	       a->info.note);
	mts_arena_close(a);
}
END_TEST

static int huge_pages(void)
{
	uint64_t set_aside = 0, may_grow = 0;

	mts_proc_number("/proc/meminfo", "HugePages_Free", &set_aside);
	mts_proc_number("/proc/sys/vm/nr_overcommit_hugepages", NULL, &may_grow);
	if (set_aside + may_grow >= 16)
		return 1;
	printf("# SKIP no huge pages (vm.nr_hugepages, vm.nr_overcommit_hugepages)\n");
	return 0;
}

START_TEST(survives_in_hugetlbfs)
{
	struct mts_arena *a;

	if (!huge_pages() || mounted("hugetlbfs", "pagesize=2M"))
		return;
	survives("hugetlbfs");
	a = must(spec("hugetlbfs", "x"), 0);
	ck_assert_uint_eq(a->info.huge_bytes, a->bytes);
	mts_arena_close(a);
	expect(spec("hugetlbfs", "y"), (size_t)1 << 45, -ENOMEM, "huge pages");
	ck_assert_int_eq(exists("y"), 0);
}
END_TEST

START_TEST(survives_in_the_module)
{
	module.on = 1;
	survives("mtserve");
}
END_TEST

START_TEST(survives_sigkill)
{
	pid_t child = fork();
	struct mts_arena *a;
	int status;

	if (!child) {
		a = must(spec("tmpfs", "x"), 4 * MIB);
		memset(a->base, 7, a->bytes);
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, 1);
	a = must(spec("tmpfs", "x"), 4 * MIB);
	ck_assert_int_eq(a->info.reopened, 1);
	ck_assert_uint_eq(others(a, 7), 0);
	mts_arena_close(a);
}
END_TEST

START_TEST(holes_are_filled)
{
	struct mts_arena *a;
	int fd = open(spec("tmpfs", "x") + strlen("tmpfs:"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_eq(ftruncate(fd, 4 * MIB), 0);
	ck_assert_int_eq(pwrite(fd, "content", 7, 2 * MIB), 7);
	close(fd);
	a = must(spec("tmpfs", "x"), 4 * MIB);
	ck_assert_mem_eq(a->base + 2 * MIB, "content", 7);
	ck_assert_int_eq(a->base[0], 0);
	mts_arena_close(a);
}
END_TEST

START_TEST(a_folder_gets_a_file)
{
	mts_arena_close(must(spec("tmpfs", ""), 2 * MIB));
	ck_assert_int_eq(exists("arena"), 1);
	mts_arena_close(must(spec("tmpfs", "arena"), 2 * MIB));
}
END_TEST

START_TEST(relative_paths)
{
	ck_assert_int_eq(chdir(folder), 0);
	mts_arena_close(must("tmpfs:here", 2 * MIB));
	ck_assert_int_eq(exists("here"), 1);
	mts_arena_close(must("tmpfs:.", 2 * MIB));
	ck_assert_int_eq(exists("arena"), 1);
}
END_TEST

START_TEST(nameless_leaves_nothing)
{
	struct mts_arena *a;
	struct mts_error err;

	if (mounted("tmpfs", "size=64M,huge=always"))
		return;
	ck_assert_msg(!try("tmpfs", 4 * MIB, &a, &err), "%s", err.text);
	ck_assert_int_eq(a->info.reopened, 0);
	mts_arena_close(a);
	ck_assert_int_eq(umount(folder), 0); /* and nobody uses it any more */
}
END_TEST

/* ---- one process ---- */

START_TEST(in_use)
{
	struct mts_arena_config look = { .provider = spec("tmpfs", "x"), .node = -1, .look = 1 };
	struct mts_arena *a = must(spec("tmpfs", "x"), 4 * MIB), *b;
	struct mts_error err;

	a->base[5] = 9;
	expect(spec("tmpfs", "x"), 4 * MIB, -EBUSY, "in use");
	expect(spec("tmpfs", "x"), 0, -EBUSY, "in use");
	ck_assert_int_eq(mts_arena_open(&look, &b, &err), 0);
	ck_assert_uint_eq(b->bytes, 4 * MIB);
	ck_assert_int_eq(b->base[5], 9);
	mts_arena_close(b);
	mts_arena_close(a);
	mts_arena_close(must(spec("tmpfs", "x"), 4 * MIB));
}
END_TEST

START_TEST(looking_changes_nothing)
{
	struct mts_arena_config look = { .provider = spec("tmpfs", "x"), .node = -1, .look = 1 };
	struct mts_arena *a;
	struct mts_error err;
	struct stat st;
	int fd;

	ck_assert_int_eq(mts_arena_open(&look, &a, &err), -ENOENT);
	ck_assert_int_eq(exists("x"), 0);
	fd = open(look.provider + strlen("tmpfs:"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(mts_arena_open(&look, &a, &err), -EINVAL);
	ck_assert_int_eq(ftruncate(fd, 4 * MIB), 0);
	ck_assert_int_eq(mts_arena_open(&look, &a, &err), -ENODATA);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
	close(fd);
}
END_TEST

/* ---- refusals ---- */

START_TEST(another_size)
{
	mts_arena_close(must(spec("tmpfs", "x"), 4 * MIB));
	expect(spec("tmpfs", "x"), 8 * MIB, -EINVAL, "has 4 MiB, 8 MiB were asked for");
	expect(spec("tmpfs", "x"), 2 * MIB, -EINVAL, "has 4 MiB, 2 MiB were asked for");
	mts_arena_close(must(spec("tmpfs", "x"), 4 * MIB - 1));
}
END_TEST

START_TEST(no_arena_at_all)
{
	int fd = open(spec("tmpfs", "x") + strlen("tmpfs:"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_eq(write(fd, "letter", 6), 6);
	close(fd);
	expect(spec("tmpfs", "x"), 2 * MIB, -EINVAL, "no multiple of 2 MiB");
	expect(spec("tmpfs", "none"), 0, -ENOENT, "No such file");
	ck_assert_int_eq(exists("none"), 0);
}
END_TEST

START_TEST(not_a_file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/link", folder);
	ck_assert_int_eq(symlink("target", path), 0);
	expect(spec("tmpfs", "link"), 2 * MIB, -ELOOP, "a link");
	ck_assert_int_eq(exists("target"), 0);
	snprintf(path, sizeof(path), "%s/pipe", folder);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect(spec("tmpfs", "pipe"), 2 * MIB, -EINVAL, "not a file");
	ck_assert_int_eq(exists("pipe"), 1);
}
END_TEST

START_TEST(paths_without_sense)
{
	char text[5000] = "tmpfs:";

	expect("tmpfs:", 2 * MIB, -EINVAL, "expected a file or a folder");
	memset(text + strlen(text), 'x', sizeof(text) - 1 - strlen(text));
	expect(text, 2 * MIB, -EINVAL, "expected a file or a folder");
	text[1000] = '\0';
	expect(text, 2 * MIB, -ENAMETOOLONG, "File name too long");
	expect(spec("tmpfs", "none/x"), 2 * MIB, -ENOENT, "No such file");
}
END_TEST

START_TEST(other_file_systems)
{
	expect(spec("hugetlbfs", "x"), 2 * MIB, -ENODEV, "not in a file system of type hugetlbfs");
	expect(spec("mtserve", "x"), 2 * MIB, -ENODEV, "not in a file system of type mtserve");
	expect("tmpfs:/proc/x", 2 * MIB, -ENODEV, "not in a file system of type tmpfs");
	ck_assert_int_eq(exists("x"), 0);
}
END_TEST

START_TEST(read_only)
{
	if (mounted("tmpfs", "size=8M") || mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL))
		return;
	expect(spec("tmpfs", "x"), 2 * MIB, -EROFS, "Read-only");
}
END_TEST

START_TEST(full_file_system)
{
	if (mounted("tmpfs", "size=8M"))
		return;
	mts_arena_close(must(spec("tmpfs", "x"), 6 * MIB));
	expect(spec("tmpfs", "y"), 4 * MIB, -ENOSPC, "2 MiB free in the file system");
	ck_assert_int_eq(exists("y"), 0);
	mts_arena_close(must(spec("tmpfs", "x"), 6 * MIB));
}
END_TEST

START_TEST(more_than_there_is)
{
	if (mounted("tmpfs", "size=0"))
		return;
	expect(spec("tmpfs", "x"), (size_t)1 << 45, -ENOMEM, "can be had");
	ck_assert_int_eq(exists("x"), 0);
	expect(spec("tmpfs", "x"), SIZE_MAX, -EINVAL, "expected 1 to");
}
END_TEST

START_TEST(no_right_to_it)
{
	if (geteuid()) {
		printf("# SKIP only root can become somebody else\n");
		return;
	}
	mts_arena_close(must(spec("tmpfs", "x"), 2 * MIB));
	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert_int_eq(seteuid(65534), 0);
	expect(spec("tmpfs", "x"), 2 * MIB, -EACCES, "Permission denied");
	expect(spec("tmpfs", "y"), 2 * MIB, -EACCES, "Permission denied");
	ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* ---- the module ---- */

START_TEST(module_of_another_version)
{
	module.on = 1;
	module.version = MTS_ABI_VERSION + 1;
	expect(spec("mtserve", "x"), 2 * MIB, -EPROTO, "version 2 of its interface, this program version 1");
}
END_TEST

START_TEST(module_says_no)
{
	module.on = 1;
	module.error = EINTR;
	expect(spec("mtserve", "x"), 2 * MIB, -EINTR, "Interrupted");
}
END_TEST

START_TEST(module_on_another_node)
{
	struct mts_arena_config c = { .provider = spec("mtserve", "x"), .bytes = 2 * MIB };
	struct mts_arena *a;
	struct mts_error err;

	module.on = 1;
	module.node = 1;
	ck_assert_int_eq(mts_arena_open(&c, &a, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "is on node 1, node 0 was asked for"));
}
END_TEST

START_TEST(devices_at_work)
{
	module.on = 1;
	mts_arena_close(must(spec("mtserve", "x"), 2 * MIB));
	module.foreign = 3;
	expect(spec("mtserve", "x"), 2 * MIB, -EBUSY, "3 references");
	module.foreign_left = 4;
	mts_arena_close(must(spec("mtserve", "x"), 2 * MIB));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("arena_file");
	TCase *tc = tcase_create("arena_file");
	SRunner *sr = srunner_create(s);
	struct statfs fs;
	int failed;

	if (statfs("/dev/shm", &fs) || fs.f_type != 0x01021994 || access("/dev/shm", W_OK)) {
		printf("1..0 # SKIP /dev/shm is no writable tmpfs here\n");
		return 0;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, in_shm, remove_folder);
	tcase_add_test(tc, survives_in_tmpfs);
	tcase_add_test(tc, survives_in_tmpfs_of_huge_pages);
	tcase_add_test(tc, survives_in_hugetlbfs);
	tcase_add_test(tc, survives_in_the_module);
	tcase_add_test(tc, survives_sigkill);
	tcase_add_test(tc, holes_are_filled);
	tcase_add_test(tc, a_folder_gets_a_file);
	tcase_add_test(tc, relative_paths);
	tcase_add_test(tc, nameless_leaves_nothing);
	tcase_add_test(tc, in_use);
	tcase_add_test(tc, looking_changes_nothing);
	tcase_add_test(tc, another_size);
	tcase_add_test(tc, no_arena_at_all);
	tcase_add_test(tc, not_a_file);
	tcase_add_test(tc, paths_without_sense);
	tcase_add_test(tc, other_file_systems);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, full_file_system);
	tcase_add_test(tc, more_than_there_is);
	tcase_add_test(tc, no_right_to_it);
	tcase_add_test(tc, module_of_another_version);
	tcase_add_test(tc, module_says_no);
	tcase_add_test(tc, module_on_another_node);
	tcase_add_test(tc, devices_at_work);
	suite_add_tcase(s, tc);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
