/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: its file, its weights on a device, and the HSTU forward pass over device operations.
 *
 * Floor: model. Source of the formulas: "Actions Speak Louder than Words" (Zhai et al., 2024); the
 * two variants are those of NVIDIA recsys-examples (HSTU) and Meta generative-recommenders (STU).
 *
 *   struct mts_model    a model file, checked and mapped, on the host. Read-only, any thread.
 *   struct mts_weights  its tensors in float32 on one device, and activations. Owner's thread.
 */
#ifndef MTS_MODEL_H
#define MTS_MODEL_H

#include "memory/device.h"

struct mts_error;

struct mts_model_config {
	uint32_t layers, d, heads, dq, dv;
	uint32_t items, actions;
	uint32_t positions;   /* P */
	uint32_t head_hidden; /* m */
	uint32_t tasks;
	uint32_t window;      /* max_attn_len, 0 = all */
	uint32_t max_history; /* H */
	uint32_t slide;       /* S, divides H */
	float scale_len;      /* attn_scale_len */
	float eps;
	uint32_t act_all;     /* uvqk_act: 1 "all", 0 "u" */
	uint32_t concat;      /* concat_ux: 0 or 1 */
};

struct mts_model;

/* Maps and checks a file (untrusted). -errno; err names the tensor or key and what was expected. */
int mts_model_open(const char *path, struct mts_model **out, struct mts_error *err);
/* The same from memory, which stays the caller's and must outlive the model. */
int mts_model_parse(const void *buf, size_t len, struct mts_model **out, struct mts_error *err);
void mts_model_close(struct mts_model *m);
const struct mts_model_config *mts_model_get_config(const struct mts_model *m);
/* XXH3-128 over every byte of the file, low then high. */
void mts_model_hash(const struct mts_model *m, uint64_t out[2]);

/* Bounds of every field that metadata carries: 0, or -EINVAL with the key and what was expected. */
int mts_model_config_check(const struct mts_model_config *c, struct mts_error *err);

/* First visible event of a user who has had n: S * ceil(max(0, n - H) / S). */
uint64_t mts_window_start(const struct mts_model_config *c, uint64_t n);

/* Bytes of K/V per token over all layers. */
size_t mts_model_token_bytes(const struct mts_model_config *c, enum mts_dtype kv);

/* ---- presets and generation (model_init.c) ---- */

struct mts_preset {
	const char *name;
	struct mts_model_config config;
	const char *what_for;
};

extern const struct mts_preset mts_presets[]; /* ends with name NULL */

struct mts_preset_options { /* 0: the preset's own */
	uint32_t items;
	uint32_t max_history; /* sets positions and attn_scale_len too, and the slide to half of it */
	uint32_t slide;
};

/* A preset's configuration with options applied. -ENOENT: unknown name; -EINVAL: bad option. */
int mts_preset_config(const char *name, const struct mts_preset_options *o,
		      struct mts_model_config *out, struct mts_error *err);

/*
 * Writes a file of random weights: the same bytes for the same config, type and seed everywhere.
 * Under a temporary name beside `path`, renamed when complete: a full disk leaves nothing behind.
 * An existing path that is no regular file is refused.
 */
int mts_model_generate(const struct mts_model_config *c, enum mts_dtype weights, uint64_t seed,
		       const char *path, struct mts_error *err);

/* ---- on a device (weights.c, hstu.c) ---- */

struct mts_weights;

/* Lets the device check and choose for the model's GEMM shapes; mts_weights_open does it too. */
int mts_model_prepare(struct mts_device *dev, const struct mts_model_config *c,
		      struct mts_error *err);

/*
 * Converts and uploads; reserves activations for `slots` passes in flight of at most `rows` rows
 * and `candidates` candidate rows each. Calls the device's prepare with the model's GEMM shapes.
 */
int mts_weights_open(struct mts_device *dev, const struct mts_model *m, uint32_t rows,
		     uint32_t candidates, unsigned slots, enum mts_dtype kv,
		     struct mts_weights **out, struct mts_error *err);
void mts_weights_close(struct mts_weights *w);

struct mts_forward {
	const struct mts_pass *pass;     /* stays until `done` is open */
	const struct mts_kv_pool *kv;
	struct mts_gate *const *ready;   /* [readies][layers]: gates that layer l's keys wait for */
	unsigned readies;
	struct mts_gate *done;           /* one arrival: everything has run, or -errno */
	float *scores;                   /* host, [pass->candidates, tasks]; NULL if none */
	float *hidden;                   /* host, [rows, d] after the last layer; NULL unless checking */
	unsigned slot;                   /* activations used: < slots, no other pass in flight in it */
};

/*
 * Launches one pass; returns as soon as it is queued. Layer l waits on every ready[i][l] right
 * before it stores its own K/V, which is right before it first reads cached keys, and not earlier.
 * With no candidates and hidden == NULL the pass ends when the last layer's K/V is stored.
 *
 * Refused before anything is launched, `done` untouched: -EINVAL (spans that do not cover the rows
 * in order, a layout that is not the model's, scores missing), -E2BIG (more rows or candidates than
 * reserved), -ERANGE (an item or action the model does not have). Otherwise 0, and `done` gets its
 * one arrival: 0, or the -errno of the first failed launch, operation or ready gate, behind
 * everything that still runs.
 */
int mts_forward(struct mts_weights *w, const struct mts_forward *f);

#endif
