/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU device: the kernels of kernels/cpu behind queue and lanes of their own, so that copies
 * run beside the computation as on a GPU. Floor: memory. Its "device memory" is host memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "error.h"
#include "memory/device_host.h"

struct cpu_device {
	struct mts_host_device host; /* first */
	struct mts_cpu *cpu;
};

static int run(struct mts_host_device *h, const struct mts_op *op)
{
	struct mts_cpu *cpu = ((struct cpu_device *)h)->cpu;

	switch (op->kind) {
	case MTS_OP_EMBED:
		mts_cpu_embed(cpu, &op->embed);
		return 0;
	case MTS_OP_NORM:
		mts_cpu_norm(cpu, &op->norm);
		return 0;
	case MTS_OP_GEMM:
		return mts_cpu_gemm(cpu, &op->gemm);
	case MTS_OP_APPEND:
		mts_cpu_append(cpu, &op->append);
		return 0;
	case MTS_OP_ATTENTION:
		return mts_cpu_attention(cpu, &op->attention);
	case MTS_OP_MODULATE:
		mts_cpu_modulate(cpu, &op->modulate);
		return 0;
	case MTS_OP_PICK:
		mts_cpu_pick(cpu, &op->pick);
		return 0;
	case MTS_OP_SCORE:
		mts_cpu_score(cpu, &op->score);
		return 0;
	default:
		return -EINVAL;
	}
}

static int cpu_open(const struct mts_device_config *cfg, struct mts_device **out,
		    struct mts_error *err)
{
	struct cpu_device *d = aligned_alloc(64, sizeof(*d));
	int ret;

	if (!d) {
		mts_error_set(err, "device cpu: out of memory");
		return -ENOMEM;
	}
	*d = (struct cpu_device){ .host = { .dev.ops = &mts_device_cpu, .moves = 1, .run = run } };
	ret = mts_cpu_open(cfg->threads, &d->cpu, err);
	if (ret)
		goto fail;
	ret = mts_host_device_start(&d->host, cfg, err);
	if (ret)
		goto fail_start;
	*out = &d->host.dev;
	return 0;
fail_start:
	mts_cpu_close(d->cpu);
fail:
	free(d);
	return ret;
}

static void cpu_close(struct mts_device *dev)
{
	struct cpu_device *d = (struct cpu_device *)dev;

	mts_host_device_stop(&d->host);
	mts_cpu_close(d->cpu);
	free(d);
}

static void cpu_info(struct mts_device *dev, struct mts_device_info *out)
{
	const struct mts_cpu *cpu = ((struct cpu_device *)dev)->cpu;

	*out = (struct mts_device_info){ .name = "" };
	snprintf(out->name, sizeof(out->name), "cpu, %u threads", mts_cpu_threads(cpu));
	mts_cpu_describe(cpu, out->numerics, sizeof(out->numerics));
	snprintf(out->refused, sizeof(out->refused), "%s", mts_cpu_refused(cpu));
	out->memory_total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

static int cpu_prepare(struct mts_device *dev, const uint32_t (*nk)[2], unsigned shapes,
		       struct mts_error *err)
{
	return mts_cpu_prepare(((struct cpu_device *)dev)->cpu, nk, shapes, err);
}

const struct mts_device_ops mts_device_cpu = {
	.name = "cpu",
	.open = cpu_open,
	.close = cpu_close,
	.info = cpu_info,
	.prepare = cpu_prepare,
	MTS_HOST_DEVICE_OPS,
};
