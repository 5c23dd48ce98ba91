/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Intrusive doubly linked list with a sentinel
 *
 * A node that is in no list points at itself, so unlinking twice is harmless.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)          \
	{                        \
		&(name), &(name) \
	}

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_prepend(struct list *head, struct list *node)
{
	list_append(head->next, node);
}

static inline void list_unlink(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* First node, unlinked; NULL when empty. */
static inline struct list *list_shift(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	list_unlink(node);
	return node;
}

/* Moves all nodes of @from, which becomes empty, to @to, which must be empty. */
static inline void list_move(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to;
	to->prev->next = to;
	list_init(from);
}

#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)

#define list_for_each_safe(it, head)                                              \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
	     it = it##_next, it##_next = it->next)
