/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/console_queue.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

void console_queue_done(struct console_queue *queue)
{
    free(queue->bytes);
    *queue = (struct console_queue){0};
}

/* Make room for `len` more bytes after the last one. */
static bool reserve(struct console_queue *queue, size_t len)
{
    size_t capacity = max_u64(queue->capacity, CONSOLE_QUEUE_KEEP);
    uint8_t *bytes;

    if (queue->capacity - queue->head - queue->len >= len)
        return true;
    while (capacity - queue->len < len)
        capacity *= 2;

    /* Not realloc: what was consumed is not worth copying. */
    bytes = capacity == queue->capacity ? queue->bytes : malloc(capacity);
    if (!bytes)
        return false;
    if (queue->len > 0)
        memmove(bytes, queue->bytes + queue->head, queue->len);
    if (bytes != queue->bytes)
        free(queue->bytes);
    queue->bytes = bytes;
    queue->capacity = capacity;
    queue->head = 0;
    return true;
}

size_t console_queue_append(struct console_queue *queue, const uint8_t *data, size_t len,
                            size_t max)
{
    len = min_u64(len, max > queue->len ? max - queue->len : 0);
    if (len == 0 || !reserve(queue, len))
        return 0;
    memcpy(queue->bytes + queue->head + queue->len, data, len);
    queue->len += len;
    return len;
}

void console_queue_consume(struct console_queue *queue, size_t len)
{
    assert(len <= queue->len);
    queue->head += len;
    queue->len -= len;
    if (queue->len > 0)
        return;
    queue->head = 0;
    if (queue->capacity > CONSOLE_QUEUE_KEEP)
        console_queue_done(queue);
}
