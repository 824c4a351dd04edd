/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that live in this process (device_host.h). Floor: memory. Threads as device.h says.
 */
#include "memory/device_host.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "memory/available.h"

static struct mts_host_device *host(struct mts_device *dev)
{
	return (struct mts_host_device *)dev;
}

static int run(void *arg, const struct mts_op *op)
{
	struct mts_host_device *h = arg;
	int ret = mts_manual_meet(h->manual, MTS_FAIL_RUN);

	if (ret)
		return ret;
	if (op->kind != MTS_OP_FETCH)
		return h->run(h, op);
	if (h->moves)
		memcpy(op->fetch.dst, op->fetch.src, op->fetch.bytes);
	return 0;
}

static int lane_start(struct mts_host_device *h, enum mts_lane id,
		      const struct mts_device_config *cfg)
{
	struct mts_copy_lane *lane = &h->lane[id];

	lane->id = id;
	lane->moves = h->moves;
	lane->ns_per_byte = cfg->link_gbps > 0 ? 1 / cfg->link_gbps : 0;
	lane->ns_per_copy = (uint64_t)(cfg->copy_us * 1000);
	lane->manual = cfg->manual;
	lane->lost = &h->lost;
	return mts_copy_lane_open(lane);
}

static int check_config(const struct mts_device_config *cfg, struct mts_error *err)
{
	if (!isfinite(cfg->link_gbps) || cfg->link_gbps < 0 ||
	    (cfg->link_gbps > 0 && cfg->link_gbps < 1e-6)) {
		mts_error_set(err, "link rate %g GB/s: expected 0 (unpaced) or at least 1e-6",
			      cfg->link_gbps);
		return -EINVAL;
	}
	if (!(cfg->copy_us >= 0 && cfg->copy_us <= 1e6)) {
		mts_error_set(err, "copy cost %g us: expected 0 to 1000000", cfg->copy_us);
		return -EINVAL;
	}
	return 0;
}

int mts_host_device_start(struct mts_host_device *h, const struct mts_device_config *cfg,
			  struct mts_error *err)
{
	int ret = check_config(cfg, err);

	if (ret)
		return ret;
	h->manual = cfg->manual;
	ret = lane_start(h, MTS_H2D, cfg);
	if (ret)
		goto fail;
	ret = lane_start(h, MTS_D2H, cfg);
	if (ret)
		goto fail_d2h;
	ret = mts_queue_open(&h->queue, run, h, &h->lost);
	if (ret)
		goto fail_queue;
	if (h->manual)
		mts_manual_attach(h->manual, &h->lost);
	return 0;
fail_queue:
	mts_copy_lane_close(&h->lane[MTS_D2H]);
fail_d2h:
	mts_copy_lane_close(&h->lane[MTS_H2D]);
fail:
	mts_error_set(err, "device %s: cannot start its threads: %s", h->dev.ops->name,
		      strerror(-ret));
	return ret;
}

void mts_host_device_stop(struct mts_host_device *h)
{
	mts_queue_close(&h->queue);
	if (h->manual)
		mts_manual_attach(h->manual, NULL);
	mts_copy_lane_close(&h->lane[MTS_D2H]);
	mts_copy_lane_close(&h->lane[MTS_H2D]);
}

/* 0; -EIO once the device is lost; or what a test asked for at this point. */
static int enter(struct mts_host_device *h, enum mts_manual_point point)
{
	if (atomic_load_explicit(&h->lost, memory_order_relaxed))
		return -EIO;
	return mts_manual_meet(h->manual, point);
}

int mts_host_alloc(struct mts_device *dev, size_t bytes, void **out)
{
	struct mts_host_device *h = host(dev);
	int ret = enter(h, MTS_FAIL_ALLOC);
	void *p;

	if (ret)
		return ret;
	if (!bytes)
		return -EINVAL;
	/* Untouched memory costs nothing; touched beyond what there is, it costs the process. */
	if (h->moves && bytes > mts_memory_available())
		return -ENOMEM;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, bytes, MADV_HUGEPAGE);
	*out = p;
	return 0;
}

void mts_host_free(struct mts_device *dev, void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

int mts_host_write(struct mts_device *dev, void *dst, const void *src, size_t bytes)
{
	int ret = enter(host(dev), MTS_FAIL_SYNC);

	if (!ret && host(dev)->moves)
		memcpy(dst, src, bytes);
	return ret;
}

int mts_host_read(struct mts_device *dev, void *dst, const void *src, size_t bytes)
{
	int ret = enter(host(dev), MTS_FAIL_SYNC);

	if (!ret && host(dev)->moves)
		memcpy(dst, src, bytes);
	return ret;
}

int mts_host_zero(struct mts_device *dev, void *dst, size_t bytes)
{
	int ret = enter(host(dev), MTS_FAIL_SYNC);

	if (!ret && host(dev)->moves)
		memset(dst, 0, bytes);
	return ret;
}

int mts_host_register(struct mts_device *dev, void *p, size_t bytes)
{
	return enter(host(dev), MTS_FAIL_REGISTER);
}

void mts_host_unregister(struct mts_device *dev, void *p, size_t bytes)
{
}

int mts_host_copy(struct mts_device *dev, enum mts_lane lane, const struct mts_segment *seg,
		  unsigned n, uint64_t cookie)
{
	return mts_copy_lane_start(&host(dev)->lane[lane], seg, n, cookie);
}

int mts_host_copy_reap(struct mts_device *dev, enum mts_lane lane, struct mts_copy_done *out,
		       unsigned max)
{
	return mts_copy_lane_reap(&host(dev)->lane[lane], out, max);
}

void mts_host_copy_notify(struct mts_device *dev, void (*on_done)(void *), void *arg)
{
	for (int i = 0; i < MTS_LANES; i++)
		mts_copy_lane_notify(&host(dev)->lane[i], on_done, arg);
}

static int launch(struct mts_device *dev, const struct mts_op *op)
{
	int ret = enter(host(dev), MTS_FAIL_LAUNCH);

	if (!ret)
		mts_queue_put(&host(dev)->queue, op);
	return ret;
}

int mts_host_embed(struct mts_device *dev, const struct mts_op_embed *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_EMBED, .embed = *op });
}

int mts_host_norm(struct mts_device *dev, const struct mts_op_norm *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_NORM, .norm = *op });
}

int mts_host_gemm(struct mts_device *dev, const struct mts_op_gemm *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_GEMM, .gemm = *op });
}

int mts_host_append(struct mts_device *dev, const struct mts_op_append *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_APPEND, .append = *op });
}

int mts_host_attention(struct mts_device *dev, const struct mts_op_attention *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_ATTENTION, .attention = *op });
}

int mts_host_modulate(struct mts_device *dev, const struct mts_op_modulate *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_MODULATE, .modulate = *op });
}

int mts_host_pick(struct mts_device *dev, const struct mts_op_pick *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_PICK, .pick = *op });
}

int mts_host_score(struct mts_device *dev, const struct mts_op_score *op)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_SCORE, .score = *op });
}

int mts_host_fetch(struct mts_device *dev, void *dst, const void *src, size_t bytes)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_FETCH, .fetch = { dst, src, bytes } });
}

void mts_host_stats(struct mts_device *dev, struct mts_device_stats *out)
{
	const struct mts_queue *q = &host(dev)->queue;

	out->wait_ns = atomic_load_explicit(&q->wait_ns, memory_order_relaxed);
	out->run_ns = atomic_load_explicit(&q->run_ns, memory_order_relaxed);
}

int mts_host_wait(struct mts_device *dev, struct mts_gate *g)
{
	return launch(dev, &(struct mts_op){ .kind = MTS_OP_WAIT, .gate = g });
}

int mts_host_signal(struct mts_device *dev, struct mts_gate *g)
{
	mts_queue_put(&host(dev)->queue, &(struct mts_op){ .kind = MTS_OP_SIGNAL, .gate = g });
	return 0;
}
