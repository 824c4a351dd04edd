/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory runs out at every allocation of the trace tools in turn: -ENOMEM and a message each time,
 * nothing leaked (the sanitizer watches), and success once nothing fails.
 *
 * The linker turns the tools' allocations into the __wrap functions here.
 */
#include "cmd/trace.h"
#include "trace_test.h"

#include <errno.h>

static long fail_at = -1, allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static bool fails(void)
{
	if (allocations++ != fail_at)
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

static int generate(struct mts_error *err)
{
	static const struct mts_gen_options o = { .users = 20, .days = 1, .seed = 1,
						  .request_every = 6 };
	struct mts_trace_request r;
	struct mts_gen *g;
	int ret = mts_gen_open(&o, &g, err);

	if (ret)
		return ret;
	while ((ret = mts_gen_next(g, &r, err)) > 0)
		;
	mts_gen_close(g);
	return ret;
}

static int describe(struct mts_error *err)
{
	const struct mts_stat_options o = { .max_history = 2, .slide = 1 };
	struct mts_trace_stat s;

	return mts_trace_stat(test_path("requests"), &o, &s, err);
}

static int load_events(struct mts_error *err)
{
	struct mts_events *e;
	int ret = mts_events_load(test_path("events"), &e, err);

	if (!ret)
		mts_events_free(e);
	return ret;
}

static int import(struct mts_error *err)
{
	const struct mts_import_options o = { .format = "taobao", .request_every = 1, .users = 20 };
	const char *file = test_path("log");
	struct mts_import_result result;

	return mts_import(&o, &file, 1, "/dev/null", "/dev/null", &result, err);
}

static int hints(struct mts_error *err)
{
	const struct mts_hints_options o = { .reliability = 1, .session_gap_ms = 1000 };
	struct mts_hints_result result;

	return mts_trace_hints(&o, test_path("requests"), "/dev/null", &result, err);
}

/* Enough users that the hash table is enlarged on the way. */
static void write_inputs(void)
{
	char *log = malloc(400 * 32), *events = malloc(400 * 32), *requests = malloc(400 * 32);
	char *l = log, *e = events, *r = requests;

	e += sprintf(e, "time_ms,user_id,item_id,action\n");
	r += sprintf(r, "time_ms,user_id,history,candidates\n");
	for (int i = 0; i < 400; i++) {
		l += sprintf(l, "%d,1,1,pv,%d\n", i, i);
		e += sprintf(e, "%d,%d,1,1\n", i, i);
		r += sprintf(r, "%d,%d,3,1\n", i, i);
	}
	test_file("log", log);
	test_file("events", events);
	test_file("requests", requests);
	free(log);
	free(events);
	free(requests);
}

static const struct {
	int (*run)(struct mts_error *err);
	long at_least; /* allocations that must have been reached */
} tools[] = { { generate, 20 }, { describe, 400 }, { load_events, 400 }, { import, 400 }, { hints, 800 } };

START_TEST(every_allocation)
{
	struct mts_error err;
	long n = 0;
	int ret;

	write_inputs();
	do {
		err.text[0] = '\0';
		allocations = 0;
		fail_at = n++;
		ret = tools[_i].run(&err);
		if (allocations <= fail_at)
			break;
		ck_assert_msg(ret == -ENOMEM, "allocation %ld: %d", fail_at, ret);
		ck_assert_msg(strstr(err.text, "memory"), "allocation %ld: %s", fail_at, err.text);
	} while (n < 100000);
	fail_at = -1;
	ck_assert_int_eq(ret, 0);
	ck_assert_int_ge(n, tools[_i].at_least);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace without memory");
	TCase *tc = tcase_create("failing allocations");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, every_allocation, 0, (int)(sizeof(tools) / sizeof(tools[0])));
	suite_add_tcase(s, tc);
	return test_main(s);
}
