/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAS libraries, loaded at run time: OpenBLAS and BLIS export the same names, so neither can be
 * linked if both are to be tried. Inside the CPU kernels, used by gemm.c only.
 *
 * Libraries are loaded once per process and stay (their threads and buffers do not survive an
 * unload); any thread may call.
 */
#ifndef MTS_BLAS_H
#define MTS_BLAS_H

enum mts_blas_id { MTS_OPENBLAS, MTS_BLIS, MTS_BLAS_COUNT };

enum { MTS_BLAS_ROW_MAJOR = 101, MTS_BLAS_COL_MAJOR = 102 };
enum { MTS_BLAS_NO_TRANS = 111, MTS_BLAS_TRANS = 112 };

typedef void (*mts_sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
			     const float *a, int lda, const float *b, int ldb, float beta, float *c,
			     int ldc);

struct mts_blas {
	mts_sgemm_fn sgemm; /* single-threaded, safe on several threads at once; NULL: not usable */
	int tuned;          /* has kernels for this processor, not only generic ones */
	char name[64];      /* library, version, core */
	char why_not[128];  /* where sgemm is NULL */
};

/* Never NULL, never fails: an unusable library says so in why_not. */
const struct mts_blas *mts_blas_get(enum mts_blas_id id);

#endif
