/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads that share out numbered tasks and sleep in between.
 *
 * Inside the CPU kernels. One caller at a time per pool; it works too, as worker 0. A task may run
 * on any worker, in any order: results must not depend on either.
 */
#ifndef MTS_POOL_H
#define MTS_POOL_H

struct mts_pool;

typedef void (*mts_task_fn)(void *arg, unsigned task, unsigned worker);

/* threads counts the caller; 0 = one per core this process may use. -ENOMEM, -EAGAIN. */
int mts_pool_open(unsigned threads, struct mts_pool **out);
void mts_pool_close(struct mts_pool *pool);

unsigned mts_pool_threads(const struct mts_pool *pool);

/* Calls fn(arg, t, w) once for each t < tasks, w < threads; returns when all have returned. */
void mts_pool_run(struct mts_pool *pool, mts_task_fn fn, void *arg, unsigned tasks);

#endif
