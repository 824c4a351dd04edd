/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a model onto a device (weights.h): every tensor converted to float32 once, piece by piece,
 * so that the host never holds a second copy of the model. Floor: model. Owner's thread.
 */
#include "model/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { PIECE = 1 << 18 }; /* elements converted at a time */

struct buffer {
	void **at;
	size_t bytes;
};

enum { BUFFERS = 11 };

/* The device buffers of a slot with their sizes: one list for reserving and for giving back. */
static void slot_buffers(const struct mts_weights *w, struct mts_activations *s, struct buffer *out)
{
	const struct mts_model_config *c = &w->config;
	size_t row = w->rows * sizeof(float), cand = w->candidates * sizeof(float);
	size_t own = (size_t)w->candidates * c->heads * (c->dq + c->dv) * mts_dtype_bytes(w->kv);
	const struct buffer list[BUFFERS] = {
		{(void **)&s->x, row * c->d},
		{(void **)&s->n, row * c->d},
		{(void **)&s->z, row * mts_config_zcols(c)},
		{(void **)&s->o, row * mts_config_hdv(c)},
		{(void **)&s->y, row * mts_config_ycols(c)},
		{(void **)&s->own, own},
		{(void **)&s->tail_x, cand * c->d},
		{(void **)&s->tail_n, cand * c->d},
		{(void **)&s->tail_z, cand * mts_config_zcols(c)},
		{(void **)&s->head, cand * c->head_hidden},
		{(void **)&s->scores, cand * c->tasks},
	};

	memcpy(out, list, sizeof(list));
}

static int slot_open(struct mts_weights *w, struct mts_activations *s)
{
	struct buffer list[BUFFERS];
	int rc = 0;

	s->span = calloc(w->candidates + 1, sizeof(s->span[0]));
	if (!s->span)
		return -ENOMEM;
	slot_buffers(w, s, list);
	for (int i = 0; i < BUFFERS && rc == 0; i++)
		if (list[i].bytes)
			rc = w->dev->ops->alloc(w->dev, list[i].bytes, list[i].at);
	return rc;
}

static void slot_close(struct mts_weights *w, struct mts_activations *s)
{
	struct buffer list[BUFFERS];

	slot_buffers(w, s, list);
	for (int i = 0; i < BUFFERS; i++)
		if (*list[i].at)
			w->dev->ops->free(w->dev, *list[i].at, list[i].bytes);
	free(s->span);
}

static int upload(struct mts_weights *w, const struct mts_model *m, unsigned index, float *piece)
{
	struct mts_weight_spec s;
	size_t total, n;
	int rc;

	mts_weight_describe(&w->config, index, &s);
	total = mts_weight_elements(&s);
	rc = w->dev->ops->alloc(w->dev, total * sizeof(float), (void **)&w->tensor[index]);
	for (size_t at = 0; at < total && rc == 0; at += n) {
		n = total - at < PIECE ? total - at : PIECE;
		mts_model_read(m, s.role, s.layer, at, n, piece);
		rc = w->dev->ops->write(w->dev, w->tensor[index] + at, piece, n * sizeof(float));
	}
	return rc;
}

static int upload_all(struct mts_weights *w, const struct mts_model *m, struct mts_error *err)
{
	unsigned count = mts_weight_count(&w->config);
	float *piece = malloc(PIECE * sizeof(float));
	struct mts_weight_spec s;
	int rc = piece ? 0 : -ENOMEM;

	for (unsigned i = 0; i < count && rc == 0; i++) {
		rc = upload(w, m, i, piece);
		if (rc) {
			mts_weight_describe(&w->config, i, &s);
			mts_error_set(err, "tensor \"%s\": cannot load onto the device: %s", s.name,
				      strerror(-rc));
		}
	}
	free(piece);
	return rc;
}

static int reserve_slots(struct mts_weights *w, struct mts_error *err)
{
	int rc = 0;

	for (unsigned i = 0; i < w->slots && rc == 0; i++)
		rc = slot_open(w, &w->slot[i]);
	if (rc)
		mts_error_set(err,
			      "no device memory for %u passes of %u rows and %u candidates: %s",
			      w->slots, w->rows, w->candidates, strerror(-rc));
	return rc;
}

int mts_model_prepare(struct mts_device *dev, const struct mts_model_config *c,
		      struct mts_error *err)
{
	const uint32_t nk[][2] = {
		{mts_config_zcols(c), c->d},
		{c->d, mts_config_ycols(c)},
		{c->head_hidden, c->d},
	};

	return dev->ops->prepare(dev, nk, sizeof(nk) / sizeof(nk[0]), err);
}

static int allocate(struct mts_weights *w)
{
	w->tensor = calloc(mts_weight_count(&w->config), sizeof(w->tensor[0]));
	w->slot = calloc(w->slots, sizeof(w->slot[0]));
	return w->tensor && w->slot ? 0 : -ENOMEM;
}

int mts_weights_open(struct mts_device *dev, const struct mts_model *m, uint32_t rows,
		     uint32_t candidates, unsigned slots, enum mts_dtype kv,
		     struct mts_weights **out, struct mts_error *err)
{
	struct mts_weights *w = calloc(1, sizeof(*w));
	int rc;

	mts_error_set(err, "out of memory");
	if (!w)
		return -ENOMEM;
	*w = (struct mts_weights){.dev = dev,
				  .config = *mts_model_get_config(m),
				  .rows = rows,
				  .candidates = candidates,
				  .kv = kv,
				  .slots = slots};
	rc = allocate(w);
	if (rc == 0)
		rc = mts_model_prepare(dev, &w->config, err);
	if (rc == 0)
		rc = upload_all(w, m, err);
	if (rc == 0)
		rc = reserve_slots(w, err);
	if (rc)
		mts_weights_close(w);
	else
		*out = w;
	return rc;
}

void mts_weights_close(struct mts_weights *w)
{
	struct mts_weight_spec s;

	if (!w)
		return;
	for (unsigned i = 0; w->slot && i < w->slots; i++)
		slot_close(w, &w->slot[i]);
	for (unsigned i = 0; w->tensor && i < mts_weight_count(&w->config); i++) {
		mts_weight_describe(&w->config, i, &s);
		if (w->tensor[i])
			w->dev->ops->free(w->dev, w->tensor[i],
					  mts_weight_elements(&s) * sizeof(float));
	}
	free(w->slot);
	free(w->tensor);
	free(w);
}
