/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of bytes that grows on demand up to a bound: what one side wrote and the other has not
 * read yet. Not locked; the owner does that.
 */
#ifndef MINIVMM_BASE_BYTE_QUEUE_H
#define MINIVMM_BASE_BYTE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Room that each queue has without asking for memory; more is given back when the queue is drained.
 */
#define BYTE_QUEUE_KEEP 256u

/* All zero is an empty queue. */
struct byte_queue {
    uint8_t *bytes; /* NULL: kept; of the queue is [head, head + len) */
    size_t head;
    size_t len;
    size_t capacity; /* of bytes */
    uint8_t kept[BYTE_QUEUE_KEEP];
};

void byte_queue_done(struct byte_queue *queue);

/* Append as many bytes as fit below `max` in all, or as there is memory for; returns how many. */
size_t byte_queue_append(struct byte_queue *queue, const uint8_t *data, size_t len, size_t max);

/* Take `len` bytes away at the front; no more than there are. */
void byte_queue_consume(struct byte_queue *queue, size_t len);

static inline const uint8_t *byte_queue_front(const struct byte_queue *queue)
{
    return (queue->bytes ? queue->bytes : queue->kept) + queue->head;
}

#endif
