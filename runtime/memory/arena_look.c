/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an arena's pages are (arena_part.h): their nodes by move_pages, huge pages by smaps. Floor:
 * memory; called by arena.c.
 */
#include <errno.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/arena_part.h"

#define SAMPLES 4096

static void ask(struct mts_arena *a, void **page, int *status, size_t n)
{
	size_t pages = mts_arena_ready(a) / a->info.page_size;

	for (size_t i = 0; i < n; i++)
		page[i] = a->base + i * pages / n * a->info.page_size;
	if (numa_move_pages(0, n, page, NULL, status, 0)) {
		mts_arena_note(a, "placement not verified", errno);
		return;
	}
	a->info.pages_on_node = a->info.pages_elsewhere = 0;
	for (size_t i = 0; i < n; i++)
		*(status[i] == a->info.node ? &a->info.pages_on_node : &a->info.pages_elsewhere) += 1;
}

void mts_arena_look_where(struct mts_arena *a)
{
	size_t pages = mts_arena_ready(a) / a->info.page_size;
	size_t n = pages < SAMPLES ? pages : SAMPLES;
	void **page;
	int *status;

	if (!mts_arena_has_numa()) {
		mts_arena_note(a, "placement not verified", 0);
		return;
	}
	page = calloc(n, sizeof(*page));
	status = calloc(n, sizeof(*status));
	if (page && status)
		ask(a, page, status, n);
	else
		mts_arena_note(a, "placement not verified", ENOMEM);
	free(status);
	free(page);
}

/* Adds up what a line of smaps says about huge pages, in bytes. */
static uint64_t huge_in_line(const char *line)
{
	static const char *const keys[] = { "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped",
					    "Shared_Hugetlb", "Private_Hugetlb" };
	size_t len;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		len = strlen(keys[i]);
		if (!strncmp(line, keys[i], len) && line[len] == ':')
			return strtoull(line + len + 1, NULL, 10) * 1024;
	}
	return 0;
}

void mts_arena_count_huge(struct mts_arena *a)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uintptr_t base = (uintptr_t)a->base;
	unsigned long from, to;
	char line[512];
	int inside = 0;

	if (!f) {
		mts_arena_note(a, "huge pages not counted", errno);
		return;
	}
	a->info.huge_bytes = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from < base + a->bytes && to > base;
		else if (inside)
			a->info.huge_bytes += huge_in_line(line);
	}
	fclose(f);
	if (a->info.huge_bytes > a->bytes) /* the kernel may show a neighbour in the same line */
		a->info.huge_bytes = a->bytes;
}
