// SPDX-License-Identifier: GPL-2.0
/*
 * Races and random operations. Two processes, one on each CPU, each with arenas of its own that
 * are checked against a simple record of what must be in them, and with names that both fight
 * over. The seed is printed; MTS_SEED=N repeats a run.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "harness.h"
#include "host.h"

/* --- threads that populate the same ranges while others fault in them -------------------------- */

#define RACE_SIZE	(64 * MIB)
#define RACE_THREADS	4

struct race {
	int fd;
	char *data;
	unsigned int number;
	bool stop;
};

static __thread sigjmp_buf *sigbus_return;

static void on_sigbus(int signal)
{
	siglongjmp(*sigbus_return, 1);
}

/* Every thread goes over the whole arena, in pieces and an order of its own. */
static void *race_populate(void *arg)
{
	struct race *race = arg;
	size_t pieces = RACE_SIZE / (4 * MIB), i, piece;

	for (i = 0; i < pieces; i++) {
		piece = race->number % 2 ? pieces - 1 - i : (i + race->number) % pieces;
		if (fallocate(race->fd, 0, piece * 4 * MIB, 4 * MIB))
			return (void *)(long)errno;
	}
	return NULL;
}

/* The byte, or 0 when it gives SIGBUS; mts_sigbus() is not for threads. */
static char read_or_sigbus(const char *at)
{
	sigjmp_buf here;

	sigbus_return = &here;
	return sigsetjmp(here, 1) ? 0 : *(const volatile char *)at;
}

/* Touch everything again and again until all is there: nothing but zeroes may be seen. */
static void *race_fault(void *arg)
{
	struct race *race = arg;
	size_t at;

	do {
		for (at = 0; at < RACE_SIZE; at += MIB / 2)
			if (read_or_sigbus(race->data + at))
				return (void *)EIO;
	} while (!__atomic_load_n(&race->stop, __ATOMIC_ACQUIRE));
	return NULL;
}

static void race_once(int fd, char *data)
{
	struct race populate[RACE_THREADS], fault = { .fd = fd, .data = data };
	pthread_t threads[RACE_THREADS], faulter;
	unsigned int i;
	void *result;

	ASSERT_EQ(pthread_create(&faulter, NULL, race_fault, &fault), 0);
	for (i = 0; i < RACE_THREADS; i++) {
		populate[i] = (struct race){ .fd = fd, .number = i };
		ASSERT_EQ(pthread_create(&threads[i], NULL, race_populate, &populate[i]), 0);
	}
	for (i = 0; i < RACE_THREADS; i++) {
		ASSERT_EQ(pthread_join(threads[i], &result), 0);
		ASSERT_EQ((long)result, 0);
	}
	/* The begin of what stop protects: all is populated. Pairs with the load in race_fault. */
	__atomic_store_n(&fault.stop, true, __ATOMIC_RELEASE);
	ASSERT_EQ(pthread_join(faulter, &result), 0);
	ASSERT_EQ((long)result, 0);
}

/* The limit is exactly what is needed: a folio held twice for a moment must fail nobody. */
TEST(populate_race)
{
	struct sigaction action = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };
	int round, fd;
	char *data;

	sigaction(SIGBUS, &action, NULL);
	mts_mount_node(0, RACE_SIZE / MIB);
	for (round = 0; round < 8; round++) {
		fd = mts_arena(MTS_ARENA, RACE_SIZE, 0);
		data = mts_map(fd, RACE_SIZE, 0);
		race_once(fd, data);
		ASSERT_EQ(mts_info(fd).populated, RACE_SIZE);
		ASSERT_EQ(mts_counter("folios"), RACE_SIZE / PAGE);
		ASSERT_EQ(mts_counter("failures_size"), 0);
		ASSERT_OK(munmap(data, RACE_SIZE));
		ASSERT_OK(unlink(MTS_ARENA));
		close(fd);
		ASSERT_EQ(mts_counter("folios"), 0);
	}
}

struct together {
	int fd;
	pthread_barrier_t *start;
};

static void *populate_together(void *arg)
{
	struct together *together = arg;

	pthread_barrier_wait(together->start);
	return fallocate(together->fd, 0, 0, PAGE) ? (void *)(long)errno : NULL;
}

/* All want the one folio that the limit allows: one adds it, and that is a success for all. */
TEST(one_folio_for_all)
{
	struct together together = { .fd = -1 };
	pthread_t threads[RACE_THREADS];
	pthread_barrier_t start;
	int round, i;
	void *result;

	pthread_barrier_init(&start, NULL, RACE_THREADS);
	together.start = &start;
	mts_mount_node(1, 2);
	for (round = 0; round < 200; round++) {
		together.fd = mts_arena(MTS_ARENA, PAGE, 0);
		for (i = 0; i < RACE_THREADS; i++)
			ASSERT_EQ(pthread_create(&threads[i], NULL, populate_together, &together),
				  0);
		for (i = 0; i < RACE_THREADS; i++) {
			ASSERT_EQ(pthread_join(threads[i], &result), 0);
			ASSERT_EQ((long)result, 0);
		}
		ASSERT_EQ(mts_counter("folios"), 1);
		ASSERT_OK(unlink(MTS_ARENA));
		close(together.fd);
	}
	ASSERT_EQ(mts_counter("folios_populated"), 200);
}

/* --- random operations ------------------------------------------------------------------------- */

#define STEPS		60000	/* of each of the two processes; the debug kernel is slow */
#define DEBUG_STEPS	5000
#define SLOTS		6
#define FOLIOS		6	/* of an arena, at most */
#define SHARED_NAMES	3

/* What one arena must look like. */
struct slot {
	char name[64];
	int fd;			/* -1: there is none */
	size_t folios;		/* its size; 0: not set yet */
	bool populated[FOLIOS];
	uint64_t seed[FOLIOS];	/* of the content; 0: zeroes */
	char *data;
	int pin;
	size_t pinned;		/* small pages */
};

static uint64_t state;
static unsigned int worker;

static uint64_t draw(uint64_t below)
{
	/* xorshift64*: the same everywhere */
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dull >> 33) % below;
}

static void op_create(struct slot *slot)
{
	static unsigned int serial;

	snprintf(slot->name, sizeof(slot->name), MTS_MOUNT "/w%u-%u", worker, serial++);
	slot->fd = mts_arena(slot->name, 0, 0);
}

static void op_size(struct slot *slot)
{
	size_t folios = 1 + draw(FOLIOS);

	if (slot->folios) {
		ASSERT_ERRNO(ftruncate(slot->fd, folios * PAGE), EPERM);
		return;
	}
	ASSERT_OK(ftruncate(slot->fd, folios * PAGE));
	slot->folios = folios;
}

static void op_populate(struct slot *slot)
{
	size_t first = draw(FOLIOS), count = 1 + draw(2), i;

	if (first + count > slot->folios) {
		ASSERT_ERRNO(fallocate(slot->fd, 0, first * PAGE, count * PAGE), EFBIG);
		return;
	}
	ASSERT_OK(fallocate(slot->fd, 0, first * PAGE, count * PAGE));
	for (i = first; i < first + count; i++)
		slot->populated[i] = true;
}

static void op_map(struct slot *slot)
{
	if (slot->data) {
		ASSERT_OK(munmap(slot->data, slot->folios * PAGE));
		slot->data = NULL;
	} else if (slot->folios) {
		slot->data = mts_map(slot->fd, slot->folios * PAGE, 0);
	}
}

static uint64_t *word(struct slot *slot, size_t folio, int which)
{
	return (uint64_t *)(slot->data + folio * PAGE + (which ? PAGE - 8 : 0));
}

static void op_write(struct slot *slot)
{
	size_t folio = draw(FOLIOS);

	if (!slot->data || folio >= slot->folios || !slot->populated[folio])
		return;
	slot->seed[folio] = draw(1u << 30);
	*word(slot, folio, 0) = *word(slot, folio, 1) = slot->seed[folio];
}

static void op_check(struct slot *slot)
{
	size_t folio;

	if (!slot->data)
		return;
	for (folio = 0; folio < slot->folios; folio++) {
		if (!slot->populated[folio]) {
			ASSERT(mts_sigbus(slot->data + folio * PAGE));
			continue;
		}
		ASSERT_EQ(*word(slot, folio, 0), slot->seed[folio]);
		ASSERT_EQ(*word(slot, folio, 1), slot->seed[folio]);
	}
}

static void op_info(struct slot *slot)
{
	struct mts_arena_info info = mts_info(slot->fd);
	size_t folio, populated = 0;

	for (folio = 0; folio < slot->folios; folio++)
		populated += slot->populated[folio];
	ASSERT_EQ(info.length, slot->folios * PAGE);
	ASSERT_EQ(info.populated, populated * PAGE);
	ASSERT_LE(info.mapped, slot->data ? info.populated : 0);
	ASSERT_EQ(info.foreign, slot->pinned);
}

static void op_pin(struct slot *slot)
{
	size_t first = draw(FOLIOS), pages = 1 + draw(512);

	if (slot->pinned) {
		close(slot->pin);
		slot->pinned = 0;
	} else if (slot->data && first < slot->folios && slot->populated[first]) {
		ASSERT_OK(slot->pin = mts_pin(slot->data + first * PAGE, pages * 4096, draw(2)));
		slot->pinned = pages;
	}
}

static void op_rename(struct slot *slot)
{
	char name[64];

	snprintf(name, sizeof(name), "%.60sr", slot->name);
	if (strlen(slot->name) > 40)
		return;
	ASSERT_OK(rename(slot->name, name));
	snprintf(slot->name, sizeof(slot->name), "%s", name);
}

static void op_reopen(struct slot *slot)
{
	close(slot->fd);
	ASSERT_OK(slot->fd = open(slot->name, O_RDWR | O_CLOEXEC));
}

/* Name, descriptor, mapping and pin go in one of two orders. */
static void op_remove(struct slot *slot)
{
	bool unlink_first = draw(2);

	if (unlink_first)
		ASSERT_OK(unlink(slot->name));
	if (slot->pinned)
		close(slot->pin);
	close(slot->fd);
	if (slot->data)
		ASSERT_OK(munmap(slot->data, slot->folios * PAGE));
	if (!unlink_first)
		ASSERT_OK(unlink(slot->name));
	*slot = (struct slot){ .fd = -1 };
}

static void allow(long ret, const char *what, int a, int b, int c)
{
	if (ret == -1 && errno != a && errno != b && errno != c)
		FAIL("%s on a shared name: %s", what, strerror(errno));
}

static void touch_shared(int fd)
{
	char *data = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	allow((long)data, "mmap", ENXIO, 0, 0);
	if (data == MAP_FAILED)
		return;
	mts_sigbus(data + draw(2 * PAGE));
	ASSERT_OK(munmap(data, 2 * PAGE));
}

/* On names that the other process uses as well, any of some errors is right. */
static void op_shared(struct slot *slot)
{
	char name[64], other[64];
	int fd;

	snprintf(name, sizeof(name), MTS_MOUNT "/shared%llu",
		 (unsigned long long)draw(SHARED_NAMES));
	snprintf(other, sizeof(other), MTS_MOUNT "/shared%llu",
		 (unsigned long long)draw(SHARED_NAMES));
	if (!draw(4))
		allow(unlink(name), "unlink", ENOENT, 0, 0);
	if (!draw(4))
		allow(rename(name, other), "rename", ENOENT, 0, 0);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	allow(fd, "open", ENOENT, 0, 0);
	if (fd < 0)
		return;
	allow(ftruncate(fd, (1 + draw(3)) * PAGE), "ftruncate", EPERM, 0, 0);
	if (!draw(3))
		allow(fallocate(fd, 0, draw(2) * PAGE, PAGE), "fallocate", EFBIG, 0, 0);
	touch_shared(fd);
	mts_info(fd);
	close(fd);
}

/* How often each operation is drawn, in 100. */
static const struct {
	void (*run)(struct slot *slot);
	unsigned int weight;
} operations[] = {
	{ op_check, 20 }, { op_info, 16 }, { op_write, 14 }, { op_map, 10 }, { op_pin, 8 },
	{ op_populate, 8 }, { op_shared, 8 }, { op_reopen, 6 }, { op_rename, 4 }, { op_size, 3 },
	{ op_remove, 3 },
};

static void step(struct slot *slots)
{
	struct slot *slot = &slots[draw(SLOTS)];
	uint64_t drawn = draw(100);
	size_t i;

	if (slot->fd < 0) {
		op_create(slot);
		return;
	}
	for (i = 0; drawn >= operations[i].weight; i++)
		drawn -= operations[i].weight;
	operations[i].run(slot);
}

static size_t steps(void)
{
	return mts_kernel_is_debug() ? DEBUG_STEPS : STEPS;
}

static void work(uint64_t seed)
{
	struct slot slots[SLOTS];
	cpu_set_t cpus;
	size_t i, count = steps();

	CPU_ZERO(&cpus);
	CPU_SET(worker, &cpus);
	ASSERT_OK(sched_setaffinity(0, sizeof(cpus), &cpus));
	state = seed + worker + 1;
	for (i = 0; i < SLOTS; i++)
		slots[i] = (struct slot){ .fd = -1 };
	for (i = 0; i < count; i++)
		step(slots);
	for (i = 0; i < SLOTS; i++)
		if (slots[i].fd >= 0)
			op_remove(&slots[i]);
	_exit(0);
}

static void remove_shared(void)
{
	char name[64];
	int i;

	for (i = 0; i < SHARED_NAMES; i++) {
		snprintf(name, sizeof(name), MTS_MOUNT "/shared%d", i);
		unlink(name);
	}
}

static uint64_t seed_of_run(void)
{
	const char *given = getenv("MTS_SEED");

	return given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
}

TEST_LIMIT(random_operations, 400)
{
	uint64_t seed = seed_of_run();
	pid_t children[2];
	int status;

	mts_note("MTS_SEED=%llu", (unsigned long long)seed);
	mts_mount_node(1, 2 * SLOTS * FOLIOS * 2 + 64);
	for (worker = 0; worker < 2; worker++) {
		ASSERT_OK(children[worker] = fork());
		if (!children[worker])
			work(seed);
	}
	for (worker = 0; worker < 2; worker++) {
		ASSERT_EQ(waitpid(children[worker], &status, 0), children[worker]);
		ASSERT_EQ(status, 0);
	}
	remove_shared();
	ASSERT_EQ(mts_counter("folios"), 0);
	ASSERT_EQ(mts_counter("arenas_created"), mts_counter("arenas_evicted"));
	ASSERT_EQ(mts_counter("folios_populated"), mts_counter("folios_released"));
	mts_note("%zu steps, %lld arenas, %lld folios, %lld faults", 2 * steps(),
		 mts_counter("arenas_created"), mts_counter("folios_populated"),
		 mts_counter("faults"));
}
