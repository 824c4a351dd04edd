/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writer of request and event files (trace.h). Top floor, under the commands; one thread per
 * writer. stdio keeps a failed write until the end, so the rows need no check of their own.
 */
#include "cmd/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (256 * 1024)

struct mts_trace_writer {
	FILE *file;
	bool hinted;
	int failed; /* errno of the first write that failed */
	char *path;
	char buffer[BUFFER];
};

static const char *const headers[] = {
	[MTS_TRACE_REQUESTS] = "time_ms,user_id,history,candidates\n",
	[MTS_TRACE_HINTED] = "time_ms,user_id,history,candidates,hint\n",
	[MTS_TRACE_EVENTS] = "time_ms,user_id,item_id,action\n",
};

static const char *const hint_names[] = {
	[MTS_TRACE_HINT_NONE] = "none",
	[MTS_TRACE_HINT_END] = "end",
	[MTS_TRACE_HINT_OPEN] = "open",
};

static int tell(const char *path, int error, struct mts_error *err)
{
	mts_error_set(err, "%.150s: cannot write: %s",
		      strcmp(path, "-") ? path : "standard output", strerror(error));
	return -error;
}

/* Standard output gets a descriptor of its own, so that closing the writer leaves it open. */
static FILE *open_file(const char *path)
{
	FILE *f;
	int fd;

	if (strcmp(path, "-"))
		return fopen(path, "we");
	fd = dup(STDOUT_FILENO);
	if (fd < 0)
		return NULL;
	f = fdopen(fd, "w");
	if (!f)
		close(fd);
	return f;
}

static void note(struct mts_trace_writer *w, int printed)
{
	if (printed < 0 && !w->failed)
		w->failed = errno ? errno : EIO;
}

int mts_trace_create(const char *path, enum mts_trace_kind kind, struct mts_trace_writer **out,
		     struct mts_error *err)
{
	struct mts_trace_writer *w = malloc(sizeof(*w));
	int ret;

	if (!w)
		return tell(path, ENOMEM, err);
	w->path = strdup(path);
	w->file = w->path ? open_file(path) : NULL;
	if (!w->file) {
		ret = tell(path, errno, err);
		free(w->path);
		free(w);
		return ret;
	}
	setvbuf(w->file, w->buffer, _IOFBF, sizeof(w->buffer));
	w->hinted = kind == MTS_TRACE_HINTED;
	w->failed = 0;
	note(w, fputs(headers[kind], w->file));
	*out = w;
	return 0;
}

void mts_trace_put(struct mts_trace_writer *w, const struct mts_trace_request *r)
{
	note(w, fprintf(w->file, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 "%s%s\n",
			r->time_ms, r->user, r->history, r->candidates, w->hinted ? "," : "",
			w->hinted ? hint_names[r->hint] : ""));
}

void mts_trace_put_event(struct mts_trace_writer *w, const struct mts_trace_log_event *e)
{
	note(w, fprintf(w->file, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 "\n", e->time_ms,
			e->user, e->item, e->action));
}

static void release(struct mts_trace_writer *w, bool whole)
{
	struct stat st;
	/* A device or a pipe given as output is not ours to remove. */
	bool regular = strcmp(w->path, "-") && !stat(w->path, &st) && S_ISREG(st.st_mode);

	if (!whole && regular)
		unlink(w->path);
	free(w->path);
	free(w);
}

int mts_trace_commit(struct mts_trace_writer *w, struct mts_error *err)
{
	int ret;

	note(w, fclose(w->file));
	ret = w->failed ? tell(w->path, w->failed, err) : 0;
	release(w, !w->failed);
	return ret;
}

void mts_trace_discard(struct mts_trace_writer *w)
{
	if (!w)
		return;
	fclose(w->file);
	release(w, false);
}
