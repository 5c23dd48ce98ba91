/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Results on stdout, as a table for people or as JSON for programs
 */

#include "core/base/buf.h"
#include "ipc/cursor.h"

/* --format table|json */
enum output_format {
	OUTPUT_TABLE,
	OUTPUT_JSON,
};

#define OUTPUT_FORMATS "table|json"

/* Prints @text; main() notices when that fails. */
void output_print(const struct buf *text);

/* A JSON array that grows by one element at a time. Zero is an empty one. */
struct output_list {
	struct buf text;
};

void output_list_deinit(struct output_list *list);

/* 0, or CLOVE_E_BROKEN with nothing added. */
int output_list_add(struct output_list *list, struct cursor element);
void output_list_print(struct output_list *list);
