/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A test harness in the shape of the kernel's own kselftest_harness.h: each test runs in a forked
 * child, in a mount namespace of its own, under a time limit; variants run one test over a table;
 * output is TAP; a test that cannot run here is skipped with a reason, never passed. libcheck,
 * which the other tests use, has no way to report a skip.
 *
 * After each test, whatever it did, nothing may be left that uses the module: its mounts went with
 * the namespace, its files with the process.
 *
 *	TEST(name) { ... ASSERT(...); }
 *	TEST_EACH(name, table) { ... table[variant].x ... }	each entry's first member is .name
 */
#ifndef MTS_HARNESS_H
#define MTS_HARNESS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct mts_test {
	const char *name;
	void (*run)(size_t variant);
	const char *(*variant_name)(size_t variant);
	size_t variants;	/* 0: a test without variants */
	unsigned int seconds;	/* 0: the default limit */
	struct mts_test *next;
};

/* Tests run in the order in which they stand in their file. */
void mts_test_register(struct mts_test *test);

/* End the test now; the text goes into the output. */
void mts_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));
void mts_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A line for whoever reads the output: a measured figure, a seed. */
void mts_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define MTS_TEST_DEFINE(ident, count, names, limit)					\
	static void ident(size_t variant);						\
	static struct mts_test ident##_test = {						\
		.name = #ident, .run = ident, .variant_name = names,			\
		.variants = count, .seconds = limit,					\
	};										\
	__attribute__((constructor)) static void ident##_register(void)		\
	{										\
		mts_test_register(&ident##_test);					\
	}										\
	static void ident(size_t variant __attribute__((unused)))

#define TEST(ident)		MTS_TEST_DEFINE(ident, 0, NULL, 0)
#define TEST_LIMIT(ident, secs)	MTS_TEST_DEFINE(ident, 0, NULL, secs)
#define TEST_EACH(ident, table)								\
	static const char *ident##_names(size_t variant)				\
	{										\
		return table[variant].name;						\
	}										\
	MTS_TEST_DEFINE(ident, sizeof(table) / sizeof(table[0]), ident##_names, 0)

#define SKIP(...)	mts_skip(__VA_ARGS__)
#define FAIL(...)	mts_fail(__FILE__, __LINE__, __VA_ARGS__)

#define ASSERT(cond)									\
	do {										\
		if (!(cond))								\
			FAIL("%s is false (errno: %s)", #cond, strerror(errno));	\
	} while (0)

#define ASSERT_EQ(got, want)								\
	do {										\
		long long got_ = (long long)(got), want_ = (long long)(want);		\
		if (got_ != want_)							\
			FAIL("%s is %lld, expected %s = %lld", #got, got_, #want, want_);	\
	} while (0)

#define ASSERT_LE(got, most)								\
	do {										\
		long long got_ = (long long)(got), most_ = (long long)(most);		\
		if (got_ > most_)							\
			FAIL("%s is %lld, expected at most %s = %lld", #got, got_, #most, most_); \
	} while (0)

/* A system call that shall succeed, with any result but -1 (or MAP_FAILED). */
#define ASSERT_OK(call)									\
	do {										\
		errno = 0;								\
		if ((long long)(call) == -1)						\
			FAIL("%s failed: %s", #call, strerror(errno));			\
	} while (0)

/* A system call that shall fail with exactly this errno. */
#define ASSERT_ERRNO(call, want)							\
	do {										\
		errno = 0;								\
		long long ret_ = (long long)(call);					\
		if (ret_ != -1)								\
			FAIL("%s gave %lld, expected " #want, #call, ret_);		\
		if (errno != (want))							\
			FAIL("%s failed with %s, expected " #want, #call, strerror(errno));	\
	} while (0)

#endif /* MTS_HARNESS_H */
