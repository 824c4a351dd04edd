/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mtserve trace as a user meets it: exit status, what goes to which stream, files, JSON.
 */
#include "cmd/cmd.h"
#include "trace_test.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/wait.h>

#define WORDS 24

static void redirect(int fd, const char *name)
{
	int to = open(test_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (to < 0 || dup2(to, fd) < 0)
		_exit(99);
	close(to);
}

/* Runs "trace LINE" in a child of its own, for argp may exit; returns the exit status. */
static int run(const char *line, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *line, ...)
{
	char text[1024], *argv[WORDS] = { (char[]){ "trace" } };
	int argc = 1, status;
	va_list args;
	pid_t child;

	va_start(args, line);
	vsnprintf(text, sizeof(text), line, args);
	va_end(args);
	for (char *word = strtok(text, " "); word && argc < WORDS - 1; word = strtok(NULL, " "))
		argv[argc++] = word;
	fflush(NULL);
	child = fork();
	if (!child) {
		redirect(STDOUT_FILENO, "stdout");
		redirect(STDERR_FILENO, "stderr");
		exit(mts_cmd_trace(argc, argv));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_in(const char *name, const char *part)
{
	char *text = test_read(test_path(name));

	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" not in %s: %s", part, name, text);
	free(text);
}

static void expect_empty(const char *name)
{
	char *text = test_read(test_path(name));

	ck_assert_str_eq(text, "");
	free(text);
}

static const struct {
	const char *line, *message;
} usage[] = {
	{ "", "Usage: mtserve trace gen|import|hints|stat" },
	{ "frobnicate", "unknown command \"frobnicate\"" },
	{ "gen", "no output, expected -o FILE" },
	{ "gen -o - --colour", "unrecognized option '--colour'" },
	{ "gen -o - --profile tv", "--profile is \"tv\", expected shortvideo or shop" },
	{ "gen -o - --users 0", "--users is \"0\", expected a whole number from 1" },
	{ "gen -o - --users 1e3", "--users is \"1e3\"" },
	{ "gen -o - --users -5", "--users is \"-5\"" },
	{ "gen -o - --days abc", "--days is \"abc\", expected a number" },
	{ "gen -o - --days -1", "--days is \"-1\", expected a number, zero or more" },
	{ "gen -o - --days nan", "--days is \"nan\"" },
	{ "gen -o - --candidates 65537", "--candidates is \"65537\"" },
	{ "gen -o - --profile shop --request-every 3", "--request-every has no meaning" },
	{ "gen -o - surplus", "unexpected \"surplus\"" },
	{ "import log", "no format, expected --format" },
	{ "import --format taobao", "no log, expected at least one FILE" },
	{ "import --format taobao --session-gap soon log", "--session-gap is \"soon\"" },
	{ "import --format taobao --earlier all log", "--earlier is \"all\"" },
	{ "import --format taobao -o x --events x log", "go to the same place" },
	{ "stat", "no trace, expected a FILE" },
	{ "stat --max-history 100 --slide 30 t", "--slide is 30, expected a divisor of 100" },
	{ "stat one two", "unexpected \"two\"" },
};

START_TEST(bad_usage)
{
	ck_assert_int_eq(run("%s", usage[_i].line), 64);
	expect_in("stderr", usage[_i].message);
	expect_empty("stdout");
}
END_TEST

START_TEST(help)
{
	static const char *const commands[] = { "", "gen", "import", "stat" };

	ck_assert_int_eq(run("%s --help", commands[_i]), 0);
	expect_in("stdout", "Usage: mtserve trace");
	expect_empty("stderr");
}
END_TEST

START_TEST(generate_and_describe)
{
	const char *path = test_path("trace.csv");

	ck_assert_int_eq(run("gen --users 50 --days 0.2 --start-hour 18 --seed 3 --hints -o %s",
			     path), 0);
	expect_empty("stderr");
	expect_in("trace.csv", "time_ms,user_id,history,candidates,hint\n");
	ck_assert_int_eq(run("stat %s --bytes-per-token 512", test_path("trace.csv")), 0);
	expect_empty("stderr");
	expect_in("stdout", "footprint");
	expect_in("stdout", "MiB");
}
END_TEST

START_TEST(standard_output)
{
	char *file, *out;

	ck_assert_int_eq(run("gen --users 20 --days 0.1 -o %s", test_path("a.csv")), 0);
	ck_assert_int_eq(run("gen --users 20 --days 0.1 -o -"), 0);
	file = test_read(test_path("a.csv"));
	out = test_read(test_path("stdout"));
	ck_assert_str_eq(file, out);
	free(file);
	free(out);
}
END_TEST

START_TEST(stat_as_json)
{
	const char *trace = test_file("t.csv", "time_ms,user_id,history,candidates\n0,1,10,5\n"
				      "1000,1,16,5\n2000,2,3000,5\n");
	json_t *json;

	ck_assert_int_eq(run("stat %s --bytes-per-token 3072 --json %s", trace,
			     test_path("stat.json")), 0);
	expect_in("stdout", "users 2, requests 3");
	json = json_load_file(test_path("stat.json"), 0, NULL);
	ck_assert_ptr_nonnull(json);
	ck_assert_int_eq(json_integer_value(json_object_get(json, "requests")), 3);
	json_decref(json);
	ck_assert_int_eq(run("stat %s --bytes-per-token 3072 --json -", trace), 0);
	json = json_load_file(test_path("stdout"), 0, NULL);
	ck_assert_ptr_nonnull(json);
	/* 3,000 events, cap 2,048, slide 1,024: the window holds 3,000 - 1,024. */
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json, "footprint"),
							    "tokens")), 16 + 1976);
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json, "footprint"),
							    "bytes")), 1992 * 3072);
	json_decref(json);
}
END_TEST

START_TEST(import_and_describe)
{
	const char *log = test_file("log.csv", "7,70,1,pv,10\n7,71,1,cart,11\n");

	ck_assert_int_eq(run("import --format taobao --earlier none --candidates 3 --events %s %s",
			     test_path("events.csv"), log), 0);
	expect_in("stdout", "time_ms,user_id,history,candidates\n10000,7,0,3\n");
	expect_in("stderr", "2 events, 1 users, 1 requests\n");
	expect_in("events.csv", "11000,7,71,2\n");
}
END_TEST

static const struct {
	const char *line, *message;
} failures[] = {
	{ "stat /nowhere/t.csv", "mtserve trace: /nowhere/t.csv: No such file or directory\n" },
	{ "gen --users 5 -o /nowhere/trace.csv", "/nowhere/trace.csv: cannot write: No such file" },
	{ "gen --users 50 -o /dev/full", "/dev/full: cannot write: No space left on device\n" },
	{ "gen --days 0 -o /dev/null", "days is 0, expected above 0" },
	{ "gen --start-hour 200 -o /dev/null", "start hour is 200" },
	{ "import --format netflix /dev/null", "format is \"netflix\", expected one of kuairand" },
	{ "import --format taobao /dev/null", "/dev/null: no event" },
};

START_TEST(one_line_and_status_1)
{
	char *text;

	ck_assert_int_eq(run("%s", failures[_i].line), 1);
	expect_in("stderr", failures[_i].message);
	expect_empty("stdout");
	text = test_read(test_path("stderr"));
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
	free(text);
}
END_TEST

START_TEST(full_disk_for_json)
{
	const char *trace = test_file("t.csv", "time_ms,user_id,history,candidates\n0,1,10,5\n");

	ck_assert_int_eq(run("stat %s --json /dev/full", trace), 1);
	expect_in("stderr", "mtserve trace: /dev/full: cannot write: No space left on device\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace command");
	TCase *tc = tcase_create("command line");

	tcase_add_loop_test(tc, bad_usage, 0, (int)(sizeof(usage) / sizeof(usage[0])));
	tcase_add_loop_test(tc, help, 0, 4);
	tcase_add_test(tc, generate_and_describe);
	tcase_add_test(tc, standard_output);
	tcase_add_test(tc, stat_as_json);
	tcase_add_test(tc, import_and_describe);
	tcase_add_loop_test(tc, one_line_and_status_1, 0,
			    (int)(sizeof(failures) / sizeof(failures[0])));
	tcase_add_test(tc, full_disk_for_json);
	suite_add_tcase(s, tc);
	return test_main(s);
}
