/* SPDX-License-Identifier: MIT */

#include "sdk/cli/table.h"

#include <string.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "sdk/cli/output.h"
#include "sdk/cli/printable.h"
#include "sdk/cli/put.h"

enum {
	GAP = 2, /* blanks between columns */
};

void table_deinit(struct table *table)
{
	buf_deinit(&table->cells);
}

void table_add(struct table *table, const void *bytes, size_t len)
{
	size_t before = table->cells.len, width;

	CHECK(table->columns <= TABLE_COLUMNS_MAX);
	if (len)
		printable_put(&table->cells, bytes, len);
	else
		put_text(&table->cells, "-");
	width = printable_width(table->cells.data + before, table->cells.len - before);
	put_bytes(&table->cells, "", 1);
	if (width > table->widths[table->next])
		table->widths[table->next] = width;
	table->next = (table->next + 1) % table->columns;
}

void table_add_text(struct table *table, const char *text)
{
	table_add(table, text, strlen(text));
}

void table_print(const struct table *table)
{
	CLEANUP(buf_deinit) struct buf text = {0};
	size_t column = 0, len;

	for (size_t at = 0; at < table->cells.len; at += len + 1) {
		const char *cell = (const char *)table->cells.data + at;

		len = strlen(cell);
		put_bytes(&text, cell, len);
		if (column + 1 < table->columns) {
			size_t blanks = table->widths[column] - printable_width(cell, len) + GAP;

			while (blanks--)
				put_text(&text, " ");
		}
		column = (column + 1) % table->columns;
		put_text(&text, column ? "" : "\n");
	}
	output_print(&text);
}
