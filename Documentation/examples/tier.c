/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tier: an inference engine of one's own keeps its model and wants only the memory for K/V. Here
 * the "model" writes each event's item into its K and V; a real one would launch kernels on the pages.
 *
 *   cc tier.c $(pkg-config --cflags --libs mtserve) -o tier && ./tier
 */
#include <mtserve.h>

#include <stdio.h>
#include <string.h>

enum { LAYERS = 2, HEADS = 1, DIM = 8, PAGE = 16, EVENTS = 60 };

/* K and V of one visible position in one layer: [page][K|V][token][head * dim], float32 */
static float *cell(const struct mts_pool_view *pool, const uint32_t *pages, int layer, uint32_t pos,
		   int v)
{
	char *page = (char *)pool->base + layer * pool->layer_stride +
		     pages[pos / PAGE] * pool->page_bytes;

	return (float *)page + (v * PAGE + pos % PAGE) * HEADS * DIM;
}

static int serve(struct mts_tier *tier, const struct mts_event *life, uint32_t n)
{
	struct mts_history h = { .user = 42, .n = n, .events = life, .count = n };
	const struct mts_match *m;
	struct mts_pool_view pool;
	struct mts_lease *lease;
	int err = mts_tier_reserve(tier, &h, &lease);

	if (err)
		return err;
	m = mts_lease_match(lease);
	mts_tier_pool(tier, &pool);
	err = mts_tier_onload(tier, lease, 0);
	for (int l = 0; l < LAYERS && !err; l++) {
		err = mts_tier_wait_layer(tier, lease, l, -1); /* layer l may start here */
		for (uint32_t pos = m->device_tokens + m->host_tokens; pos < m->visible; pos++)
			for (int v = 0; v < 2; v++)
				for (int i = 0; i < DIM; i++)
					cell(&pool, mts_lease_pages(lease), l, pos, v)[i] =
						(float)life[pos].item;
	}
	if (err) { /* nothing of this user is trusted any more */
		mts_tier_abandon(tier, lease);
		return err;
	}
	printf("%u events: %u were on the device, %u on the host\n", n, m->device_tokens,
	       m->host_tokens);
	err = mts_tier_commit(tier, lease, n); /* valid from now on, written to the host behind us */
	mts_tier_release(tier, lease);
	mts_tier_poll(tier);
	return err;
}

int main(void)
{
	struct mts_tier_config cfg = {
		.size = sizeof(cfg), .layers = LAYERS, .heads = HEADS, .d_qk = DIM, .d_v = DIM,
		.page_tokens = PAGE, .max_history = 1024, .slide = 512, .version = { 1, 0 },
		.device_bytes = 1 << 20, .host_bytes = 4 << 20, .node = -1,
	};
	struct mts_event life[EVENTS];
	struct mts_tier *tier;
	struct mts_error text;
	int err = mts_tier_open(&cfg, &tier, &text);

	if (err) {
		fprintf(stderr, "%s\n", text.text);
		return 1;
	}
	for (uint32_t i = 0; i < EVENTS; i++)
		life[i] = (struct mts_event){ .item = i, .action = 1 };
	for (uint32_t n = 20; n <= EVENTS && !err; n += 20)
		err = serve(tier, life, n);
	mts_tier_close(tier);
	if (err)
		fprintf(stderr, "%s\n", strerror(-err));
	return err ? 1 : 0;
}
