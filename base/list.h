/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked lists. A struct list is both a head and a member; an empty head points
 * at itself. No allocation, no locking.
 */
#ifndef MINIVMM_BASE_LIST_H
#define MINIVMM_BASE_LIST_H

#include <stdbool.h>

#include "base/compiler.h"

struct list {
    struct list *prev;
    struct list *next;
};

#define LIST_INIT(name)                                                                            \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }

static inline void list_init(struct list *head)
{
    head->prev = head;
    head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct list *pos, struct list *item)
{
    item->prev = pos->prev;
    item->next = pos;
    pos->prev->next = item;
    pos->prev = item;
}

static inline void list_add_tail(struct list *head, struct list *item)
{
    list_insert_before(head, item);
}

static inline void list_add_head(struct list *head, struct list *item)
{
    list_insert_before(head->next, item);
}

/* Take out; the item is left as an empty head, so removing it twice is harmless. */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* First item or NULL. */
static inline struct list *list_first(const struct list *head)
{
    return list_is_empty(head) ? NULL : head->next;
}

#define list_for_each(pos, head)                                                                   \
    for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* As list_for_each; `pos` may be removed in the body. */
#define list_for_each_safe(pos, head)                                                              \
    for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);                  \
         pos = pos##_next, pos##_next = pos->next)

#endif
