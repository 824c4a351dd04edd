/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool (pool.h). Two threads may be all there is, and a copy thread wants one of them:
 * an idle worker sleeps on a condition, it never spins.
 *
 * A job is published under the lock by raising `round`; workers that wake take tasks from `next`
 * without the lock until none is left. `busy` counts workers inside the job's tasks: the caller
 * may not return, nor reuse the job, before it is 0. A worker that wakes after the caller has
 * closed the job (fn == NULL) goes back to sleep, so nobody waits for late risers.
 */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct worker {
	struct mts_pool *pool;
	pthread_t thread;
	unsigned index;
};

struct mts_pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* waited on by workers: round moved or stop */
	pthread_cond_t idle; /* waited on by the caller: busy fell to 0 */
	unsigned long round;
	unsigned busy;
	int stop;
	mts_task_fn fn; /* NULL between jobs */
	void *arg;
	unsigned tasks;
	atomic_uint next;
	unsigned threads;
	unsigned started; /* workers that exist: all but the caller */
	struct worker worker[];
};

static void take_tasks(struct mts_pool *pool, mts_task_fn fn, void *arg, unsigned tasks,
		       unsigned worker)
{
	unsigned t;

	/* relaxed: the lock orders a job's data; this only hands out numbers */
	while ((t = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < tasks)
		fn(arg, t, worker);
}

static void join_job(struct mts_pool *pool, unsigned worker)
{
	mts_task_fn fn = pool->fn;
	void *arg = pool->arg;
	unsigned tasks = pool->tasks;

	pool->busy++;
	pthread_mutex_unlock(&pool->lock);
	take_tasks(pool, fn, arg, tasks, worker);
	pthread_mutex_lock(&pool->lock);
	if (--pool->busy == 0)
		pthread_cond_signal(&pool->idle);
}

static void *worker_main(void *data)
{
	struct worker *me = data;
	struct mts_pool *pool = me->pool;
	unsigned long seen = 0;

	pthread_mutex_lock(&pool->lock);
	while (!pool->stop) {
		if (pool->round != seen && pool->fn) {
			seen = pool->round;
			join_job(pool, me->index);
		} else {
			pthread_cond_wait(&pool->work, &pool->lock);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static unsigned usable_cores(void)
{
	cpu_set_t set;
	long online;

	if (!sched_getaffinity(0, sizeof(set), &set))
		return (unsigned)CPU_COUNT(&set);
	online = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than a cpu_set_t holds */
	return online > 0 ? (unsigned)online : 1;
}

/* Signals are the application's: they must not land on a worker. */
static int start_workers(struct mts_pool *pool)
{
	sigset_t all, before;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i + 1 < pool->threads; i++) {
		struct worker *w = &pool->worker[i];

		*w = (struct worker){ .pool = pool, .index = i + 1 };
		rc = -pthread_create(&w->thread, NULL, worker_main, w);
		if (rc)
			break;
		pthread_setname_np(w->thread, "mts-compute");
		pool->started++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int mts_pool_open(unsigned threads, struct mts_pool **out)
{
	struct mts_pool *pool;
	int rc;

	if (!threads)
		threads = usable_cores();
	pool = calloc(1, sizeof(*pool) + (threads - 1) * sizeof(pool->worker[0]));
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	pool->threads = threads;
	rc = start_workers(pool);
	if (rc) {
		mts_pool_close(pool);
		return rc;
	}
	*out = pool;
	return 0;
}

void mts_pool_close(struct mts_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = 1;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->started; i++)
		pthread_join(pool->worker[i].thread, NULL);
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

unsigned mts_pool_threads(const struct mts_pool *pool)
{
	return pool->threads;
}

static void publish(struct mts_pool *pool, mts_task_fn fn, void *arg, unsigned tasks)
{
	pthread_mutex_lock(&pool->lock);
	pool->fn = fn;
	pool->arg = arg;
	pool->tasks = tasks;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	pool->round++;
	if (tasks - 1 < pool->started)
		for (unsigned i = 1; i < tasks; i++)
			pthread_cond_signal(&pool->work);
	else
		pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

void mts_pool_run(struct mts_pool *pool, mts_task_fn fn, void *arg, unsigned tasks)
{
	if (tasks <= 1 || !pool->started) {
		for (unsigned t = 0; t < tasks; t++)
			fn(arg, t, 0);
		return;
	}
	publish(pool, fn, arg, tasks);
	take_tasks(pool, fn, arg, tasks, 0);
	pthread_mutex_lock(&pool->lock);
	pool->fn = NULL;
	while (pool->busy)
		pthread_cond_wait(&pool->idle, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}
