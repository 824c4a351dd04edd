/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mounts, arenas and pins for the tests. Everything here ends the test when it fails, unless it
 * says otherwise; what a test leaves open goes with its process.
 */
#ifndef MTS_TEST_ARENA_H
#define MTS_TEST_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/mtserve.h>

#define MIB		(1ull << 20)
#define PAGE		((size_t)MTS_PAGE_SIZE)
#define MTS_MOUNT	"/run/mtserve"	/* where mts_mount mounts */
#define MTS_ARENA	MTS_MOUNT "/arena"

/* mount(2) on MTS_MOUNT; 0, or -1 with errno. Makes the folder. */
int mts_try_mount(const char *options);
/*
 * fsopen, the options one by one, create; mounts nothing. 0, or -1 with errno; @log gets the
 * kernel's messages.
 */
int mts_configure(const char *options, char *log, size_t size);
void mts_mount(const char *options);
/* The usual mount: @node, size=@mib MiB, mode 1777 */
void mts_mount_node(int node, unsigned int mib);

/* Create, set the size, populate. Returns the descriptor. */
int mts_arena(const char *path, size_t size, size_t populate);

/* mmap of the whole range, shared, readable and writable. */
char *mts_map(int fd, size_t size, size_t offset);

/* A pattern that depends on the position and the seed, in the first bytes of each small page. */
void mts_fill(char *data, size_t size, uint64_t seed);
bool mts_filled(const char *data, size_t size, uint64_t seed);

struct mts_arena_info mts_info(int fd);

/* The counter of the mount on MTS_MOUNT, from debugfs. */
long long mts_counter(const char *name);

/*
 * Pin through the test module: the descriptor that holds the pin, or -1 with errno. The module's
 * device must be there, or the test is skipped.
 */
int mts_pin(const void *address, size_t length, bool fast);
/* What the byte at @offset of the pinned range was, before @value was written to it. */
unsigned int mts_pin_swap(int pin, size_t offset, unsigned int value);

/* True when touching the byte gives SIGBUS. */
bool mts_sigbus(const char *address);

/* Become the unprivileged user of the guest, for good. */
void mts_become_user(void);

/* fork; the child runs @body and exits with what that returns. */
int mts_in_child(int (*body)(void *), void *arg);

#endif /* MTS_TEST_ARENA_H */
