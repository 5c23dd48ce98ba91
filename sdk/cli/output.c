/* SPDX-License-Identifier: MIT */

#include "sdk/cli/output.h"

#include <stdio.h>

#include "sdk/cli/json.h"
#include "sdk/cli/put.h"

void output_print(const struct buf *text)
{
	if (text->len)
		(void)fwrite(text->data, 1, text->len, stdout);
}

void output_list_deinit(struct output_list *list)
{
	buf_deinit(&list->text);
}

int output_list_add(struct output_list *list, struct cursor element)
{
	size_t before = list->text.len;
	int r;

	put_text(&list->text, before ? ",\n  " : "[\n  ");
	r = json_put(&list->text, element, 1);
	if (r)
		list->text.len = before;
	return r;
}

void output_list_print(struct output_list *list)
{
	put_text(&list->text, list->text.len ? "\n]\n" : "[]\n");
	output_print(&list->text);
}
