/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers out of /proc and /sys (proc.h). Floor: memory.
 */
#include "memory/proc.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What follows the word `key` in line, or NULL. */
static const char *behind(const char *line, const char *key)
{
	size_t len = strlen(key);
	const char *at = line;

	while ((at = strstr(at, key))) {
		if ((at == line || isspace((unsigned char)at[-1])) &&
		    (at[len] == ':' || isspace((unsigned char)at[len])))
			return at + len + (at[len] == ':');
		at += len;
	}
	return NULL;
}

int mts_proc_number(const char *path, const char *key, uint64_t *out)
{
	FILE *f = fopen(path, "re");
	char line[256];
	const char *at;
	int found = 0;

	if (!f)
		return 0;
	while (!found && fgets(line, sizeof(line), f)) {
		at = key ? behind(line, key) : line;
		found = at && sscanf(at, "%" SCNu64, out) == 1;
		if (!key)
			break;
	}
	fclose(f);
	return found;
}
