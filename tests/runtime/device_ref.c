/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle device (device_ref.h).
 */
#include "device_ref.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_ops.h"

static struct device_ref *ref_of(struct mts_device *dev)
{
	return (struct device_ref *)dev;
}

/* Counts and notes a launch. 1: run it; 0: skip it, an earlier one failed; -errno: refuse it. */
static int launch(struct device_ref *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int launch(struct device_ref *d, const char *fmt, ...)
{
	size_t at = strlen(d->log);
	va_list args;

	d->launches++;
	if (d->launches == d->fail_launch)
		return -ENOMEM;
	va_start(args, fmt);
	vsnprintf(d->log + at, sizeof(d->log) - at, fmt, args);
	va_end(args);
	if (d->launches == d->fail_run)
		d->error = d->error ? d->error : -EIO;
	return d->error ? 0 : 1;
}

static int ref_prepare(struct mts_device *dev, const uint32_t (*nk)[2], unsigned shapes,
		       struct mts_error *err)
{
	ref_of(dev)->prepared += shapes;
	return 0;
}

static int ref_alloc(struct mts_device *dev, size_t bytes, void **out)
{
	struct device_ref *d = ref_of(dev);

	if (++d->allocs == d->fail_alloc)
		return -ENOMEM;
	*out = calloc(1, bytes);
	d->live += *out != NULL;
	return *out ? 0 : -ENOMEM;
}

static void ref_free(struct mts_device *dev, void *p, size_t bytes)
{
	ref_of(dev)->live--;
	free(p);
}

static int ref_copy_now(struct mts_device *dev, void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
	return 0;
}

static int ref_zero(struct mts_device *dev, void *dst, size_t bytes)
{
	memset(dst, 0, bytes);
	return 0;
}

/* Runs a reference operation into doubles, and stores them as the operation's n floats. */
#define RUN(d, reference, op, to, n, ...)                                                          \
	({                                                                                         \
		int run = launch(d, __VA_ARGS__);                                                  \
		if (run == 1) {                                                                    \
			double *wide = calloc((n) + 1, sizeof(*wide));                             \
			reference(op, wide);                                                       \
			for (size_t i = 0; i < (n); i++)                                           \
				(to)[i] = (float)wide[i];                                          \
			free(wide);                                                                \
		}                                                                                  \
		run < 0 ? run : 0;                                                                 \
	})

static int ref_embed(struct mts_device *dev, const struct mts_op_embed *op)
{
	return RUN(ref_of(dev), mts_ref_embed, op, op->x, (size_t)op->pass->rows * op->d, "e");
}

static int ref_norm(struct mts_device *dev, const struct mts_op_norm *op)
{
	return RUN(ref_of(dev), mts_ref_norm, op, op->y, (size_t)op->rows * op->d, "n");
}

static int ref_gemm(struct mts_device *dev, const struct mts_op_gemm *op)
{
	return RUN(ref_of(dev), mts_ref_gemm, op, op->c, (size_t)op->m * op->n, "g");
}

static int ref_append(struct mts_device *dev, const struct mts_op_append *op)
{
	int run = launch(ref_of(dev), "a%u", op->layer);

	if (run == 1)
		mts_ref_append(op);
	return run < 0 ? run : 0;
}

static int ref_attention(struct mts_device *dev, const struct mts_op_attention *op)
{
	const struct mts_kv_layout *y = &op->kv->layout;

	return RUN(ref_of(dev), mts_ref_attention, op, op->o,
		   (size_t)op->pass->rows * y->heads * y->dv, "A%u", op->layer);
}

static int ref_modulate(struct mts_device *dev, const struct mts_op_modulate *op)
{
	return RUN(ref_of(dev), mts_ref_modulate, op, op->out,
		   (size_t)op->rows * op->hdv * (op->concat ? 3 : 1), "m");
}

static int ref_pick(struct mts_device *dev, const struct mts_op_pick *op)
{
	return RUN(ref_of(dev), mts_ref_pick, op, op->y, (size_t)op->pass->candidates * op->d, "p");
}

static int ref_score(struct mts_device *dev, const struct mts_op_score *op)
{
	return RUN(ref_of(dev), mts_ref_score, op, op->scores, (size_t)op->rows * op->tasks, "s");
}

static int ref_fetch(struct mts_device *dev, void *dst, const void *src, size_t bytes)
{
	int run = launch(ref_of(dev), "f");

	if (run == 1)
		memcpy(dst, src, bytes);
	return run < 0 ? run : 0;
}

static int ref_wait(struct mts_device *dev, struct mts_gate *g)
{
	struct device_ref *d = ref_of(dev);
	int run = launch(d, "W");

	if (run == 1)
		d->error = mts_gate_wait(g, -1);
	return run < 0 ? run : 0;
}

static int ref_signal(struct mts_device *dev, struct mts_gate *g)
{
	struct device_ref *d = ref_of(dev);
	int refused = launch(d, "S");

	mts_gate_arrive(g, refused < 0 ? refused : d->error);
	d->error = 0;
	return refused < 0 ? refused : 0;
}

static const struct mts_device_ops device_ref_ops = {
	.name = "ref",
	.prepare = ref_prepare,
	.alloc = ref_alloc,
	.free = ref_free,
	.write = ref_copy_now,
	.read = ref_copy_now,
	.zero = ref_zero,
	.embed = ref_embed,
	.norm = ref_norm,
	.gemm = ref_gemm,
	.append = ref_append,
	.attention = ref_attention,
	.modulate = ref_modulate,
	.pick = ref_pick,
	.score = ref_score,
	.fetch = ref_fetch,
	.wait = ref_wait,
	.signal = ref_signal,
};

void device_ref_init(struct device_ref *d)
{
	*d = (struct device_ref){.dev.ops = &device_ref_ops};
}
