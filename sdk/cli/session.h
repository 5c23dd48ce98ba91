/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The connection of one command, with words for what goes wrong on it
 */

#include "core/base/buf.h"
#include "core/base/cleanup.h"
#include "sdk/c/clove.h"
#include "sdk/cli/command.h"

enum {
	SESSION_TIMEOUT_MS = 30000, /* of an answer, unless --timeout says otherwise */
	SESSION_MARGIN_MS = 500,    /* beyond it: the kernel says itself what took too long */
};

enum {
	SESSION_E_FAILED = 1, /* said on stderr */
};

DEFINE_CLEANUP(struct clove *, clove_close);

/* 0 or SESSION_E_FAILED, as all of them. */
int session_open(const struct settings *settings, struct clove **ret_clove);

/* --timeout for clove_call(): -1 for none; @unset_ms when it was not given. */
int session_timeout(const struct settings *settings, int unset_ms);

/* An answer, which may be an error reply: see session_refused(). @args: a packed array, or NULL. */
int session_ask(const struct settings *settings, struct clove *clove, uint16_t op,
		const struct buf *args, struct clove_frame *ret_frame);

/* The same, where an error reply is a failure, too. */
int session_call(const struct settings *settings, struct clove *clove, uint16_t op,
		 const struct buf *args, struct clove_frame *ret_frame);

/* Says what libclove has returned. */
void session_lost(const struct settings *settings, int r);

/* Says what the error reply @frame says about @what (NULL: about the call), and what to do. */
void session_refused(const char *what, const struct clove_frame *frame);

/* Says that an answer is not what this program knows. */
void session_not_understood(void);
