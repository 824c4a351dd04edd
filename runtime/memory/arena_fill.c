/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Population of an arena (arena_part.h). Floor: memory; called by arena.c.
 *
 *   base ........ ready ................. next ............ end ...... bytes
 *   may be used   populated or under way  nobody's yet      given up
 *
 * Each thread takes the next chunk, gives it memory, and counts it to its piece; `ready` steps over
 * pieces that are complete. A failed chunk moves `end` to the begin of its piece. One mutex guards
 * all of it but the two watermarks, which others read without: release here, acquire there.
 */
#include <errno.h>
#include <numa.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "memory/arena_part.h"
#include "memory/park.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Divides MTS_ARENA_PIECE; small enough that all threads have work in the first piece. */
#define CHUNK ((size_t)16 << 20)
#define THREADS_MAX 16

struct mts_arena_fill {
	struct mts_arena *a;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* ready, or the number of workers */
	size_t next;
	unsigned workers;     /* still at it */
	bool stop;
	int error;
	uint64_t start, took;
	unsigned threads;
	pthread_t thread[THREADS_MAX];
	unsigned left[];      /* chunks missing, for each piece */
};

size_t mts_arena_ready(const struct mts_arena *a)
{
	return atomic_load_explicit(&a->ready, memory_order_acquire);
}

size_t mts_arena_end(const struct mts_arena *a)
{
	return atomic_load_explicit(&a->end, memory_order_acquire);
}

/* ---- one chunk ---- */

/* For kernels before 5.14, and memory that nothing can be written to yet. */
static int touch(struct mts_arena *a, char *from, size_t bytes)
{
	if (a->ops->reserved || a->ops->magic)
		return -ENOTSUP;
	for (size_t i = 0; i < bytes; i += 4096)
		*(volatile char *)(from + i) = 0;
	return 0;
}

static int map_in(struct mts_arena *a, char *from, size_t bytes)
{
	while (madvise(from, bytes, MADV_POPULATE_WRITE)) {
		if (errno == EINVAL)
			return touch(a, from, bytes);
		if (errno == EFAULT) /* would have been a signal: no page, or no room in a file system */
			return a->ops == &mts_arena_tmpfs ? -ENOSPC : -ENOMEM;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return 0;
}

static int populate_chunk(struct mts_arena *a, size_t at, size_t bytes)
{
	int ret = a->ops->populate ? a->ops->populate(a, at, bytes) : 0;

	return ret ? ret : map_in(a, a->base + at, bytes);
}

/* ---- the threads ---- */

static void chunk_done(struct mts_arena_fill *f, size_t at)
{
	struct mts_arena *a = f->a;
	size_t ready = mts_arena_ready(a), end = mts_arena_end(a);

	f->left[at / MTS_ARENA_PIECE]--;
	while (ready < end && !f->left[ready / MTS_ARENA_PIECE])
		ready = end - ready < MTS_ARENA_PIECE ? end : ready + MTS_ARENA_PIECE;
	atomic_store_explicit(&a->ready, ready, memory_order_release);
	pthread_cond_broadcast(&f->moved);
}

static void chunk_failed(struct mts_arena_fill *f, size_t at, int error)
{
	size_t end = at / MTS_ARENA_PIECE * MTS_ARENA_PIECE;

	f->error = error;
	if (end < mts_arena_end(f->a))
		atomic_store_explicit(&f->a->end, end, memory_order_release);
}

/* The last thread out. */
static void finish(struct mts_arena_fill *f)
{
	struct mts_arena *a = f->a;
	size_t end = mts_arena_end(a);

	f->took = mts_now() - f->start;
	if (end < a->bytes && a->ops->give_back)
		a->ops->give_back(a, end, a->bytes - end);
}

static void *work(void *arg)
{
	struct mts_arena_fill *f = arg;
	struct mts_arena *a = f->a;
	size_t at, bytes;
	int ret;

	if (mts_arena_has_numa())
		numa_run_on_node(a->info.node);
	pthread_mutex_lock(&f->lock);
	while (!f->stop && f->next < mts_arena_end(a)) {
		at = f->next;
		bytes = a->bytes - at < CHUNK ? a->bytes - at : CHUNK;
		f->next += bytes;
		pthread_mutex_unlock(&f->lock);
		ret = populate_chunk(a, at, bytes);
		pthread_mutex_lock(&f->lock);
		if (ret)
			chunk_failed(f, at, ret);
		else
			chunk_done(f, at);
	}
	if (!--f->workers)
		finish(f);
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static unsigned threads_for(const struct mts_arena *a, unsigned asked)
{
	struct bitmask *cpus;
	size_t chunks = (a->bytes - 1) / CHUNK + 1;
	unsigned n = asked;

	if (!n && mts_arena_has_numa()) {
		cpus = numa_allocate_cpumask();
		if (!numa_node_to_cpus(a->info.node, cpus))
			n = numa_bitmask_weight(cpus);
		numa_free_cpumask(cpus);
	}
	if (!n)
		n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	n = n > THREADS_MAX ? THREADS_MAX : n;
	return n > chunks ? (unsigned)chunks : n;
}

/* Signals are for the threads of the program, not for these. */
static void start_threads(struct mts_arena_fill *f, unsigned want)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&f->lock);
	while (f->threads < want && !pthread_create(&f->thread[f->threads], NULL, work, f))
		f->threads++;
	f->workers = f->threads;
	pthread_mutex_unlock(&f->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int fill_new(struct mts_arena *a)
{
	size_t pieces = (a->bytes - 1) / MTS_ARENA_PIECE + 1;
	struct mts_arena_fill *f = calloc(1, sizeof(*f) + pieces * sizeof(*f->left));

	if (!f)
		return -ENOMEM;
	for (size_t at = 0; at < a->bytes; at += CHUNK)
		f->left[at / MTS_ARENA_PIECE]++;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->moved, NULL);
	f->a = a;
	f->start = mts_now();
	a->fill = f;
	atomic_store(&a->end, a->bytes);
	return 0;
}

/* ---- for arena.c ---- */

static const char *reason(int error)
{
	return error == -EPERM ? "the cpuset of this process excludes the node" : strerror(-error);
}

int mts_arena_lost(struct mts_arena *a, struct mts_error *err)
{
	int error = 0;

	if (a->fill) {
		pthread_mutex_lock(&a->fill->lock);
		error = a->fill->error;
		pthread_mutex_unlock(&a->fill->lock);
	}
	if (error)
		mts_error_set(err, "arena %s: populating %zu MiB on node %d: %s; %zu MiB can be used",
			      a->ops->name, a->bytes >> 20, a->info.node, reason(error),
			      mts_arena_end(a) >> 20);
	return error;
}

int mts_arena_fill_start(struct mts_arena *a, unsigned threads, struct mts_error *err)
{
	struct mts_arena_fill *f;
	int ret = fill_new(a);

	if (ret) {
		mts_error_set(err, "arena %s: out of memory", a->ops->name);
		return ret;
	}
	f = a->fill;
	start_threads(f, threads_for(a, threads));
	if (!f->threads) {
		mts_error_set(err, "arena %s: cannot start a thread to populate it", a->ops->name);
		mts_arena_fill_stop(a);
		return -EAGAIN;
	}
	pthread_mutex_lock(&f->lock);
	while (!mts_arena_ready(a) && f->workers)
		pthread_cond_wait(&f->moved, &f->lock);
	a->info.seconds = (double)(f->workers ? mts_now() - f->start : f->took) * 1e-9;
	pthread_mutex_unlock(&f->lock);
	if (mts_arena_ready(a))
		return 0;
	ret = mts_arena_lost(a, err);
	mts_arena_fill_stop(a);
	return ret;
}

void mts_arena_fill_wait(struct mts_arena *a)
{
	struct mts_arena_fill *f = a->fill;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	while (f->workers)
		pthread_cond_wait(&f->moved, &f->lock);
	a->info.seconds = (double)f->took * 1e-9;
	pthread_mutex_unlock(&f->lock);
}

void mts_arena_fill_stop(struct mts_arena *a)
{
	struct mts_arena_fill *f = a->fill;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_mutex_unlock(&f->lock);
	for (unsigned i = 0; i < f->threads; i++)
		pthread_join(f->thread[i], NULL);
	pthread_cond_destroy(&f->moved);
	pthread_mutex_destroy(&f->lock);
	free(f);
	a->fill = NULL;
}
