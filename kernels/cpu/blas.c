/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds OpenBLAS and BLIS and makes them single-threaded (blas.h).
 *
 * OpenBLAS comes in builds. The sequential one shares a buffer table between callers without a
 * lock: with six threads of it, 695 of 360,000 products came out wrong. The OpenMP one keeps its
 * thread count per thread. Only the pthread one, set to one thread, is safe here; it is looked for
 * in its own folder first, since the plain name may lead to any of them.
 */
#include "blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifndef MTS_MULTIARCH
#define MTS_MULTIARCH "."
#endif

enum { OPENBLAS_PTHREAD = 1 }; /* what openblas_get_parallel answers */

static struct mts_blas libraries[MTS_BLAS_COUNT];
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

/* dlsym gives a pointer to an object; ISO C lets it become a function only through memory */
#define LOOKUP(lib, fn, symbol) (*(void **)&(fn) = dlsym(lib, symbol))

static void *open_first(const char *const *names, struct mts_blas *b)
{
	void *lib = NULL;

	for (; *names && !lib; names++)
		lib = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		snprintf(b->why_not, sizeof(b->why_not), "%s not found", names[-1]);
	return lib;
}

static void load_openblas(struct mts_blas *b)
{
	static const char *const names[] = {
		"/usr/lib/" MTS_MULTIARCH "/openblas-pthread/libopenblas.so.0",
		"libopenblas.so.0",
		NULL,
	};
	void *lib = open_first(names, b);
	void (*set_threads)(int);
	int (*parallel)(void);
	char *(*config)(void);
	char *(*core)(void);
	char version[32] = "";

	if (!lib)
		return;
	LOOKUP(lib, set_threads, "openblas_set_num_threads");
	LOOKUP(lib, parallel, "openblas_get_parallel");
	LOOKUP(lib, config, "openblas_get_config");
	LOOKUP(lib, core, "openblas_get_corename");
	if (!set_threads || !parallel || !config || !core || parallel() != OPENBLAS_PTHREAD) {
		snprintf(b->why_not, sizeof(b->why_not),
			 "this build of OpenBLAS is not the pthread one, the only one safe on "
			 "several threads");
		return;
	}
	set_threads(1);
	sscanf(config(), "OpenBLAS %31s", version);
	snprintf(b->name, sizeof(b->name), "OpenBLAS %.16s %.24s", version, core());
	b->tuned = 1;
	LOOKUP(lib, b->sgemm, "cblas_sgemm");
}

static void load_blis(struct mts_blas *b)
{
	static const char *const names[] = { "libblis.so.4", NULL };
	void *lib = open_first(names, b);
	void (*set_threads)(long);
	const char *(*version)(void);
	const char *(*arch_name)(int);
	int (*arch)(void);

	if (!lib)
		return;
	LOOKUP(lib, set_threads, "bli_thread_set_num_threads");
	LOOKUP(lib, version, "bli_info_get_version_str");
	LOOKUP(lib, arch, "bli_arch_query_id");
	LOOKUP(lib, arch_name, "bli_arch_string");
	if (!set_threads || !version || !arch || !arch_name) {
		snprintf(b->why_not, sizeof(b->why_not), "libblis.so.4 is of an unknown version");
		return;
	}
	set_threads(1);
	snprintf(b->name, sizeof(b->name), "BLIS %.16s %.24s", version(), arch_name(arch()));
	b->tuned = strcmp(arch_name(arch()), "generic") != 0;
	LOOKUP(lib, b->sgemm, "cblas_sgemm");
}

static void load_all(void)
{
	load_openblas(&libraries[MTS_OPENBLAS]);
	load_blis(&libraries[MTS_BLIS]);
}

const struct mts_blas *mts_blas_get(enum mts_blas_id id)
{
	pthread_once(&loaded, load_all);
	return &libraries[id];
}
