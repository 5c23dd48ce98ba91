/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an interpreter outside of /usr needs to be seen with: its prefix, found without running it
 *
 * A virtual environment's interpreter is a symlink, often through several places, and its pyvenv.cfg
 * names the installation it was made from; each of these has a directory that belongs in the box.
 * Where a link leads and what the file says is asked of somebody else: this only thinks.
 */

#include <stdbool.h>
#include <stddef.h>

#include "core/bag.h"
#include "core/limits.h"

struct interpreter_search {
	const char *name;                  /* as asked for; borrowed */
	const char *home;                  /* of the user: not shown as a whole; borrowed */
	const struct strv *covered[2];     /* paths that are shown anyway; borrowed */
	struct strv prefixes;              /* owned: directories to show, at the same place */
	char path[LIMIT_PATH_BYTES + 1];   /* where the search has come to; "" when it is over */
	char config[LIMIT_PATH_BYTES + 1]; /* a pyvenv.cfg to read first; "" none */
	unsigned hops;
};

/* WIRE_OK, or a code with @fault filled. */
enum wire_error interpreter_begin(struct interpreter_search *search, struct fault *fault);

/* What is in search->config; @text NULL: there is no such file. As interpreter_begin(). */
enum wire_error interpreter_configured(struct interpreter_search *search, const char *text,
				       size_t len, struct fault *fault);

/* Where search->path leads; @target NULL: it is no link. As interpreter_begin(). */
enum wire_error interpreter_linked(struct interpreter_search *search, const char *target,
				   size_t len, struct fault *fault);

void interpreter_deinit(struct interpreter_search *search);
