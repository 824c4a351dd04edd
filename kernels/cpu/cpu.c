/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU kernels' front (cpu.h): chooses the instruction set, cuts each operation into tasks and
 * runs them on the pool.
 *
 * How an operation is cut depends on its size and the number of threads; no result does.
 */
#include "cpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "error.h"
#include "gemm.h"
#include "isa.h"
#include "pool.h"

struct mts_cpu {
	const struct mts_isa *isa;
	struct mts_pool *pool;
	struct mts_gemm *gemm;
	char *scratch; /* attention's, one piece per worker; grows */
	size_t scratch_bytes;
};

/* ---- the instruction set ---- */

static const struct mts_isa *const isas[] = {
#ifdef __x86_64__
	&mts_isa_avx512, &mts_isa_avx2,
#endif
	&mts_isa_scalar,
};

static int isa_supported(const struct mts_isa *isa)
{
#ifdef __x86_64__
	__builtin_cpu_init();
	if (isa == &mts_isa_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		       __builtin_cpu_supports("fma");
	if (isa == &mts_isa_avx2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
	return 1;
}

static int choose_isa(const char *want, const struct mts_isa **out, struct mts_error *err)
{
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
		int named = want && !strcmp(want, isas[i]->name);

		if (want && !named)
			continue;
		if (isa_supported(isas[i])) {
			*out = isas[i];
			return 0;
		}
		if (named) {
			mts_error_set(err, "MTS_CPU_ISA=%s: this processor does not have it", want);
			return -ENOTSUP;
		}
	}
	mts_error_set(err, "MTS_CPU_ISA=%s: expected avx512, avx2 or scalar", want);
	return -EINVAL;
}

/* ---- life ---- */

int mts_cpu_open(unsigned threads, struct mts_cpu **out, struct mts_error *err)
{
	const struct mts_isa *isa;
	struct mts_cpu *cpu;
	int rc = choose_isa(getenv("MTS_CPU_ISA"), &isa, err);

	if (rc)
		return rc;
	cpu = calloc(1, sizeof(*cpu));
	if (!cpu) {
		mts_error_set(err, "cannot start compute threads: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	cpu->isa = isa;
	rc = mts_pool_open(threads, &cpu->pool);
	if (!rc)
		rc = mts_gemm_open(cpu->pool, isa, &cpu->gemm);
	if (rc) {
		mts_error_set(err, "cannot start compute threads: %s", strerror(-rc));
		mts_cpu_close(cpu);
		return rc;
	}
	*out = cpu;
	return 0;
}

void mts_cpu_close(struct mts_cpu *cpu)
{
	if (!cpu)
		return;
	mts_gemm_close(cpu->gemm);
	mts_pool_close(cpu->pool);
	free(cpu->scratch);
	free(cpu);
}

int mts_cpu_prepare(struct mts_cpu *cpu, const uint32_t (*nk)[2], unsigned shapes,
		    struct mts_error *err)
{
	return mts_gemm_prepare(cpu->gemm, nk, shapes, err);
}

void mts_cpu_describe(const struct mts_cpu *cpu, char *out, size_t size)
{
	const char *gemm = mts_gemm_choice(cpu->gemm);

	snprintf(out, size, "%s%s%s", cpu->isa->name, *gemm ? ", " : "", gemm);
}

const char *mts_cpu_refused(const struct mts_cpu *cpu)
{
	return mts_gemm_refused(cpu->gemm);
}

unsigned mts_cpu_threads(const struct mts_cpu *cpu)
{
	return mts_pool_threads(cpu->pool);
}

/* ---- operations over ranges of rows ---- */

struct rows_job {
	const struct mts_isa *isa;
	const void *op;
	uint32_t rows, step;
};

/* Fewer bytes than this are done before a sleeping worker has woken. */
enum { TASK_BYTES = 64 * 1024 };

static void run_rows(struct mts_cpu *cpu, mts_task_fn fn, const void *op, uint32_t rows,
		     size_t row_bytes)
{
	struct rows_job job = { cpu->isa, op, rows, 1 + (uint32_t)(TASK_BYTES / (row_bytes + 1)) };

	mts_pool_run(cpu->pool, fn, &job, (rows + job.step - 1) / job.step);
}

static uint32_t job_end(const struct rows_job *job, unsigned task)
{
	uint64_t end = ((uint64_t)task + 1) * job->step;

	return end < job->rows ? (uint32_t)end : job->rows;
}

#define ROWS_TASK(name)                                                                \
	static void name##_task(void *arg, unsigned task, unsigned worker)             \
	{                                                                              \
		const struct rows_job *job = arg;                                      \
                                                                                       \
		job->isa->name(job->op, task * job->step, job_end(job, task));         \
	}

ROWS_TASK(embed)
ROWS_TASK(norm)
ROWS_TASK(append)
ROWS_TASK(modulate)
ROWS_TASK(score)

void mts_cpu_embed(struct mts_cpu *cpu, const struct mts_op_embed *op)
{
	run_rows(cpu, embed_task, op, op->pass->rows, 4 * sizeof(float) * op->d);
}

void mts_cpu_norm(struct mts_cpu *cpu, const struct mts_op_norm *op)
{
	run_rows(cpu, norm_task, op, op->rows, 4 * sizeof(float) * op->d);
}

void mts_cpu_append(struct mts_cpu *cpu, const struct mts_op_append *op)
{
	const struct mts_kv_layout *y = &op->kv->layout;

	run_rows(cpu, append_task, op, op->pass->rows,
		 2 * sizeof(float) * y->heads * (y->dq + y->dv));
}

void mts_cpu_modulate(struct mts_cpu *cpu, const struct mts_op_modulate *op)
{
	run_rows(cpu, modulate_task, op, op->rows, 6 * sizeof(float) * op->hdv);
}

void mts_cpu_score(struct mts_cpu *cpu, const struct mts_op_score *op)
{
	run_rows(cpu, score_task, op, op->rows, 4 * sizeof(float) * op->k);
}

void mts_cpu_pick(struct mts_cpu *cpu, const struct mts_op_pick *op)
{
	size_t d = op->d;
	float *y = op->y;

	for (uint32_t i = 0; i < op->pass->spans; i++) {
		const struct mts_span *s = &op->pass->span[i];

		memcpy(y, op->x + (s->row + s->history) * d, s->candidates * d * sizeof(*y));
		y += s->candidates * d;
	}
}

int mts_cpu_gemm(struct mts_cpu *cpu, const struct mts_op_gemm *op)
{
	return mts_gemm_run(cpu->gemm, op);
}

/* ---- attention ---- */

struct attention_job {
	struct mts_cpu *cpu;
	const struct mts_op_attention *op;
	uint32_t rows; /* most rows of a task */
};

static uint32_t span_tasks(const struct mts_span *s, uint32_t rows)
{
	return (s->history + s->candidates + rows - 1) / rows;
}

static uint32_t pass_tasks(const struct mts_op_attention *op, uint32_t rows)
{
	uint32_t tasks = 0;

	for (uint32_t i = 0; i < op->pass->spans; i++)
		tasks += span_tasks(&op->pass->span[i], rows);
	return tasks * op->kv->layout.heads;
}

/*
 * Task number t: spans in order; in a span the last rows first, since they see the most keys and
 * long tasks should not come last.
 */
static struct mts_attention_task find_task(const struct attention_job *job, unsigned t)
{
	uint32_t heads = job->op->kv->layout.heads;
	struct mts_attention_task task = { .head = t % heads };
	uint32_t at = t / heads, n, rows, each;
	const struct mts_span *s = job->op->pass->span;

	for (; at >= (n = span_tasks(s, job->rows)); s++) {
		at -= n;
		task.candidate += s->candidates;
	}
	rows = s->history + s->candidates;
	each = (rows + n - 1) / n;
	task.span = (uint32_t)(s - job->op->pass->span);
	task.first = (n - 1 - at) * each;
	task.end = task.first + each < rows ? task.first + each : rows;
	return task;
}

static void attention_task(void *arg, unsigned t, unsigned worker)
{
	struct attention_job *job = arg;
	struct mts_attention_task task = find_task(job, t);

	if (task.first < task.end)
		job->cpu->isa->attention(job->op, &task,
					 job->cpu->scratch + worker * job->cpu->scratch_bytes);
}

static int reserve_scratch(struct mts_cpu *cpu, size_t bytes)
{
	char *p;

	bytes = (bytes + 63) / 64 * 64;
	if (bytes <= cpu->scratch_bytes)
		return 0;
	p = aligned_alloc(64, bytes * mts_pool_threads(cpu->pool));
	if (!p)
		return -ENOMEM;
	free(cpu->scratch);
	cpu->scratch = p;
	cpu->scratch_bytes = bytes;
	return 0;
}

int mts_cpu_attention(struct mts_cpu *cpu, const struct mts_op_attention *op)
{
	struct attention_job job = { cpu, op, MTS_ATTENTION_ROWS };
	uint32_t want = 2 * mts_pool_threads(cpu->pool);
	int rc = reserve_scratch(cpu, cpu->isa->attention_scratch(&op->kv->layout));

	if (rc)
		return rc;
	/* every task packs its keys anew: smaller ones only where workers would go without */
	while (job.rows > 48 && pass_tasks(op, job.rows) < want)
		job.rows /= 2;
	mts_pool_run(cpu->pool, attention_task, &job, pass_tasks(op, job.rows));
	return 0;
}
