/* SPDX-License-Identifier: Apache-2.0 */
#include "base/byte_queue.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

void byte_queue_done(struct byte_queue *queue)
{
    free(queue->bytes);
    *queue = (struct byte_queue){0};
}

static uint8_t *room_of(struct byte_queue *queue)
{
    return queue->bytes ? queue->bytes : queue->kept;
}

/* Make room for `len` more bytes after the last one. */
static bool reserve(struct byte_queue *queue, size_t len)
{
    const size_t current = queue->bytes ? queue->capacity : sizeof(queue->kept);
    size_t capacity = current;
    uint8_t *bytes;

    if (current - queue->head - queue->len >= len)
        return true;
    while (capacity - queue->len < len)
        capacity *= 2;

    /* Not realloc: what was consumed is not worth copying. */
    bytes = capacity == current ? room_of(queue) : malloc(capacity);
    if (!bytes)
        return false;
    memmove(bytes, byte_queue_front(queue), queue->len);
    queue->head = 0;
    if (capacity == current)
        return true;
    free(queue->bytes);
    queue->bytes = bytes;
    queue->capacity = capacity;
    return true;
}

size_t byte_queue_append(struct byte_queue *queue, const uint8_t *data, size_t len, size_t max)
{
    len = min_u64(len, max > queue->len ? max - queue->len : 0);
    if (len == 0 || !reserve(queue, len))
        return 0;
    memcpy(room_of(queue) + queue->head + queue->len, data, len);
    queue->len += len;
    return len;
}

void byte_queue_consume(struct byte_queue *queue, size_t len)
{
    assert(len <= queue->len);
    queue->head += len;
    queue->len -= len;
    if (queue->len > 0)
        return;
    queue->head = 0;
    free(queue->bytes);
    queue->bytes = NULL;
    queue->capacity = 0;
}
