/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server: load a model, rank candidates for one user three times, see what was reused.
 *
 *   cc server.c $(pkg-config --cflags --libs mtserve) -o server && ./server model.safetensors
 */
#include <mtserve.h>

#include <stdio.h>
#include <string.h>

#define EVENTS     300
#define CANDIDATES 10

int main(int argc, char **argv)
{
	struct mts_server_config cfg = {
		.size = sizeof(cfg),
		.model = argc > 1 ? argv[1] : "model.safetensors",
		.device_bytes = 64 << 20,
		.host_bytes = 256 << 20,
		.node = -1,
	};
	struct mts_event life[EVENTS];
	uint32_t candidates[CANDIDATES];
	float scores[CANDIDATES * 16];
	struct mts_server_info info;
	struct mts_server *server;
	struct mts_error err;
	struct mts_reply reply;

	if (mts_server_open(&cfg, &server, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	mts_server_info(server, &info);
	for (uint32_t i = 0; i < EVENTS; i++)
		life[i] = (struct mts_event){ i * 7 % info.items, 1 + i % (info.actions - 1) };
	for (uint32_t j = 0; j < CANDIDATES; j++)
		candidates[j] = j * 13 % info.items;

	for (uint32_t n = 100; n <= EVENTS && info.tasks <= 16; n += 100) {
		struct mts_request request = {
			/* the whole life fits into the window, so it is passed from its start */
			.history = { .user = 42, .n = n, .first = 0, .events = life, .count = n },
			.candidates = candidates,
			.ncandidates = CANDIDATES,
			.scores = scores,
		};

		if (mts_server_submit(server, &request, 1) != 1 ||
		    mts_server_reap(server, &reply, 1, -1) != 1 || reply.result) {
			fprintf(stderr, "request failed: %s\n", strerror(-reply.result));
			return 1;
		}
		printf("%u events: %u reused from the device, %u from the host; first score %.6f\n", n,
		       reply.device_tokens, reply.host_tokens, scores[0]);
	}
	mts_server_close(server);
	return 0;
}
