// SPDX-License-Identifier: GPL-2.0
/* Runs the registered tests; see harness.h. The parent has one thread and prints all results. */
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "host.h"

#define DEFAULT_SECONDS	120
#define EXIT_SKIP	4	/* as in kselftest */

static struct mts_test *tests, **tests_end = &tests;
static int number, failures;
static char *skip_reason;	/* shared with the child, which fills it in */
#define REASON_SIZE	4096

void mts_test_register(struct mts_test *test)
{
	*tests_end = test;
	tests_end = &test->next;
}

static void print_comment(const char *format, va_list args)
{
	printf("# ");
	vprintf(format, args);
	putchar('\n');
	fflush(stdout);
}

void mts_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_comment(format, args);
	va_end(args);
}

void mts_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	printf("# %s:%d: ", file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

void mts_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(skip_reason, REASON_SIZE, format, args);
	va_end(args);
	_exit(EXIT_SKIP);
}

static void run_in_child(const struct mts_test *test, size_t variant)
{
	setpgid(0, 0);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		FAIL("no mount namespace: %s", strerror(errno));
	test->run(variant);
	fflush(stdout);
	_exit(0);
}

/* Wait for the child until the limit, then kill it and all that it started. */
static int wait_for(pid_t child, unsigned int seconds)
{
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	time_t end = time(NULL) + seconds;
	int status;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (time(NULL) > end) {
			printf("# still running after %u s\n", seconds);
			kill(-child, SIGKILL);
			waitpid(child, &status, 0);
			break;
		}
		nanosleep(&tick, NULL);
	}
	kill(-child, SIGKILL);
	return status;
}

static void print_result(const struct mts_test *test, size_t variant, int status)
{
	int skip = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP;
	int good = WIFEXITED(status) && (!WEXITSTATUS(status) || skip);

	if (WIFSIGNALED(status))
		printf("# killed by signal %d\n", WTERMSIG(status));
	/* The namespace and the last file go a little after the process. */
	if (!mts_module_unused(5)) {
		printf("# the module is still in use after the test\n");
		good = skip = 0;
	}
	failures += !good;
	printf("%s %d - %s", good ? "ok" : "not ok", ++number, test->name);
	if (test->variants)
		printf(" %s", test->variant_name(variant));
	printf("%s%s\n", skip ? " # SKIP " : "", skip ? skip_reason : "");
	fflush(stdout);
}

static void run_one(const struct mts_test *test, size_t variant)
{
	unsigned int scale = mts_kernel_is_debug() ? 8 : 1;
	unsigned int seconds = (test->seconds ? test->seconds : DEFAULT_SECONDS) * scale;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0) {
		printf("Bail out! fork: %s\n", strerror(errno));
		exit(1);
	}
	if (!child)
		run_in_child(test, variant);
	setpgid(child, child);
	print_result(test, variant, wait_for(child, seconds));
}

int main(void)
{
	const struct mts_test *test;
	size_t variant;
	int planned = 0;

	skip_reason = mmap(NULL, REASON_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	if (skip_reason == MAP_FAILED)
		return 1;
	for (test = tests; test; test = test->next)
		planned += test->variants ? test->variants : 1;
	printf("1..%d\n", planned);
	for (test = tests; test; test = test->next)
		for (variant = 0; variant < (test->variants ? test->variants : 1); variant++)
			run_one(test, variant);
	return failures != 0;
}
