/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Text in aligned columns, each cell as printable.h makes it
 */

#include <stddef.h>

#include "core/base/buf.h"

enum {
	TABLE_COLUMNS_MAX = 12,
};

struct table {
	size_t columns;   /* set before the first cell */
	struct buf cells; /* each ended by a NUL */
	size_t next;      /* column of the next cell */
	size_t widths[TABLE_COLUMNS_MAX];
};

void table_deinit(struct table *table);

/* The next cell, from left to right; an empty one becomes a dash. */
void table_add(struct table *table, const void *bytes, size_t len);
void table_add_text(struct table *table, const char *text);

/* On stdout. */
void table_print(const struct table *table);
