/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a model file. Whatever is accepted has tensors inside the file and can be read.
 */
#include "fuzz.h"

#include <string.h>

#include "error.h"
#include "model/model.h"
#include "model/safetensors.h"

static volatile uint8_t sink; /* what was read counts as used */

static void read_tensors(const struct mts_safetensors *st)
{
	size_t len;
	const uint8_t *bytes = mts_safetensors_bytes(st, &len);

	for (size_t i = 0; i < len; i += 97)
		sink ^= bytes[i];
	for (size_t i = 0; i < mts_safetensors_count(st); i++)
		sink ^= (uint8_t)mts_safetensors_at(st, i)->name[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	void *image = malloc(size + !size); /* exact: a read beyond it is seen */
	struct mts_safetensors *st;
	struct mts_model *m;
	struct mts_error err;

	if (!image)
		abort();
	memcpy(image, data, size);
	if (!mts_safetensors_parse(image, size, &st, &err)) {
		read_tensors(st);
		mts_safetensors_close(st);
	}
	if (!mts_model_parse(image, size, &m, &err))
		mts_model_close(m);
	free(image);
	return 0;
}
